"""A field of a GGUF that changes the arithmetic is in config.json, or transformers builds no model from the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import CheckpointError

from .test_huggingface import our_logits
from .tiny_gguf import write_gguf
from .tiny_hf import tiny_model, tokens

pytest.importorskip("transformers")
pytest.importorskip("gguf")
pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers about itself
ADDED = {bool: "add_bool", int: "add_uint32", float: "add_float32", list: "add_array", str: "add_string"}


def written(path: Path, fields: dict, model=None, arch: str = "llama"):
    def add(writer) -> None:
        for name, value in fields.items():
            getattr(writer, ADDED[type(value)])(f"{arch}.{name}", value)

    return write_gguf(path, arch, model=tiny_model(arch) if model is None else model, tokenizer=add)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rope.dimension_count", 4),
        ("attention.value_length", 4),
        ("attention.scale", 0.5),
        ("attention.causal", False),
        ("attention.clamp_kqv", 8.0),
        ("attention.sliding_window", 8),
        ("attention.max_alibi_bias", 8.0),
        ("final_logit_softcapping", 30.0),
        ("logit_scale", 0.0625),
        ("residual_scale", 0.22),
        ("embedding_scale", 12.0),
        ("use_parallel_residual", True),
        ("rope.scaling.attn_factor", 1.5),
        ("rope.dimension_sections", [2, 1, 1, 0]),
        ("never_heard_of", 3),
    ],
)
def test_a_field_that_transformers_has_nothing_for_is_named(tmp_path: Path, name: str, value) -> None:
    written(tmp_path / "tiny.gguf", {name: value})
    checkpoint = load_checkpoint(tmp_path / "tiny.gguf")
    assert not checkpoint.companions
    assert f"llama.{name} is" in checkpoint.notes[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"rope.dimension_count": 8, "attention.key_length": 8, "attention.value_length": 8},
        {"attention.head_count_kv": [2, 2]},
        {"logit_scale": 1.0, "residual_scale": 1.0, "attention.clamp_kqv": 0.0, "use_parallel_residual": False},
        {"attention.sliding_window": 4096, "attention.causal": True},
        {"rope.scaling.type": "none", "rope.scaling.factor": 4.0},
        {"rope.scaling.factor": 1.0},
        {"rope.scale_linear": 1.0},
        {"expert_count": 0, "tensor_data_layout": "Meta AI original pth"},
    ],
)
def test_a_field_that_changes_nothing_is_read(tmp_path: Path, fields: dict) -> None:
    model = tiny_model("llama", num_key_value_heads=2)
    written(tmp_path / "tiny.gguf", fields, model)
    with torch.no_grad():
        assert torch.allclose(our_logits(tmp_path / "tiny.gguf", tokens()), model(tokens()).logits, atol=1e-4)


@pytest.mark.parametrize(
    "fields",
    [
        {"rope.scaling.type": "linear", "rope.scaling.factor": 2.0},
        {"rope.scaling.factor": 2.0},
        {"rope.scale_linear": 2.0},
        {"rope.scaling.factor": 2.0, "rope.scale_linear": 8.0},
    ],
)
def test_positions_are_scaled_as_llama_cpp_does_it(tmp_path: Path, fields: dict) -> None:
    model = tiny_model("llama", rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0})
    written(tmp_path / "tiny.gguf", fields, model)
    with torch.no_grad():
        assert torch.allclose(our_logits(tmp_path / "tiny.gguf", tokens()), model(tokens()).logits, atol=1e-4)


def test_statistics_of_inputs_are_no_model(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "a.gguf", "")
    writer.add_type("imatrix")
    for end in ("in_sum2", "counts"):
        writer.add_tensor(f"blk.0.attn_q.weight.{end}", np.ones((1, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match=r"an importance matrix of llama\.cpp, statistics of inputs and not a"):
        load_checkpoint(tmp_path / "a.gguf")
