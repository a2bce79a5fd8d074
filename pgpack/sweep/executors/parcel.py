"""Files that a cluster's workers cannot see, brought to each once: now, or when it joins, before its first trial.

    driver --(plugin: name, files)--> scheduler --> every worker, now and whenever one joins
                                                    LOCAL DIRECTORY/pgpack-.../NAME

Imported only where `distributed` is. A parcel is data: names and bytes that are written below one folder.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from distributed import Worker, WorkerPlugin

from pgpack.errors import StudyError

LIMIT = 2 * 10**9  # bytes; the scheduler holds them in memory while the sweep runs


class Parcel(WorkerPlugin):  # type: ignore[misc]  # Dask is not typed throughout
    """Named files. `name`: their digest and a mark of the driver, which takes them away when it is done."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        n_bytes = sum(path.stat().st_size for path in files.values())
        if n_bytes > LIMIT:
            raise StudyError(
                f"the workers do not see the files of this sweep, and {n_bytes / 1e9:.1f} GB are too many to send; "
                "put them on a disk that all workers have under the same path"
            )
        self.contents = {name: path.read_bytes() for name, path in files.items()}
        named = (f"{name}\0{hashlib.sha256(data).hexdigest()}\n" for name, data in sorted(self.contents.items()))
        digest = hashlib.sha256("".join(named).encode()).hexdigest()
        self.name = f"pgpack-{digest[:32]}-{secrets.token_hex(4)}"

    def setup(self, worker: Worker) -> None:
        """Write the files where `folder_on` looks for them; all of them or none."""
        folder = folder_on(worker, self.name)
        aside = folder.with_name(f"{self.name}.{secrets.token_hex(4)}")
        for name, data in self.contents.items():
            path = aside / PurePosixPath(name)
            if not path.resolve().is_relative_to(aside.resolve()):
                raise StudyError(f"{name!r} leaves the folder of its parcel")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        aside.rename(folder)

    def teardown(self, worker: Worker) -> None:
        shutil.rmtree(folder_on(worker, self.name), ignore_errors=True)


def folder_on(worker: Worker, name: str) -> Path:
    """Where a worker keeps the parcel `name`; it goes with the worker's own folder."""
    return Path(worker.local_directory) / name


def sees(sizes: Mapping[str, int]) -> bool:
    """True where all of these files are there with these sizes. (Their contents show in the digests of rows.)"""
    return all(Path(path).is_file() and Path(path).stat().st_size == size for path, size in sizes.items())
