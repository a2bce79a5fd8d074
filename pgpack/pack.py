"""checkpoint + recipe + calibration -> artifact. A pure function: equal inputs give equal bytes.

resolve -> order -> quantize (at once or in stages, compensated) -> tune -> encode -> decode and compare -> Artifact
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pgpack.cache.store import Cache
from pgpack.calibration.calibration import Calibration, ordered_calibration
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.checkpoint.mlp_order import mlp_permutations, ordered_checkpoint
from pgpack.codecs.base import ByteCodec, SymbolCoder, Symbols
from pgpack.formats.own.contents import Contents
from pgpack.formats.own.size_report import SizeReport
from pgpack.formats.own.stream import EncodedStream, StreamCoder, encode_stream
from pgpack.formats.own.writer import weights_digest
from pgpack.quantizers.base import Encoding, QuantizerInput
from pgpack.quantizers.chain import quantize_matrix
from pgpack.recipe.recipe import Coding, Recipe, Rule, TensorPolicy
from pgpack.recipe.selector import infos
from pgpack.tensors.grids import QuantizedTensor
from pgpack.tensors.raw_values import RAW_DTYPES, RawValues
from pgpack.tensors.record import Record

from .errors import CalibrationError, RecipeError, RoundTripError
from .unpack import Unpacked, unpack

Progress = Callable[[str], None]
AT_ONCE = 4096  # values of a tensor, bytes of a stream: up to here the work is done sooner than looked up


def _silent(_: str) -> None:
    return None


@dataclass(frozen=True, eq=False)
class Artifact:
    """A packed checkpoint: its bytes, where they went, and what they were decoded to again.

    Units: seconds for the times. `weights_digest` is the sha256 over all decoded tensors.
    """

    data: bytes
    report: SizeReport
    decoded: Unpacked
    weights_digest: str
    quantize_s: float
    encode_s: float
    decode_s: float

    @property
    def n_bytes(self) -> int:
        return len(self.data)

    @property
    def records(self) -> tuple[Record, ...]:
        return self.decoded.records


@dataclass(frozen=True, eq=False)
class Quantized:
    """A checkpoint turned into records, ready to be coded in more than one way."""

    records: tuple[Record, ...]
    aliases: dict[str, str]
    quantize_s: float


class Trainer(Protocol):
    """What descends on calibration text for a recipe; it has the model and the text, which `pack` has not."""

    def compensate(self, checkpoint: Checkpoint, recipe: Recipe, calibration: Calibration | None) -> Quantized:
        """The checkpoint quantized in the stages of @compensate."""
        ...

    def tune(self, quantized: Quantized, recipe: Recipe) -> Quantized:
        """The same symbols with the grids that @tune finds."""
        ...


def pack(
    checkpoint: Checkpoint,
    recipe: Recipe,
    calibration: Calibration | None = None,
    *,
    cache: Cache | None = None,
    progress: Progress = _silent,
    trainer: Trainer | None = None,
) -> Artifact:
    """The artifact of `checkpoint` under `recipe`, decoded once and compared before it is returned.

    `cache` keeps quantized matrices and encoded streams for other recipes; it changes no byte. `progress` is told
    each tensor's name as it is done; `trainer` does what a recipe's @compensate and @tune ask for.
    Raises CoverageError, CalibrationError, RecipeError, CheckpointError; RoundTripError is a bug in pgpack.
    """
    if trainer is None and (recipe.compensate.count or recipe.tune.count):
        which = "@compensate" if recipe.compensate.count else "@tune"
        raise CalibrationError(f"the recipe's {which} needs the model and calibration text; leave {which} out")
    if trainer is not None and recipe.compensate.count:
        quantized = trainer.compensate(checkpoint, recipe, calibration)
    else:
        quantized = quantize(checkpoint, recipe, calibration, cache=cache, progress=progress)
    if trainer is not None and recipe.tune.count:
        quantized = trainer.tune(quantized, recipe)
    return encode(quantized, recipe, cache)


def quantize(
    checkpoint: Checkpoint,
    recipe: Recipe,
    calibration: Calibration | None = None,
    *,
    cache: Cache | None = None,
    progress: Progress = _silent,
    names: Collection[str] | None = None,
) -> Quantized:
    """All stored tensors of `checkpoint` as records, or those of `names` alone. Raises as `pack` does."""
    start = time.perf_counter()
    governed = recipe.resolve(infos(checkpoint.stored_shapes))
    check_calibration(checkpoint, governed, calibration)
    if recipe.order.by != "none":
        permutations = mlp_permutations(checkpoint)
        checkpoint = ordered_checkpoint(checkpoint, permutations)
        calibration = ordered_calibration(calibration, permutations) if calibration else None
    policies = _bound_policies(checkpoint, governed)
    encodings: dict[str, Encoding] = {}
    chosen = [name for name in checkpoint.stored_shapes if names is None or name in names]
    for name in chosen:
        policy = policies[name]
        encodings[name] = _encode_tensor(checkpoint, name, policy, calibration, cache)
        progress(name)
    encodings = _selected(encodings, governed)
    records = tuple(_record(name, checkpoint.stored_shapes[name], encodings[name]) for name in chosen)
    return Quantized(records, checkpoint.aliases, time.perf_counter() - start)


def encode(quantized: Quantized, recipe: Recipe, cache: Cache | None = None) -> Artifact:
    """Records -> bytes, by the coding that `recipe` gives each tensor; the round trip is checked each time."""
    start = time.perf_counter()
    governed = recipe.resolve(infos({record.name: record.shape for record in quantized.records}))
    coding = {name: rule.policy.coding for name, rule in governed.items()}
    if recipe.container.is_field and any(each != Coding() for each in coding.values()):
        raise RecipeError(
            "a field container fixes the coding of every tensor; leave coders and codecs out of the rules"
        )
    bits = {name: width for name, rule in governed.items() if (width := rule.policy.quantizer.bits)}
    contents = Contents(quantized.records, coding, quantized.aliases, bits)
    if recipe.container.is_field:
        contents = contents.untied()
    records = tuple(contents.records)
    data, report = _written(contents, recipe, cache)
    if report.n_bytes != len(data):
        raise RoundTripError(f"the size report sums to {report.n_bytes}, the artifact has {len(data)} bytes")
    encoded = time.perf_counter()
    decoded = unpack(data)
    decode_s = time.perf_counter() - encoded
    _compare(records, decoded.records)
    digest = weights_digest(decoded.records, decoded.aliases)
    times = (quantized.quantize_s, encoded - start, decode_s)
    return Artifact(data, report, decoded, digest, *times)


def _written(contents: Contents, recipe: Recipe, cache: Cache | None) -> tuple[bytes, SizeReport]:
    """What the recipe's container makes of `contents`; streams of ours and whole field files are kept."""
    container, codecs = recipe.container, recipe.container_codecs
    if cache is None:
        return container.write(contents, codecs)
    from pgpack.cache.entries import ARTIFACT, artifact_key

    if container.is_field:
        key = artifact_key(contents, container, codecs)
        return cache.recall("encoded", key, ARTIFACT, lambda: container.write(contents, codecs))
    return container.write(dataclasses.replace(contents, encode_stream=_kept_streams(cache)), codecs)


def _kept_streams(cache: Cache) -> StreamCoder:
    from pgpack.cache.entries import STREAM, stream_key

    def encode_kept(coder: SymbolCoder, codecs: Sequence[ByteCodec], arrays: Sequence[Symbols]) -> EncodedStream:
        if sum(array.nbytes for array in arrays) <= AT_ONCE:
            return encode_stream(coder, codecs, arrays)
        key = stream_key(coder, codecs, arrays)
        return cache.recall("encoded", key, STREAM, lambda: encode_stream(coder, codecs, arrays))

    return encode_kept


def check_calibration(checkpoint: Checkpoint, governed: dict[str, Rule], calibration: Calibration | None) -> None:
    """Every tensor whose policy needs a Hessian has one of the right size. Raises CalibrationError."""
    needy = [name for name, rule in governed.items() if rule.policy.needs_hessian]
    if needy and calibration is None:
        raise CalibrationError(
            f"the recipe needs Hessians for {len(needy)} tensors (first: {needy[0]}); give --calibration FILE, "
            "or text to calibrate on with --calib GLOB and a model"
        )
    if calibration is None:
        return
    calibration.require(needy)
    correcting = [name for name in needy if governed[name].policy.quantizer.corrects_rows]
    if correcting and all(f"{name}.output" not in calibration.shapes for name in correcting):
        raise CalibrationError(
            f"the recipe lets rows correct each other ({correcting[0]}, group > 0), and the calibration holds no "
            "NAME.output, the second moments of output gradients; calibrate again, or leave group out"
        )
    for name in needy:
        found = calibration.hessian_shape(name)
        n_inputs = folded(checkpoint.shapes[name], found)[1]
        if found != (n_inputs, n_inputs):
            raise CalibrationError(
                f"{name} has {n_inputs} inputs and its Hessian is {found}; this calibration is of another model"
            )


def folded(shape: tuple[int, ...], hessian: tuple[int, ...] | None = None) -> tuple[int, int]:
    """The matrix shape that a tensor is quantized in; matrices lie under each other where its Hessian says so."""
    if len(shape) < 2:
        return 1, int(np.prod(shape, dtype=np.int64))
    if len(shape) > 2 and hessian == (shape[-1], shape[-1]):
        return int(np.prod(shape[:-1], dtype=np.int64)), shape[-1]
    return shape[0], int(np.prod(shape[1:], dtype=np.int64))


def _bound_policies(checkpoint: Checkpoint, governed: dict[str, Rule]) -> dict[str, TensorPolicy]:
    """Policies whose transforms know everything that depends on all tensors they apply to."""
    bound: dict[Any, Any] = {}

    def population(transform: Any) -> Iterator[NDArray[Any]]:
        for name, rule in governed.items():
            if transform in rule.policy.transforms:
                yield checkpoint.tensor(name).reshape(folded(checkpoint.shapes[name]))

    for rule in governed.values():
        for transform in rule.policy.transforms:
            if transform not in bound:
                bound[transform] = transform.bind(population(transform))
    return {
        name: dataclasses.replace(rule.policy, transforms=tuple(bound[t] for t in rule.policy.transforms))
        for name, rule in governed.items()
    }


def _encode_tensor(
    checkpoint: Checkpoint,
    name: str,
    policy: TensorPolicy,
    calibration: Calibration | None,
    cache: Cache | None,
) -> Encoding:
    known = calibration if policy.needs_hessian else None  # the others must not pay for loading it

    def compute() -> Encoding:
        array = checkpoint.tensor(name)
        if array.dtype.kind != "f":
            return _integers(name, array)
        source = QuantizerInput(
            name,
            array.reshape(folded(array.shape, known.hessian_shape(name) if known else None)),
            known.hessian(name) if known else None,
            known.fisher(name) if known else None,
            None,
            *(known.lookup(name) if known else (None, None)),
            known.output(name) if known and policy.quantizer.corrects_rows else None,
        )
        return quantize_matrix(source, policy.transforms, policy.quantizer)

    if cache is None or np.prod(checkpoint.shapes[name], dtype=np.int64) <= AT_ONCE:
        return compute()
    from pgpack.cache.entries import ENCODING, quantized_key

    statistics = known.tensor_digest(name) if known else None
    key = quantized_key(checkpoint.tensor_digests[name], (*policy.transforms, policy.quantizer), statistics)
    return cache.recall("quantized", key, ENCODING, compute)


def _integers(name: str, array: NDArray[Any]) -> Encoding:
    """Integer and bool tensors are stored as they are, whatever their rule says."""
    dtype = {"b": "bool"}.get(array.dtype.kind, array.dtype.name)
    if dtype not in RAW_DTYPES:
        raise RecipeError(f"{name}: tensors of type {array.dtype} cannot be stored; convert it to float32 or int64")
    grid = RawValues(dtype)
    return Encoding("plain", (QuantizedTensor(grid.symbols_of(array), grid, array.shape),))


def _selected(encodings: dict[str, Encoding], governed: dict[str, Rule]) -> dict[str, Encoding]:
    """Drop corrections that lose the competition among the tensors sharing one `lqer_asym(top=k)`."""
    groups: dict[Any, dict[str, Encoding]] = {}
    for name, rule in governed.items():
        for transform in rule.policy.transforms:
            if transform.top:
                groups.setdefault(transform, {})[name] = encodings[name]
    for transform, group in groups.items():
        from pgpack.quantizers.low_rank import select_corrections

        encodings = {**encodings, **select_corrections(group, transform.top)}
    return encodings


def _record(name: str, shape: tuple[int, ...], encoding: Encoding) -> Record:
    first, *factors = encoding.parts
    if encoding.form != "factored":
        first = dataclasses.replace(first, shape=shape)
    return Record(name, shape, encoding.form, (first, *factors))


def _compare(written: tuple[Record, ...], read: tuple[Record, ...]) -> None:
    """Every symbol and every side array must come back."""
    by_name = {record.name: record for record in read}
    if {(r.name, r.shape, r.form) for r in written} != {(r.name, r.shape, r.form) for r in read}:
        raise RoundTripError("decoding gives other tensors than were encoded")
    for before in written:
        after = by_name[before.name]
        for p, q in zip(before.parts, after.parts, strict=True):
            same = np.array_equal(p.symbols, q.symbols) and p.grid.params == q.grid.params and p.shape == q.shape
            arrays = p.grid.arrays
            same &= arrays.keys() == q.grid.arrays.keys()
            if not same or any(not np.array_equal(arrays[k], v) for k, v in q.grid.arrays.items()):
                raise RoundTripError(f"{before.name} does not decode to what was encoded")
