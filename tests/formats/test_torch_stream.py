"""torch.save streams without torch: what is written equals torch's own bytes, what is read equals torch's own values.

torch is the oracle of both directions; hostile streams are refused with a FormatError and nothing else.
"""

from __future__ import annotations

import io
import random
import struct
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpack.errors import CorruptArtifact, FormatError, RecipeError
from pgpack.formats.torch_files.pickle_reader import unpickled
from pgpack.formats.torch_files.serialization_id import set_order
from pgpack.formats.torch_files.stored_tensor import ARRAY_DTYPES, StoredTensor
from pgpack.formats.torch_files.stream import load, pieces, read_value, scaffold
from pgpack.formats.torch_files.zip import entries_of, framed
from tests.formats.reading import skeleton
from tests.formats.torch_stream import save

LIMIT = 1 << 20
DTYPES = sorted(ARRAY_DTYPES)


def torch_bytes(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def as_torch(value):
    """The same value with torch's tensors; strings, lists and tuples are the same objects."""
    if isinstance(value, dict):
        return {key: as_torch(item) for key, item in value.items()}
    if not isinstance(value, StoredTensor):
        return value
    found = torch.empty(value.shape, dtype=getattr(torch, value.dtype))
    bits = torch.uint8 if value.array.dtype.itemsize == 1 else getattr(torch, f"int{8 * value.array.itemsize}")
    if found.numel():
        contents = torch.frombuffer(bytearray(value.array.tobytes()), dtype=bits)
        found.view(-1).copy_(contents.view(found.dtype))
    return found


def tensor(dtype, shape, seed=0):
    n = int(np.prod(shape)) * np.dtype(ARRAY_DTYPES[dtype]).itemsize
    contents = np.frombuffer(random.Random(seed).randbytes(n), np.uint8)
    if dtype == "bool":
        contents = contents % 2
    return StoredTensor(dtype, contents.view(ARRAY_DTYPES[dtype]).reshape(shape))


def assert_equal_values(ours, theirs):
    if isinstance(theirs, dict):
        assert isinstance(ours, dict)
        assert list(ours) == list(theirs)
        for key, item in theirs.items():
            assert_equal_values(ours[key], item)
    elif isinstance(theirs, torch.Tensor):
        assert (ours.dtype, ours.shape) == (str(theirs.dtype).removeprefix("torch."), tuple(theirs.shape))
        plain = theirs.detach().contiguous()
        assert ours.array.tobytes() == bytes(plain.flatten().view(torch.uint8).numpy())
    else:
        assert ours == theirs


def field_like(n_tensors):
    names = [f"blocks.{i}.attn.c_q.weight" for i in range(n_tensors)]
    w = {name: tensor("int8", (i % 4, 3), i) for i, name in enumerate(names)}
    original = {name: "".join(("float", "32")) for name in names}  # a new object each
    qmeta = {name: {"scheme": "per_row", "axis": 0} for name in names}
    shapes = {"one": [(2, 3)], "none": [], "many": [(i, 2 * i) for i in range(n_tensors)]}
    return {"w": w, "m": original, "qmeta": qmeta, "s": shapes}


@pytest.mark.parametrize("n", [0, 1, 2, 13, 14, 999, 1000, 1001, 2500])
def test_streams_equal_torchs_at_every_edge_of_batches_and_hash_sets(n):
    value = field_like(n)
    assert save(value) == torch_bytes(as_torch(value))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (300,), (0, 3), (3, 0), (7, 5), (1, 2, 3, 4)])
def test_a_tensor_of_every_dtype_and_shape_is_written_and_read_as_torch_does(dtype, shape):
    value = {"a": tensor(dtype, shape), "b": tensor(dtype, shape, 1)}
    data = torch_bytes(as_torch(value))
    assert save(value) == data
    for name, found in load(data, LIMIT).items():
        assert (found.dtype, found.shape) == (dtype, shape)
        assert found.array.tobytes() == value[name].array.tobytes()


_numbers = st.integers(-(1 << 40), 1 << 40)
_plain = st.text("ab é", max_size=300) | _numbers | st.tuples() | st.lists(_numbers, max_size=6).map(tuple)
_tensors = st.builds(tensor, st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=4).map(tuple))
_values = st.recursive(
    _plain | _tensors | st.lists(_plain, max_size=4),
    lambda inner: st.dictionaries(st.text("wm.q", max_size=5), inner, max_size=5),
    max_leaves=25,
)


@given(st.dictionaries(st.text("wmqs", max_size=3), _values, max_size=5))
@settings(max_examples=80, deadline=None)
def test_any_dictionary_is_written_as_torch_writes_it_and_comes_back(value):
    data = save(value)
    assert data == torch_bytes(as_torch(value))
    assert skeleton(data) == scaffold(pieces(value))
    assert_equal_values(read_value(data, LIMIT), as_torch(value))


def test_what_was_written_is_referred_to_by_identity_not_by_equality():
    shared = "".join(("a long ", "string"))
    same, equal = {"a": shared, "b": shared}, {"a": shared, "b": "".join(("a long ", "string"))}
    assert len(save(same)) < len(save(equal))
    assert save(same) == torch_bytes(same)
    assert save(equal) == torch_bytes(equal)


def test_what_a_stream_cannot_hold_is_refused():
    for value in (1.5, None, True, {1}, np.zeros(3)):
        with pytest.raises(TypeError, match="plain values"):
            save({"a": value})
    with pytest.raises(RecipeError, match="65,535"):
        framed(b"", [b""] * 65_530)


def test_a_hash_set_gives_back_what_was_put_into_it():
    values = [random.Random(i).getrandbits(64) for i in range(700)]
    assert sorted(set_order(values)) == sorted(values)
    assert set_order([3, 16, 4]) == [4, 16, 3]  # 13 buckets: 3 and 16 share one


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("steps", torch.tensor(7))


def test_what_scripts_save_is_read_as_torch_reads_it():
    torch.manual_seed(0)
    model, values = Model(), torch.arange(100.0)
    saved = {
        "model": model.state_dict(),
        "parameter": model.first.weight,
        "views": {"strided": values[10:40:3], "transposed": values.reshape(10, 10).t(), "offset": values[5:9]},
        "expanded": values[:1].expand(7),
        "bf16": values.bfloat16(),
        "plain": {
            "x": 1.5,
            "flag": True,
            "nothing": None,
            "list": [1, -2, 1 << 40],
            "empty": (),
            "four": (1, 2, 3, 4),
        },
    }
    data = torch_bytes(saved)
    found = read_value(data, LIMIT)
    assert_equal_values(found, torch.load(io.BytesIO(data), weights_only=True))
    assert found["model"]["first.weight"].array.base is not None
    assert not found["model"]["first.weight"].array.flags.owndata
    names = read_value(torch_bytes({"dtype": torch.float16, "size": torch.Size([1, 2])}), LIMIT)
    assert (str(names["dtype"]), names["size"]) == ("torch.float16", (1, 2))
    assert read_value(torch_bytes(model.state_dict()), LIMIT).keys() == model.state_dict().keys()


def test_tied_tensors_are_views_of_the_same_bytes():
    shared = torch.arange(6.0)
    found = load(torch_bytes({"a": shared, "b": shared, "c": shared[2:]}), LIMIT)
    assert np.shares_memory(found["a"].array, found["b"].array)
    assert np.shares_memory(found["a"].array, found["c"].array)


def refused(pickle, limit=LIMIT):
    start = time.process_time()
    with pytest.raises(FormatError) as caught:
        unpickled(pickle, {"0": memoryview(bytes(16))}, limit)
    assert time.process_time() - start < 10
    assert len(str(caught.value)) < 400
    return str(caught.value)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def tensor_call(n=4, offset=0, shape=(4,), strides=(1,), key="0", storage="FloatStorage"):
    """The opcodes of a tensor over a storage of 16 bytes."""

    def numbers(values):
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"

    reference = b"(" + text("storage") + f"ctorch\n{storage}\n".encode() + text(key) + text("cpu") + numbers([n])[1:]
    call = b"(" + reference + b"Q" + numbers([offset])[1:-1] + numbers(shape) + numbers(strides) + b"\x89t"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + call + b"R."


def test_the_tensor_that_the_refusals_vary_is_itself_read():
    assert unpickled(tensor_call(), {"0": memoryview(bytes(16))}, LIMIT).shape == (4,)


@pytest.mark.parametrize(
    "changed",
    [
        {"n": 5}, {"n": -1}, {"offset": 1}, {"offset": -1}, {"offset": 1 << 61}, {"shape": (5,)}, {"shape": (-4,)},
        {"strides": (2,)}, {"strides": (-1,)}, {"strides": (1, 1)}, {"shape": (2, 2)}, {"key": "1"}, {"key": "../0"},
        {"storage": "QInt8Storage"}, {"storage": "ComplexFloatStorage"}, {"shape": (1 << 60,), "strides": (0,)},
        {"shape": (0, 1 << 61), "strides": (1, 1)}, {"shape": (1,) * 33, "strides": (1,) * 33},
        {"shape": (1 << 61,) * 32, "strides": (0,) * 32}, {"shape": (0,), "offset": 5},
    ],
    ids=repr,
)  # fmt: skip
def test_a_tensor_that_leaves_its_storage_is_refused(changed):
    refused(tensor_call(**changed))


@pytest.mark.parametrize(
    ("pickle", "match"),
    [
        (b"\x80\x02cos\nsystem\n" + text("true") + b"\x85R.", "run code"),
        (b"\x80\x02cbuiltins\neval\n)R.", "builtins.eval"),
        (b"\x80\x02cos\nsystem\n)\x81.", "opcode 0x81"),  # NEWOBJ
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "protocol"),
        (b"cos\nsystem\n(S'true'\ntR.", "opcode 0x53"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "without a storage"),
        (b"\x80\x02ctorch._utils\n_rebuild_parameter\n)R.", "without a tensor"),
        (b"\x80\x02ccollections\nOrderedDict\n]\x85R.", "OrderedDict"),
        (b"\x80\x02ctorch\nSize\n)R.", "Size"),
        (b"\x80\x02)\x85R.", "early"),
        (b"\x80\x02NNR.", "no function"),
        (b"\x80\x02(.", "one value"),
        (b"\x80\x02N.N", "one value"),
        (b"\x80\x02NN.", "one value"),
        (b"\x80\x02", "early"),
        (b"", "early"),
        (b"\x80\x02X\xff\xff\xff\xffa.", "early"),
        (b"\x80\x02X\x01\x00\x00\x00\xff.", "UTF-8"),
        (b"\x80\x02\x8a\xff" + bytes(255) + b".", "64 bits"),
        (b"\x80\x02cos" + b"a" * 1000, "name"),
        (b"\x80\x02j\xff\xff\xff\xff.", "memo"),
        (b"\x80\x02}]Ns.", "key"),
        (b"\x80\x02}(Nu.", "no value"),
        (b"\x80\x02]NNs.", "expected dict"),
        (b"\x80\x02}Na.", "expected list"),
        (b"\x80\x02}Nb.", "no dictionary"),
        (b"\x80\x02NQ.", "no storage"),
        (b"\x80\x02(q\x00.", "early"),
        (b"\x80\x02t.", "early"),
    ],
)
def test_what_torch_save_does_not_write_is_refused_in_a_sentence(pickle, match):
    assert match in refused(pickle)


@pytest.mark.parametrize(
    "pickle",
    [
        b"\x80\x02" + b"(" * (1 << 20),
        b"\x80\x02]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(200)) + b"\x86.",
        b"\x80\x02}N" + b"\x85" * 300_000 + b"Ns.",  # a key whose hash would exhaust the stack
    ],
    ids=["marks", "doubling lists", "nested key"],
)
def test_bombs_are_refused_in_bounded_time(pickle):
    refused(pickle)


def test_nesting_and_aliases_that_expand_to_more_than_could_be_walked_are_read_in_bounded_time():
    assert isinstance(unpickled(b"\x80\x02N" + b"\x85" * 300_000 + b".", {}, LIMIT), tuple)
    levels = b"}q\x00"
    for level in range(1, 6):  # dictionaries, each of whose 2,000 values is the one before
        items = b"".join(text(str(i)) + b"h%c" % (level - 1) for i in range(2000))
        levels += text(f"level {level}") + b"}q%c(" % level + items + b"u"
    start = time.process_time()
    value = load(b"".join(framed(b"\x80\x02}(" + text("level 0") + levels + b"u.", [])), LIMIT)
    assert [len(level) for level in value.values()] == [0, 2000, 2000, 2000, 2000, 2000]
    assert time.process_time() - start < 10


DATA = save(field_like(5) | {"x": tensor("bfloat16", (3, 4))})
PICKLE = next(DATA[entry.start : entry.end] for entry in entries_of(DATA) if entry.name.endswith("data.pkl"))
_edits = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255), st.integers(0, 3)), min_size=1, max_size=6)


def edited(data, edits):
    found = bytearray(data)
    for position, byte, kind in edits:
        at = position % max(len(found), 1)
        if kind == 0:
            found[at : at + 1] = bytes([byte])
        elif kind == 1:
            found[at:at] = bytes([byte])
        elif kind == 2:
            del found[at : at + 1 + byte % 8]
        else:
            found[at:at] = found[byte : byte + 16]
    return bytes(found)


@given(_edits)
@settings(max_examples=300, deadline=None)
def test_a_mutated_pickle_is_refused_or_read_and_nothing_else_escapes(edits):
    data = b"".join(framed(edited(PICKLE, edits), [bytes(40)] * 6))
    try:
        value = load(data, 1 << 16)
    except FormatError as error:
        assert len(str(error)) < 500  # noqa: PT017  whichever way it goes is fine
    else:
        assert isinstance(value, dict)


@given(_edits)
@settings(max_examples=200, deadline=None)
def test_a_mutated_stream_is_refused_or_read_and_nothing_else_escapes(edits):
    try:
        load(edited(DATA, edits), 1 << 16)
    except FormatError as error:
        assert len(str(error)) < 500  # noqa: PT017


def test_every_cut_of_a_stream_is_refused():
    for length in range(len(DATA)):
        with pytest.raises(CorruptArtifact):
            load(DATA[:length], LIMIT)


def test_the_limit_counts_every_tensor_and_bounds_what_is_read():
    data = save({"a": tensor("int8", (100,)), "b": tensor("float32", (50,))})
    assert load(data, 300)
    with pytest.raises(FormatError, match="limit of 299 bytes"):
        load(data, 299)
