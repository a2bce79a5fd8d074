"""The overlap of two texts by what they say: letters and digits alone, whatever stands between them.

    tokens --their pieces--> letters and digits --> windows of LETTERS of them, looked for in those of another text

Line ends, marks of byte order, tabs, spaces, line breaks, punctuation, accents however they are composed, and where
documents begin count for nothing. Windows of a long text are compared where their first bytes hash to zero, so that
both sides choose the same ones.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .data import Tokens, are_in, overlap_fraction, repeated
from .tokenizer import Tokenizer

LETTERS = 256  # bytes of a window, a multiple of WORD: about 64 tokens of a large vocabulary
WORD = 8
ENOUGH = 2048  # windows of the text that is looked for
RAREST = 6  # at least one place in 2^6 begins a window that is compared
CHUNK, LAP = 1 << 20, 1 << 12  # tokens at a time, and of the next ones, in which the last windows end
ODD = np.uint64(0x9E3779B97F4A7C15)


def letters_of(text: str) -> bytes:
    """The letters and digits of a text in UTF-8, without their accents.

    >>> letters_of("Caf\\u00e9,\\r\\n no. 4") == letters_of("Cafe\\u0301 no 4") == b"Cafeno4"
    True
    """
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text))).encode("utf-8", "replace")


class Overlap:
    """What two texts of one tokenizer share."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def share(self, calib: Tokens, val: Tokens) -> float:
        """The share of windows of `val` that occur in `calib`: of tokens or of letters, whichever is more."""
        return max(overlap_fraction(calib, val), self._of_letters(calib, val))

    def repeated(self, tokens: Tokens, others: Tokens) -> NDArray[np.bool_]:
        """Which tokens lie in a window that occurs in `others`. Shape: (n,) as `tokens`."""
        found = repeated(tokens, others)
        present = np.sort(np.concatenate([*(hashes for hashes, _, _ in self._windows(others, 2)), _NONE]))
        if not len(present):
            return found
        begin = 0
        for hashes, places, ends in self._windows(tokens, 2):
            hit = places[are_in(hashes, present)]
            first, last = np.searchsorted(ends, hit, "right"), np.searchsorted(ends, hit + LETTERS - 1, "right")
            covered = np.zeros(len(ends) + 1, np.int32)
            np.add.at(covered, first, 1)
            np.add.at(covered, last + 1, -1)
            found[begin : begin + len(ends)] |= np.cumsum(covered[:-1]) > 0
            begin += CHUNK
        return found

    def _of_letters(self, calib: Tokens, val: Tokens) -> float:
        bits = min(RAREST, max(0, int(2 * len(val) / ENOUGH).bit_length() - 1))
        wanted = np.sort(np.concatenate([*(hashes for hashes, _, _ in self._windows(val, bits)), _NONE]))
        hit = np.zeros(len(wanted), bool)
        if len(wanted):
            for hashes, _, _ in self._windows(calib, bits):
                hit |= are_in(wanted, np.sort(hashes)) if len(hashes) else False
        return float(hit.mean()) if len(hit) else 0.0

    def _windows(
        self, tokens: Tokens, bits: int
    ) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.intp], NDArray[np.int64]]]:
        """(hashes of windows, where they begin, where the letters of each token end), chunk by chunk: of the windows
        that begin in it, in letters from its first on, and of its tokens and the lap behind them."""
        for start in range(0, len(tokens), CHUNK):
            parts = self._letters(tokens[start : start + CHUNK + LAP])
            ends = np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)))
            letters = np.frombuffer(b"".join(parts), np.uint8)
            places = np.zeros(0, np.intp)
            hashes = _NONE
            if len(letters) >= LETTERS:
                words: NDArray[np.uint64] = np.ndarray((len(letters) - WORD + 1,), "<u8", letters, strides=(1,))
                begins = min(int(ends[min(CHUNK, len(ends)) - 1]), len(letters) - LETTERS + 1)
                with np.errstate(over="ignore"):
                    places = np.flatnonzero((words[:begins] * ODD) >> np.uint64(64 - bits) == 0) if bits else (
                        np.arange(begins)
                    )  # fmt: skip
                    hashes = np.zeros(len(places), np.uint64)
                    for at in range(0, LETTERS, WORD):
                        hashes = (hashes ^ words[places + at]) * ODD
                        hashes ^= hashes >> np.uint64(29)
            yield hashes, places, ends

    def _letters(self, tokens: Tokens) -> list[bytes]:
        """Of each token; of characters that several tokens make together, the first of these has them all."""
        table, is_part = self._of_pieces
        parts: list[bytes] = table[tokens].tolist()
        inside = np.flatnonzero(is_part[tokens])
        pieces = self.tokenizer.pieces
        for run in np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1) if len(inside) else ():
            whole = b"".join(pieces[token] for token in tokens[run].tolist())
            parts[run[0]] = letters_of(whole.decode("utf-8", "ignore"))
        return parts

    @cached_property
    def _of_pieces(self) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
        """(letters of every piece, whether it is a part of characters only)."""
        pieces = self.tokenizer.pieces
        table, is_part = np.full(len(pieces), b"", object), np.zeros(len(pieces), bool)
        for token, piece in enumerate(pieces):
            try:
                table[token] = letters_of(piece.decode())
            except UnicodeDecodeError:
                is_part[token] = True
        return table, is_part


_NONE = np.zeros(0, np.uint64)
