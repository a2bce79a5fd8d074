"""What a file is that no reader of checkpoints knows: said by its first bytes, with what to do about it."""

from __future__ import annotations

import zipfile
from pathlib import Path

PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7-Zip",
}
BEGINNINGS = {
    b"\x93NUMPY": "an array of numpy's (.npy), which has no name; store it by name as .npz or .safetensors",
    b"\x89HDF": "HDF5, as Keras stores it; store its arrays by name as .safetensors",
    b"TFL3": "a TensorFlow Lite model; store the model's arrays by name as .safetensors",
    b"lmgg": "GGML, the format before GGUF; convert it to GGUF with llama.cpp's own script",
    b"tjgg": "GGML, the format before GGUF; convert it to GGUF with llama.cpp's own script",
    b"<!do": "a web page, not the file itself; download it again",
    b"<htm": "a web page, not the file itself; download it again",
    b"usta": "a tar archive; unpack it first",
}
PLACES = {b"TFL3": 4, b"usta": 257}  # of what does not begin at the first byte
HEAD = 512
MEMBERS = {  # ending of a name in a zip file -> what the file is
    ".h5": "a Keras model; store its arrays by name as .safetensors",
    "constants.pkl": "TorchScript, a program with its weights; save model.state_dict() alone",
}


def other_kind(path: Path) -> str:
    """A sentence's end that says what `path` is instead of a checkpoint; '' where nobody knows."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return "an empty file"
    for beginning, name in PACKED.items():
        if head.startswith(beginning):
            return f"packed with {name}; unpack it first"
    for beginning, what in BEGINNINGS.items():
        place = PLACES.get(beginning, 0)
        if head[place : place + len(beginning)].lower() == beginning.lower():
            return what
    if head.startswith(b"PK"):
        return _in_zip(path)
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
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return ""
    return next((what for ending, what in MEMBERS.items() if any(name.endswith(ending) for name in names)), "")
