"""The manifest beside an artifact, FILE.json: what it was made from and what was measured. Not needed to decode.

Holds nothing of the clock and no paths, so equal packs write equal manifests.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgpack.errors import FormatError
from pgpack.files import checked_json, contents, replace_together, with_checksum

FORMAT = "pgpack-manifest-1"
MAX_BYTES = 64 << 20  # of a manifest; a tensor takes about 50


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Units: `n_bytes` and `sizes` bytes (tensors, then overhead; they sum to `n_bytes`); `nats`, `kl` per token.

    `sha256` is of the artifact file, `weights_digest` of the decoded tensors, `checkpoint_digest` of the fp32 ones.
    The loss fields are None when it was not measured. `model`: how the model was found, where nobody named it
    (`pgpack.models.evidence`); it stands in the file only then.
    """

    recipe: str
    recipe_canonical: str
    recipe_digest: str
    n_bytes: int
    sha256: str
    weights_digest: str
    checkpoint_digest: str
    n_params: int
    pgpack_version: str
    calibration_digest: str | None = None
    calibration_token_digest: str | None = None
    calibration_n_tokens: int | None = None
    evaluator_digest: str | None = None
    bpb: float | None = None
    nats: float | None = None
    kl: float | None = None
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    model: Mapping[str, Any] | None = None

    def to_json(self) -> str:
        """Indented JSON; `from_json` is its inverse."""
        row = {"format": FORMAT, **dataclasses.asdict(self)}
        if self.model is None:
            del row["model"]
        return with_checksum(json.dumps(row, indent=2, allow_nan=False)) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The manifest that `to_json` wrote, of older programs too, which wrote no checksum. Raises FormatError for
        anything else."""
        try:
            row = checked_json(text)
            if not isinstance(row, dict):
                raise FormatError(f"not a manifest: it is a JSON {type(row).__name__}, expected an object")
            if row.pop("format", None) != FORMAT:
                raise FormatError(f"not a manifest: its format is not {FORMAT}")
            return cls(**row)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise FormatError(f"the manifest is not readable ({error})") from None


def manifest_path(artifact: Path) -> Path:
    """Where the manifest of an artifact lies: FILE.json."""
    return artifact.with_name(artifact.name + ".json")


def read_manifest(artifact: Path) -> Manifest | None:
    """The manifest beside an artifact, None when there is none. Raises FormatError when it is damaged."""
    path = manifest_path(artifact)
    try:
        return Manifest.from_json(contents(path, MAX_BYTES).decode())
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise FormatError(f"{path}: the manifest is not UTF-8 text") from None


def write_artifact_file(path: Path, data: bytes, manifest: Manifest) -> None:
    """Write an artifact and its manifest, each in one step; never an artifact beside another one's manifest.

    Both are on the disk before either has its name. Where there is no artifact yet, it comes last: a run that ends
    before has made none, and the same command goes on.
    """
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise FormatError(f"{path}: the manifest is of another artifact")
    path.parent.mkdir(parents=True, exist_ok=True)
    both = (path, data), (manifest_path(path), manifest.to_json().encode())
    replace_together(both if path.exists() else both[::-1])
