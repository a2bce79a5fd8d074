"""Models that speak, opened from artifacts and model folders alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pgpack.checkpoint.folders import CONFIG
from pgpack.models.language_model import LanguageModel, SideBySide, language_model, side_by_side

from .artifact import ArtifactFile, open_either


def open_model(path: Path, like: Path | None = None) -> LanguageModel:
    """The model in an artifact or a folder; weights alone take config and tokenizer from `like`.

    Raises: DataError when nothing runs it; as `open_either`.
    """
    found = open_either(path)
    tensors = found.tensors() if isinstance(found, ArtifactFile) else dict(found.items())
    companions = found.companions
    if like is not None and CONFIG not in companions:
        companions = open_either(like).companions
    return language_model(tensors, companions, str(path))


def compare_models(paths: Sequence[Path], prompt: str, n_tokens: int) -> SideBySide:
    """The greedy tokens of the first, and the others in its place. Raises as `open_model`, `side_by_side`."""

    def opened() -> Iterator[LanguageModel]:
        for path in paths:
            yield open_model(path, like=paths[0])

    return side_by_side(opened(), prompt, n_tokens)
