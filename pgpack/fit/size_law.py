"""How large a model, at how many bits, for so many bytes: a law of the loss, fitted to models that were measured.

    measured points (parameters N, tokens D, bits b, loss) --least squares--> law --along b = 8 B / N--> the best N
    the same points, whole models drawn again --> replicates of the law --> its intervals

Owns the law, its fit and its errors. Nothing is said of what lies further than `REACH` from what was measured.
*Source* Kumar et al. 2024, "Scaling laws for precision", arXiv:2411.04330, on top of Hoffmann et al. 2022,
arXiv:2203.15556. The additive form is theirs for quantization after training, which adds C D^c / N^m exp(-b / g); the
effective one theirs for training at few bits, which acts as fewer parameters, N (1 - exp(-b / g)); the stretched one
is ours, because what is lost falls faster at few bits than at many. Where we differ: bits there are of a number
format; here they are all bytes of the file by parameter, a real number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import DataError
from pgpack.sizes import spoken_size

Float64 = NDArray[np.float64]
REACH = 4.0  # times beyond what was measured
REPLICATES = 200
LEVEL = (2.5, 97.5)  # percentiles of an interval
N_GRID = 400
SPANS = ("n_params", "n_tokens", "n_bytes", "bits")
SHIPPED = Path(__file__).with_name("size_law.json")
SOFT, LOGIT, MOST_EVALUATIONS = 0.02, 14.0, 1500  # of a fit
SAME_TOKENS = 0.1  # of a logarithm
NEAR = 0.01  # bits per byte that a flat optimum is told by


@dataclass(frozen=True)
class Point:
    """One file of one model. `bits`: all of its bytes by parameter; `model`: which points stand or fall together.
    Units: bits per byte (`bpb`)."""

    model: str
    n_params: int
    n_tokens: int
    bits: float
    bpb: float


@dataclass(frozen=True)
class Form:
    """A formula with unknowns. `loss`: (unknowns, N / N0, D / D0, b) -> bits per byte; bounds: of each unknown."""

    name: str
    text: str
    loss: Callable[[Float64, Float64, Float64, Float64], Float64]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    starts: tuple[tuple[float, ...], ...]


def _additive(x: Float64, n: Float64, d: Float64, b: Float64) -> Float64:
    E, A, alpha, B, beta, C, c, m, g = x
    found: Float64 = _trained((E, A, alpha, B, beta), n, d) + np.exp(C) * d**c * n**-m * np.exp(-b / g)
    return found


def _stretched(x: Float64, n: Float64, d: Float64, b: Float64) -> Float64:
    E, A, alpha, B, beta, C, c, m, g, k = x
    lost: Float64 = np.exp(C) * d**c * n**-m * np.exp(-((b / g) ** k))
    return _trained((E, A, alpha, B, beta), n, d) + lost


def _effective(x: Float64, n: Float64, d: Float64, b: Float64) -> Float64:
    E, A, alpha, B, beta, g = x
    return _trained((E, A, alpha, B, beta), n * -np.expm1(-b / g), d)


def _trained(x: Sequence[float], n: Float64, d: Float64) -> Float64:
    E, A, alpha, B, beta = x
    found: Float64 = E + np.exp(A) * n**-alpha + np.exp(B) * d**-beta
    return found


FORMS = {
    form.name: form
    for form in (
        Form(
            "additive", "E + A/N^a + B/D^b + C D^c/N^m exp(-bits/g)", _additive,
            (0.0, -8.0, 0.02, -8.0, 0.02, -5.0, -1.0, -1.0, 0.1), (3.0, 3.0, 2.0, 3.0, 2.0, 5.0, 2.0, 2.0, 5.0),
            ((1.0, -1.0, 0.3, -1.0, 0.3, 1.0, 0.3, 0.3, 0.7), (0.3, 0.0, 0.2, -1.0, 0.5, 1.5, 0.1, 0.0, 0.5)),
        ),
        Form(
            "stretched", "E + A/N^a + B/D^b + C D^c/N^m exp(-(bits/g)^k)", _stretched,
            (0.0, -8.0, 0.02, -8.0, 0.02, -5.0, -1.0, -1.0, 0.02, 0.3),
            (3.0, 3.0, 2.0, 3.0, 2.0, 8.0, 2.0, 2.0, 5.0, 2.0),
            (
                (1.0, -1.0, 0.3, -1.0, 0.3, 1.5, 0.3, 0.3, 0.3, 0.8),
                (0.3, 0.0, 0.2, -1.0, 0.5, 2.0, 0.1, 0.0, 0.2, 0.7),
            ),
        ),
        Form(
            "effective", "E + A/(N (1 - exp(-bits/g)))^a + B/D^b", _effective,
            (0.0, -8.0, 0.02, -8.0, 0.02, 0.05), (3.0, 3.0, 2.0, 3.0, 2.0, 10.0),
            ((1.0, -1.0, 0.3, -1.0, 0.3, 0.7), (0.3, 0.0, 0.2, -1.0, 0.5, 1.5)),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Span:
    """The least and the largest of something that was measured."""

    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Span:
        return cls(min(values), max(values))

    def beyond(self, value: float) -> float:
        """How many times a value lies outside; 1 within."""
        return max(self.least / value, value / self.most, 1.0)


@dataclass(frozen=True)
class SizeLaw:
    """A fitted law. `replicates`: its unknowns from models drawn again; `error`, `token_error`: root mean square of
    what it says too much of models, and of token counts, that it was not fitted to, in bits per byte; `token_counts`
    that it was fitted to; the spans: of parameters, tokens, bytes and bits."""

    form: str
    origin: tuple[float, float]
    unknowns: tuple[float, ...]
    replicates: tuple[tuple[float, ...], ...]
    error: float
    token_error: float
    token_counts: tuple[int, ...]
    n_params: Span
    n_tokens: Span
    n_bytes: Span
    bits: Span
    measured_on: str

    def loss(self, n_params: Any, n_tokens: Any, bits: Any, unknowns: Sequence[float] | None = None) -> Float64:
        """Bits per byte of text. Shape: that of the arguments together."""
        n, d, b = (np.asarray(each, np.float64) for each in (n_params, n_tokens, bits))
        x = np.array(self.unknowns if unknowns is None else unknowns)
        return FORMS[self.form].loss(x, n / self.origin[0], d / self.origin[1], b)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path = SHIPPED) -> SizeLaw:
        """Raises: DataError for a file that is none."""
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            read: dict[str, Any] = {name: Span(**stored[name]) for name in SPANS}
            read["replicates"] = tuple(tuple(map(float, each)) for each in stored["replicates"])
            read |= {name: tuple(map(float, stored[name])) for name in ("origin", "unknowns")}
            read["token_counts"] = tuple(map(int, stored["token_counts"]))
            found = cls(**{**stored, **read})
            n_unknowns = len(FORMS[found.form].lower)
            if any(len(each) != n_unknowns for each in (found.unknowns, *found.replicates)) or len(found.origin) != 2:
                raise ValueError(f"the form {found.form} has {n_unknowns} unknowns")
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{path} is no law of sizes ({_why(error)}); `make bench-budget-size` writes one, or leave --law out"
            ) from None
        return found


def _why(error: Exception) -> str:
    """What is wrong with a file of a law, without the words of Python."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "not JSON"
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    return "a value of it is of another kind" if isinstance(error, TypeError | AttributeError) else str(error)


@dataclass(frozen=True)
class Advice:
    """What to train and pack. Intervals are of 95 %; `near`: parameters that lose at most `NEAR` more; `reach`: how
    many times beyond what was measured the furthest number lies, 1 within."""

    budget: int
    n_tokens: int
    n_params: int
    n_params_interval: tuple[int, int]
    near: tuple[int, int]
    bits: float
    bits_interval: tuple[float, float]
    bpb: float
    bpb_interval: tuple[float, float]
    reach: float
    at_edge: bool

    @property
    def sentence(self) -> str:
        """What to do, for people."""
        low, high = (_spoken(n) for n in self.n_params_interval)
        far = f" (extrapolated {self.reach:.2g} times beyond what was measured)" if self.reach >= 1.05 else ""
        flat = " to ".join(_spoken(n) for n in self.near)
        return (
            f"At {spoken_size(self.budget)} and {self.n_tokens:,} training tokens train {_spoken(self.n_params)} "
            f"parameters ({low} to {high}) and pack at {self.bits:.2f} bits ({self.bits_interval[0]:.2f} to "
            f"{self.bits_interval[1]:.2f}): {self.bpb:.3f} bits per byte ({self.bpb_interval[0]:.3f} to "
            f"{self.bpb_interval[1]:.3f}); {flat} parameters lose at most {NEAR:g} more{far}."
        )


def _spoken(n: int) -> str:
    """Two digits of a number of parameters."""
    return f"{float(f'{n:.2g}'):,.0f}"


def advise(law: SizeLaw, budget: int, n_tokens: int) -> Advice:
    """The parameters whose packed file of `budget` bytes loses least after training on `n_tokens`.

    Raises: DataError beyond `REACH` times what was measured.
    """
    _refuse_far("budgets", law.n_bytes, budget, lambda n: spoken_size(round(n)))
    _refuse_far("training tokens", law.n_tokens, n_tokens, lambda n: f"{n:,.0f} tokens")
    sizes = np.geomspace(law.n_params.least / REACH, law.n_params.most * REACH, N_GRID)
    bits = 8 * budget / sizes
    within = (bits >= law.bits.least / REACH) & (bits <= law.bits.most * REACH)
    sizes, bits = sizes[within], bits[within]
    losses = law.loss(sizes, n_tokens, bits)
    best = int(losses.argmin())
    others = np.array([law.loss(sizes, n_tokens, bits, each) for each in law.replicates]).reshape(-1, len(sizes))
    chosen = sizes[others.argmin(axis=1)]
    low, high = np.percentile(chosen, LEVEL)
    spread = np.std(others[:, best])
    is_counted = any(abs(math.log(n_tokens / count)) < SAME_TOKENS for count in law.token_counts)
    wide = 1.96 * math.hypot(float(spread), law.error, 0.0 if is_counted else law.token_error)
    near = sizes[losses <= losses[best] + NEAR]
    n, b, bpb = float(sizes[best]), float(bits[best]), float(losses[best])
    reach = max(law.n_bytes.beyond(budget), law.n_tokens.beyond(n_tokens), law.n_params.beyond(n), law.bits.beyond(b))
    return Advice(
        budget, n_tokens, round(n), (round(low), round(high)), (round(near[0]), round(near[-1])), b,
        (8 * budget / float(high), 8 * budget / float(low)), bpb, (bpb - wide, bpb + wide), reach,
        best in (0, len(sizes) - 1),
    )  # fmt: skip


def _refuse_far(name: str, span: Span, value: float, spoken: Callable[[float], str]) -> None:
    if span.beyond(value) > REACH:
        raise DataError(
            f"{spoken(value)} is {span.beyond(value):.3g} times beyond the {name} that were measured, "
            f"{spoken(span.least)} to {spoken(span.most)}, and a law says nothing beyond {REACH:g} times: give "
            f"{spoken(span.least / REACH)} to {spoken(span.most * REACH)}, or another law as --law"
        )


def fit_law(points: Sequence[Point], form: str, n_replicates: int = REPLICATES, seed: int = 0) -> SizeLaw:
    """The law of a form that is nearest to `points`; its errors are not known yet: 0.

    Raises: DataError for fewer points than unknowns.
    """
    if len(points) <= len(FORMS[form].lower):
        raise DataError(f"{len(points)} points do not tell the {len(FORMS[form].lower)} unknowns of a law of sizes")
    origin = tuple(math.exp(np.mean(np.log([getattr(p, name) for p in points]))) for name in ("n_params", "n_tokens"))
    unknowns = _fitted(points, FORMS[form], (origin[0], origin[1]), FORMS[form].starts)
    models = sorted({point.model for point in points})
    by_model = {model: [point for point in points if point.model == model] for model in models}
    generator = np.random.default_rng(seed)
    replicates = []
    for _ in range(n_replicates):
        drawn = [
            point for index in generator.integers(len(models), size=len(models)) for point in by_model[models[index]]
        ]
        replicates.append(_fitted(drawn, FORMS[form], (origin[0], origin[1]), (unknowns,)))
    counts = tuple(sorted({point.n_tokens for point in points}))
    return SizeLaw(
        form, (origin[0], origin[1]), unknowns, tuple(replicates), 0.0, 0.0, counts,
        Span.of([p.n_params for p in points]), Span.of([p.n_tokens for p in points]),
        Span.of([p.bits * p.n_params / 8 for p in points]), Span.of([p.bits for p in points]), "",
    )  # fmt: skip


def _fitted(
    points: Sequence[Point], form: Form, origin: tuple[float, float], starts: Sequence[Sequence[float]]
) -> tuple[float, ...]:
    """The unknowns of least squares of logarithms, beyond 2 % of their absolute values: coarse files do not rule.

    Levenberg and Marquardt's way on the logits of the unknowns between their bounds; the softened squares are
    those of scipy's soft_l1, as residuals of their own.
    """
    from scipy.optimize import least_squares

    n = np.array([p.n_params for p in points]) / origin[0]
    d = np.array([p.n_tokens for p in points]) / origin[1]
    b, log_loss = np.array([p.bits for p in points]), np.log([p.bpb for p in points])
    low, high = np.array(form.lower), np.array(form.upper)

    def unknowns(u: Float64) -> Float64:
        found: Float64 = low + (high - low) / (1 + np.exp(-np.clip(u, -LOGIT, LOGIT)))
        return found

    def residual(u: Float64) -> Float64:
        miss = (np.log(form.loss(unknowns(u), n, d, b)) - log_loss) / SOFT
        found: Float64 = np.sign(miss) * np.sqrt(2 * (np.sqrt(1 + miss**2) - 1))
        return found

    solutions = []
    for start in starts:
        share = np.clip((np.array(start) - low) / (high - low), 1e-6, 1 - 1e-6)
        solutions.append(least_squares(residual, np.log(share / (1 - share)), method="lm", max_nfev=MOST_EVALUATIONS))
    best = min(solutions, key=lambda solution: float(solution.cost))
    return tuple(float(f"{value:.10g}") for value in unknowns(best.x))


def held_out_errors(
    points: Sequence[Point], form: str, groups: Mapping[str, Callable[[Point], bool]]
) -> dict[str, Float64]:
    """Bits per byte that a law says too much of the points of each group, when it is fitted to all others; nothing of
    a group that leaves too few."""
    found = {}
    for name, is_out in groups.items():
        rest = [p for p in points if not is_out(p)]
        if len(rest) <= len(FORMS[form].lower):
            continue
        law = fit_law(rest, form, n_replicates=0)
        out = [p for p in points if is_out(p)]
        said = law.loss([p.n_params for p in out], [p.n_tokens for p in out], [p.bits for p in out])
        found[name] = said - np.array([p.bpb for p in out])
    return found
