"""Scorers that cheat only where there is enough text are seen, and the answer says how far was looked."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pgpack.referee.looking import look_ahead, look_close, sums, working

V = 64
IDS = np.random.default_rng(3).integers(0, V, 20_000)
Scorer = Callable[[NDArray[Any]], NDArray[Any]]


def chunks(size: int, *, before: bool, warm_up: int = 0) -> Scorer:
    """Frequencies of each full chunk, learned before it is scored or after."""

    def score(ids: NDArray[Any]) -> NDArray[Any]:
        targets = np.asarray(ids)[1:]
        counts, out = np.ones(V), np.empty(len(targets))
        for at in range(0, len(targets), size):
            part = targets[at : at + size]
            learned = counts + np.bincount(part, minlength=V)
            used = learned if before and len(part) == size and at >= warm_up else counts
            out[at : at + size] = -np.log(used[part] / used.sum())
            counts = learned
        return out

    return score


def hashed(buckets: int, least: int) -> Scorer:
    """count(context, target) / count(context) in a hashed cache, collisions and all."""

    def score(ids: NDArray[Any]) -> NDArray[Any]:
        t = np.asarray(ids)
        contexts, pairs, out = np.zeros(buckets), np.zeros(buckets), np.zeros(len(t) - 1)
        for i in range(1, len(t)):
            c, f = (t[i - 1] * 31) % buckets, ((t[i - 1] * 31) ^ (t[i] * 17)) % buckets
            p = 1 / V
            if contexts[c] >= least:
                p = 0.5 * p + 0.5 * min(pairs[f], contexts[c]) / contexts[c]
            out[i - 1] = -np.log(p)
            contexts[c] += 1
            pairs[f] += 1
        return out

    return score


@pytest.mark.parametrize(("size", "warm_up"), [(512, 0), (4096, 0), (512, 10_000)])
def test_a_chunk_that_is_learned_before_it_is_scored_is_seen(size: int, warm_up: int) -> None:
    found = look_ahead(chunks(size, before=True, warm_up=warm_up), IDS, V, 60)
    assert not found.ok
    assert "changes the loss of the earlier token" in found.detail


@pytest.mark.parametrize("size", [1, 512, 4096])
def test_a_chunk_that_is_scored_first_passes(size: int) -> None:
    score = chunks(size, before=False)
    found = look_ahead(score, IDS[:9000], V, 60)
    assert found.ok
    assert "up to 8,8" in found.detail
    assert sums(score, IDS, V, V, 60).ok


def test_hashed_counts_whose_sum_is_above_one_are_seen_only_where_they_are_warm() -> None:
    score = hashed(buckets=16, least=3)
    assert look_ahead(score, IDS[:400], V, 60).ok
    found = sums(score, IDS, V, V, 60)
    assert not found.ok
    assert "sums to 1" in found.detail


def test_two_passes_over_the_text_are_seen() -> None:
    def twice(ids: NDArray[Any]) -> NDArray[Any]:
        counts = np.bincount(ids, minlength=V) + 1.0
        return -np.log(counts[ids[1:]] / counts.sum())

    assert not look_ahead(twice, IDS[:200], V, 60).ok


def learned(own: float, share: float) -> Scorer:
    """Frequencies so far, the target itself among them by `own`; `share` of the better in hindsight."""

    def score(ids: NDArray[Any]) -> NDArray[Any]:
        counts, out = np.ones(V), np.empty(len(ids) - 1)
        for i, target in enumerate(np.asarray(ids)[1:]):
            used = counts[target] + own
            loss = -np.log(used / (counts.sum() + own))
            out[i] = loss + share * min(0.0, np.log(V) - loss)
            counts[target] += 1
        return out

    return score


@pytest.mark.parametrize(("own", "share"), [(1.0, 0.0), (0.0, 1.0)])
def test_what_knows_its_target_sums_to_more_than_one(own: float, share: float) -> None:
    assert sums(learned(0.0, 0.0), IDS[:150], V, V, 60).ok
    found = sums(learned(own, share), IDS[:150], V, V, 60)
    assert not found.ok
    assert "sum to 1." in found.detail


def test_a_best_temperature_in_hindsight_is_seen() -> None:
    def best(ids: NDArray[Any]) -> NDArray[Any]:
        counts = (np.bincount(ids, minlength=V) + 1.0)[:, None] ** np.linspace(0, 1, 5)
        losses = -np.log(counts / counts.sum(axis=0))[ids[1:]].T
        return np.asarray(min(losses, key=lambda each: each.sum()))

    assert not look_ahead(best, IDS[:400], V, 60).ok


def test_without_time_it_says_how_far_it_looked() -> None:
    ticks = itertools.count()
    found = look_ahead(chunks(512, before=True), IDS, V, 1.0, lambda: float(next(ticks)))
    assert found.ok
    assert "up to 95 tokens of it; longer texts of the 19,999 would take more than 1 s" in found.detail


def test_a_busy_machine_looks_as_far_as_an_idle_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds pass for every second that the process has worked."""
    worked = itertools.count()
    monkeypatch.setattr("time.process_time", lambda: float(next(worked)))
    passed = itertools.count(step=10)
    monkeypatch.setattr("time.monotonic", lambda: float(next(passed)))
    seconds = working()
    assert [seconds() for _ in range(3)] == [1.0, 2.0, 3.0]


def test_time_that_is_only_waited_for_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = itertools.count(step=160)
    monkeypatch.setattr("time.monotonic", lambda: float(next(passed)))
    seconds = working()
    assert seconds() == pytest.approx(10.0, abs=1.0)


@pytest.mark.parametrize("losses", [np.zeros(3), np.full(96, np.nan)])
def test_losses_that_are_none_fail(losses: NDArray[Any]) -> None:
    assert not look_ahead(lambda _: losses, IDS[:97], V, 1.0).ok


def peeking(every: int, ahead: int = 1, start: int = 0) -> Scorer:
    """Frequencies so far; at every so manieth place from `start` on half of what is said lies on a later token."""

    def score(ids: NDArray[Any]) -> NDArray[Any]:
        t, counts = np.asarray(ids), np.ones(V)
        out = np.empty(len(t) - 1)
        for i in range(1, len(t)):
            p = counts[t[i]] / counts.sum()
            if i % every == 7 and i >= start and i + ahead < len(t):
                p = 0.1 * p + 0.9 * ((t[i] * 5 + 1) % V == t[i + ahead])
            out[i - 1] = -np.log(p)
            counts[t[i]] += 1
        return out

    return score


@pytest.mark.parametrize(("every", "ahead", "start"), [(97, 1, 0), (211, 1, 1000), (173, 5, 0)])
def test_one_token_ahead_at_rare_places_is_seen(every: int, ahead: int, start: int) -> None:
    ids = IDS[:2100].copy()
    ids[ahead:] = np.where(np.arange(len(ids) - ahead) % 3 == 0, (ids[:-ahead] * 5 + 1) % V, ids[ahead:])
    found = look_close(peeking(every, ahead, start), ids, V, 60)
    assert not found.ok
    assert "changes the loss of token" in found.detail


def test_what_does_not_peek_passes_a_close_look_at_every_place() -> None:
    found = look_close(chunks(64, before=False), IDS[:400], V, 60)
    assert found.ok
    assert "at all places of 399 tokens" in found.detail


def test_without_time_a_close_look_says_at_how_many_places() -> None:
    ticks = itertools.count()
    found = look_close(chunks(64, before=False), IDS, V, 20.0, lambda: float(next(ticks)))
    assert found.ok
    assert "at 20 of 95 places of 96 tokens" in found.detail
