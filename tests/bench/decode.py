"""Decode an artifact in a process of its own: check the weights' digest, then time it; prints one JSON line."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from pgpack.unpack import check_digest, unpack

REPEATS, PATIENCE_S = 3, 20.0  # slow decoders are timed once


def main(path: Path, weights_digest: str) -> None:
    """Best seconds from bytes to all float32 tensors. Fails unless they are what the packer wrote."""
    data = path.read_bytes()
    start = time.perf_counter()
    unpacked = unpack(data)
    unpacked.tensors()
    first = time.perf_counter() - start  # with all imports; counts only where it is long
    found = check_digest(unpacked)
    if found != weights_digest:
        raise SystemExit(f"{path} decodes to {found}, the packer wrote {weights_digest}")
    del unpacked
    times = [first] if first > PATIENCE_S else []
    while not times or (len(times) < REPEATS and sum(times) < PATIENCE_S):
        start = time.perf_counter()
        unpack(data).tensors()
        times.append(time.perf_counter() - start)
    print(json.dumps({"decode_s": min(times), "repeats": len(times)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
