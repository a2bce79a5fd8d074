"""Ungerboeck's trellises for one-dimensional trellis-coded quantization. numpy only: the decoder needs them.

The integers are split into four subsets by n mod 4 (D0 to D3). In a state s only one superset is allowed, D0 + D2
(even n) or D1 + D3 (odd n), by the lowest bit b of s; the symbol k = (n - b) / 2 then says which integer, and its
lowest bit moves the state:

    b = s & 1      n = 2 k + b      s <- T[s][k & 1]      s = 0 at the start

Source: Ungerboeck 1982, IEEE Trans. IT 28(1), Table I (amplitude modulation), systematic feedback encoders; Marcellin
and Fischer 1990, IEEE Trans. Comm. 38(1); entropy coding per superset: Fischer and Wang 1992, IEEE Trans. IT 38(2).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import FormatError

# states -> parity-check polynomials (h1, h0), octal as printed
POLYNOMIALS = {
    1: (0o0, 0o1),  # no memory: even integers only, which is a scalar quantizer of twice the step
    4: (0o2, 0o5),
    8: (0o4, 0o13),
    16: (0o4, 0o23),
    32: (0o10, 0o45),
    64: (0o24, 0o103),
    128: (0o126, 0o235),
    256: (0o362, 0o515),
}


@cache
def transitions(n_states: int) -> NDArray[np.uint8]:
    """Next state by (state, lowest bit of the symbol). Shape: (n_states, 2). Raises FormatError on another size.

    Register i of the encoder is bit i of the state; z0 = bit 0 feeds back, z1 is the symbol's lowest bit:
    next bit i - 1 = bit i + h0_i z0 + h1_i z1 (mod 2) for i = 1 .. v - 1, and next bit v - 1 = z0.
    """
    if n_states not in POLYNOMIALS:
        raise FormatError(f"no trellis of {n_states} states; known: {', '.join(map(str, POLYNOMIALS))}")
    h1, h0 = POLYNOMIALS[n_states]
    table = np.empty((n_states, 2), dtype=np.uint8)
    for state in range(n_states):
        z0 = state & 1
        for z1 in (0, 1):
            feedback = (h0 >> 1) * z0 ^ (h1 >> 1) * z1
            table[state, z1] = (state >> 1) ^ (feedback & (n_states // 2 - 1)) | z0 * (n_states // 2)
    table.flags.writeable = False
    return table


def supersets(symbols: NDArray[np.integer], n_states: int) -> NDArray[np.uint8]:
    """The bit b of every symbol; the trellis of a column runs down its rows. Shape: (rows, cols), as `symbols`.

    The encoder is linear: as power series in the delay D of one row, over GF(2), b = z1 h1(D) / h0(D), where z1 are
    the symbols' lowest bits. Since h0(D)^2 = h0(D^2), 1 / h0(D) = h0(D) h0(D^2) h0(D^4) ... up to the last row: a
    few shifted sums of whole arrays, eight columns a byte, in place of a walk row by row.
    """
    if n_states not in POLYNOMIALS:
        raise FormatError(f"no trellis of {n_states} states; known: {', '.join(map(str, POLYNOMIALS))}")
    h1, h0 = POLYNOMIALS[n_states]
    bits = _filtered(np.packbits(symbols & 1, axis=1), h1, 1)
    delay = 1
    while delay < len(bits):
        bits = _filtered(bits, h0, delay)
        delay *= 2
    return np.unpackbits(bits, axis=1, count=symbols.shape[1])


def states_at(symbols: NDArray[np.integer], bits: NDArray[np.uint8], row: int, n_states: int) -> NDArray[np.uint8]:
    """The state of each column's trellis above row `row`, which is 0 or at least log2 of the states. Shape: symbols
    and their supersets `bits` (rows, cols), result (cols,).

    A bit of the state is what the rows before have put in above it and moved down since.
    """
    h1, h0 = POLYNOMIALS[n_states]
    memory = n_states.bit_length() - 1
    states = np.zeros(symbols.shape[1], np.uint8)
    if not row:
        return states
    lowest = (symbols[row - memory : row] & 1).astype(np.uint8)[::-1]
    above = bits[row - memory : row][::-1]
    for i in range(memory):
        for back in range(memory - i):
            j = i + 1 + back
            states ^= (above[back] & (h0 >> j & 1)) << i
            if j < memory:
                states ^= (lowest[back] & (h1 >> j & 1)) << i
    return states


def _filtered(bits: NDArray[np.uint8], polynomial: int, delay: int) -> NDArray[np.uint8]:
    """bits * polynomial(D^delay): the sum of the copies moved down by `delay` rows for every power that occurs."""
    total = bits.copy() if polynomial & 1 else np.zeros_like(bits)
    for power in range(1, polynomial.bit_length()):
        moved = power * delay
        if polynomial >> power & 1 and moved < len(bits):
            total[moved:] ^= bits[:-moved]
    return total
