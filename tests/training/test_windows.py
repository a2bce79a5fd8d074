"""How long the windows were that a model was trained on, by loss, gradient, and what it makes of more context."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pgpack.errors import DataError
from pgpack.loss.bpb import Build
from pgpack.models.probe import Probe
from pgtrain.identification.reach import change, knows
from pgtrain.identification.reader import Reader
from pgtrain.identification.window import window_of
from pgtrain.model.model_config import GPTConfig


def silent(one: int, other: int) -> float:
    return 0.0


def unknown(length: int) -> float:
    return 0.0


def unsaid(first: int, last: int) -> float:
    return 0.0


def ends_at(length: int) -> Callable[[int, int], float]:
    """What context changes leaps there."""
    return lambda first, last: 2.0 if first >= length else 0.0


def flat(window: int, n_tokens: int) -> np.ndarray:
    return np.random.default_rng(0).normal(3, 0.5, 8192)[: n_tokens // window * window]


@pytest.mark.parametrize("length", [32, 128, 512])
def test_the_length_of_windows_is_found_where_it_is_clear(length: int) -> None:
    def read(window: int, n_tokens: int) -> np.ndarray:
        return flat(window, n_tokens) + 0.1 * abs(np.log2(window / length))

    assert window_of(read, silent, unknown, unsaid, ends_at(length), 8192) == length


def short_sighted(window: int, n_tokens: int) -> np.ndarray:
    """Of a model that makes nothing of its context, and loses in windows of more than 64 tokens."""
    return flat(window, n_tokens) + (0.1 if window > 64 else 0.0)


def test_windows_that_lose_alike_are_a_question() -> None:
    with pytest.raises(DataError, match=r"windows of 16 .*--seq-len N"):
        window_of(flat, silent, unknown, unsaid, ends_at(64), 8192)
    with pytest.raises(DataError, match="too few to find out; give --seq-len"):
        window_of(flat, silent, unknown, unsaid, ends_at(64), 40)


def test_of_windows_that_lose_alike_the_longest_is_taken_where_twice_as_long_loses_far_more() -> None:
    assert window_of(short_sighted, silent, unknown, unsaid, ends_at(64), 8192) == 64
    with pytest.raises(DataError, match=r"windows of 16 .*, 64 .*--seq-len N"):
        window_of(
            short_sighted,
            lambda one, other: -1.0 if (one, other) == (64, 32) else 1.0,
            unknown,
            unsaid,
            ends_at(64),
            8192,
        )


def creeping(window: int, n_tokens: int) -> np.ndarray:
    """Of a model that loses more and more in longer windows, by no step."""
    unsure = np.random.default_rng(window).normal(0, 0.8, 8192)[: n_tokens // window * window]
    return flat(window, n_tokens) + 0.015 * abs(np.log2(window / 32)) + unsure


def test_a_loss_that_creeps_up_names_no_length_without_the_gradient() -> None:
    with pytest.raises(DataError, match=r"--seq-len N"):
        window_of(creeping, silent, unknown, unsaid, ends_at(64), 8192)


def test_windows_between_powers_of_two_that_lose_less_are_a_question() -> None:
    def read(window: int, n_tokens: int) -> np.ndarray:
        return flat(window, n_tokens) + 0.1 * abs(np.log2(window / 96))

    with pytest.raises(DataError, match=r"windows of .*96 .*--seq-len N"):
        window_of(read, silent, unknown, unsaid, ends_at(64), 8192)


@pytest.mark.parametrize("less", [0.005, 0.0001])
def test_a_length_between_that_loses_less_is_a_question_where_the_gradient_leans_to_it(less: float) -> None:
    """However little less: of a model of windows of 48 that makes little of its context, 64 loses 0.002 more."""

    def between(window: int, n_tokens: int) -> np.ndarray:
        rise = {16: 0.1, 32: 0.06, 48: -less, 64: 0.0, 96: 0.06}.get(window, 0.1)
        return flat(window, n_tokens) + rise

    assert (
        window_of(between, lambda one, other: -0.2 if other == 48 else 1.0, unknown, unsaid, ends_at(64), 8192) == 64
    )
    with pytest.raises(DataError, match=r"windows of 48 .*, 64 .*--seq-len N"):
        window_of(between, lambda one, other: -0.5 if other == 48 else 1.0, unknown, unsaid, ends_at(64), 8192)


@pytest.mark.parametrize(("held", "found"), [(-1.5, True), (0.0, False), (3.0, False)])
def test_a_longer_length_that_the_gradient_leans_to_is_none_where_the_context_beyond_is_noise(
    held: float, found: bool
) -> None:
    """Of windows of 64 the loss and the gradient lean to 96; what the model makes of context from 64 on tells."""

    def read(window: int, n_tokens: int) -> np.ndarray:
        return flat(window, n_tokens) + {32: 0.06, 48: 0.01, 64: 0.0, 96: -0.001}.get(window, 0.1)

    def weigh(one: int, other: int) -> float:
        return -0.5 if other == 96 else 1.0

    if found:
        assert window_of(read, weigh, unknown, lambda *step: held, ends_at(64), 8192) == 64
        return
    with pytest.raises(DataError, match=r"windows of 64 .*, 96 .*--seq-len N"):
        window_of(read, weigh, unknown, lambda *step: held, ends_at(64), 8192)


@pytest.mark.parametrize(("held", "found"), [(-1.5, True), (0.0, False)])
def test_a_leap_that_is_missing_is_no_question_where_the_context_beyond_is_noise(held: float, found: bool) -> None:
    def read(window: int, n_tokens: int) -> np.ndarray:
        return flat(window, n_tokens) + {64: 0.0, 48: 0.001, 96: 0.001}.get(window, 0.1)

    def creeps(first: int, last: int) -> float:
        return {48: 0.0, 64: 0.5}.get(first, 0.0)

    if found:
        assert window_of(read, lambda one, other: 1.0, unknown, lambda *step: held, creeps, 8192) == 64
        return
    with pytest.raises(DataError, match=r"windows of 64 .*, 96 .*--seq-len N"):
        window_of(read, lambda one, other: 1.0, unknown, lambda *step: held, creeps, 8192)


def test_a_length_between_that_loses_more_is_no_question() -> None:
    def read(window: int, n_tokens: int) -> np.ndarray:
        return flat(window, n_tokens) + {32: 0.06, 48: 0.001, 64: 0.0, 96: 0.001}.get(window, 0.1)

    assert (
        window_of(read, lambda one, other: -0.5 if other in (48, 96) else 1.0, unknown, unsaid, ends_at(64), 8192)
        == 64
    )


@pytest.mark.parametrize(("leaps", "said"), [(48, "48 .*, 64 "), (96, "64 .*, 96 ")])
def test_a_length_between_that_no_loss_leans_to_is_a_question_where_what_context_changes_leaps_there(
    leaps: int, said: str
) -> None:
    """64 loses least and the gradient says so, of windows that ended at 48 or at 96."""

    def read(window: int, n_tokens: int) -> np.ndarray:
        return flat(window, n_tokens) + {64: 0.0, 48: 0.001, 96: 0.001}.get(window, 0.1)

    assert window_of(read, lambda one, other: 1.0, unknown, unsaid, ends_at(64), 8192) == 64
    with pytest.raises(DataError, match=rf"windows of {said}.*--seq-len N"):
        window_of(read, lambda one, other: 1.0, unknown, unsaid, ends_at(leaps), 8192)


def test_gradient_and_reach_together_name_a_length() -> None:
    """64 and 128 lose alike, and 256 a little more: neither the gradient nor what it knows of context is enough."""

    def read(window: int, n_tokens: int) -> np.ndarray:
        return flat(window, n_tokens) + {64: 0.0, 128: 0.0, 96: 0.0, 48: 0.001, 256: 0.015}.get(window, 0.05)

    def weigh(one: int, other: int) -> float:
        return 1.5 * float(np.sign(abs(np.log2(other / 64)) - abs(np.log2(one / 64))))

    def knows_64(length: int) -> float:
        return 2.0 if length < 64 else -2.0

    assert window_of(read, weigh, knows_64, unsaid, ends_at(64), 8192) == 64
    for each, other in ((silent, knows_64), (weigh, unknown)):
        with pytest.raises(DataError, match=r"windows of 64 .*, 128 .*--seq-len N"):
            window_of(read, each, other, unsaid, ends_at(64), 8192)


def test_what_is_known_of_context_is_gain_and_what_is_not_is_noise() -> None:
    """Noise of variance v on what was known loses v / 2; half of that and less is no more than a model that knows
    little."""
    draw = np.random.default_rng(0)
    less, noise = draw.normal(3, 0.5, 16_384), draw.normal(0, 0.2, 16_384)
    assert knows(less + noise + 0.02, less) < -1.5
    assert knows(less + noise - 0.02, less) > 5
    assert knows(less + noise + 0.08, less) == pytest.approx(knows(less + noise + 0.021, less))  # no more than noise
    assert 0.5 < knows(less + noise + 0.012, less) < 3


def test_the_same_tokens_are_read_with_more_context_and_with_less() -> None:
    seen: list[tuple[int, ...]] = []

    class Positions(torch.nn.Module):
        """The loss of every token is the number of tokens before it, a hundredth each."""

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(ids.shape))
            wanted = torch.exp(-0.01 * (1 + torch.arange(ids.shape[1], dtype=torch.float64)))
            return torch.stack((wanted, 1 - wanted), -1).log().expand(*ids.shape, 2)

    def build(config: GPTConfig) -> Build:
        return lambda state: Positions()

    reader = Reader(Probe(dict, np.zeros(2049, np.uint16)), build)
    more, less = reader.nats_in_context(GPTConfig(seq_len=64), 32, 2048)
    assert len(more) == len(less) == 1024
    assert (more.reshape(-1, 32) * 100).round().astype(int).tolist() == [list(range(33, 65))] * 32
    assert (less.reshape(-1, 16) * 100).round().astype(int).tolist() == [list(range(17, 33))] * 64
    assert {length for _, length in seen} == {64, 32}
    more, less = reader.nats_further(GPTConfig(seq_len=64), 48, 64, 2048)
    assert len(more) == len(less)
    assert len(more) % 16 == 0
    assert (more.reshape(-1, 16) * 100).round().astype(int).tolist() == [list(range(49, 65))] * (len(more) // 16)
    assert (less.reshape(-1, 16) * 100).round().astype(int).tolist() == [list(range(33, 49))] * (len(less) // 16)


def test_what_more_context_changes_is_a_variance() -> None:
    draw = np.random.default_rng(0)
    less, noise = draw.normal(3, 0.5, 16_384), draw.normal(0, 0.2, 16_384)
    assert change(less + noise, less) == pytest.approx(2 * np.log(0.2), abs=0.05)
    assert change(less + 3 * noise, less) - change(less + noise, less) == pytest.approx(2 * np.log(3))
