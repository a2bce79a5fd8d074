"""Rules about words: submission.json, README.md and the logs must tell one story, of one way to measure."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from .claims import EXPECTED, NAME, decimals, nearly_states, states
from .evidence import Evidence
from .findings import Finding, cited, fail, listed, ok, skip, warn
from .losses import AFTER, TTT, UNCLEAR, Figure, is_of_another
from .numbers import FEWEST, apart, claimed_same, digits_of
from .read_back import never_read_back
from .script import Place, calls
from .support import claimed, logs_of, matching

HEADLINES = 12  # lines of a README in which its result stands
# what a template has where a name or a date belongs
_PLACEHOLDER = re.compile(
    r"\W*(?:todo|tbd|tba|fixme|n/?a|none|null|unknown|x{3,}|y{4}-m{2}-d{2}|your[-_ ].*|"
    r"(?:github|user)[-_ ]?(?:name|id|handle)|author[-_ ]name)\W*\Z|\W+\Z|[<{\[].*[>}\]]\Z", re.I,
)  # fmt: skip


def json_fields(evidence: Evidence) -> Finding:
    claims = evidence.claims
    if claims.fault:
        return fail(claims.fault, (Place(NAME, _line_of_fault(claims.fault), claims.fault),))
    if claims.bpb is None:
        return fail("submission.json gives no val_bpb", (Place(NAME, 0, "no val_bpb"),))
    missing = [name for name in EXPECTED if _is_blank(claims.values.get(name))]
    if missing:
        told = tuple(claims.place(name, f"{name} is blank, missing or a placeholder") for name in missing)
        return warn(f"submission.json lacks {', '.join(missing)}", told)
    return ok(f"val_bpb {claims.bpb:g}")


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and (not value.strip() or bool(_PLACEHOLDER.match(value))))


def _line_of_fault(fault: str) -> int:
    found = re.search(r"line (\d+) column", fault)
    return int(found[1]) if found else 0


def loss_in_log(evidence: Evidence) -> Finding:
    """The claimed loss of every seed is one that its log measured after quantization."""
    wanted = dict(claimed(evidence.claims))
    if not wanted:
        return skip("no loss is claimed")
    if not evidence.logs:
        return fail("there is no log, so that nothing supports the claimed loss")
    wrong: list[Place] = []
    unread: list[Place] = []
    for seed, bpb in wanted.items():
        found = evidence.support.figures.get(seed)
        if seed not in evidence.support.means and (found is None or found.stage != AFTER):
            place, is_sure = _unsupported(evidence, seed, bpb, found)
            (wrong if is_sure else unread).append(place)
    if wrong:
        return cited("fail", "", wrong)
    if unread:
        return cited("warn", "not measured: ", unread)
    return _by_the_script(evidence, wanted.values()) or ok(
        f"{len(wanted)} claimed losses are in the logs, after quantization"
    )


def _by_the_script(evidence: Evidence, wanted: Iterable[float]) -> Finding | None:
    """What the script says against losses that are in the logs: it never measured them, or of other weights."""
    if written := [*_written_down(evidence, wanted)]:
        return cited("warn", "a script prints the claimed loss without measuring it: ", written)
    if others := [*never_read_back(evidence.scripts)]:
        return cited("warn", "it looks as if other weights were scored than those of the packed file: ", others)
    return None


def _written_down(evidence: Evidence, claimed_losses: Iterable[float]) -> Iterator[Place]:
    """Results that stand in what a script prints."""
    for script, call, name in calls(evidence.scripts):
        if not re.search(r"print|log|write|info", name.rpartition(".")[2]):
            continue
        constants = [each.value for each in ast.walk(call) if isinstance(each, ast.Constant)]
        for text in (each for each in constants if isinstance(each, str) and not is_of_another(each)):
            for found in re.finditer(r"bpb\W{0,4}(\d\.\d{3,12})(?!\d)", text):
                if any(claimed_same(float(found[1]), len(found[1]) - 2, bpb) for bpb in claimed_losses):
                    yield script.place(call, found[0])


def _unsupported(evidence: Evidence, seed: int | None, bpb: float, found: Figure | None) -> tuple[Place, bool]:
    """(what a claim lacks, whether that is sure): sure when a log was read and says otherwise."""
    name = "val_bpb" if seed is None else f"seed {seed}"
    key = "val_bpb" if seed is None else str(seed)
    logs = logs_of(evidence.logs, seed)
    if found is not None:
        log = next(log for log in logs if found in log.figures)
        said = f"{name} claims {bpb:g}, which its log measured {found.stage} ({found.label or 'step'})"
        return Place(log.name, found.line, said), found.stage != UNCLEAR or log.final is not None
    if seed is not None and not logs:
        return evidence.claims.place(key, f"{name}: no log of this seed"), True
    for log in logs:
        for number, digits, line in log.numbers:
            if claimed_same(number, digits, bpb):
                return Place(log.name, line, f"{name} {bpb:g} stands in a line that no grammar reads"), False
    finals = [(log, final) for log in logs if (final := log.final) is not None]
    if not finals:
        broken = next((log.nothing for log in logs if log.nothing is not None), None)
        if broken is None:
            file = logs[0].name if logs else evidence.logs[0].name
            broken = Place(file, 0, f"no line gives a loss for {name}")
        return broken, bool(broken.line)
    if near := next(
        (
            (log, f)
            for log, f in finals
            if (few := min(f.digits, digits_of(bpb))) < FEWEST and abs(f.bpb - bpb) < 10.0**-few
        ),
        None,
    ):
        return Place(near[0].name, near[1].line, f"too few digits to support {name} {bpb:g}"), False
    shown = apart(bpb, *(final.bpb for _, final in finals))
    log, final = finals[-1]
    return Place(log.name, final.line, f"{name} claims {shown[0]}, its log ends with {listed(shown[1:], ', ')}"), True


def claimed_mode(evidence: Evidence, bpb: float) -> str:
    """How a claimed loss was measured, as the logs say; '' when none of them prints it."""
    found = matching(evidence.logs, bpb)
    return "" if found is None else found[1].mode


def one_mode(evidence: Evidence) -> Finding:
    """Seeds, and losses before and after quantization, are compared only when measured alike."""
    found = evidence.support.figures
    modes = {f"seed {seed}" if seed is not None else "val_bpb": figure.mode for seed, figure in found.items()}
    if len(set(modes.values())) > 1:
        rare = min(set(modes.values()), key=[*modes.values()].count)
        odd = sorted(modes.items(), key=lambda item: item[1] != rare)
        return fail(f"losses of different kinds in one table: {listed(f'{k} {v}' for k, v in odd)}")
    before, after = evidence.claims.number("pre_quant_val_bpb"), evidence.claims.bpb
    if before is None or after is None:
        return ok(f"all losses are {next(iter(modes.values()))}") if modes else skip("no loss was found in a log")
    pair = matching(evidence.own_logs, before)
    matched = None if pair is None else pair[1]
    mode = next(iter(modes.values()), "")
    unlike = matched is not None and mode and matched.mode != mode
    by_us = matched is not None and matched.label.startswith("pgpack_checkpoint") and not unlike
    if unlike or (after < before - 5e-4 and mode != TTT and not by_us):
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
    wrong, few = [], ""
    if not states(claims.bpb, numbers):
        few = nearly_states(claims.bpb, numbers)
        if not few:
            wrong = [Place("README.md", 0, f"README.md does not state val_bpb {_told(claims.bpb, numbers)}")]
    lines = evidence.readme.splitlines()
    for seed, row in claims.results.items():
        stated = [i for i, line in enumerate(lines) if re.match(rf"\W*(?:seed\W*)?{seed}\W*\|", line, re.I)]
        found = tuple(number for i in stated for number in decimals(lines[i]))
        could_be_losses = any(0.3 < number < 4 and digits >= 3 for number, digits in found)
        if row.bpb is not None and could_be_losses and not states(row.bpb, found):
            what = f"README.md's row of seed {seed} does not state {_told(row.bpb, found)}"
            wrong.append(Place("README.md", stated[0] + 1, what))
    if wrong:
        return fail(listed(place.what for place in wrong), tuple(wrong))
    if few:
        return warn(f"README.md states val_bpb with two digits only, {few}; submission.json says {claims.bpb:g}")
    if other := _headline(evidence):
        return cited("warn", "", [other])
    gaps = len(re.findall(r"\*fill in", evidence.readme))
    note = f"; {gaps} gaps are left for its author to fill in" if gaps else ""
    return ok(f"README.md states what submission.json states{note}")


def _headline(evidence: Evidence) -> Place | None:
    """A title, or a line that begins with val_bpb, whose only loss is none that submission.json knows of."""
    claims = evidence.claims
    known = [claims.bpb, *(row.bpb for row in claims.results.values()), *_numbers_in(claims.values)]
    for number, line in enumerate(evidence.readme.splitlines()[:HEADLINES], 1):
        if not re.match(r"\s*#\s|\W*val[ _]?bpb\b", line, re.I) or not re.search(r"bpb|bits per byte", line, re.I):
            continue
        losses = [(n, digits) for n, digits in decimals(line) if 0.3 < n < 4 and digits >= 4]
        if len(losses) == 1 and not any(each is not None and states(each, tuple(losses)) for each in known):
            said = f"{losses[0][0]:.{losses[0][1]}f}"
            what = f"it begins with {said}, and submission.json has no such loss"
            return Place(evidence.folder.readme, number, what)
    return None


def _numbers_in(value: object) -> Iterator[float]:
    """Every number of a JSON value."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _numbers_in(each)


def _told(value: float, numbers: tuple[tuple[float, int], ...]) -> str:
    """A number with the digits that tell it from those that are near it."""
    near = [number for number, _ in numbers if abs(number - value) < 1e-3]
    return apart(value, *near)[0]
