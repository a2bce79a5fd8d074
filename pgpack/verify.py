"""Is this file the artifact that it claims to be? A list of checks, each with what was found.

    size -> manifest -> decode in a process of its own -> structure -> digests -> names, shapes, error -> loss

The clean process is the decoder that a stranger would run: isolated, without our environment, with a time limit.
A check never raises for a bad file; it fails and says why. Checks that need a decoded file are left out when
decoding fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.checkpoint.mlp_order import mlp_permutations, ordered_checkpoint
from pgpack.files import READ, contents
from pgpack.formats.own.manifest import Manifest, manifest_path, read_manifest
from pgpack.formats.own.needs import HELD
from pgpack.loss.evaluator import BitsPerByte, Evaluator
from pgpack.tensors.masks import is_kept, may_be_endless

from .errors import FormatError
from .inspect import inspect_artifact
from .tables import counted, decimals, escaped
from .unpack import Decoded, Unpacked, check_digest, unpack

DECODE_TIMEOUT_S = 600.0
ROOM = 2 << 30  # bytes of address space for Python, numpy and the codecs themselves
SAID = 1 << 20  # bytes of what the decoder says that are read
FARTHEST = 1.3  # relative error of any tensor; two unrelated ones of equal norm are sqrt(2) apart, zeros 1
SAME_LOSS = 1e-9  # relative: equal weights, text and machine
ROUNDING = 1e-5  # relative: equal weights and text, but another processor adds floats in another order


@dataclass(frozen=True)
class Check:
    """One statement about the file, whether it holds, and the numbers behind it."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Verification:
    """All checks in order. `loss` and `errors` (tensor name -> relative error) are what was measured on the way."""

    n_bytes: int
    kind: str
    checks: tuple[Check, ...]
    decode_s: float | None = None
    weights_digest: str | None = None
    loss: BitsPerByte | None = None
    errors: Mapping[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)


def verify(
    path: Path,
    *,
    checkpoint: Checkpoint | None = None,
    budget: int | None = None,
    evaluator: Evaluator | None = None,
    timeout_s: float = DECODE_TIMEOUT_S,
    max_bytes: int | None = None,
) -> Verification:
    """Every check that the arguments allow. Units: `budget` bytes; `timeout_s` seconds and `max_bytes` bytes that
    decoding may take, as `unpack` says.

    `evaluator` measures the decoded weights; its KL is to whatever reference it holds.
    Raises: OSError when the file cannot be read; FormatError when it is none, or too large;
    errors of the evaluator when the model does not run.
    """
    data = contents(path, max(READ, max_bytes or 0))
    checks = [_size(len(data), budget)]
    manifest = _take_manifest(path, data, checks)
    limits = (timeout_s,) if max_bytes is None else (timeout_s, max_bytes)
    clean = decode_apart(path, *limits)
    checks.append(_decoded_apart(clean))
    if not clean.ok:
        return Verification(len(data), clean.kind, tuple(checks))
    try:
        unpacked = unpack(data, max_bytes)
        digest = check_digest(unpacked)
        checks.append(_structure(data, unpacked))
    except FormatError as error:
        checks.append(Check("structure", False, f"{type(error).__name__}: {error}"))
        return Verification(len(data), clean.kind, tuple(checks), clean.decode_s)
    checks.append(_digests(digest, clean.weights_digest, unpacked, manifest))
    decoded = unpacked.decoded()
    runnable = [_finite(decoded, [record.name for record in unpacked.records if record.underflows])]
    errors: dict[str, float] = {}
    if checkpoint is not None:
        runnable.append(_names_and_shapes(decoded, checkpoint))
    checks += runnable
    if checkpoint is not None and runnable[-1].ok:
        errors = relative_errors(decoded, checkpoint)
        checks += _against_checkpoint(errors, checkpoint, manifest)
    loss = None
    if evaluator is not None and all(check.ok for check in runnable):
        loss = evaluator.evaluate(unpacked.tensors())
        checks.append(_loss(loss, evaluator, manifest))
    return Verification(len(data), unpacked.kind, tuple(checks), clean.decode_s, digest, loss, errors)


def _size(n_bytes: int, budget: int | None) -> Check:
    if budget is None:
        return Check("size", n_bytes > 0, f"{n_bytes:,} bytes; no budget was given")
    margin = budget - n_bytes
    word = "spare" if margin >= 0 else "too many"
    return Check("size", margin >= 0, f"{n_bytes:,} of {budget:,} bytes, {abs(margin):,} {word}")


def _take_manifest(path: Path, data: bytes, checks: list[Check]) -> Manifest | None:
    """The manifest beside the file, if it is there; its own consistency becomes a check."""
    try:
        manifest = read_manifest(path)
    except (FormatError, OSError) as error:
        checks.append(Check("manifest", False, str(error)))
        return None
    if manifest is None:
        return None
    name = manifest_path(path).name
    found = hashlib.sha256(data).hexdigest()
    recipe = hashlib.sha256(manifest.recipe_canonical.encode()).hexdigest()
    total = sum(n for part in manifest.sizes.values() for n in part.values())
    for what, recorded, actual in (
        ("sha256 of the file", manifest.sha256, found),
        ("size", manifest.n_bytes, len(data)),
        ("digest of the recipe", manifest.recipe_digest, recipe),
        ("sum of all sizes", manifest.n_bytes, total),
    ):
        if recorded != actual:
            checks.append(Check("manifest", False, f"{name} records {recorded} as {what}, found {actual}"))
            return manifest
    checks.append(Check("manifest", True, f"{name}: file sha256 {found[:16]}, recipe {recipe[:16]}"))
    return manifest


@dataclass(frozen=True)
class CleanDecode:
    """What the decoder said in its own process. `error` is '' when it succeeded."""

    ok: bool
    kind: str = ""
    weights_digest: str = ""
    decode_s: float = 0.0
    imported_torch: bool = False
    error: str = ""


def decode_apart(path: Path, timeout_s: float = DECODE_TIMEOUT_S, max_bytes: int | None = None) -> CleanDecode:
    """The artifact decoded by `python -I -m pgpack.unpack` with an empty environment. Never raises for a bad file.

    The process may use what `max_bytes` allows decoding to hold, and a little; it ends, with all that it started,
    after `timeout_s`, and itself when this process is gone.
    """
    memory = ROOM + 4 * path.stat().st_size + (HELD if max_bytes is None else max_bytes)
    limits = [str(memory), *([] if max_bytes is None else [str(max_bytes)])]
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "pgpack.unpack", str(path.absolute()), *limits],
            stdin=subprocess.PIPE,  # held open: its end tells the process that this one is gone
            stdout=said,
            stderr=complained,
            env=environment,
            start_new_session=True,
        )
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return CleanDecode(False, error=f"decoding did not end within {timeout_s:g} s; --timeout gives it longer")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its own session: programs that it started end with it
            process.communicate()
        said.seek(0)
        complained.seek(0)
        return _answer(said.read(SAID), complained.read(SAID), process.returncode)


def _answer(said: bytes, complained: bytes, status: int) -> CleanDecode:
    try:
        answer: dict[str, Any] = json.loads(said.decode().splitlines()[-1])
    except (ValueError, IndexError):
        last = (complained.decode(errors="replace").strip().splitlines() or ["nothing was said"])[-1]
        return CleanDecode(False, error=f"the decoder stopped with status {status}: {escaped(last[:500])}")
    if not answer["ok"]:
        return CleanDecode(False, error=f"{answer['error_kind']}: {answer['error']}")
    return CleanDecode(True, answer["kind"], answer["weights_digest"], answer["decode_s"], answer["imported_torch"])


def _decoded_apart(clean: CleanDecode) -> Check:
    if not clean.ok:
        return Check("decode", False, clean.error)
    if clean.imported_torch:
        return Check("decode", False, f"decoding {clean.kind} loaded torch; numpy must be enough")
    return Check("decode", True, f"{clean.kind} in a clean process, without torch, {clean.decode_s:.2f} s")


def _structure(data: bytes, unpacked: Unpacked) -> Check:
    """Everything of the file belongs to something."""
    view = inspect_artifact(data, unpacked)
    total = sum(tensor.n_bytes for tensor in view.tensors) + sum(view.overhead.values())
    tensors, stages = counted(len(view.tensors), "tensor"), counted(len(view.stages), "coding stage")
    parts = f"{tensors}, {len(view.aliases)} tied, {stages}"
    return Check("structure", total == len(data), f"{parts}; {total:,} of {len(data):,} bytes accounted for")


def _digests(digest: str, clean_digest: str, unpacked: Unpacked, manifest: Manifest | None) -> Check:
    if digest != clean_digest:
        return Check("weights", False, f"two decodes differ: {digest[:16]} here, {clean_digest[:16]} apart")
    if manifest is not None and manifest.weights_digest != digest:
        return Check("weights", False, f"digest {digest[:16]}, the manifest records {manifest.weights_digest[:16]}")
    sources = ["the header"] * bool(unpacked.digest) + ["the manifest"] * (manifest is not None)
    equal = f"as {' and '.join(sources)} record" if sources else "nothing recorded to compare with"
    return Check("weights", True, f"digest {digest[:16]}, {equal}")


def _finite(tensors: Mapping[str, NDArray[Any]], rough: Sequence[str]) -> Check:
    """`rough`: tensors whose 16-bit steps underflow, which are named."""
    broken, n_values = [], 0
    for name, array in tensors.items():  # decoded one at a time
        n_values += array.size
        if not np.isfinite(array).all() and not may_be_endless(name, array):
            broken.append(name)
    if broken:
        return Check("values", False, f"{counted(len(broken), 'tensor')} with NaN or infinity, first {broken[0]}")
    detail = f"{n_values:,} finite values"
    if rough:
        detail += f"; steps of {counted(len(rough), 'tensor')} below what 16 bits hold precisely, first {rough[0]}"
    return Check("values", True, detail)


def _names_and_shapes(tensors: Decoded, checkpoint: Checkpoint) -> Check:
    decoded = {name: tuple(record.shape) for name, record in tensors.records.items()}
    wanted = {name: tuple(shape) for name, shape in checkpoint.shapes.items()}
    for what, names in (("missing", wanted.keys() - decoded.keys()), ("unknown", decoded.keys() - wanted.keys())):
        if names:
            return Check("names", False, f"{counted(len(names), 'tensor')} {what}, first {sorted(names)[0]}")
    for name, shape in wanted.items():
        if decoded[name] != shape:
            return Check("names", False, f"{name} decodes to shape {decoded[name]}, the checkpoint has {shape}")
    return Check("names", True, f"all {len(wanted)} names and shapes of the checkpoint")


def _against_checkpoint(
    errors: Mapping[str, float], checkpoint: Checkpoint, manifest: Manifest | None
) -> Iterator[Check]:
    """Whether it is the checkpoint that was packed, and how far the decoded weights are from it."""
    if manifest is not None:
        same = manifest.checkpoint_digest == checkpoint.digest
        detail = f"digest {checkpoint.digest[:16]}" + (
            "" if same else f", but the artifact was packed from {manifest.checkpoint_digest[:16]}"
        )
        yield Check("checkpoint", same, detail)
    name, worst = max(errors.items(), key=lambda item: item[1])
    median = float(np.median([*errors.values()]))
    detail = f"largest relative error {worst:.3g} ({name}), at most {FARTHEST}; median {median:.3g}, at most 1"
    if lost := [name for name, error in errors.items() if error == 1]:
        detail += f"; {counted(len(lost), 'tensor')} became all zero, first {lost[0]}"
    if median > 1:
        detail += "; zeros would be nearer to the checkpoint"
    elif worst > FARTHEST:
        detail += "; an unrelated tensor of its size has 1.41"
    elif worst > 1:
        detail += "; error feedback moved it where inputs hardly reach: judge by --eval"
    yield Check("error", median <= 1 and worst <= FARTHEST, detail)


def relative_errors(tensors: Mapping[str, NDArray[Any]], checkpoint: Checkpoint) -> dict[str, float]:
    """|decoded - original| / |original| of each tensor (Frobenius norms; of an all-zero original the absolute norm).

    A packer may have put MLP hidden units into the order of their norms, which changes no output (@order): a
    tensor that such an order may have moved is compared with both orders, and the nearer one counts.
    """
    permutations = mlp_permutations(checkpoint)
    ordered = ordered_checkpoint(checkpoint, permutations)
    found = {}
    for name in checkpoint.shapes:
        error = _relative_error(tensors[name], checkpoint.tensor(name))
        if name in permutations:
            error = min(error, _relative_error(tensors[name], ordered.tensor(name)))
        found[name] = error
    return found


def _relative_error(decoded: NDArray[Any], original: NDArray[Any]) -> float:
    if original.dtype.kind == "f" and is_kept(original):
        return 0.0 if np.array_equal(decoded, original, equal_nan=True) else 1.0
    wide = original.astype(np.result_type(original.dtype, np.float64))
    norm = float(np.linalg.norm(wide))
    error = float(np.linalg.norm(decoded.astype(wide.dtype) - wide))
    return error / norm if norm else error


def _loss(loss: BitsPerByte, evaluator: Evaluator, manifest: Manifest | None) -> Check:
    kl = "" if loss.kl is None else f", KL {decimals(loss.kl, 6)} nats per token"
    found = f"{loss.bpb:.6f} bits per byte{kl} on {loss.n_tokens:,} tokens"
    if manifest is None or manifest.bpb is None:
        return Check("loss", True, f"{found}; no recorded loss to compare with")
    if manifest.evaluator_digest != evaluator.digest:
        return Check("loss", True, f"{found}; the manifest's {manifest.bpb:.6f} was measured on another text")
    difference = abs(loss.bpb - manifest.bpb) / manifest.bpb
    if difference <= SAME_LOSS:
        return Check("loss", True, f"{found}, as the manifest records")
    off = f"{found}; the manifest records {manifest.bpb:.6f}, off by {difference:.1e}"
    if difference <= ROUNDING:
        return Check("loss", True, f"{off}: rounding of another processor (the weights are bit for bit equal)")
    return Check("loss", False, off)
