"""A checkpoint names tied tensors once and refuses what cannot be packed."""

from __future__ import annotations

import numpy as np
import pytest

from pgpack.checkpoint import checkpoint as checkpoint_module
from pgpack.checkpoint.checkpoint import OPENING, from_tensors, tensor_digest
from pgpack.errors import CheckpointError


def test_only_matrices_of_equal_shape_and_contents_are_tied() -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((8, OPENING)).astype(np.float32)
    other_end = table.copy()
    other_end[-1, -1] += 1
    tensors = {
        "tok_emb.weight": table,
        "other_shape": table.reshape(OPENING, 8),
        "other_end": other_end,
        "lm_head.weight": table.copy(),
        "third": table.copy(),
        "scale": np.ones(4, np.float32),
        "gain": np.ones(4, np.float32),
    }
    found = from_tensors(tensors)
    assert found.aliases == {"lm_head.weight": "tok_emb.weight", "third": "tok_emb.weight"}
    assert list(found.stored_shapes) == ["tok_emb.weight", "other_shape", "other_end", "scale", "gain"]
    assert found.n_params == 3 * table.size + 8


def test_shapes_and_ties_of_distinct_matrices_need_no_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    tensors = {f"blocks.{i}": rng.standard_normal((64, 64)).astype(np.float32) for i in range(4)}
    monkeypatch.setattr(checkpoint_module, "tensor_digest", lambda array: pytest.fail("hashed"))
    assert from_tensors(tensors).aliases == {}


def test_nan_is_refused_by_name() -> None:
    weights = np.zeros((2, 2), np.float32)
    weights[1, 1] = np.nan
    with pytest.raises(CheckpointError, match=r"mlp\.fc holds NaN"):
        _ = from_tensors({"mlp.fc": weights}).aliases


def test_the_digest_is_of_names_and_contents() -> None:
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    a, b = from_tensors({"x": weights, "y": weights + 1}), from_tensors({"y": weights + 1, "x": weights})
    assert a.digest == b.digest != from_tensors({"x": weights, "z": weights + 1}).digest
    assert a.tensor_digests["x"] == tensor_digest(weights)
