"""Write the golden artifacts that do not exist yet: `python -m tests.golden.write_golden [NAME ...]`.

A golden file is written once, by the version that defines what it holds, and stays for good: decoding it must work
forever. This program refuses to replace one. `sizes.csv` is another matter: a better encoder changes it, by hand and
as a reviewed diff of its own; its first line names the libraries that it holds for.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence

from pgpack.errors import PgpackError
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe
from pgpack.unpack import check_digest, unpack
from tests.golden.cases import CASES, FOLDER, decoded_sha256, libraries

LIMIT = 2000  # bytes of a golden file
INDEX, SIZES = FOLDER / "golden.json", FOLDER / "sizes.csv"


def write(name: str) -> None:
    """One artifact, its entry in golden.json and its line in sizes.csv."""
    case, path = CASES[name], FOLDER / f"{name}.pgpack"
    if path.exists():
        raise SystemExit(f"{path} exists; golden files are never written again")
    artifact = pack(case.checkpoint(), parse_recipe(case.recipe), case.calibration())
    if artifact.n_bytes > LIMIT:
        raise SystemExit(f"{name} takes {artifact.n_bytes} bytes, above the limit of {LIMIT}; use a smaller input")
    unpacked = unpack(artifact.data)
    check_digest(unpacked)
    index = json.loads(INDEX.read_text()) if INDEX.exists() else {}
    index[name] = {
        "recipe": case.recipe,
        "sha256": hashlib.sha256(artifact.data).hexdigest(),
        "weights_digest": artifact.weights_digest,
        "decoded_sha256": decoded_sha256(unpacked.tensors()),
    }
    path.write_bytes(artifact.data)
    INDEX.write_text(json.dumps(dict(sorted(index.items())), indent=2) + "\n")
    if case.exact:
        head, *lines = SIZES.read_text().splitlines() if SIZES.exists() else [f"# {libraries()}", ""]
        lines = sorted([*lines[1:], f"{name},{artifact.n_bytes}"])
        SIZES.write_text("\n".join([head, "name,n_bytes", *lines]) + "\n")
    print(f"{name}: {artifact.n_bytes} bytes")


def main(names: Sequence[str]) -> None:
    """Write the named artifacts, or all that are missing."""
    for name in names or [name for name in CASES if not (FOLDER / f"{name}.pgpack").exists()]:
        try:
            write(name)
        except PgpackError as error:
            print(f"{name}: not written, {error}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
