"""Rules about bytes: what counts, how much there is under each convention, and whether everybody says the same."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from .claims import TOTALS, byte_counts
from .evidence import Evidence, listed_names
from .findings import Finding, cited, fail, listed, ok, skip, warn
from .logs import AFTER, Log
from .script import Place
from .untimed import trained_untimed

FEW_KB = 8_000  # half of all submissions with three seeds spread over more, see the scan of 2,059 pull requests
EVAL_S = 600.0
_UNLIMITED = re.compile(r"non[-_ ]?record|unlimited|without a (?:time )?limit", re.I)  # how a README names its track
GPUS = 8  # of one kind, H100
_HARDWARE = re.compile(r"hardware|gpu|machine|accelerator|device|world_?size", re.I)
_FASTER = re.compile(r"(?:\b|\dx)(?:H200|B[12]00|GB[23]00|B300|MI3[025]5?X?|TPU)\b", re.I)
_OF_GPUS = re.compile(r"\b(\d{1,5})\s?[x*×]\s?(?:NVIDIA |nvidia )?[A-Z]+\d{2,4}|\bH100\w*\s?[x*×]\s?(\d{1,5})\b")
TRAIN_S = 601.0  # the clock is read between steps: the baseline itself stops at 600.04 s


def under_the_cap(evidence: Evidence) -> Finding:
    """Every artifact with the code as shipped; the other two conventions beside it."""
    cap, conventions = evidence.options.cap, evidence.code_conventions
    code = ", ".join(f"{n:,} {name}" for name, n in conventions.items())
    if evidence.code_bytes > cap:
        return fail(f"the code alone has {evidence.code_bytes:,} bytes, the cap is {cap:,}")
    logged = max(_logged_models(evidence), default=0)
    sure = [each for each in evidence.beside if each.sure]
    if not evidence.models and sum(each.n_bytes for each in evidence.beside) > logged + sum(b.n_bytes for b in sure):
        logged, sure = 0, [*evidence.beside]  # they may be the model themselves
    if not evidence.decoded and not sure:
        return _by_the_logs(evidence, code)
    models = evidence.models or {"the log's model": logged}
    name, model = max(models.items(), key=lambda item: item[1])
    total = model + sum(each.n_bytes for each in sure) + evidence.code_bytes
    more = "".join(f" + {each.what} {each.n_bytes:,}" for each in sure)
    parts = f"{name} {model:,}{more} + code as shipped {evidence.code_bytes:,} = {total:,} bytes"
    raw, wrapped = (total - evidence.code_bytes + conventions[name] for name in ("raw", "wrapped"))
    if total > cap:
        hint = f"; packed into a self-extracting file it would be {wrapped:,}" if wrapped <= cap else ""
        return fail(f"{parts}, {total - cap:,} over the cap of {cap:,}{hint}")
    unsure = [each for each in evidence.beside if each not in sure]
    if total + sum(each.n_bytes for each in unsure) > cap:
        told = listed(f"{each.what} of together {each.n_bytes:,} bytes" for each in unsure)
        return warn(f"{parts}; not decided, whether {told} hold weights too, with which it would be over the cap")
    small = {entry.name: entry.n_bytes for entry in evidence.folder.small} | evidence.encoded
    if evidence.decoded and total + (more_bytes := sum(small.values())) > cap:
        told = f"small binary files and packed text in others, {more_bytes:,} bytes in {listed_names(small)},"
        return warn(f"{parts}; not decided, whether {told} hold weights too, with which it would be over the cap")
    note = f" (unpacked code would be over: {raw:,})" if raw > cap else ""
    return ok(f"{parts}, {cap - total:,} spare; code: {code}{note}")


def _logged_models(evidence: Evidence) -> list[int]:
    return [log.model_bytes for log in evidence.own_logs if log.model_bytes is not None]


def _by_the_logs(evidence: Evidence, code: str) -> Finding:
    """Without an artifact: the model bytes that a log prints, with the code that lies here.

    Over the cap is refused where no packing of the code helps, or where the logs count one file as it lies here and
    leave others out; else it may be that the code was packed.
    """
    model, cap = max(_logged_models(evidence), default=0), evidence.options.cap
    total = model + evidence.code_bytes
    if not model or total <= cap:
        return skip(f"no artifact in the folder; code: {code}")
    said = (
        f"no artifact to weigh; the log's {model:,} for the model and the code's {evidence.code_bytes:,} "
        f"are {total:,} bytes, {total - cap:,} over the cap"
    )
    counted = {log.code_bytes for log in evidence.own_logs}
    alone = next((name for name, n in evidence.counted.items() if counted == {n} and n < evidence.code_bytes), None)
    if model + evidence.least_code > cap:
        return fail(f"{said}, also with the code packed; code: {code}")
    if alone is not None:
        return fail(f"{said}: the logs count {alone} alone; code: {code}")
    return warn(f"{said}; code: {code}")


def margin(evidence: Evidence) -> Finding:
    if not evidence.decoded:
        return skip("no artifact in the folder")
    spare = evidence.options.cap - max(evidence.totals)
    if spare < 0:
        return skip("over the cap")
    wanted = max(evidence.spread, FEW_KB)
    if spare < wanted:
        why = f"seeds spread over {evidence.spread:,}" if evidence.spread >= FEW_KB else "runs differ by a few kB"
        return warn(f"{spare:,} bytes spare, but {why}: another run may be over the cap")
    return ok(f"{spare:,} bytes spare, seeds spread over {evidence.spread:,}")


def logged_totals(evidence: Evidence) -> Finding:
    """The logs' own totals: within the cap, and equal to what lies here."""
    cap = evidence.options.cap
    claimed = {evidence.claims.whole(name) for name in TOTALS}
    logged = {log.name: _total(log, claimed) for log in evidence.own_logs if log.total_bytes is not None}
    over = [
        log.place(f"says {n:,}, {n - cap:,} over the cap", "total")
        for log in evidence.own_logs
        if (n := logged.get(log.name)) is not None and n > cap
    ]
    if over:
        return cited("fail", "", over)
    off = [
        log.place(f"says the model has {log.model_bytes:,} bytes, it has {found:,}", "model")
        for log in evidence.own_logs
        if log.model_bytes is not None and (found := _of_seed(evidence, log.seed)) not in (None, *log.models)
    ]
    if off:
        return cited("fail", "", off)
    if not logged:
        return skip("no log gives a total")
    counted = {log.code_bytes for log in evidence.own_logs if log.code_bytes is not None} - {evidence.code_bytes}
    if counted and not evidence.decoded:
        return warn(
            f"the logs counted {listed(f'{n:,}' for n in sorted(counted))} bytes of code, the folder has "
            f"{evidence.code_bytes:,}"
        )
    return ok(
        f"totals of {len(logged)} logs from {min(logged.values()):,} to {max(logged.values()):,}, under the cap"
    )


def _total(log: Log, claimed: Collection[int | None]) -> int:
    """The total of a log that is claimed, else its last: others are of other codecs, tried beside."""
    return next((n for n in log.totals if n in claimed), log.total_bytes or 0)


def _of_seed(evidence: Evidence, seed: int | None) -> int | None:
    """Bytes of the artifact of a seed; of the only one when neither names a seed or there is one log."""
    texts = {d.entry.name for d in evidence.decoded if d.unknown and d.entry.mark == "text"}
    named = {name: n for name, n in evidence.models.items() if name.partition(" and ")[0] not in texts}
    sizes = {evidence.seeds.get(name): n for name, n in named.items()}
    if seed in sizes:
        return sizes[seed]
    return next(iter(sizes.values())) if len(sizes) == 1 and len(evidence.own_logs) == 1 else None


def claimed_bytes(evidence: Evidence) -> Finding:
    """bytes_model, bytes_code, bytes_total and each seed's artifact_bytes against the files."""
    claims, cap = evidence.claims, evidence.options.cap
    said = {name: n for name in TOTALS if (n := claims.whole(name)) is not None}
    if not said and claims.models and min(claims.models.values()) > cap:
        said = claims.models  # nothing but models, and none of them fits
    said |= {f"seed {seed}": row.n_bytes for seed, row in claims.results.items() if row.n_bytes is not None}
    over = [(name, n) for name, n in said.items() if n > cap]
    if over:
        told = listed(f"{name} {n:,}" for name, n in over)
        places = tuple(claims.place(name.removeprefix("seed "), f"{n:,} bytes") for name, n in over)
        return fail(f"submission.json itself is over the cap of {cap:,}: {told}", places)
    if not evidence.decoded or evidence.is_model_absent:
        less = [*_less_than_logged(evidence)]
        return cited("warn", "", less) if less else skip("no artifact in the folder to compare with")
    wrong = [*_wrong_code(evidence), *_wrong_totals(evidence), *_wrong_seeds(evidence)]
    if wrong:
        return fail(listed(wrong), tuple(claims.place(each.split()[0], each) for each in wrong))
    given = [name for name in ("bytes_model", "bytes_code", "bytes_total") if claims.whole(name) is not None]
    return ok(f"{', '.join(given)} are the measured ones") if given else warn("submission.json gives no byte counts")


def _less_than_logged(evidence: Evidence) -> Iterator[Place]:
    """Totals that are less than the model alone, by the logs and by any model that submission.json names."""
    named = min(evidence.claims.models.values(), default=1 << 62)
    models = {log.seed: min(log.models) for log in evidence.own_logs if log.models}
    least = min(models.values(), default=0) + evidence.sure_beside
    said = [("bytes_total", evidence.claims.whole("bytes_total"), least)]
    said += [(str(s), row.n_bytes, models.get(s, 0)) for s, row in evidence.claims.results.items()]
    for name, n_bytes, model in said:
        if n_bytes is not None and n_bytes < min(model - FEW_KB, named):
            more = " with what the code reads beside it" * bool(evidence.sure_beside and name == "bytes_total")
            what = f"{name} is {n_bytes:,}, less than the {model:,} that its log says of the model alone{more}"
            yield evidence.claims.place(name, what)


def _wrong_code(evidence: Evidence) -> Iterator[str]:
    code = evidence.claims.whole("bytes_code")
    if code is not None and code != evidence.code_bytes:
        yield f"bytes_code is {code:,}, the counted files have {evidence.code_bytes:,}"
    claimed = evidence.claims.values.get("bytes_code_conventions")
    said = claimed if isinstance(claimed, dict) else {}
    for name, found in evidence.code_conventions.items():
        if said.get(name, found) != found:
            yield f"bytes_code_conventions say {said[name]!r:.40} bytes {name}, measured {found:,}"


def _wrong_totals(evidence: Evidence) -> Iterator[str]:
    models = {*evidence.models.values()}
    models |= {n + evidence.sure_beside for n in models}
    totals = evidence.totals
    for name, allowed in (("bytes_model", models), ("bytes_total", totals)):
        claimed = evidence.claims.whole(name)
        if claimed is None or claimed in allowed:
            continue
        if claimed in models:
            yield f"{name} is {claimed:,}, which is the weights alone; with the code it is {max(totals):,}"
        else:
            yield f"{name} is {claimed:,}, measured {listed(f'{n:,}' for n in sorted(allowed))}"


def _wrong_seeds(evidence: Evidence) -> Iterator[str]:
    """A seed's artifact_bytes may be those of its file, or with the code."""
    for seed, row in evidence.claims.results.items():
        found = _of_seed(evidence, seed)
        if row.n_bytes is None or found is None:
            continue
        with_all = found + evidence.sure_beside + evidence.code_bytes
        if row.n_bytes not in (found, found + evidence.sure_beside, found + evidence.code_bytes, with_all):
            yield f"artifact_bytes of seed {seed} is {row.n_bytes:,}, the file has {found:,}"


def readme_bytes(evidence: Evidence) -> Finding:
    """A README that prints the weights' bytes must print the total as well."""
    if not evidence.decoded or evidence.is_model_absent:
        return skip("no artifact in the folder")
    printed = byte_counts(evidence.readme)
    models = {*evidence.models.values()}
    totals = evidence.totals
    if printed & models and not printed & totals:
        return fail(
            f"README.md prints {max(printed & models):,}, the weights alone, and nowhere the total {max(totals):,} "
            "that the cap is about"
        )
    over = sorted(n for n in printed if evidence.options.cap < n < 2 * evidence.options.cap)
    if over:
        return warn(
            f"README.md prints {listed(f'{n:,}' for n in over)}, more than the cap of {evidence.options.cap:,}"
        )
    return ok("README.md prints the total") if printed & totals else warn(f"README.md does not print {max(totals):,}")


def _slow_results(evidence: Evidence, log: Log) -> Iterator[Place]:
    """The evaluations of claimed results, or of the figures that a claim is the mean of, that took too long: by the
    line of the loss, or by one without a loss, which is of the result that stands nearest."""
    claimed = [*evidence.support.figures.values(), *evidence.support.meant]
    results = {figure.bpb for figure in claimed if figure in log.figures}
    after = [(figure, any(abs(figure.bpb - bpb) < 1e-4 for bpb in results)) for figure in log.at(AFTER)]
    spans = [(figure.eval_s or 0.0, figure.line) for figure, is_claimed in after if is_claimed]
    for seconds, line in log.evaluations:
        nearest = min(after, key=lambda each: abs(each[0].line - line), default=None)
        if nearest is not None and nearest[1]:
            spans.append((seconds, line))
    for seconds, line in spans:
        if seconds > EVAL_S:
            yield Place(log.name, line, f"{seconds:.1f} s of evaluation, more than 600")


def _larger_machines(evidence: Evidence) -> Iterator[Place]:
    """More or faster GPUs than the limits are of: in a log, or in submission.json's words of the hardware."""
    for log in evidence.own_logs:
        if log.gpus is not None and log.gpus > GPUS:
            yield log.place(f"it ran on {log.gpus}", "gpus")
    for key, said in evidence.claims.values.items():
        if _HARDWARE.search(str(key)) and isinstance(said, (str, int)) and (why := _larger(str(said), str(key))):
            yield evidence.claims.place(str(key), f"{key}: {why}")


def _larger(said: str, key: str) -> str:
    counts = [int(n) for found in _OF_GPUS.findall(said) for n in found if n]
    if said.isdecimal() and re.search(r"n_|num|count|gpus$|world", key.lower()):
        counts = [int(said[:6])]
    return said if _FASTER.search(said) or any(n > GPUS for n in counts) else ""


def training_time(evidence: Evidence) -> Finding:
    """600 seconds for training with Hessians included, 600 for evaluation; of the ten-minute track, and of none."""
    is_record, named = evidence.claims.record_track, evidence.claims.track or _UNLIMITED.search(evidence.readme)
    if named and not is_record:
        return skip("not on the ten-minute track")
    slow, known = [], 0
    together: list[Place] = []
    for log in evidence.own_logs:
        if log.train_s is not None:
            known += 1
            total = log.train_s + (log.hessian_s or 0.0)
            if total > TRAIN_S:
                extra = f" + {log.hessian_s:g} s of Hessians" if log.hessian_s else ""
                slow.append(log.place(f"{log.train_s:.1f} s{extra} of training, more than 600", "train"))
        if log.eval_s is not None and log.eval_s > EVAL_S:
            slow.append(log.place(f"{log.eval_s:.1f} s of evaluation, more than 600", "eval"))
        slow += [] if log.eval_s is not None else _slow_results(evidence, log)
        for _, seconds, is_all, line in log.in_parts:
            if seconds > EVAL_S and not log.eval_s:
                what = f"parts of an evaluation take {seconds:.1f} s together, more than 600"
                (slow if is_all else together).append(Place(log.name, line, what))
    if together and not slow:
        return cited("warn", "not decided, whether they follow each other: ", together)
    if slow and not is_record:
        return cited("warn", "not decided, no track is named, on the ten-minute one it would be refused: ", slow)
    if slow:
        return cited("fail", "", slow)
    earlier = [log.goes_on for log in evidence.own_logs if log.goes_on is not None]
    larger = [*_larger_machines(evidence)] if is_record else []
    untimed = [*trained_untimed(evidence.scripts), *earlier]
    if untimed or larger:
        why = "it looks as if not all of the training is timed: " if untimed else "the limits are of 8 H100s: "
        return cited("warn", why, [*untimed, *larger])
    return ok(f"{known} logs within 600 s") if known else skip("no log gives times")
