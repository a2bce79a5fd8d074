"""A mask is -inf where attention may not look; what else holds -inf diverged."""

from __future__ import annotations

import numpy as np
import pytest

from pgpack.tensors.masks import is_mask, may_be_endless

DISTANCE = np.subtract.outer(np.arange(40.0), np.arange(40.0))


def hidden(values: np.ndarray, offset: int = 1) -> np.ndarray:
    ahead = np.triu(np.ones(values.shape[-2:], bool), offset)
    return np.where(ahead, -np.inf, values).astype(np.float32)


@pytest.mark.parametrize(
    "values",
    [
        hidden(np.zeros((40, 40))),
        hidden(-DISTANCE),
        hidden(np.stack([DISTANCE, 2 * DISTANCE])[None]),
        hidden(DISTANCE[-8:], 33),  # rows that come last
        np.float32(-np.inf),
        np.array([0, -np.inf] * 9, np.float32),
        np.array([*np.arange(60.0), *[-np.inf] * 4], np.float32),  # a vocabulary filled up
        np.float32(np.inf),  # of an observer that has seen nothing
        np.full(40, np.inf, np.float32),
    ],
    ids=range(9),
)
def test_what_hides_later_places_is_a_mask_whatever_the_rest_says(values: np.ndarray) -> None:
    assert is_mask(np.asarray(values))


def diverged(place: tuple[int, int], value: float) -> np.ndarray:
    found = hidden(DISTANCE)
    found[place] = value
    return found


@pytest.mark.parametrize(
    "values",
    [
        diverged((5, 2), -np.inf),
        diverged((2, 5), 0.0),
        diverged((5, 2), np.nan),
        diverged((5, 2), np.inf),
        DISTANCE.astype(np.float32),
        np.array([*np.arange(40.0), -np.inf], np.float32),
        np.array([*np.arange(40.0), -np.inf, 1, -np.inf], np.float32),
        np.array([*np.arange(40.0), np.inf, np.inf], np.float32),
        np.float32(np.nan),
    ],
    ids=range(9),
)
def test_what_is_not_finite_elsewhere_is_none(values: np.ndarray) -> None:
    assert not is_mask(np.asarray(values))


@pytest.mark.parametrize(
    "name", ["bn.running_var", "a.attn_mask", "obs.min_val", "rope.inv_freq", "vq.ema_w", "queue"]
)
def test_what_is_named_as_a_buffer_may_hold_what_is_no_number(name: str) -> None:
    assert may_be_endless(name, diverged((5, 2), np.nan))


@pytest.mark.parametrize("name", ["fc.weight", "mask_token", "norm.bias", "scale", "unmask.weight", "counter.gain"])
def test_what_is_learned_may_not(name: str) -> None:
    assert not may_be_endless(name, diverged((5, 2), np.nan))
