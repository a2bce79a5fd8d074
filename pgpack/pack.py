"""checkpoint + recipe + calibration -> artifact. A pure function: equal inputs give equal bytes.

apply -> order -> quantize (at once or in stages, compensated) -> tune -> encode -> decode and compare -> Artifact
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pgpack.cache.entries import ARTIFACT, ENCODING, STREAM, artifact_key, quantized_key, stream_key
from pgpack.cache.store import Cache
from pgpack.calibration.calibration import Calibration
from pgpack.calibration.inputs import in_order, quantizer_input, require_coverage
from pgpack.checkpoint.checkpoint import Checkpoint, tensor_digest
from pgpack.codecs.base import ByteCodec, SymbolCoder, Symbols
from pgpack.formats.own.contents import Contents
from pgpack.formats.own.layout import MAGIC
from pgpack.formats.own.needs import UNLIMITED
from pgpack.formats.own.reader import open_records
from pgpack.formats.own.schema import MAX_TENSORS, as_name
from pgpack.formats.own.size_report import SizeReport
from pgpack.formats.own.stream import EncodedStream, StreamCoder, encode_stream
from pgpack.quantizers.base import Encoding, Transform
from pgpack.quantizers.chain import quantize_matrix
from pgpack.quantizers.low_rank import select_corrections
from pgpack.recipe.applied import Applied, AppliedTensor, apply
from pgpack.recipe.policy import Coding
from pgpack.recipe.recipe import Recipe
from pgpack.tensors.grids import QuantizedTensor
from pgpack.tensors.masks import is_kept
from pgpack.tensors.raw_values import RAW_DTYPES, RawValues
from pgpack.tensors.record import Record

from .errors import CalibrationError, InputChanged, RecipeError, RoundTripError
from .unpack import Unpacked, unpack

Progress = Callable[[str], None]
NO_COMPANIONS: Mapping[str, bytes] = MappingProxyType({})
LARGE = 1 << 22  # values, with those of the Hessian: threads have no two larger tensors in work
SHARE = 16  # in large checkpoints a tensor is large from this part of all values
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

    def follow_drift(self, checkpoint: Checkpoint, recipe: Recipe, calibration: Calibration) -> Quantized:
        """The checkpoint quantized in the stages of @drift."""
        ...

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
    """The artifact of `checkpoint` and its companions under `recipe`; it is decoded once and compared before.

    `cache` keeps quantized matrices and encoded streams for other recipes; it changes no byte. `progress` is told
    each tensor's name as it is done; `trainer` does what a recipe's @drift, @compensate and @tune ask for.
    Raises CoverageError, CalibrationError, RecipeError, CheckpointError; RoundTripError is a bug in pgpack.
    """
    applied = apply(recipe, checkpoint.stored_shapes)
    return pack_applied(checkpoint, applied, calibration, cache=cache, progress=progress, trainer=trainer)


def pack_applied(
    checkpoint: Checkpoint,
    applied: Applied,
    calibration: Calibration | None = None,
    *,
    cache: Cache | None = None,
    progress: Progress = _silent,
    trainer: Trainer | None = None,
    threads: int = 1,
) -> Artifact:
    """`pack` under a recipe that is applied to the checkpoint already; `threads` as in `quantize`."""
    recipe = applied.recipe
    if trainer is None and recipe.trains:
        which = "@drift" if recipe.drift.follows else "@compensate" if recipe.compensate.count else "@tune"
        raise CalibrationError(f"the recipe's {which} needs the model and calibration text; leave {which} out")
    if trainer is not None and recipe.compensate.count:
        quantized = trainer.compensate(checkpoint, recipe, calibration)
    elif trainer is not None and recipe.drift.follows and calibration is not None:
        quantized = trainer.follow_drift(checkpoint, recipe, calibration)
    else:
        quantized = quantize(checkpoint, applied, calibration, cache=cache, progress=progress, threads=threads)
    if trainer is not None and recipe.tune.count:
        quantized = trainer.tune(quantized, recipe)
    return encode(quantized, applied, cache, checkpoint.carried)


def quantize(
    checkpoint: Checkpoint,
    applied: Applied,
    calibration: Calibration | None = None,
    *,
    cache: Cache | None = None,
    progress: Progress = _silent,
    names: Collection[str] | None = None,
    threads: int = 1,
) -> Quantized:
    """All stored tensors of `checkpoint` as records, or those of `names` alone. Raises as `pack` does.

    `threads`: how many tensors are worked on at a time, of which one at most is large; no byte depends on it.
    """
    start = time.perf_counter()
    n_most = len(checkpoint.shapes)  # which of them are aliases is asked only if it matters: it reads all
    if n_most > MAX_TENSORS and max(len(checkpoint.stored_shapes), len(checkpoint.aliases)) > MAX_TENSORS:
        raise RecipeError(
            f"an artifact holds at most {MAX_TENSORS:,} tensors, the checkpoint {len(checkpoint.shapes):,}"
        )
    _require_names(checkpoint.shapes)
    require_coverage(applied, calibration)
    checkpoint, calibration = in_order(checkpoint, calibration, applied.recipe.order.by)
    bound = _bound(checkpoint, applied)
    chosen = [tensor for name, tensor in applied.tensors.items() if names is None or name in names]
    limit = max(LARGE, sum(tensor.numel for tensor in chosen) // SHARE)
    one_large = threading.Lock()

    def encoding(tensor: AppliedTensor) -> Encoding:
        transforms = tuple(bound[transform] for transform in tensor.policy.transforms)
        with one_large if _in_work(tensor) > limit else nullcontext():
            return _encoding(checkpoint, tensor, transforms, calibration, cache)

    encodings: dict[str, Encoding] = {}
    for tensor, each in zip(chosen, _in_threads(encoding, chosen, threads), strict=True):
        encodings[tensor.name] = each
        progress(tensor.name)
    for transform, group in applied.by_transform().items():
        if transform.top:
            encodings |= select_corrections({name: encodings[name] for name in group}, transform.top)
    records = tuple(_record(applied.tensors[name], encoding) for name, encoding in encodings.items())
    aliases = checkpoint.aliases if names is None else {}  # of a part nobody asks, and looking for them reads all
    return Quantized(records, aliases, time.perf_counter() - start)


def _require_names(names: Iterable[str]) -> None:
    """Raises RecipeError for a name that no artifact can hold."""
    for name in names:
        try:
            as_name(name)
        except ValueError as error:
            raise RecipeError(
                f"an artifact cannot hold this checkpoint: {error}; give the tensor another name"
            ) from None


def _in_work(tensor: AppliedTensor) -> int:
    """Values that are held while a tensor is quantized: its own and its Hessian's."""
    return tensor.numel + (tensor.matrix_shape()[1] ** 2 if tensor.policy.needs_hessian else 0)


def _in_threads(
    work: Callable[[AppliedTensor], Encoding], tensors: Sequence[AppliedTensor], threads: int
) -> Iterator[Encoding]:
    """What `work` makes of each tensor, in their order; nothing more is begun once one fails."""
    if threads == 1 or len(tensors) < 2:
        yield from map(work, tensors)
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from pool.map(work, tensors)
        finally:
            pool.shutdown(cancel_futures=True)


def _bound(checkpoint: Checkpoint, applied: Applied) -> dict[Transform, Transform]:
    """Every transform as it is once it knows what depends on all tensors that it applies to."""
    tensors = applied.tensors
    return {
        transform: transform.bind(checkpoint.tensor(name).reshape(tensors[name].matrix_shape()) for name in names)
        for transform, names in applied.by_transform().items()
    }


def _encoding(
    checkpoint: Checkpoint,
    tensor: AppliedTensor,
    transforms: Sequence[Transform],
    calibration: Calibration | None,
    cache: Cache | None,
) -> Encoding:
    """What the chain of a tensor makes of it."""
    name, policy = tensor.name, tensor.policy
    keeps = cache is not None and tensor.numel > AT_ONCE

    def compute() -> Encoding:
        array = checkpoint.tensor(name)
        if keeps and tensor_digest(array) != checkpoint.tensor_digests[name]:
            raise InputChanged(f"{name} of {checkpoint.source} reads differently than before; run the command again")
        if is_kept(array):
            return _as_it_is(name, array)
        return quantize_matrix(quantizer_input(tensor, array, calibration), transforms, policy.quantizer)

    if cache is None or not keeps:
        return compute()
    statistics = calibration.tensor_digest(name) if calibration and policy.needs_hessian else None
    key = quantized_key(checkpoint.tensor_digests[name], (*transforms, policy.quantizer), statistics)
    return cache.recall("quantized", key, ENCODING, compute)


def _as_it_is(name: str, array: NDArray[Any]) -> Encoding:
    """Integer, bool and complex tensors and masks with -inf are stored as they are, whatever their rule says."""
    dtype = {"bool": "bool", "float32": "fp32"}.get(array.dtype.name, array.dtype.name)
    if dtype not in RAW_DTYPES:
        raise RecipeError(f"{name}: tensors of type {array.dtype} cannot be stored; convert it to float32 or int64")
    grid = RawValues(dtype)
    return Encoding("plain", (QuantizedTensor(grid.symbols_of(array), grid, array.shape),))


def _record(tensor: AppliedTensor, encoding: Encoding) -> Record:
    first, *factors = encoding.parts
    if encoding.form != "factored":
        first = dataclasses.replace(first, shape=tensor.shape)
    return Record(tensor.name, tensor.shape, encoding.form, (first, *factors))


def encode(
    quantized: Quantized,
    applied: Applied,
    cache: Cache | None = None,
    companions: Mapping[str, bytes] = NO_COMPANIONS,
) -> Artifact:
    """Records -> bytes, by the coding that `applied` gives each tensor; the round trip is checked each time."""
    start = time.perf_counter()
    contents = _contents(quantized, applied, companions)
    if cache is not None:
        contents = dataclasses.replace(contents, encode_stream=_kept_streams(cache))
    data, report = _written(contents, applied.recipe, cache)
    if report.n_bytes != len(data):
        raise RoundTripError(f"the size report sums to {report.n_bytes}, the artifact has {len(data)} bytes")
    encoded = time.perf_counter()
    decoded = _decoded(data, contents)
    if dict(decoded.companions) != dict(contents.companions):
        raise RoundTripError("decoding gives other companions than were encoded")
    decode_s = time.perf_counter() - encoded
    return Artifact(data, report, decoded, contents.weights_digest, quantized.quantize_s, encoded - start, decode_s)


def _decoded(data: bytes, contents: Contents) -> Unpacked:
    """What `data` decodes to, which is what `contents` hold: compared record by record, so that no second copy of an
    artifact of ours is held."""
    if data[:4] != MAGIC:
        decoded = unpack(data)
        _compare(contents.records, decoded.records)
        return decoded
    header, records, companions = open_records(data, UNLIMITED)
    _compare(contents.records, records)
    return Unpacked("pgpack", tuple(contents.records), header.aliases, header.digest, header, companions)


def _contents(quantized: Quantized, applied: Applied, companions: Mapping[str, bytes]) -> Contents:
    """What is to be written: records, the coding of each, their width where a field's container fixes it, and in our
    own format the companions."""
    policies = {record.name: applied.tensors[record.name].policy for record in quantized.records}
    coding = {name: policy.coding for name, policy in policies.items()}
    bits = {name: policy.quantizer.bits for name, policy in policies.items() if policy.quantizer.bits}
    contents = Contents(quantized.records, coding, quantized.aliases, bits)
    if not applied.recipe.container.is_field:
        return dataclasses.replace(contents, companions=dict(companions))
    if any(each != Coding() for each in coding.values()):
        raise RecipeError(
            "a field container fixes the coding of every tensor; leave coders and codecs out of the rules"
        )
    return contents.untied()


def _written(contents: Contents, recipe: Recipe, cache: Cache | None) -> tuple[bytes, SizeReport]:
    """What the recipe's container makes of `contents`; streams of ours and whole field files are kept."""
    container, codecs = recipe.container, recipe.container_codecs
    if cache is None or not container.is_field:
        return container.write(contents, codecs)
    key = artifact_key(contents, container, codecs)
    return cache.recall("encoded", key, ARTIFACT, lambda: container.write(contents, codecs))


def _kept_streams(cache: Cache) -> StreamCoder:
    def encode_kept(coder: SymbolCoder, codecs: Sequence[ByteCodec], arrays: Sequence[Symbols]) -> EncodedStream:
        if sum(array.nbytes for array in arrays) <= AT_ONCE:
            return encode_stream(coder, codecs, arrays)
        key = stream_key(coder, codecs, arrays)
        return cache.recall("encoded", key, STREAM, lambda: encode_stream(coder, codecs, arrays))

    return encode_kept


def _compare(written: Sequence[Record], read: Iterable[Record]) -> None:
    """Every symbol and every side array must come back."""
    by_name = {record.name: record for record in written}
    for after in read:
        before = by_name.pop(after.name, None)
        if before is None or (before.shape, before.form) != (after.shape, after.form):
            raise RoundTripError("decoding gives other tensors than were encoded")
        for p, q in zip(before.parts, after.parts, strict=True):
            same = np.array_equal(p.symbols, q.symbols) and p.grid.params == q.grid.params and p.shape == q.shape
            arrays = p.grid.arrays
            same &= arrays.keys() == q.grid.arrays.keys()
            if not same or any(not np.array_equal(arrays[k], v) for k, v in q.grid.arrays.items()):
                raise RoundTripError(f"{before.name} does not decode to what was encoded")
    if by_name:
        raise RoundTripError("decoding gives other tensors than were encoded")
