"""Rules about the evaluated text: it is whole, its bytes count once, nothing was trained on it before packing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from .evidence import Evidence
from .findings import Finding, cited, fail, ok, skip, warn
from .fixed_ratio import ratios_written_down
from .launch import copied_to_training
from .logs import Log
from .losses import Figure
from .numbers import JSON_DIGITS, digits_of, grouped
from .preparation import trained_documents
from .reach import kept_in_part, scored_in_part
from .retold import retold_text
from .scored_text import (
    calibrations_on_evaluated,
    claims_training,
    names_training_on_evaluated,
    switches,
    updates_before_packing,
)
from .script import Place, Script

FULL_BYTES, CASEOPS_BYTES = 151_080_891, 151_074_309  # of the whole validation text, as it is and in CaseOps' tokens
# scored tokens of the whole validation split -> bytes of its text, as the public logs print them
VAL_TOKENS = {62_021_632: FULL_BYTES, 40_540_160: FULL_BYTES, 47_851_520: CASEOPS_BYTES}
DESCRIPTIONS = ("name", "blurb", "description", "summary", "technique", "technique_summary", "method", "notes")
NEAR, DROPPED = 4096, 65_536  # tokens of a last window; of two long ones, which may be left out
AGREE = 9e-4  # relative: a loss of one seed beside the mean of several
KNOWN_RATIO_FAULTS = (
    (164_594_398 / CASEOPS_BYTES, "CaseOps tokens counted without their byte sidecar (#2071, #2138)"),
    (1.0413, "byte-fallback tokens counted as three bytes (#1289)"),
)


@dataclass(frozen=True)
class Ratio:
    """Bytes per token, and by how much of it the printed digits leave it open."""

    value: float
    open: float

    def gives(self, tokens: int, n_bytes: int, more: int = NEAR, fewer: int = DROPPED) -> bool:
        """Whether that many tokens are that many bytes, give or take the tokens of windows at the end."""
        excess = tokens * self.value / n_bytes - 1
        return -fewer / tokens - self.open <= excess <= self.open + more / tokens


def ratio_of(loss: float, loss_digits: int, bpb: float, bpb_digits: int) -> Ratio:
    """Nats per token over nats per byte: one unit of each last digit may be missing, rounded or cut."""
    return Ratio(loss / (math.log(2) * bpb), 10.0**-loss_digits / loss + 10.0**-bpb_digits / bpb)


def bytes_per_token(evidence: Evidence) -> Finding:
    """By the numbers of the logs, and by what the script leaves out while its logs name the whole."""
    found = _by_the_numbers(evidence)
    if found.status not in ("ok", "skip"):
        return found
    if fixed := [*ratios_written_down(evidence.scripts)]:
        return cited("warn", "it looks as if no bytes were counted: ", fixed)
    if retold := [*retold_text(evidence.scripts)]:
        return cited("warn", "it looks as if another text was scored than the challenge's: ", retold)
    left_out = [*kept_in_part(evidence.scripts, evidence.given), *scored_in_part(evidence.scripts, evidence.given)]
    return cited("warn", "it looks as if a part of the text was scored: ", left_out) if left_out else found


def _by_the_numbers(evidence: Evidence) -> Finding:
    """val_loss / (ln 2 val_bpb) is the text's bytes per token: one number of the text, whatever the model."""
    ratios = dict(_ratios(evidence))
    if not ratios:
        return skip("no val_loss beside val_bpb")
    values = {name: ratio.value for name, ratio in ratios.items()}
    if max(values.values()) / min(values.values()) - 1 > AGREE:
        where = grouped(values, AGREE / 3)
        return fail(f"bytes per token differ, so that not all losses are of one text: {where}", _cited(evidence))
    closest = min(ratios.values(), key=lambda ratio: ratio.open)
    logged = [(log, log.val_tokens) for log in evidence.own_logs if log.val_tokens]
    if not logged:
        claimed = evidence.claims.whole("val_tokens", "n_val_tokens", "val_token_count")
        if claimed is None:
            return _of_no_count(closest)
        return _against_the_text(claimed, closest, evidence.claims.place("val_tokens", f"{claimed:,} tokens"))
    found = [
        _against_the_text(tokens, ratios.get(_key(log), closest), log.place(f"{tokens:,} tokens", "tokens"))
        if log.text_bytes is None
        else _of_own_text(log, tokens, log.text_bytes, ratios.get(_key(log), closest))
        for log, tokens in logged
    ]
    return next((each for status in ("fail", "warn") for each in found if each.status == status), found[0])


def _ratios(evidence: Evidence) -> Iterator[tuple[str, Ratio]]:
    claims = evidence.claims
    loss = claims.number("val_loss", "mean_val_loss")
    for seed, row in claims.results.items():
        if row.loss and row.bpb and digits_of(row.bpb) > 2:
            yield f"seed {seed}", _claimed_ratio(row.loss, row.bpb)
    if loss and claims.bpb and digits_of(claims.bpb) > 2 and digits_of(loss) > 2:
        yield "val_loss / val_bpb", _claimed_ratio(loss, claims.bpb)
    for log in evidence.own_logs if evidence.support.logs else evidence.logs[:1]:
        if (figure := _result(evidence, log)) is not None:
            yield _key(log), ratio_of(figure.loss, figure.loss_digits, figure.bpb, figure.digits)


def _claimed_ratio(loss: float, bpb: float) -> Ratio:
    """Of numbers from JSON, whose trailing zeros are lost."""
    return ratio_of(loss, max(JSON_DIGITS, digits_of(loss)), bpb, max(JSON_DIGITS, digits_of(bpb)))


def _key(log: Log) -> str:
    return log.name if log.seed is None else f"{log.name} (seed {log.seed})"


def _result(evidence: Evidence, log: Log) -> Figure | None:
    """The figure of a log that is claimed, else its last one; None where it prints no loss, or too few digits."""
    figure = log.final
    for claimed in evidence.support.figures.values():
        if claimed in log.figures:
            figure = claimed
    return figure if figure is not None and figure.loss > 0 and figure.bpb > 0 and figure.digits >= 4 else None


def _cited(evidence: Evidence) -> tuple[Place, ...]:
    found = [evidence.claims.place("val_loss", "val_loss beside val_bpb")]
    for log in evidence.own_logs:
        if (figure := _result(evidence, log)) is not None:
            found.append(Place(log.name, figure.line, f"val_loss {figure.loss:g} beside val_bpb {figure.bpb:g}"))
    return tuple(found)


def _of_no_count(ratio: Ratio) -> Finding:
    known = next((n for n, size in VAL_TOKENS.items() if ratio.gives(n, size, fewer=NEAR)), None)
    if known is not None:
        return ok(f"{ratio.value:.4f} bytes per token, as {known:,} tokens of the whole text have")
    return warn(
        f"not decided: {ratio.value:.4f} bytes per token throughout, but no log names the number of its tokens"
    )


def _of_own_text(log: Log, tokens: int, n_bytes: int, ratio: Ratio) -> Finding:
    """A log of ours counts the bytes of its text itself; of another text than the challenge's nothing is decided."""
    place = log.place(f"{tokens:,} tokens, {n_bytes:,} bytes", "tokens")
    if not ratio.gives(tokens, n_bytes, more=0, fewer=0):
        return fail(
            f"{tokens:,} tokens of {ratio.value:.6f} bytes are not the {n_bytes:,} bytes that were counted", (place,)
        )
    if any(ratio.gives(tokens, size) for size in (FULL_BYTES, CASEOPS_BYTES)):
        return _against_the_text(tokens, ratio, place)
    return skip(f"measured on a text of {n_bytes:,} bytes, another than the challenge's of {FULL_BYTES:,}")


def _against_the_text(tokens: int, ratio: Ratio, place: Place) -> Finding:
    """Tokens times bytes per token against the bytes of the whole text."""
    near = next((known for known in VAL_TOKENS if abs(known - tokens) < NEAR), None)
    sizes = [VAL_TOKENS[near]] if near else [FULL_BYTES, CASEOPS_BYTES]
    n_bytes = round(tokens * ratio.value)
    excess = min((n_bytes / size - 1 for size in sizes), key=abs)
    said = f"{tokens:,} tokens of {ratio.value:.6f} bytes are {n_bytes:,} bytes"
    if any(ratio.gives(tokens, size) for size in sizes):
        return ok(f"{said}, the whole text")
    for known, name in KNOWN_RATIO_FAULTS:
        if abs(excess + 1 - known) < 4e-3:
            return fail(f"{excess:+.2%} bytes per token against the text: {name}", (place,))
    if excess < 0 and near is None:
        return warn(f"{said}, {excess:+.2%} of the text's {FULL_BYTES:,}: a part was evaluated (#1854)", (place,))
    why = "; a space counted twice inflates it (#1545)" if excess > 0 else ""
    return fail(f"{said}, the whole text has {FULL_BYTES:,} ({excess:+.2%}){why}", (place,))


def calibration_text(evidence: Evidence) -> Finding:
    found = [*calibrations_on_evaluated(evidence.scripts, evidence.given)]
    found += [
        log.place(repr(log.calibrated_on_evaluated), "calibration")
        for log in evidence.own_logs
        if log.calibrated_on_evaluated
    ]
    if found:
        return cited("fail", "calibrated on the evaluated text: ", found)
    return ok("no call and no log line calibrates on the evaluated text")


def _described(evidence: Evidence) -> Iterator[Place]:
    """What submission.json and the title of the README say of it themselves."""
    for key, value in evidence.claims.values.items():
        if key in DESCRIPTIONS and isinstance(value, str) and claims_training(value):
            yield evidence.claims.place(key, f"{key} says so")
    title = next((line for line in evidence.readme.splitlines() if line.strip()), "")
    if claims_training(title):
        yield Place("README.md", 1, "its title says so")


def _by_configuration(evidence: Evidence) -> Iterator[Place]:
    """Lines of configuration files that the code opens which name the validation text as the training's."""
    for name in sorted(evidence.counted):
        if name.endswith((".json", ".yaml", ".yml", ".toml", ".ini", ".cfg")):
            for number, line in enumerate((evidence.folder.text(name) or "").splitlines(), 1):
                if names_training_on_evaluated(line):
                    yield Place(name, number, line.strip()[:80])


def _by_preparation(evidence: Evidence) -> Iterator[Place]:
    """What a preparation of the folder leaves of the evaluated documents in the training files."""
    names = [entry.name for entry in evidence.folder.entries if entry.name.endswith(".py")]
    scripts = [Script(name, (evidence.folder.text(name) or "").encode()) for name in names]
    shards = [log.train_shards for log in evidence.own_logs]
    yield from trained_documents({"README.md": evidence.readme, **evidence.shells}, scripts, shards)


def trained_on_scored(evidence: Evidence) -> Finding:
    """No update on validation text before the weights are packed, by the logs' word and the script's order."""
    confessed = [log.trained_on_evaluated for log in evidence.own_logs if log.trained_on_evaluated is not None]
    if confessed:
        return cited("fail", "trained on the evaluated text before packing: ", confessed)
    denied = bool(evidence.own_logs) and all(log.denies_training for log in evidence.own_logs)
    found = [] if denied else [*_described(evidence), *switches(evidence.scripts)]
    found += [*_by_configuration(evidence)]
    found += [*_by_preparation(evidence)]
    found += [place for name, text in evidence.shells.items() for place in copied_to_training(name, text)]
    found += [*([] if denied else updates_before_packing(evidence.scripts, evidence.given))]
    if found:
        return cited("warn", "it looks as if the weights were trained on the evaluated text before packing: ", found)
    return ok("no log says so, and no update on validation text was found before the weights are saved")
