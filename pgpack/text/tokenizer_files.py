"""The files that a tokenizer comes in. Owns their names; opens none of them."""

from __future__ import annotations

from pathlib import Path

from pgpack.errors import DataError, no_file

JSON, MODEL, VOCAB, MERGES, SETTINGS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
)
SPECIAL, ADDED = "special_tokens_map.json", "added_tokens.json"

TOKENIZER_FLAG = "--tokenizer PATH (a SentencePiece .model, a tokenizer.json or a model's folder)"


def files_of_tokenizer(path: Path) -> dict[str, Path]:
    """The files behind a path that `load_tokenizer` takes, under the names of companions. Raises: DataError."""
    if path.is_dir():
        names = {name: path / name for name in (JSON, MODEL, VOCAB, MERGES, SETTINGS, SPECIAL, ADDED)}
        models = sorted(path.glob("*.model"))
        if len(models) == 1:
            names[MODEL] = models[0]
        return {name: file for name, file in names.items() if file.is_file()}
    if not path.is_file():
        raise DataError(
            f"tokenizer {path} {no_file(path)}; give a SentencePiece .model, a {JSON} or a folder as --tokenizer FILE"
        )
    settings = path.parent / SETTINGS
    return {JSON if path.suffix == ".json" else MODEL: path} | ({SETTINGS: settings} if settings.is_file() else {})
