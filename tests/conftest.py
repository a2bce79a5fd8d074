"""Settings for every test: hypothesis without deadlines (machines are slow at times), the same examples each run."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("house", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("house")
