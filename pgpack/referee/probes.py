"""What is found by running the model of a submission: its loss, the bytes of its text, whether it peeks.

    artifact -> tensors -> model on text --evaluate--------------> loss
                                         --tests of `scoring`----> answers, together `Scores`

Owns how a model becomes a scorer, and how much of a text is tried. Refuses what did not decode behind the fence.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.bench.workpiece import Workpiece
from pgpack.checkpoint.checkpoint import Checkpoint, from_tensors
from pgpack.errors import DataError, no_file
from pgpack.text.sentence_piece import SentencePiece
from pgpack.unpack import unpack

from .evidence import Evidence
from .logs import TTT
from .looking import look_ahead, look_close, sums
from .options import FolderOptions
from .scoring import Answer, Scores, candidate_test, document_test, flip_test, normalization_test, softmax_losses

Tensors = Mapping[str, NDArray[Any]]
Tokens = NDArray[np.int64]
Losses = Callable[[Tokens], NDArray[np.floating[Any]]]
Opener = Callable[[Path, Checkpoint], Workpiece]  # where the text's defaults are relative to, tensors -> their bench
PROBE_TOKENS = 96  # of the text that the shortest tests use
CAUSAL_S, LOOK_S = 10.0, 30.0  # for longer ones, of a fixed model and of a scorer that learns
SCORED_CANDIDATES = 8192  # largest vocabulary whose every token is tried
RECOUNTED = 200_000  # tokens decoded to recount their bytes


def measure(evidence: Evidence, named: Checkpoint | None, open_bench: Opener, options: FolderOptions) -> Scores:
    """Every score of the first artifact that decoded behind the fence which the text, the bench's or that of the
    checkpoint `named`, allows.

    Raises: DataError or CheckpointError when model or text are not known.
    """
    sound = next((decoded for decoded in evidence.decoded if decoded.first.ok), None)
    if sound is None:
        return Scores(fault="nothing was decoded that could be measured")
    path = evidence.folder.path / sound.entry.name
    files = [evidence.folder.path / name for name in sound.parts or (sound.entry.name,)]
    tensors = unpack(b"".join(file.read_bytes() for file in files)).tensors()
    home, metadata = (path, {}) if named is None else (Path(named.source), named.metadata)
    bench = open_bench(home, from_tensors(tensors, metadata, source=str(path)))
    bench.note(f"measuring {path.name}")
    return dataclasses.replace(_scores(bench, tensors, options), seed=sound.seed)


def _scores(bench: Workpiece, tensors: Tensors, options: FolderOptions) -> Scores:
    from pgpack.loss.sliding import EvaluationWay

    text = bench.text
    evaluator = text.evaluator(way=EvaluationWay(options.stride or 0, options.documents))
    logits = _logits(evaluator.module(tensors), bench)
    score: Losses = partial(softmax_losses, logits)
    counted, decoded = _recount(bench)
    probe = np.asarray(text.val_tokens[: min(PROBE_TOKENS, text.seq_len) + 1], dtype=np.int64)
    fixed = Scores(
        text_bytes=counted,
        decoded_bytes=decoded,
        causal=_both(flip_test(score, probe, text.vocab_size), _ahead(score, bench, text.seq_len, CAUSAL_S)),
        normalized=candidate_test(score, probe, text.vocab_size, SCORED_CANDIDATES),
        calibration=_calibration(bench) if text.calib is not None else None,
        whole=bench.options.max_tokens is None,
    )
    if options.scorer is None:
        loss = evaluator.evaluate(tensors)
        mode = "sliding" if evaluator.stride != evaluator.seq_len else "plain"
        documents = _documents(score, bench, probe) if options.documents else None
        return dataclasses.replace(
            fixed, bpb=loss.bpb, nats=loss.nats, mode=mode, n_tokens=loss.n_tokens, documents=documents
        )
    learning = _load_scorer(options.scorer, tensors)
    return _learned(learning, bench, options, fixed, probe, normalization_test(logits, score, probe))


def _learned(
    score: Losses, bench: Workpiece, options: FolderOptions, fixed: Scores, probe: Tokens, softmax: Answer
) -> Scores:
    """Scores of the user's own scorer, which may learn while it scores."""
    text = bench.text
    tokens = np.asarray(text.val_tokens, dtype=np.int64)
    nats = np.asarray(score(tokens), dtype=np.float64)
    if nats.shape != (len(tokens) - 1,):
        raise DataError(f"{options.scorer} gave losses of shape {nats.shape} for {len(tokens) - 1} targets")
    n_bytes = text.val.scored_bytes
    first = flip_test(score, probe, text.vocab_size)
    if first.ok:
        first = _ahead(score, bench, len(tokens) - 1, LOOK_S)
    if first.ok:
        first = _both(first, sums(score, tokens, text.vocab_size, SCORED_CANDIDATES, LOOK_S))
    documents = _documents(score, bench, probe) if options.documents else None
    bpb = float(nats.sum() / np.log(2) / n_bytes)
    return dataclasses.replace(
        fixed,
        bpb=bpb,
        nats=float(nats.mean()),
        mode=TTT,
        n_tokens=len(nats),
        normalized=fixed.normalized if softmax.ok else softmax,
        score_first=first,
        documents=documents,
    )


def _ahead(score: Losses, bench: Workpiece, n_targets: int, seconds: float) -> Answer:
    """Whether a scorer looks ahead in the first tokens of the text, as far as it goes."""
    ids = np.asarray(bench.text.val_tokens[: n_targets + 1], dtype=np.int64)
    far = look_ahead(score, ids, bench.text.vocab_size, seconds)
    return _both(far, look_close(score, ids, bench.text.vocab_size, seconds / 2)) if far.ok else far


def _both(first: Answer, second: Answer) -> Answer:
    """The answer that fails, else what both looked at."""
    if not first.ok or not second.ok:
        return second if first.ok else first
    return Answer(True, f"{first.detail}; {second.detail}")


def _load_scorer(spec: str, tensors: Tensors) -> Losses:
    """The function that FILE.py:NAME names (NAME defaults to `score`). The file is run: it is the user's own code.

    It is called as score(state_dict of torch tensors, token ids) and gives the loss of every target in nats.
    """
    import torch

    file, _, name = spec.rpartition(":") if ".py:" in spec else (spec, "", "score")
    found = importlib.util.spec_from_file_location("pgpack_user_scorer", file)
    if not Path(file).is_file():
        raise DataError(f"scorer file {file} {no_file(Path(file))}; give --scorer FILE.py:score")
    if found is None or found.loader is None:
        raise DataError(f"scorer file {file} is not a Python file; give --scorer FILE.py:score")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise DataError(f"{file} has no function {name}; it must define {name}(state_dict, ids) -> nats")

    def losses(ids: Tokens) -> NDArray[np.floating[Any]]:
        state = {
            key: torch.tensor(array) for key, array in tensors.items()
        }  # anew: a scorer that learns changes them
        return np.asarray(function(state, torch.from_numpy(ids.copy())), dtype=np.float64)

    return losses


def _logits(module: Any, bench: Workpiece) -> Losses:
    import torch

    from pgpack.loss.bpb import next_token_logits

    def logits(ids: Tokens) -> NDArray[np.floating[Any]]:
        with torch.inference_mode():
            given = torch.from_numpy(ids.copy())[None].to(bench.text.device)
            found: NDArray[np.floating[Any]] = (
                next_token_logits(module, given, bench.text.vocab_size)[0].cpu().numpy()
            )
            return found[:, : bench.text.vocab_size]

    return logits


def _documents(score: Losses, bench: Workpiece, probe: Tokens) -> Answer:
    """Two documents of the probe's tokens, the second behind a begin token."""
    text = bench.text
    begin = text.tokenizer.bos_id  # there is one: the evaluator refused --documents otherwise
    half = len(probe) // 2
    plain = probe[probe != begin]
    first, second = plain[: half - 1], plain[half - 1 : -1]
    ids = np.concatenate([[begin], first, [begin], second]).astype(np.int64)
    return document_test(score, ids, len(first) + 1, text.vocab_size)


def _calibration(bench: Workpiece) -> Answer:
    try:
        return Answer(
            True, f"{len(bench.text.calib_tokens):,} tokens of calibration text, apart from the evaluated ones"
        )
    except DataError as error:
        return Answer(False, str(error))


def _recount(bench: Workpiece) -> tuple[int | None, int | None]:
    """(bytes by the tables, bytes of the decoded text) of the whole documents at the start of the text.

    (None, None) when no document ends within the first tokens, or bytes were not counted by tables.
    """
    text, model = bench.text, bench.text.tokenizer
    if text.counted or not isinstance(model, SentencePiece):
        return None, None
    tokens = np.asarray(text.val_tokens[:RECOUNTED], dtype=np.int64)
    starts = np.flatnonzero(tokens == model.bos_id)
    if len(starts) < 2:
        return None, None
    counted = decoded = 0
    for begin, end in pairwise(starts):
        if (tokens[begin:end] == model.processor.unk_id()).any():
            continue  # decoded as a question mark that stands for any text
        counted += model.byte_tables.count(tokens[begin : end - 1], tokens[begin + 1 : end])
        decoded += len(model.decode(tokens[begin + 1 : end]).encode("utf-8"))
    return counted, decoded
