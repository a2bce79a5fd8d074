"""Rules about words: submission.json, README.md and the logs must tell one story, of one way to measure."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator

from .claims import EXPECTED, decimals, states
from .evidence import Evidence
from .findings import Finding, fail, listed, ok, skip, warn
from .logs import AFTER, TTT, Figure, Log

FULL_BYTES, CASEOPS_BYTES = 151_080_891, 151_074_309
# scored tokens of the whole validation split -> bytes of its text, as the public logs print them
VAL_TOKENS = {62_021_632: FULL_BYTES, 40_540_160: FULL_BYTES, 47_851_520: CASEOPS_BYTES}
RATIO = 3e-4  # relative: val_loss and val_bpb are printed with five digits or more
KNOWN_RATIO_FAULTS = (
    (164_594_398 / CASEOPS_BYTES, "CaseOps tokens counted without their byte sidecar (#2071, #2138)"),
    (1.0413, "byte-fallback tokens counted as three bytes (#1289)"),
)
ROUNDED = 1e-6
MEAN = 6e-5  # of a mean or std printed with four digits


def json_fields(evidence: Evidence) -> Finding:
    claims = evidence.claims
    if claims.fault:
        return fail(claims.fault)
    if claims.bpb is None:
        return fail("submission.json gives no val_bpb")
    missing = [name for name in EXPECTED if claims.values.get(name) in (None, "")]
    return warn(f"submission.json lacks {', '.join(missing)}") if missing else ok(f"val_bpb {claims.bpb:g}")


def loss_in_log(evidence: Evidence) -> Finding:
    """The claimed loss of every seed is one that its log measured after quantization."""
    claimed = dict(_claimed(evidence))
    if not claimed:
        return skip("no loss is claimed")
    if not any(log.figures for log in evidence.logs):
        return fail("no log prints a loss, so that nothing supports the claimed one")
    wrong = []
    for seed, bpb in claimed.items():
        logs = _logs_of(evidence, seed)
        name = "val_bpb" if seed is None else f"seed {seed}"
        if not logs:
            wrong.append(f"{name}: no log of this seed")
        elif (matched := _matching(logs, bpb)) is None and _is_mean(logs, bpb):
            continue
        elif matched is None:
            said = ", ".join(f"{log.final.bpb:g}" for log in logs if log.final) or "nothing after quantization"
            wrong.append(f"{name} claims {bpb:g}, its log ends with {said}")
        elif matched.stage != AFTER:
            wrong.append(f"{name} claims {bpb:g}, which its log measured {matched.stage} ({matched.label or 'step'})")
    return fail(listed(wrong)) if wrong else ok(f"{len(claimed)} claimed losses are in the logs, after quantization")


def _claimed(evidence: Evidence) -> Iterator[tuple[int | None, float]]:
    """(seed, claimed loss); (None, val_bpb) when there is no table of seeds."""
    rows = [(seed, row.bpb) for seed, row in evidence.claims.results.items() if row.bpb is not None]
    if rows:
        yield from rows
    elif evidence.claims.bpb is not None:
        yield None, evidence.claims.bpb


def _logs_of(evidence: Evidence, seed: int | None) -> list[Log]:
    if seed is None:
        return [log for log in evidence.logs if log.figures]
    found = [log for log in evidence.logs if log.seed == seed]
    return found or [log for log in evidence.logs if log.seed is None and len(evidence.logs) == 1]


def _matching(logs: list[Log], bpb: float) -> Figure | None:
    """The figure that was printed as `bpb`, one after quantization before any other."""
    found = [figure for log in logs for figure in log.figures if _same(figure.bpb, bpb)]
    return next((figure for figure in found if figure.stage == AFTER), found[0] if found else None)


def _is_mean(logs: list[Log], bpb: float) -> bool:
    """Whether a claim is the mean of one kind of figure over several logs."""
    labels = {figure.label for log in logs for figure in log.at(AFTER)}
    for label in labels:
        last = [[figure.bpb for figure in log.at(AFTER) if figure.label == label] for log in logs]
        if len(logs) > 1 and all(last) and abs(statistics.fmean(values[-1] for values in last) - bpb) < MEAN:
            return True
    return False


def _same(measured: float, claimed: float) -> bool:
    """Whether a claim is a measured value, rounded or cut to four digits or more."""
    digits = max(4, len(f"{claimed:.10f}".rstrip("0").partition(".")[2]))
    return abs(measured - claimed) < max(10.0**-digits, ROUNDED) * 1.0000001


def claimed_mode(evidence: Evidence, bpb: float) -> str:
    """How a claimed loss was measured, as the logs say; '' when none of them prints it."""
    matched = _matching(list(evidence.logs), bpb)
    return "" if matched is None else matched.mode


def seed_table(evidence: Evidence) -> Finding:
    claims = evidence.claims
    losses = [row.bpb for row in claims.results.values() if row.bpb is not None]
    if not losses:
        return skip("submission.json has no table of seeds")
    wrong = []
    if claims.seeds and set(claims.seeds) != set(claims.results):
        wrong.append(f"seeds {sorted(claims.seeds)} but results of {sorted(claims.results)}")
    models = {decoded.seed for decoded in evidence.decoded if decoded.seed is not None}
    if models and models != set(claims.results):
        wrong.append(f"models of seeds {sorted(models)} but results of {sorted(claims.results)}")
    mean = statistics.fmean(losses)
    if claims.bpb is not None and len(losses) > 1 and abs(claims.bpb - mean) > MEAN:
        best = " (that is the best seed)" if _same(min(losses), claims.bpb) else ""
        wrong.append(f"val_bpb is {claims.bpb:g}{best}, the mean of its seeds is {mean:.6f}")
    if claims.std is not None and len(losses) > 1:
        found = (statistics.stdev(losses), statistics.pstdev(losses))
        if all(abs(claims.std - value) > MEAN for value in found):
            wrong.append(f"val_bpb_std is {claims.std:g}, that of its seeds is {found[0]:.6f}")
    return fail(listed(wrong)) if wrong else ok(f"{len(losses)} seeds, mean {mean:.6f}")


def one_mode(evidence: Evidence) -> Finding:
    """Seeds, and losses before and after quantization, are compared only when measured alike."""
    modes: dict[str, str] = {}
    for seed, bpb in _claimed(evidence):
        matched = _matching(_logs_of(evidence, seed), bpb)
        if matched is not None:
            modes[f"seed {seed}" if seed is not None else "val_bpb"] = matched.mode
    if len(set(modes.values())) > 1:
        return fail(f"losses of different kinds in one table: {listed(f'{k} {v}' for k, v in modes.items())}")
    before, after = evidence.claims.number("pre_quant_val_bpb"), evidence.claims.bpb
    if before is None or after is None:
        return ok(f"all losses are {next(iter(modes.values()))}") if modes else skip("no loss was found in a log")
    matched = _matching(list(evidence.logs), before)
    mode = next(iter(modes.values()), "")
    unlike = matched is not None and mode and matched.mode != mode
    if unlike or (after < before - 5e-4 and mode != TTT):
        kinds = (
            f"before quantization {before:g} is {matched.mode}, after it {after:g} is {mode}"
            if unlike and matched
            else (f"after quantization {after:g} is better than before it {before:g}")
        )
        gap = round(abs(after - before), 4)
        stated = [number for number, digits in decimals(evidence.readme) if digits >= 4 and abs(number - gap) < 1e-4]
        if stated:
            return fail(
                f"{kinds}: not measured alike, so that {stated[0]:g} in README.md is not what quantization costs"
            )
        return warn(f"{kinds}: not measured alike, their difference is not what quantization costs")
    return ok(f"before and after quantization {mode or 'as far as the logs say'}")


def readme_agrees(evidence: Evidence) -> Finding:
    claims, numbers = evidence.claims, decimals(evidence.readme)
    if not evidence.readme.strip():
        return fail("README.md is empty")
    if claims.bpb is None:
        return skip("submission.json gives no val_bpb")
    wrong = [] if states(claims.bpb, numbers) else [f"README.md does not state val_bpb {claims.bpb:g}"]
    for seed, row in claims.results.items():
        stated = [
            line for line in evidence.readme.splitlines() if re.match(rf"\W*(?:seed\W*)?{seed}\W*\|", line, re.I)
        ]
        found = [number for line in stated for number in decimals(line)]
        could_be_losses = any(0.3 < number < 4 and digits >= 3 for number, digits in found)
        if row.bpb is not None and could_be_losses and not states(row.bpb, tuple(found)):
            wrong.append(f"README.md's row of seed {seed} does not state {row.bpb:g}")
    if wrong:
        return fail(listed(wrong))
    gaps = len(re.findall(r"\*fill in", evidence.readme))
    return (
        warn(f"README.md has {gaps} gaps to fill in") if gaps else ok("README.md states what submission.json states")
    )


def bytes_per_token(evidence: Evidence) -> Finding:
    """val_loss / (ln 2 val_bpb) is the text's bytes per token: one number of the text, whatever the model."""
    claims = evidence.claims
    loss = claims.number("val_loss", "mean_val_loss")
    ratios = {
        f"seed {seed}": row.loss / (math.log(2) * row.bpb)
        for seed, row in claims.results.items()
        if row.loss and row.bpb
    }
    if loss and claims.bpb:
        ratios["val_loss / val_bpb"] = loss / (math.log(2) * claims.bpb)
    supporting = [log for seed, _ in _claimed(evidence) if seed is not None for log in _logs_of(evidence, seed)]
    for log in supporting or evidence.logs[:1]:
        if log.final is not None and log.final.loss > 0 and log.final.digits >= 5:
            ratios[log.name] = log.final.loss / (math.log(2) * log.final.bpb)
    if not ratios:
        return skip("no val_loss beside val_bpb")
    low, high = min(ratios.values()), max(ratios.values())
    if high / low - 1 > RATIO * 3:
        where = listed(f"{name} {value:.4f}" for name, value in ratios.items())
        return fail(f"bytes per token differ, so that not all losses are of one text: {where}")
    tokens = next((log.val_tokens for log in evidence.logs if log.val_tokens), None)
    return _against_the_split(tokens, high)


def _against_the_split(tokens: int | None, ratio: float) -> Finding:
    """`ratio` against the whole split's bytes per token, where the log names a number of tokens that is known."""
    if tokens is None:
        return ok(f"{ratio:.4f} bytes per token throughout; no log names the number of validation tokens")
    near = next((known for known in VAL_TOKENS if abs(known - tokens) < 4096), None)
    if near is None:
        whole = min(VAL_TOKENS)
        if tokens < whole:
            return warn(
                f"{tokens:,} validation tokens, the whole split has {whole:,} or more: a part was evaluated (#1854)"
            )
        return ok(f"{ratio:.4f} bytes per token, {tokens:,} tokens of a tokenizer that is not known here")
    excess = ratio / (VAL_TOKENS[near] / near)
    if abs(excess - 1) <= 2e-3:
        return ok(f"{ratio:.4f} bytes per token, as {near:,} tokens of the whole split have")
    for known, name in KNOWN_RATIO_FAULTS:
        if abs(excess - known) < 4e-3:
            return fail(f"{excess - 1:+.2%} bytes per token against the text: {name}")
    why = "; a space counted twice inflates it (#1545)" if excess > 1 else ""
    return fail(f"{ratio:.4f} bytes per token, the text has {VAL_TOKENS[near] / near:.4f} ({excess - 1:+.2%}){why}")
