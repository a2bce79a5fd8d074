"""pgpack/STAGES.md from the stages' docstrings: `python -m tests.house.stages_page` writes it, a test compares."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from pgpack.recipe.policy import KINDS
from pgpack.recipe.presets import PRESETS
from pgpack.recipe.use_when import use_when

PAGE = Path(__file__).resolve().parents[2] / "pgpack" / "STAGES.md"
HEAD = """# Which stage when

What a recipe may name, and when each is the one to use. Written by `python -m tests.house.stages_page` from the
`Use when:` line of each stage's docstring; settings and sources stand there too. CONTRIBUTING.md says how another
package adds a stage.
"""


def page() -> str:
    """The whole page; stages of other packages that happen to be installed are left out."""
    ours = {*PRESETS, *(name for _, table in KINDS for name in table.built_in)}
    lines = [HEAD]
    for kind, rows in groupby((row for row in use_when() if row.name in ours), key=lambda row: row.kind):
        title = f"{kind[0].upper()}{kind[1:]}s"
        lines.append(f"\n## {title}\n\n| name | use when |\n|---|---|\n")
        lines += [f"| `{row.name}` | {row.line} |\n" for row in rows]
    return "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
