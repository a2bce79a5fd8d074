"""Laws of the cache: no byte of any result depends on it, and nothing that happens to its files does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pgpack.cache import store as cache_module
from pgpack.cache.entries import bundled, unbundled
from pgpack.cache.store import HEAD, SMALL, Cache, Disk, Form, Memory, cache_key, source_digest
from pgpack.calibration.calibration import Calibration, from_arrays
from pgpack.checkpoint.checkpoint import Checkpoint, from_tensors
from pgpack.errors import FormatError
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe

ROOT = Path(__file__).resolve().parents[2]
TEXT = Form[bytes](lambda value: [value], bytes)
KIND = "quantized"


def disk_in(folder: Path, **settings: Any) -> Disk:
    return Disk(folder, reserve=0, **settings)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "CACHEDIR.TAG")


def contents(seed: int, n_bytes: int = 5000) -> bytes:
    return np.random.default_rng(seed).bytes(n_bytes)


def kept(folder: Path, n_entries: int = 1, **settings: Any) -> Disk:
    """A cache that holds the contents 0, 1, ... under keys of the same numbers, used in this order."""
    disk = disk_in(folder, **settings)
    for i in range(n_entries):
        disk.put(KIND, str(i), [contents(i)])
    for i, path in enumerate(disk._path(KIND, str(i)) for i in range(n_entries)):
        os.utime(path, (1000 + i, 1000 + i))
    return disk


def model_like() -> Checkpoint:
    rng = np.random.default_rng(0)
    shapes = {
        "tok_emb.weight": (256, 32),
        "blocks.0.mlp.fc.weight": (160, 96),
        "blocks.0.mlp.proj.weight": (96, 160),
        "blocks.0.attn_scale": (96,),
    }
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return from_tensors(arrays | {"positions": np.arange(5000, dtype=np.int16)})


def statistics(checkpoint: Checkpoint, seed: int = 1) -> Calibration:
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in checkpoint.shapes.items():
        if len(shape) == 2:
            x = rng.standard_normal((3 * shape[1], shape[1])).astype(np.float32)
            arrays[f"{name}.hessian"] = x.T @ x / len(x)
            arrays[f"{name}.fisher"] = rng.random(shape[0]).astype(np.float32) + np.float32(0.1)
    return from_arrays(arrays, "tokens", 100)


CONTROL = "ndim<=1=cast; "
RECIPES = [
    CONTROL + "*=gptq(bits=5,clip=9)|rans",
    CONTROL + "*=gptq(bits=5,clip=9)|bitplanes|brotli(quality=5); @order=mlp(by=norm)",
    CONTROL + "*=prune_global(sparsity=0.3)|rtn(bits=4)|transpose|zlib",
    CONTROL + "*=lqer_asym(rank=2,top=1)|rtn(bits=4)|rans",
    CONTROL + "*=svd(rank=8)|rtn(bits=8)|zstd",
    CONTROL + "*=kmeans(k=12)|rans",
    CONTROL + "*=tcq(step=0.05)|rans_scaled",
    CONTROL + "*=sdclip(bits=6,clip=12.85); @container=torch_sdclip|zlib",
]


@pytest.mark.parametrize("text", RECIPES)
def test_no_byte_depends_on_the_cache_and_a_later_process_computes_nothing(text: str, tmp_path: Path) -> None:
    checkpoint = model_like()
    calibration, recipe = statistics(checkpoint), parse_recipe(text)
    plain = pack(checkpoint, recipe, calibration)
    for later in (False, True):
        cache = Cache(disk_in(tmp_path))
        packed = pack(checkpoint, recipe, calibration, cache=cache)
        assert (packed.data, packed.report) == (plain.data, plain.report)
        assert packed.weights_digest == plain.weights_digest
        assert set(cache.hits if later else cache.misses) == {"quantized", "encoded"}
        assert not (cache.misses if later else cache.hits)


def test_codecs_share_quantized_tensors_without_a_disk() -> None:
    checkpoint = model_like()
    calibration, cache = statistics(checkpoint), Cache()
    for coding in ("rans", "brotli(quality=5)", "bitpack|zlib"):
        pack(checkpoint, parse_recipe(f"{CONTROL}*=gptq(bits=5,clip=9)|{coding}"), calibration, cache=cache)
    assert (cache.misses["quantized"], cache.hits["quantized"]) == (4, 8)


def test_another_tensor_statistic_setting_or_program_is_another_entry(tmp_path: Path) -> None:
    checkpoint = model_like()
    calibration, text = statistics(checkpoint), CONTROL + "*=gptq(bits=5,clip=9)|zlib"
    pack(checkpoint, parse_recipe(text), calibration, cache=Cache(disk_in(tmp_path, engine="one")))
    name = "tok_emb.weight"
    changed = from_tensors({**dict(checkpoint.items()), name: checkpoint.tensor(name) + np.float32(1e-6)})

    def misses(of: Checkpoint, statistic: Calibration, recipe: str, engine: str = "one") -> int:
        cache = Cache(disk_in(tmp_path, engine=engine))
        pack(of, parse_recipe(recipe), statistic, cache=cache)
        return cache.misses["quantized"]

    assert misses(checkpoint, calibration, text) == 0
    assert misses(changed, calibration, text) == 1
    assert misses(checkpoint, statistics(checkpoint, seed=2), text) == 3  # integers have none
    assert misses(checkpoint, calibration, text.replace("clip=9", "clip=9.5")) == 3  # nor a clip
    assert misses(checkpoint, calibration, text, engine="two") == 4


@given(at=st.integers(0, HEAD + 5000 - 1), bit=st.none() | st.integers(0, 7))
def test_a_damaged_entry_is_found_deleted_and_computed_again(
    at: int, bit: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A flipped bit anywhere, or (no bit) a file that ends early."""
    disk = kept(tmp_path_factory.mktemp("cache"))
    path = disk._path(KIND, "0")
    whole = bytearray(path.read_bytes())
    if bit is None:
        del whole[at:]
    else:
        whole[at] ^= 1 << bit
    path.write_bytes(whole)
    cache = Cache(disk)
    assert cache.recall(KIND, "0", TEXT, lambda: b"again") == b"again"
    assert Cache(disk).recall(KIND, "0", TEXT, lambda: b"never") == b"again"


def test_an_entry_under_the_name_of_another_is_damage(tmp_path: Path) -> None:
    disk = kept(tmp_path, 2)
    disk._path(KIND, "0").replace(disk._path(KIND, "1"))
    assert disk.get(KIND, "1") is None
    assert files_of(tmp_path) == []


def test_an_intact_entry_that_is_no_such_value_is_computed_again(tmp_path: Path) -> None:
    def refuse(data: memoryview) -> bytes:
        raise FormatError("another layout")

    cache = Cache(kept(tmp_path))
    assert cache.recall(KIND, "0", Form(TEXT.write, refuse), lambda: b"again") == b"again"
    assert (cache.hits[KIND], cache.misses[KIND]) == (0, 1)


def test_drop_damaged_deletes_exactly_what_is_damaged(tmp_path: Path) -> None:
    disk = kept(tmp_path, 3)
    disk._path(KIND, "1").write_bytes(b"torn")
    assert disk.drop_damaged() == 1
    assert [disk.get(KIND, str(i)) == contents(i) for i in range(3)] == [True, False, True]


def test_the_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    size = 5000 + HEAD
    disk = kept(tmp_path, 4, limit=4 * size)
    assert disk.get(KIND, "0") == contents(0)  # used now, so that 1 is the oldest
    disk.put(KIND, "4", [contents(4)])
    assert [disk.get(KIND, str(i)) is not None for i in range(5)] == [True, False, True, True, True]


@given(sizes=st.lists(st.integers(0, 4000), max_size=30))
def test_the_limit_holds_after_every_entry(sizes: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("cache")
    disk = disk_in(folder, limit=6000)
    for i, size in enumerate(sizes):
        disk.put(KIND, str(i), [bytes(size)])
        assert sum(path.stat().st_size for path in files_of(folder)) <= 6000


def test_an_entry_above_the_limit_is_not_kept_and_puts_nothing_out(tmp_path: Path) -> None:
    disk = kept(tmp_path, 2, limit=12_000)
    disk.put(KIND, "large", [bytes(12_000)])
    assert disk.get(KIND, "large") is None
    assert len(files_of(tmp_path)) == 2


def test_emptying_leaves_other_files_alone_and_takes_what_killed_processes_left(tmp_path: Path) -> None:
    disk = kept(tmp_path, 2)
    foreign = [tmp_path / "notes.txt", tmp_path / KIND / "notes.txt"]
    beside = disk._path(KIND, "0").parent
    old, fresh = beside / ".0123456789abcdef", beside / ".fedcba9876543210"
    for path in (*foreign, old, fresh):
        path.write_text("x")
    os.utime(old, (time.time() - 2 * cache_module.LEFTOVER_S,) * 2)
    assert disk.shrink(0) == (2, 2 * (5000 + HEAD))
    assert files_of(tmp_path) == sorted([*foreign, fresh])


FULL = """
import resource, signal, sys
from pathlib import Path
from pgpack.cache.store import Cache, Disk, Form
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
said = []
cache = Cache(Disk(Path(sys.argv[1]), reserve=0, trouble=said.append))
form = Form(lambda value: [value], bytes)
print([cache.recall("quantized", str(n), form, lambda: bytes(n)) == bytes(n) for n in (2000, 5000, 2001)], len(said))
"""


def test_a_write_that_stops_in_the_middle_leaves_nothing_behind(tmp_path: Path) -> None:
    """The system itself refuses the second half of a file."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[True, True, True] 1"
    assert len(files_of(tmp_path)) == 1


def test_a_folder_that_is_a_file_costs_one_note(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    said: list[str] = []
    cache = Cache(disk_in(tmp_path / "file", trouble=said.append))
    assert [cache.recall(KIND, key, TEXT, lambda: b"value") for key in "ab"] == [b"value"] * 2
    assert len(said) == 1


def test_the_reserve_of_the_disk_is_not_touched(tmp_path: Path) -> None:
    said: list[str] = []
    disk = Disk(tmp_path, reserve=1 << 62, trouble=said.append)
    for key in "ab":
        disk.put(KIND, key, [b"value"])
    assert files_of(tmp_path) == []
    assert len(said) == 1


def test_a_folder_deleted_meanwhile_is_a_miss(tmp_path: Path) -> None:
    import shutil

    disk = kept(tmp_path / "cache", 2)
    shutil.rmtree(tmp_path / "cache")
    assert disk.get(KIND, "0") is None
    disk.put(KIND, "0", [contents(0)])


WRITER = """
import sys
from pathlib import Path
import numpy as np
from pgpack.cache.store import Cache, Disk, Form, Memory
form = Form(lambda value: [value], bytes)
cache = Cache(Disk(Path(sys.argv[1]), limit=200_000, reserve=0), Memory(0))
rng = np.random.default_rng(int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for i in rng.integers(0, 60, 500):
    expected = bytes([i]) * (4200 + 31 * int(i))
    assert cache.recall("quantized", str(i), form, lambda: expected) == expected
print(cache.hits.total(), cache.misses.total())
"""


def start_writer(folder: Path, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(seed)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, stderr=-1, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_write_read_and_evict_the_same_entries_and_a_third_is_killed(tmp_path: Path) -> None:
    *pair, victim = (start_writer(tmp_path, seed) for seed in (1, 2, 3))
    for process in (victim, *pair):
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    time.sleep(0.1)
    victim.kill()
    victim.communicate()
    ended = [process.communicate() for process in pair]
    assert [process.returncode for process in pair] == [0, 0], ended
    assert all(int(out.split()[0]) > 100 and int(out.split()[1]) > 60 for out, _ in ended)
    disk = disk_in(tmp_path)
    assert disk.drop_damaged() == 0
    assert sum(entry.n_bytes for entry in disk.entries()) <= 200_000 + 2 * 200_000 // 16 + 2 * 7000
    aside = [path for path in files_of(tmp_path) if path.name.startswith(".")]
    assert len(aside) <= 1, "only the killed one leaves a file, at most the one it was writing"


arrays = hnp.arrays(
    st.sampled_from(["i1", "u1", "<i2", "<u4", "<i8", "<f2", "<f4", "?"]), hnp.array_shapes(min_dims=0, min_side=0)
)


@given(st.lists(arrays, max_size=4), st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False)))
def test_a_bundle_comes_back_as_it_was_and_no_prefix_of_it_does(
    given_arrays: list[np.ndarray[Any, Any]], head: Mapping[str, float]
) -> None:
    data = memoryview(b"".join(bundled(head, given_arrays)))
    found_head, found = unbundled(data)
    assert found_head == head
    for before, after in zip(given_arrays, found, strict=True):
        assert (before.dtype, before.shape, before.tobytes()) == (after.dtype, after.shape, after.tobytes())
    for end in {0, 3, len(data) // 2, len(data) - 1}:
        with pytest.raises((ValueError, TypeError)):
            unbundled(data[:end])


def test_memory_lets_large_entries_go_by_use_and_keeps_small_ones() -> None:
    memory = Memory(3 * SMALL)
    memory.put(KIND, "small", [b"s"])
    for key in "abc":
        memory.put(KIND, key, [bytes(SMALL + 1)])
        assert memory.get(KIND, "a") is not None
        assert memory.n_bytes <= 3 * SMALL
    assert [memory.get(KIND, key) is not None for key in ("small", "a", "b", "c")] == [True, True, False, True]


def test_changed_code_has_another_digest(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    before = source_digest(tmp_path)
    (tmp_path / "notes.md").write_text("not code")
    assert source_digest(tmp_path) == before
    (tmp_path / "a.py").write_text("x = 2\n")
    assert source_digest(tmp_path) != before


@given(st.lists(st.text(max_size=3), max_size=3), st.lists(st.text(max_size=3), max_size=3))
def test_keys_are_equal_only_for_equal_parts(some: list[str], other: list[str]) -> None:
    assert (cache_key(*some) == cache_key(*other)) == (some == other)
