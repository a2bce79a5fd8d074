"""The files that hold checkpoints: safetensors, torch state dicts, and indexes of several such files.

    .safetensors  a tensor at a time                      torch zip     a tensor at a time, our own reader, no torch
    older torch   torch.load(weights_only), on the CPU    *.index.json  its shards, each of these
    GGUF          a tensor at a time (`gguf_file`)        .npz          a tensor at a time (`npz_file`)

Owns what is read from disk and in which dtype it comes back. Told apart by content. Nothing is unpickled by pickle
itself, devices are ignored, and nothing compressed inside a torch file is expanded.
"""

from __future__ import annotations

import json
import math
import mmap
import pickle
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CheckpointError, CorruptArtifact, FormatError, no_file
from pgpack.files import READ
from pgpack.formats.gguf.reader import files_of, is_gguf
from pgpack.formats.sniff import PGPACK, open_field
from pgpack.formats.torch_files.objects import unpickled_with_objects
from pgpack.formats.torch_files.stored_tensor import StoredTensor, raw_of_stored
from pgpack.formats.torch_files.stream import read_value
from pgpack.formats.torch_files.zip import entries_of

from .copies import below_key
from .encoded_names import with_plain_names
from .folders import ADAPTER_CONFIG, PART_OF_DCP, adapter_in, companion_paths, refuse_pointer, weights_in
from .gguf_file import read_gguf_file
from .npz_file import is_npz, read_npz
from .other_kinds import other_kind
from .shard_index import read_index, weight_map
from .state_dicts import state_dict_in
from .stored import Stored, require_bounded, require_possible
from .ties import told_ties
from .writing import KINDS

INDEX = ".index.json"
ARTIFACT_LIMIT = 1 << 28
PACKED_FLOATS = ("F4", "F6_")
ZIP = b"PK\x03\x04"
NAMES = {kind: name for name, kind in KINDS.items()} | {"BF16": "bfloat16"}
STORED = {kind: np.dtype(name).newbyteorder("<") for name, kind in KINDS.items()} | {"BF16": np.dtype("<u2")}
NO_LIMIT = 1 << 50  # bytes of tensors: views of a mapped file cost nothing until they are used
CODE = "refused, because reading it would run code; save model.state_dict() alone with torch.save or as .safetensors"
UNKNOWN = "not a readable checkpoint (it is neither safetensors nor a torch file)"


def require_file(path: Path) -> Path:
    """The file that `path` means: itself, or the weights of a folder. Raises CheckpointError."""
    if path.is_dir():
        return weights_in(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} {no_file(path)}")
    return path


def weight_files(path: Path) -> list[Path]:
    """The files of a checkpoint: the one that `path` means, and the shards that it is the index or a part of.

    Raises: CheckpointError when one of them is not there.
    """
    file = require_file(path)
    if is_gguf(file):
        return [part for part in files_of(file) if part.is_file()]
    if not file.name.endswith(INDEX):
        return [file]
    return [file, *(file.parent / name for name in dict.fromkeys(weight_map(file).values()))]


def parts_of(path: Path) -> list[Path]:
    """Every file that is read for a checkpoint: its weights and its companions. Raises as `weight_files`."""
    found = weight_files(path)
    if (folder := adapter_in(path)) is not None:
        found.append(folder / ADAPTER_CONFIG)
    return found + [other for other in companion_paths(found[0].parent).values() if other not in found]


def is_safetensors(path: Path) -> bool:
    """Whether a file starts as a safetensors file does: the length of a header that fits, then the header."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def is_torch_zip(path: Path) -> bool:
    """Whether a file starts as today's torch.save streams do."""
    with path.open("rb") as file:
        return file.read(4) == ZIP


def read_file(path: Path, key: str | None = None) -> Stored:
    """What a checkpoint file holds: of several state dicts in a torch file that under `key`, else names below it.

    Raises: CheckpointError when it is none, or would run code; when it holds several and no key, or no such key.
    """
    refuse_pointer(path)
    if path.suffix == PART_OF_DCP:
        raise CheckpointError(f"{path}: {other_kind(path)}")
    if key is not None and not holds_several(path):
        return below_key(read_file(path), key, path)
    if is_safetensors(path):
        found = with_plain_names(read_safetensors(path), path)
        if not found.shapes:
            raise CheckpointError(f"{path}: holds no tensors")
        return found
    if is_gguf(path):
        return read_gguf_file(path)
    if is_npz(path):
        return read_npz(path)
    if is_torch_zip(path):
        return _read_torch_zip(path, key)
    return read_index(path, _is_shard, read_file) if _is_json(path) else _read_with_torch(path, key)


def is_no_artifact(path: Path) -> bool:
    """Whether a file is a checkpoint of a kind that no artifact shares, or larger than any artifact that is read."""
    return (
        is_safetensors(path) or is_gguf(path) or is_npz(path) or (is_torch_zip(path) and path.stat().st_size > READ)
    )


def holds_several(path: Path) -> bool:
    """Whether a file is of a kind that may hold several state dicts: torch's."""
    return not (is_safetensors(path) or is_gguf(path) or is_npz(path) or _is_json(path))


def _is_shard(path: Path) -> bool:
    return is_safetensors(path) or is_torch_zip(path)


def _is_json(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"{")


def read_safetensors(path: Path) -> Stored:
    """What a safetensors file holds. Raises: CheckpointError when it is none, or of values that are not read."""
    from safetensors import SafetensorError, safe_open

    path.open("rb").close()  # whose error is right: safetensors says that there is no file
    try:
        with safe_open(str(path), framework="numpy") as file:
            names = list(file.keys())
            slices = {name: file.get_slice(name) for name in names}
            shapes = {name: tuple(int(n) for n in part.get_shape()) for name, part in slices.items()}
            dtypes = {name: part.get_dtype() for name, part in slices.items()}
            metadata = dict(file.metadata() or {})
        starts = _starts(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from None

    require_possible(path, shapes)
    strange = next((name for name, dtype in dtypes.items() if dtype.startswith(PACKED_FLOATS)), None)
    if strange is not None:
        raise CheckpointError(
            f"{path}: {strange} is of type {dtypes[strange]}, several values in a byte; store it as float32"
        )

    def load(name: str) -> NDArray[Any]:
        kind, shape = dtypes[name], shapes[name]
        if kind not in STORED:  # floats of 8 bits, which torch knows
            with safe_open(str(path), framework="pt") as file:
                array: NDArray[Any] = file.get_tensor(name).float().numpy()
                return array
        count = int(np.prod(shape, dtype=np.int64))
        values: NDArray[Any] = np.fromfile(path, STORED[kind], count, offset=starts[name])
        if values.size != count:
            raise CheckpointError(f"{path}: ends inside {name}")
        if kind == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values.reshape(shape)

    names_of = {name: NAMES.get(kind, "float8") for name, kind in dtypes.items()}
    return Stored(shapes, load, metadata, told_ties(shapes, metadata), dtypes=names_of)


def _starts(path: Path) -> dict[str, int]:
    """Where each tensor begins in a file that is known to be whole: read from there and not through mapped pages, so
    that a file which is cut meanwhile is an error and not the end of the process."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return {name: 8 + length + entry["data_offsets"][0] for name, entry in header.items()}


def _read_torch_zip(path: Path, key: str | None) -> Stored:
    """Through our own reader, which sees views of the mapped file; what it does not know goes to torch."""
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if len(data) >= 1 << 32:
        return _read_with_torch(path, key)
    try:
        entries_of(data)
    except CorruptArtifact as error:
        raise CheckpointError(f"{path}: {other_kind(path) or f'not a readable torch file ({error})'}") from None
    try:
        value = read_value(data, NO_LIMIT, unpickled_with_objects)
    except FormatError:
        return _read_with_torch(path, key)
    found = state_dict_in(value, StoredTensor, path, key)
    tensors = found.tensors

    def load(name: str) -> NDArray[Any]:
        tensor = tensors[name]
        return raw_of_stored(StoredTensor(tensor.dtype, _read_anew(path, data, tensor.array))).dequantize()

    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    _require_sound(path, shapes)
    return Stored(
        shapes, load, notes=found.notes(path.name), dtypes={name: tensor.dtype for name, tensor in tensors.items()}
    )


def _read_anew(path: Path, data: memoryview, view: NDArray[Any]) -> NDArray[Any]:
    """A contiguous copy of a view of the mapped file, read from the file itself: of mapped pages that are cut off the
    process would die. What is no view is copied."""
    low, high = np.lib.array_utils.byte_bounds(view)
    start = low - np.frombuffer(data, np.uint8).ctypes.data
    if not view.size or not 0 <= start <= len(data) - (high - low):
        return np.array(view, order="C")
    span = np.fromfile(path, np.uint8, high - low, offset=start)
    if len(span) != high - low:
        raise CheckpointError(f"{path}: ends inside a tensor")
    first = view.ctypes.data - low
    return np.array(np.ndarray(view.shape, view.dtype, span.data, first, view.strides), order="C")


def _read_with_torch(path: Path, key: str | None) -> Stored:
    import torch

    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_scalars()):
            warnings.simplefilter("ignore")  # about protocols; what matters is said below
            value: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: {_artifact(path) or other_kind(path) or (CODE if _may_run(path) else UNKNOWN)}"
        ) from None
    except Exception as error:  # noqa: BLE001  an unpickler raises anything on bytes that are no pickle
        known = isinstance(error, RuntimeError) and str(error)
        reason = f"not a readable checkpoint ({str(error).splitlines()[0][:120]})" if known else UNKNOWN
        raise CheckpointError(f"{path}: {other_kind(path) or reason}") from None
    found = state_dict_in(value, torch.Tensor, path, key)
    tensors = found.tensors
    shapes = {name: tuple(int(n) for n in value.shape) for name, value in tensors.items() if _is_plain(value)}
    _require_sound(path, shapes)
    for name, tensor in tensors.items():
        if why := _unreadable(tensor):
            raise CheckpointError(f"{path}: {name} {why}")

    def load(name: str) -> NDArray[Any]:
        return _array_of(tensors[name])

    dtypes = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
    return Stored(shapes, load, notes=found.notes(path.name), dtypes=dtypes)


def _require_sound(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises CheckpointError for shapes that no array can have, and where views of a little are far more together."""
    require_possible(path, shapes)
    n_bytes = 4 * sum(math.prod(shape) for shape in shapes.values())
    require_bounded(path, n_bytes, "its tensors repeat what is stored once; save them as .contiguous() ones")


def _may_run(path: Path) -> bool:
    """Whether a file starts as pickles do, alone or in a zip file."""
    with path.open("rb") as file:
        return file.read(4) == ZIP or (file.seek(0) == 0 and file.read(1) == b"\x80")


def _numpy_scalars() -> list[Any]:
    """What a number of numpy's calls when it is unpickled: makes one of its bytes, and runs nothing."""
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(code)) for code in "?bhilqBHILQefdFDU"}
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *dtypes]


def _is_plain(tensor: Any) -> bool:
    """Whether a tensor of torch's has a value for every place of its shape."""
    import torch

    return not tensor.is_meta and tensor.layout == torch.strided and not tensor.is_nested


def _unreadable(tensor: Any) -> str:
    """What a tensor of torch's is that no plain values can be read of, and what to do; '' where they can."""
    if tensor.is_meta:
        return "holds no values (it is on the device meta); save the model once its weights are loaded"
    if tensor.is_nested:
        return "is a nested tensor; store what it is made of, one by one"
    if not _is_plain(tensor):
        return "is a sparse tensor; store it as .to_dense()"
    try:
        _array_of(tensor.reshape(-1)[:1] if not tensor.is_quantized else tensor)
    except (RuntimeError, TypeError, NotImplementedError):
        return f"is of type {str(tensor.dtype).removeprefix('torch.')}, which is not read; store it as float32"
    return ""


def _array_of(tensor: Any) -> NDArray[Any]:
    """The values of a tensor of torch's: float32, complex64 of half complex, any other dtype as it is."""
    import torch

    value = tensor.detach()
    value = value.dequantize() if value.is_quantized else value
    if value.is_complex():
        value = value.to(torch.complex64) if value.dtype == torch.complex32 else value
    array: NDArray[Any] = (value.float() if value.is_floating_point() else value).resolve_conj().resolve_neg().numpy()
    return array


def _artifact(path: Path) -> str:
    """What to do with a file that is one of the field's artifacts; '' for any other."""
    if path.stat().st_size > ARTIFACT_LIMIT:
        return ""
    data = path.read_bytes()
    found = open_field(data, ARTIFACT_LIMIT)
    kind = found.kind if found else "pgpack" if data[:4] == PGPACK else ""
    unpack = shlex.join(["pgpack", "unpack", str(path), "-o", "decoded.pt"])
    what = f"an artifact ({kind}), not a checkpoint; decode it with `{unpack}`"
    return what if kind else ""


def opens_without_torch(path: Path) -> bool:
    """Whether names and shapes of a checkpoint are read without loading torch."""
    return path.is_dir() or is_safetensors(path) or is_torch_zip(path) or is_gguf(path)
