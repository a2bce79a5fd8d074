"""What a file is that no reader of checkpoints knows: said by how it begins and ends, with what to do about it.

    first bytes, last bytes, names in a zip file, names in a pickle (never called) --> the end of one sentence

The data of a TensorFlow checkpoint begin with nothing of their own: of them the file's name tells.
"""

from __future__ import annotations

import io
import pickletools
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from .folders import OTHERS, PART_OF_DCP

STORE = "store the model's arrays by name as .safetensors"
NOT_EXPORTED = "give what it was exported from: a model folder, or what torch.save wrote"
LLAMA2C = f"an export of llama2.c; {NOT_EXPORTED}"
PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7-Zip",
    **dict.fromkeys((b"x\x01", b"x\x5e", b"x\x9c", b"x\xda"), "zlib"),
}
BEGINNINGS = {
    b"\x93NUMPY": "an array of numpy's (.npy), which has no name; store it by name as .npz or .safetensors",
    b"\x89HDF": "HDF5, as Keras stores it; store its arrays by name as .safetensors",
    b"TFL3": f"a TensorFlow Lite model; {STORE}",
    b"lmgg": "GGML, the format before GGUF; convert it to GGUF with llama.cpp's own script",
    b"24ka": LLAMA2C,
    b"\xc6\xd7\x34\x01": f"an export of llm.c; {NOT_EXPORTED}",
    b"tjgg": "GGML, the format before GGUF; convert it to GGUF with llama.cpp's own script",
    b"<!do": "a web page, not the file itself; download it again",
    b"<htm": "a web page, not the file itself; download it again",
    b"usta": "a tar archive; unpack it first",
}
PLACES = {b"TFL3": 4, b"usta": 257}  # of what does not begin at the first byte
TENSORFLOW = f"a part of a TensorFlow checkpoint; {STORE}"
PATTERNS = {  # of messages of fields: protobuf's number of a version and the next field, msgpack's map and first key
    rb"\x08[\x02-\x1f][\x12\x1a\x22\x28\x32\x3a]": f"an ONNX model; {STORE}",
    rb"[\x01-\x1f]\0{3}.\0\w+Spec\0": f"a model of CTranslate2; {NOT_EXPORTED}",
    rb"\x08\x01\x12": f"a SavedModel of TensorFlow; {STORE}",
    rb"(?:[\x81-\x8f]|\xde..|\xdf....)(?:[\xa1-\xbf]|\xd9.)[\w.]": (f"msgpack, as Flax stores parameters; {STORE}"),
}
TABLE = 0xDB4775248B80FB57.to_bytes(8, "little")  # ends every table of TensorFlow's, and of LevelDB's
DATA = re.compile(r".*\.data-\d{5}-of-\d{5}")
HEAD = 512
MEMBERS = {  # ending of a name in a zip file -> what the file is
    ".h5": "a Keras model; store its arrays by name as .safetensors",
    "constants.pkl": "TorchScript, a program with its weights; save model.state_dict() alone",
    "exported_program.json": "a program of torch.export; save the state_dict of the model that was exported alone",
    "archive_format": "a program of torch.export; save the state_dict of the model that was exported alone",
}
SUBCLASSES = ("_rebuild_from_type_v2", "torchao", "DTensor", "DeviceMesh", "distributed")  # in names, of tensors
PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # a number, which older files of torch begin with
PICKLE = 1 << 24  # bytes of a pickle that are looked through
PLAIN = re.compile(
    r"collections OrderedDict|torch\._utils .*|torch\.storage .*|torch \w+|_codecs encode|builtins \w+"
)
NUMPY = re.compile(r"numpy\W.*")


def other_kind(path: Path) -> str:
    """A sentence's end that says what `path` is instead of a checkpoint; '' where nobody knows."""
    with path.open("rb") as file:
        head = file.read(HEAD)
        file.seek(-min(len(TABLE), path.stat().st_size), 2)
        tail = file.read()
    if path.suffix == PART_OF_DCP:
        return "a part of a distributed checkpoint of torch; name its folder, which says what to do"
    if head.startswith(b"PK"):
        return _in_zip(path)
    if known := _by_bytes(head, path.stat().st_size):
        return known
    if tail == TABLE or DATA.fullmatch(path.name):
        return TENSORFLOW
    with path.open("rb") as file:
        return _pickled(file.read(PICKLE))


def _is_of_llama2c(head: bytes, size: int) -> bool:
    """Whether seven numbers and floats are an export of llama2.c of before it had a mark: they say the file's size.

    Source: karpathy/llama2.c, export.py, legacy_export; a vocabulary below 0 is of an output matrix of its own.
    """
    if len(head) < 28:
        return False
    width, hidden, n_layers, n_heads, n_kv_heads, vocabulary, length = struct.unpack_from("<7i", head)
    if min(width, hidden, n_layers, n_heads, n_kv_heads, length) < 1 or width % n_heads:
        return False
    side = width // n_heads
    layer = 2 * width + 2 * width * width + 2 * width * side * n_kv_heads + 3 * width * hidden
    tables = abs(vocabulary) * width * (1 + (vocabulary < 0)) + width + 2 * length * (side // 2)
    return bool(size == 28 + 4 * (n_layers * layer + tables))


def _by_bytes(head: bytes, size: int) -> str:
    if not head:
        return "an empty file"
    if packed := next((name for beginning, name in PACKED.items() if head.startswith(beginning)), ""):
        return f"packed with {packed}; unpack it first"
    for beginning, what in BEGINNINGS.items():
        place = PLACES.get(beginning, 0)
        if head[place : place + len(beginning)].lower() == beginning.lower():
            return what
    if known := next((what for pattern, what in PATTERNS.items() if re.match(pattern, head, re.DOTALL)), ""):
        return known
    if _is_of_llama2c(head, size):
        return LLAMA2C
    return "text, not weights; name the file that holds the tensors" if _is_text(head) else ""


def _is_text(head: bytes) -> bool:
    """Whether the first bytes of a file are words with spaces between: a pickle, even an old one, never is."""
    text = head.decode("utf-8", "ignore")  # the last character may be cut
    lines_of_it = "".join(text.split())
    return len(text.encode()) >= len(head) - 3 and lines_of_it.isprintable() and len(text.split(" ")) > len(head) / 40


def _in_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
            if known := next((what for end, what in MEMBERS.items() if any(n.endswith(end) for n in names)), ""):
                return known
            if inner := next((n for n in names if n.endswith(OTHERS)), ""):
                return f"a zip file with {inner} in it; unpack it first"
            pickled = next((name for name in names if name.endswith("data.pkl")), None)
            return "" if pickled is None else _pickled(TORCH + b"." + file.open(pickled).read(PICKLE))
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error):
        return ""


def _pickled(data: bytes) -> str:
    """What a pickle is by the first name in it that is not needed for plain values; nothing is called."""
    called = next(_names_called(data), None)
    if called is None:
        return ""
    if NUMPY.match(called) and TORCH not in data[:32]:
        return "a pickle of numpy's arrays; store them by name with numpy.savez or as .safetensors"
    if called.startswith("torch") and any(word in called for word in SUBCLASSES):
        return (
            f"a pickle with {called.replace(' ', '.')} in it, so of tensors of classes of their own (as torchao's "
            "and DTensor are), and reading those would run code; save plain ones (tensor.dequantize(), "
            "tensor.full_tensor())"
        )
    return (
        f"a pickle with {called.replace(' ', '.')} in it, and reading that would run code; save model.state_dict() "
        "alone with torch.save or as .safetensors"
    )


def _names_called(data: bytes) -> Iterator[str]:
    """Module and name of what pickles that follow one another would import, PLAIN ones left out."""
    file, words = io.BytesIO(data), [""]
    found: list[str] = []
    while file.tell() < len(data):
        try:
            for code, argument, _ in pickletools.genops(file):
                words = [*words[-1:], str(argument)] if "UNICODE" in code.name else words
                name = {"GLOBAL": str(argument), "STACK_GLOBAL": " ".join(words)}.get(code.name, "")
                found += [name] if name and not PLAIN.fullmatch(name) else []
        except Exception:  # noqa: BLE001  of bytes that are no pickle pickletools raises anything
            break
        yield from found
        found = []
    if data.startswith(PROTOCOLS):  # a pickle for sure, whatever comes later
        yield from found
