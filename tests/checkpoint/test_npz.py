"""Archives of numpy's are checkpoints: read as numpy reads them, bounded, and nothing in them is unpickled."""

from __future__ import annotations

import io
import os
import random
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pgpack.checkpoint import npz_file
from pgpack.checkpoint.checkpoint import Checkpoint, load_checkpoint
from pgpack.errors import CheckpointError, InputChanged, PgpackError
from tests.hostile.inputs import damaged


def arrays() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    return {
        "params/dense/kernel": rng.standard_normal((7, 5)).astype(np.float32),
        "by.columns": np.asfortranarray(rng.standard_normal((4, 3, 2)).astype(np.float32)),
        "half": rng.standard_normal(3).astype(np.float16),
        "double": rng.standard_normal((2, 2)),
        "big endian": rng.standard_normal((3, 3)).astype(">f4"),
        "ïds": np.arange(4),
        "mask": np.array([True, False]),
        "complex": np.ones((2, 2), np.complex64),
        "scalar": np.float32(2.5),
        "empty": np.zeros((0, 3), np.float32),
    }


def saved(path: Path, found: dict[str, Any], compressed: bool = False) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **found)
    return path


def zipped(path: Path, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as file:
        warnings.simplefilter("ignore")  # of two members of one name
        for name, data in members:
            file.writestr(name, data)
    return path


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def header(descr: str, shape: str, version: int = 1) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return (
        b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text) + 1) + text + b"\n"
    )


@pytest.mark.parametrize("compressed", [False, True], ids=["savez", "savez_compressed"])
@pytest.mark.parametrize("name", ["a.npz", "a.pt", "no-suffix"])
def test_every_array_comes_back_under_its_name(tmp_path: Path, name: str, compressed: bool) -> None:
    saved(tmp_path / "w.npz", arrays(), compressed).rename(tmp_path / name)
    checkpoint = load_checkpoint(tmp_path / name)
    assert list(checkpoint.shapes) == list(arrays())
    for key, array in arrays().items():
        found = checkpoint.tensor(key)
        kept = np.asarray(array, np.float32) if array.dtype.kind == "f" else array
        assert checkpoint.shapes[key] == found.shape == kept.shape
        assert found.dtype == kept.dtype
        assert found.flags.c_contiguous
        assert np.array_equal(found, kept), key


def test_files_of_other_writers_are_read(tmp_path: Path) -> None:
    """Members without zip64, a header of version 2, Python 2's long numbers, keys in another order, nothing first."""
    values = np.arange(6, dtype="<f4")
    members = [
        ("README", b"hello"),
        ("folder/", b""),
        ("two.npy", header("'<f4'", "(2, 3)", 2) + values.tobytes()),
        ("long.npy", header("'<f4'", "(2L, 3L)") + values.tobytes()),
    ]
    checkpoint = load_checkpoint(zipped(tmp_path / "a.npz", members))
    assert checkpoint.notes == ("a.npz: README: no tensor, left out",)
    assert list(checkpoint.shapes) == ["two", "long"]
    for name in checkpoint.shapes:
        assert np.array_equal(checkpoint.tensor(name), values.reshape(2, 3))


def test_words_dates_and_one_object_are_left_out_and_named(tmp_path: Path) -> None:
    extras = {"config": np.array({"n": 1}), "title": np.array("text"), "day": np.array(["2026-01-01"], "M8[D]")}
    checkpoint = load_checkpoint(saved(tmp_path / "a.npz", {"w": np.ones((2, 2)), **extras}))
    assert list(checkpoint.shapes) == ["w"]
    assert checkpoint.notes == ("a.npz: config, title, day: no tensor, left out",)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


def objects(values: list[Any]) -> NDArray[Any]:
    found = np.empty(len(values), object)
    found[:] = values
    return found


BAD: dict[str, list[tuple[str, bytes]]] = {
    "w holds Python objects, not numbers, and nothing is unpickled": [("w.npy", npy(objects([Trap(), Trap()])))],
    r"two of its members are called 'w\.npy'": [("w.npy", npy(np.ones(2))), ("w.npy", npy(np.zeros(2)))],
    "w has 16 bytes where its shape needs 8,000,000,": [("w.npy", header("'<f8'", "(1000000, 1000000)") + bytes(16))],
    "w has 24 bytes where its shape needs 16": [("w.npy", header("'<f8'", "(2,)") + bytes(24))],
    "w claims a shape that no array can have": [("w.npy", header("'<f8'", "(-1,)"))],
    "z claims a shape that no array can have": [("z.npy", header("'<f4'", f"({1 << 62}, 0)"))],
    r"w is of type void16 \(numpy has no bfloat16\)": [("w.npy", header("'|V2'", "(2,)") + bytes(4))],
    "w is of type void64, which is not read": [("w.npy", npy(np.zeros(2, [("a", "f4"), ("b", "i4")])))],
    "holds no tensors": [("title.npy", npy(np.array("text")))],
    "not a readable archive of numpy's": [("w.npy", b"not an array")],
}  # fmt: skip


@pytest.mark.parametrize("why", BAD)
def test_what_is_no_plain_array_is_one_sentence(tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=rf"a\.npz: {why}") as refused:
        load_checkpoint(zipped(tmp_path / "a.npz", BAD[why]))
    assert "\n" not in str(refused.value)
    assert not Path("sprung").exists()


def test_an_archive_without_arrays_holds_no_tensors(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        load_checkpoint(tmp_path / "a.npz")


def test_no_more_comes_out_than_is_bounded_by_the_file(tmp_path: Path) -> None:
    bomb = header("'|u1'", f"({80 << 20},)") + bytes(80 << 20)
    path = zipped(tmp_path / "bomb.npz", [("w.npy", bomb)], zipfile.ZIP_DEFLATED)
    with pytest.raises(
        CheckpointError, match=r"83,886,\d+ bytes would come out of its 8\d,\d+, more than is unpacked"
    ):
        load_checkpoint(path)
    legal = saved(tmp_path / "zeros.npz", {"w": np.zeros((3000, 1000), np.float32)}, compressed=True)
    assert not load_checkpoint(legal).tensor("w").any()


def test_members_that_share_their_bytes_are_bounded_too(tmp_path: Path) -> None:
    """A directory that names one member often: small on the disk, and each of its names would take the whole."""
    path = zipped(tmp_path / "a.npz", [("w0000.npy", header("'|u1'", "(100000,)") + bytes(100000))])
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    entry, end = data[start : start + 46 + 9], data[start + 46 + 9 :]
    count = 4000
    entries = b"".join(entry.replace(b"w0000", b"w%04d" % i) for i in range(count))
    closing = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(entries), start, 0)
    assert end[:4] == b"PK\x05\x06"
    path.write_bytes(data[:start] + entries + closing)
    with pytest.raises(CheckpointError, match=r"a\.npz: 400,\d+,\d+ bytes would come out"):
        load_checkpoint(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_values_that_changed_are_not_read(tmp_path: Path, compressed: bool) -> None:
    path = saved(tmp_path / "a.npz", {"w": np.random.default_rng(0).standard_normal((50, 50))}, compressed)
    data = bytearray(path.read_bytes())
    data[9000] ^= 16
    path.write_bytes(data)
    checkpoint = load_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"the values of w are not those that were written|not a readable"):
        checkpoint.tensor("w")


def test_a_file_that_is_cut_or_replaced_while_it_is_read_ends_the_work(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", {"w": np.ones((50, 50))})
    checkpoint = load_checkpoint(path)
    os.truncate(path, 5000)
    with pytest.raises(InputChanged):
        checkpoint.tensor("w")


def test_a_cut_archive_is_called_damaged_and_a_key_has_no_place(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", {"w": np.ones((50, 50))})
    with pytest.raises(CheckpointError, match="holds one checkpoint under no name"):
        load_checkpoint(path, key="w")
    os.truncate(path, 5000)
    with pytest.raises(CheckpointError, match="not a readable archive of numpy's"):
        load_checkpoint(path)


def test_one_that_needs_no_directory_of_each_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are read from where they lie: the directory is read when the file is opened, and not once for each."""
    path = saved(tmp_path / "a.npz", {f"w{i}": np.full((2, 2), i) for i in range(50)})
    checkpoint = load_checkpoint(path)
    monkeypatch.setattr(npz_file.zipfile, "ZipFile", None)
    assert [checkpoint.tensor(f"w{i}")[0, 0] for i in range(50)] == list(range(50))


def test_four_hundred_damaged_archives_end_in_a_result_or_a_sentence(tmp_path: Path) -> None:
    ends: set[bool] = set()
    for seed in range(400):
        rng = random.Random(seed)
        saved(tmp_path / "a.npz", {name: arrays()[name] for name in ("half", "mask", "double")}, rng.random() < 0.5)
        whole = (tmp_path / "a.npz").read_bytes()
        if rng.random() < 0.4:
            name = rng.choice(("half", "mask"))
            source = zipfile.ZipFile(io.BytesIO(whole))
            members = [
                (n, damaged(source.read(n), rng) if n == f"{name}.npy" else source.read(n)) for n in source.namelist()
            ]
            zipped(tmp_path / "a.npz", members, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
        else:
            (tmp_path / "a.npz").write_bytes(damaged(whole, rng))
        ends.add(_ends(tmp_path / "a.npz"))
    assert ends == {True, False}


def _ends(path: Path) -> bool:
    """Whether all of a file was read; anything but a sentence is an error of the test."""
    try:
        checkpoint: Checkpoint = load_checkpoint(path)
        for name, array in checkpoint.items():
            assert array.shape == checkpoint.shapes[name]
    except PgpackError:
        return False
    return True
