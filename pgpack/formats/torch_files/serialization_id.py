"""The 40 digits in `.data/serialization_id` of a torch.save stream, as torch's Linux builds compute them.

Twenty digits are a hash of the names of the files inside, in the order in which a C++ hash set of strings gives
them, twenty are one of their checksums. Nothing reads them, but golden files and every size that is compared with a
challenge script's hold them: without them no stream of ours would be torch's, byte for byte.
Source: torch, `PyTorchStreamWriter::writeSerializationId` and `c10::hash_combine`; GNU libstdc++ (`std::hash` of a
string, a 64-bit MurmurHash, and the order of `std::unordered_set`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_WORD = (1 << 64) - 1
_MULTIPLIER, _SEED = 0xC6A4A7935BD1E995, 0xC70F6907
# numbers of buckets that the set takes one after the other; each holds as many names as it has buckets
_BUCKETS = (1, 13, 29, 59, 127, 257, 541, 1109, 2357, 5087, 10273, 20753, 42043, 85229)


def serialization_id(names: Sequence[str], checksums: Sequence[int]) -> bytes:
    """The digits for files of these names, in the order written, and the checksums of those that are not empty."""
    of_names = combined(set_order([string_hash(name.encode()) for name in names]))
    return f"{of_names:020d}{combined(checksums):020d}".encode()


def combined(values: Iterable[int]) -> int:
    """One 64-bit value of several."""
    seed = 0
    for value in values:
        seed ^= (value + 0x9E3779B9 + (seed << 6) + (seed >> 2)) & _WORD
    return seed


def string_hash(text: bytes) -> int:
    """`std::hash<std::string>` of a 64-bit GNU C++ library."""
    value = _SEED ^ (len(text) * _MULTIPLIER & _WORD)
    whole = len(text) & ~7
    for start in range(0, whole, 8):
        word = _mixed(int.from_bytes(text[start : start + 8], "little") * _MULTIPLIER & _WORD) * _MULTIPLIER
        value = (value ^ (word & _WORD)) * _MULTIPLIER & _WORD
    if whole < len(text):
        value = (value ^ int.from_bytes(text[whole:], "little")) * _MULTIPLIER & _WORD
    return _mixed(_mixed(value) * _MULTIPLIER & _WORD)


def _mixed(value: int) -> int:
    return value ^ (value >> 47)


def set_order(hashes: Sequence[int]) -> list[int]:
    """The order in which a `std::unordered_set` gives back distinct values inserted one after the other.

    The set is one list; a bucket is a run of it. A value joins its bucket's run at the front, or opens a new run at
    the front of the list. Growing inserts the whole list anew, in its order.
    """
    runs: dict[int, list[int]] = {}  # bucket -> its run; runs and their values in order of arrival, the last in front
    size = 0
    for n, value in enumerate(hashes):
        if not n or n >= _BUCKETS[size]:
            size += 1
            listed, runs = _listed(runs), {}
            for other in listed:
                runs.setdefault(other % _BUCKETS[size], []).append(other)
        runs.setdefault(value % _BUCKETS[size], []).append(value)
    return _listed(runs)


def _listed(runs: dict[int, list[int]]) -> list[int]:
    return [value for run in reversed(runs.values()) for value in reversed(run)]
