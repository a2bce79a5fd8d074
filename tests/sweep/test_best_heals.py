"""The same sweep makes again what was damaged of its outputs, and an artifact and its manifest appear together."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pgpack
from pgpack.checkpoint.checkpoint import from_tensors, save_tensors
from pgpack.formats.own.manifest import Manifest, manifest_path, read_manifest, write_artifact_file
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe

SPACE = ["*=rtn(bits={3:5})|rans"]
OUTPUTS = ("best.pgpack", "best.pgpack.json", "anatomy.json")
Damage = Callable[[Path], object]
DAMAGE: dict[str, Damage] = {
    "missing": lambda path: path.unlink(),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:-20] + b"\xff" + path.read_bytes()[-19:]),
    "another's": lambda path: path.write_bytes(path.with_name(f"other-{path.name}").read_bytes()),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heals")
    rng = np.random.default_rng(0)
    for name in ("other", "model"):
        tensors = {f"{x}.weight": rng.standard_normal((48, 32)).astype(np.float32) for x in "ab"}
        save_tensors(folder / f"{name}.safetensors", tensors, {})
        sweep(folder, name)
    for name in OUTPUTS:
        (folder / "model" / f"other-{name}").write_bytes((folder / "other" / name).read_bytes())
    return folder


def sweep(folder: Path, name: str) -> None:
    bench = pgpack.open_bench(folder / f"{name}.safetensors", cache=False)
    bench.sweep(to=folder / name, space=SPACE)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", OUTPUTS)
def test_what_is_damaged_is_made_again_byte_for_byte(study: Path, name: str, damage: Damage) -> None:
    before = {each: (study / "model" / each).read_bytes() for each in OUTPUTS}
    damage(study / "model" / name)
    sweep(study, "model")
    assert {each: (study / "model" / each).read_bytes() for each in OUTPUTS} == before


def artifact(seed: int) -> tuple[bytes, Manifest]:
    values = np.random.default_rng(seed).standard_normal((8, 8)).astype(np.float32)
    data = pack(from_tensors({"a": values}), parse_recipe("*=cast")).data
    digest = hashlib.sha256(data).hexdigest()
    return data, Manifest(
        recipe="", recipe_canonical="", recipe_digest="", n_bytes=len(data), sha256=digest, weights_digest="",
        checkpoint_digest="", n_params=64, pgpack_version="",
    )  # fmt: skip


@pytest.mark.parametrize("exists", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("moment", range(8))
def test_a_run_that_ends_anywhere_leaves_no_artifact_beside_another_s_manifest(
    exists: bool, moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, (old, old_manifest), (new, new_manifest) = tmp_path / "m.pgpack", artifact(0), artifact(1)
    if exists:
        write_artifact_file(path, old, old_manifest)
    count = 0

    def failing(real: Callable[..., object]) -> Callable[..., object]:
        def deed(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count > moment:  # from here on nothing happens any more, as behind kill -9
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        return deed

    with monkeypatch.context() as patch:
        for owner, name in ((Path, "write_bytes"), (Path, "replace"), (Path, "unlink"), (os, "fsync")):
            patch.setattr(owner, name, failing(getattr(owner, name)))
        with contextlib.suppress(KeyboardInterrupt):
            write_artifact_file(path, new, new_manifest)
    manifest = read_manifest(path)
    if path.exists():
        assert path.read_bytes() in (old, new)
        assert manifest is None or manifest.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    else:
        assert not exists
    write_artifact_file(path, new, new_manifest)
    assert (path.read_bytes(), read_manifest(path)) == (new, new_manifest)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m.pgpack", manifest_path(path).name]
