"""The files that hold checkpoints: safetensors, torch state dicts, and indexes of several such files.

    .safetensors      memory-mapped                           torch zip   memory-mapped, our own reader, no torch
    older torch       torch.load(weights_only), on the CPU    *.index.json   its shards, each of these
    GGUF              memory-mapped (`gguf_file`)

Owns what is read from disk and in which dtype it comes back. Told apart by content. Nothing is unpickled by pickle
itself, devices are ignored, and nothing compressed inside a torch file is expanded.
"""

from __future__ import annotations

import json
import mmap
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CheckpointError, CorruptArtifact, FormatError
from pgpack.formats.gguf.reader import is_gguf
from pgpack.formats.sniff import PGPACK, open_field
from pgpack.formats.torch_files.stored_tensor import StoredTensor, raw_of_stored
from pgpack.formats.torch_files.stream import read_value
from pgpack.formats.torch_files.zip import entries_of

from .folders import ADAPTER_CONFIG, adapter_in, companion_paths, refuse_pointer, weights_in
from .gguf_file import read_gguf_file
from .stored import Stored
from .ties import told_ties

WRAPPERS = (
    "state_dict", "model_state_dict", "model", "module", "params", "net", "weights", "ema_state_dict", "ema",
)  # fmt: skip
MAX_WRAPPERS = 3
INDEX = ".index.json"
INDEX_LIMIT = 64 << 20
ARTIFACT_LIMIT = 1 << 28
PACKED_FLOATS = ("F4", "F6_")
ZIP = b"PK\x03\x04"
NO_LIMIT = 1 << 50  # bytes of tensors: views of a mapped file cost nothing until they are used
CODE = (
    "refused, because reading it would run code or it is no torch file; "
    "save model.state_dict() alone with torch.save or as .safetensors"
)


def require_file(path: Path) -> Path:
    """The file that `path` means: itself, or the weights of a folder. Raises CheckpointError."""
    if path.is_dir():
        return weights_in(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    return path


def weight_files(path: Path) -> list[Path]:
    """The files of a checkpoint: the one that `path` means, and the shards that it is the index of.

    Raises: CheckpointError when one of them is not there.
    """
    file = require_file(path)
    if not file.name.endswith(INDEX):
        return [file]
    return [file, *(file.with_name(name) for name in dict.fromkeys(_weight_map(file).values()))]


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


def read_file(path: Path) -> Stored:
    """What a checkpoint file holds. Raises CheckpointError when it is none, or would run code."""
    refuse_pointer(path)
    if is_safetensors(path):
        return _read_safetensors(path)
    if is_torch_zip(path):
        return _read_torch_zip(path)
    if is_gguf(path):
        return read_gguf_file(path)
    with path.open("rb") as file:
        head = file.read(64).lstrip()
    return _read_index(path) if head.startswith(b"{") else _read_with_torch(path)


def _read_safetensors(path: Path) -> Stored:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            names = list(file.keys())
            slices = {name: file.get_slice(name) for name in names}
            shapes = {name: tuple(int(n) for n in part.get_shape()) for name, part in slices.items()}
            dtypes = {name: part.get_dtype() for name, part in slices.items()}
            metadata = dict(file.metadata() or {})
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from None

    if strange := next((name for name, dtype in dtypes.items() if dtype.startswith(PACKED_FLOATS)), None):
        raise CheckpointError(
            f"{path}: {strange} is of type {dtypes[strange]}, several values in a byte; store it as float32"
        )

    def load(name: str) -> NDArray[Any]:
        if dtypes[name] == "BF16":
            return _bf16(path, name, shapes[name])
        if dtypes[name].startswith("F8_"):
            with safe_open(str(path), framework="pt") as file:
                array: NDArray[Any] = file.get_tensor(name).float().numpy()
                return array
        with safe_open(str(path), framework="numpy") as file:
            return np.asarray(file.get_tensor(name))

    if not shapes:
        raise CheckpointError(f"{path}: holds no tensors")
    return Stored(shapes, load, metadata, told_ties(shapes, metadata))


def _bf16(path: Path, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A tensor that numpy has no type for, from a file that is known to be whole; without torch."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        start = json.loads(file.read(length))[name]["data_offsets"][0]
        file.seek(8 + length + start)
        bits = np.fromfile(file, "<u2", int(np.prod(shape, dtype=np.int64)))
    return (bits.astype(np.uint32) << 16).view(np.float32).reshape(shape)


def _read_torch_zip(path: Path) -> Stored:
    """Through our own reader, as views of the mapped file; what it does not know goes to torch."""
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if len(data) >= 1 << 32:
        return _read_with_torch(path)
    try:
        entries_of(data)
    except CorruptArtifact as error:
        raise CheckpointError(f"{path}: not a readable torch file ({error})") from None
    try:
        value = read_value(data, NO_LIMIT)
    except FormatError:
        return _read_with_torch(path)
    tensors, notes = state_of(value, StoredTensor, path)

    def load(name: str) -> NDArray[Any]:
        return raw_of_stored(contiguous(tensors[name])).dequantize()

    def contiguous(tensor: StoredTensor) -> StoredTensor:
        return StoredTensor(tensor.dtype, np.array(tensor.array, order="C"))  # a copy: the file may be replaced

    return Stored({name: tensor.shape for name, tensor in tensors.items()}, load, notes=notes)


def _read_with_torch(path: Path) -> Stored:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about protocols; what matters is said below
            value: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(f"{path}: {_artifact(path) or CODE}") from None
    except Exception as error:  # noqa: BLE001  an unpickler raises anything on bytes that are no pickle
        known = isinstance(error, RuntimeError) and str(error)
        reason = str(error).splitlines()[0][:120] if known else "it is neither safetensors nor a torch file"
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason})") from None
    tensors, notes = state_of(value, torch.Tensor, path)
    if strange := next(
        (name for name, value in tensors.items() if value.is_meta or value.layout != torch.strided), ""
    ):
        raise CheckpointError(f"{path}: {strange} holds no plain values; save model.state_dict() alone")

    def load(name: str) -> NDArray[Any]:
        value = tensors[name].detach()
        value = value.dequantize() if value.is_quantized else value
        array: NDArray[Any] = (value.float() if value.is_floating_point() else value).numpy()
        return array

    shapes = {name: tuple(int(n) for n in value.shape) for name, value in tensors.items()}
    return Stored(shapes, load, notes=notes)


def _artifact(path: Path) -> str:
    """What to do with a file that is one of the field's artifacts; '' for any other."""
    if path.stat().st_size > ARTIFACT_LIMIT:
        return ""
    data = path.read_bytes()
    found = open_field(data, ARTIFACT_LIMIT)
    kind = found.kind if found else "pgpack" if data[:4] == PGPACK else ""
    what = f"an artifact ({kind}), not a checkpoint; decode it with `pgpack unpack {path.name} -o decoded.pt`"
    return what if kind else ""


def state_of(value: Any, tensor: type, path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The state dict in what a torch file holds: itself, or what training scripts put it into; and notes on what in
    it is no tensor and was left out.

    Raises CheckpointError when there is none, or two of its names are one.
    """
    for _ in range(MAX_WRAPPERS):
        if not isinstance(value, dict):
            break
        inner = [value[key] for key in WRAPPERS if _is_state(value.get(key), tensor)]
        if not inner and any(isinstance(item, tensor) for item in value.values()):
            break
        inner = inner or [value[key] for key in WRAPPERS if isinstance(value.get(key), dict)]
        inner = inner or [item for item in value.values() if _is_state(item, tensor)]
        if not inner:
            break
        value = inner[0]
    if not isinstance(value, dict) or not value:
        found = "an empty one" if isinstance(value, dict) else type(value).__name__
        raise CheckpointError(f"{path}: expected a dictionary of tensors, found {found}")
    tensors = {str(name): item for name, item in value.items() if isinstance(item, tensor)}
    others = {str(name): item for name, item in value.items() if not isinstance(item, tensor)}
    strange = next((name for name, item in others.items() if not _is_extra(name, item)), None)
    if strange is not None or not tensors:
        raise CheckpointError(
            f"{path}: {strange or 'what it holds'!r} is not a tensor; save model.state_dict() alone"
        )
    if len(tensors) + len(others) < len(value):
        raise CheckpointError(f"{path}: two of its keys are one name as text; rename one of them")
    notes = (f"{path.name}: {', '.join(others)}: no tensor, left out",) if others else ()
    return tensors, notes


def _is_extra(name: str, item: Any) -> bool:
    """Whether an entry of a state dict is what modules keep beside their tensors (`get_extra_state`), or nothing."""
    return item is None or name.endswith("_extra_state")


def _is_state(value: Any, tensor: type) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(item, tensor) for item in value.values())


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor -> the shard beside `index` that holds it. Raises CheckpointError for shards elsewhere or not there."""
    try:
        if index.stat().st_size > INDEX_LIMIT:
            raise ValueError("it is larger than an index")
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = {str(name): str(file) for name, file in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"{index}: neither a checkpoint nor the index of one (no 'weight_map')") from None
    if not names:
        raise CheckpointError(f"{index}: holds no tensors")
    for file in dict.fromkeys(names.values()):
        if Path(file).name != file or file in ("", ".", ".."):
            raise CheckpointError(f"{index}: names the shard {file!r}; shards must lie beside the index")
        shard = index.with_name(file)
        if not shard.is_file() or shard == index:
            raise CheckpointError(f"{index}: its shard {file} is not there")
    return names


def _read_index(path: Path) -> Stored:
    """All shards that an index names, with what they hold besides.

    Where the index says nothing of a tensor it is stale, and transformers reads the tensor all the same.
    Refuses shards that lie elsewhere than beside it.
    """
    names = _weight_map(path)
    shards: dict[str, Stored] = {}
    for file in dict.fromkeys(names.values()):
        shard = path.with_name(file)
        refuse_pointer(shard)
        if not is_safetensors(shard) and not is_torch_zip(shard):
            raise CheckpointError(f"{path}: its shard {file} is no safetensors or torch file")
        shards[file] = read_file(shard)
    for name, file in names.items():
        if name not in shards[file].shapes:
            raise CheckpointError(f"{path}: {name} is not in its shard {file}")
    for file, stored in shards.items():
        names |= {name: file for name in stored.shapes if name not in names}
    metadata = {key: text for shard in shards.values() for key, text in shard.metadata.items()}
    shapes = {name: shards[file].shapes[name] for name, file in names.items()}
    return Stored(shapes, lambda name: shards[names[name]].load(name), metadata, told_ties(shapes, metadata))


def opens_without_torch(path: Path) -> bool:
    """Whether names and shapes of a checkpoint are read without loading torch."""
    return path.is_dir() or is_safetensors(path) or is_torch_zip(path) or is_gguf(path)
