"""Companions: small files beside the weights come back byte for byte, are counted, and cannot lead anywhere."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpack.checkpoint.checkpoint import Checkpoint, from_tensors
from pgpack.errors import CorruptArtifact, FormatError
from pgpack.formats.own.companions import MAX_BYTES, MAX_FILE_BYTES, MAX_FILES, check_files
from pgpack.formats.own.layout import frame, unframe
from pgpack.inspect import inspect_artifact
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe
from pgpack.transcode import transcode
from pgpack.unpack import unpack

RECIPE = parse_recipe("*=rtn(bits=6)|rans")
CONFIG = json.dumps({"model_type": "llama", "hidden_size": 8}).encode()
FILES = {"config.json": CONFIG, "tokenizer.json": CONFIG * 40, "LICENSE": b"MIT\n", "empty.txt": b""}


def checkpoint(companions: dict[str, bytes] | None = None) -> Checkpoint:
    rng = np.random.default_rng(0)
    weights = from_tensors({"w": rng.standard_normal((16, 12)).astype(np.float32)})
    return dataclasses.replace(weights, companions=companions or {})


@pytest.fixture(scope="module")
def artifact() -> bytes:
    return pack(checkpoint(FILES), RECIPE).data


def test_companions_come_back_in_order_and_the_weights_are_the_same(artifact: bytes) -> None:
    found = unpack(artifact)
    assert list(found.companions.items()) == list(FILES.items())
    bare = unpack(pack(checkpoint(), RECIPE).data)
    assert found.digest == bare.digest
    assert bare.companions == {}


def test_without_companions_an_artifact_is_what_it_was_before_there_were_any(artifact: bytes) -> None:
    bare = pack(checkpoint(FILES).alone(), RECIPE).data
    assert bare == pack(checkpoint(), RECIPE).data
    assert b"companions" not in json.dumps(unframe(bare)[0]).encode()
    assert len(bare) < len(artifact)


@pytest.mark.parametrize("files", [{"a.json": b""}, {"a.json": b"", "b.json": b""}, {"LICENSE": b"x"}])
def test_files_of_no_or_one_byte(files: dict[str, bytes]) -> None:
    assert unpack(pack(checkpoint(files), RECIPE).data).companions == files


def test_their_bytes_are_counted_on_their_own_line(artifact: bytes) -> None:
    packed = pack(checkpoint(FILES), RECIPE)
    assert packed.report.n_bytes == packed.n_bytes == len(artifact)
    view = inspect_artifact(artifact)
    (stage,) = [stage for stage in view.stages if stage.stream == "companions"]
    assert stage.before == sum(map(len, FILES.values()))
    assert stage.after == view.overhead["companions"] == packed.report.overhead["companions"] > 0
    assert sum(tensor.n_bytes for tensor in view.tensors) + sum(view.overhead.values()) == len(artifact)
    assert view.companions == {name: len(contents) for name, contents in FILES.items()}


def test_the_smallest_codec_is_taken() -> None:
    rng = np.random.default_rng(1)
    words = [bytes(rng.integers(97, 123, rng.integers(2, 9), dtype=np.uint8)) for _ in range(400)]
    text = b" ".join(words[i] for i in rng.integers(0, 400, 20_000))
    for contents in (text, b"short", rng.bytes(3000)):
        view = inspect_artifact(pack(checkpoint({"vocab.txt": contents}), RECIPE).data)
        import brotli

        assert view.overhead["companions"] <= len(brotli.compress(contents, quality=11, lgwin=24))


def test_a_field_container_holds_none_and_a_transcoded_artifact_keeps_its_own(artifact: bytes) -> None:
    field = parse_recipe("@container=torch_sdclip; *=sdclip(bits=6)")
    assert unpack(pack(checkpoint(FILES), field).data).companions == {}
    assert unpack(transcode(artifact).data).companions == FILES


HOSTILE_NAMES = [
    "", ".", "..", "../config.json", "a/b.json", "/etc/passwd.txt", "..\\config.json", "C:config.json",
    "c:\\x.json", "config.json\0.txt", "config\n.json", "config\x7f.json", " config.json", "config.json ",
    "config.json.", ".config.json", "-config.json", "con", "CON.json", "nul.txt", "com1.json", "LPT9.md",
    "con\u200bfig.json", "\u202egnp.json", "\ud800.json", "c\u0301onfig.json", "\uff0e\uff0e.json",
    "a" * 99 + ".json", "modeling_llama.py", "pytorch_model.bin", "model.safetensors", "weights.pt",
    "setup.sh", "x.pkl", "model.safetensors.index.json", "Adapter_Config.json", "~",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_a_name_that_is_not_a_plain_data_file_is_neither_written_nor_read(artifact: bytes, name: str) -> None:
    with pytest.raises(FormatError, match="companion") as caught:
        pack(checkpoint({name: b"{}"}), RECIPE)
    header, body = unframe(artifact)
    header["companions"][0][0][0] = name
    if name != "\ud800.json":  # which no UTF-8 header can hold
        with pytest.raises(CorruptArtifact, match="companion") as caught:
            unpack(frame(header, bytes(body)))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_name_twice_is_refused_whatever_its_case(artifact: bytes) -> None:
    with pytest.raises(FormatError, match="twice"):
        pack(checkpoint({"LICENSE": b"a", "license": b"b"}), RECIPE)
    header, body = unframe(artifact)
    header["companions"][0][2][0] = "CONFIG.json"
    with pytest.raises(CorruptArtifact, match="twice"):
        unpack(frame(header, bytes(body)))


HOSTILE_ENTRIES = {
    "huge file": lambda c: c[0][0].__setitem__(1, MAX_FILE_BYTES + 1),
    "negative size": lambda c: c[0][0].__setitem__(1, -1),
    "size that is no number": lambda c: c[0][0].__setitem__(1, "9"),
    "size that is true": lambda c: c[0][2].__setitem__(1, True),
    "name that is no text": lambda c: c[0][0].__setitem__(0, 7),
    "sizes that do not sum": lambda c: c[0][0].__setitem__(1, c[0][0][1] + 1),
    "too many files": lambda c: c.__setitem__(0, [[f"{i}.json", 0] for i in range(MAX_FILES)] + c[0]),
    "a bomb": lambda c: (c[0].__setitem__(0, ["a.json", MAX_FILE_BYTES]), c[2].__setitem__(0, MAX_FILE_BYTES)),
    "huge length between codecs": lambda c: (c[1].append("bz2"), c[2].insert(1, 1 << 40)),
    "a program for a codec": lambda c: c[1].__setitem__(0, "lrzip"),
    "a codec of the weights' streams": lambda c: c[1].__setitem__(0, "zpaq"),
    "an unknown codec": lambda c: c[1].__setitem__(0, "exec(cmd=rm)"),
    "a codec that is no text": lambda c: c[1].__setitem__(0, {"brotli": 1}),
    "no files": lambda c: c.__setitem__(0, []),
    "one length too few": lambda c: c[2].pop(),
    "another stream length": lambda c: c[2].__setitem__(-1, c[2][-1] - 1),
    "a list too many": lambda c: c.append([]),
    "another codec than it was packed by": lambda c: c[1].__setitem__(0, "zstd"),
}


@pytest.mark.parametrize("attack", HOSTILE_ENTRIES)
def test_a_hostile_entry_is_refused(artifact: bytes, attack: str) -> None:
    header, body = unframe(artifact)
    HOSTILE_ENTRIES[attack](header["companions"])
    with pytest.raises(FormatError) as caught:
        unpack(frame(header, bytes(body)))
    assert "\n" not in str(caught.value)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=4)))
def test_companions_of_any_json_are_refused(value: object) -> None:
    header, body = unframe(pack(checkpoint(), RECIPE).data)
    with pytest.raises(CorruptArtifact):
        unpack(frame(header | {"companions": value}, bytes(body)))


def test_sizes_are_limited_one_by_one_and_together() -> None:
    check_files([("a.json", MAX_FILE_BYTES), ("b.json", MAX_BYTES - MAX_FILE_BYTES)])
    with pytest.raises(ValueError, match="at most"):
        check_files([("a.json", MAX_FILE_BYTES), ("b.json", MAX_BYTES - MAX_FILE_BYTES), ("c.json", 1)])


def test_what_the_reader_may_not_take_in_is_refused_before_it_is_inflated(artifact: bytes) -> None:
    with pytest.raises(FormatError, match="above the limit"):
        unpack(artifact, max_bytes=1500)
