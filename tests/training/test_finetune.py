"""Finetuning for the packer: at equal bytes the packed model is nearer to what the model was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pgpack.calibration.observe import observe
from pgpack.checkpoint.checkpoint import from_tensors, load_checkpoint
from pgpack.pack import pack
from pgpack.recipe.dials import trellis_recipe
from pgpack.refine.divergence import Divergence
from pgpack_cli.pgtrain_app import app
from pgtrain.finetune import FinetuneConfig, finetune
from tests.models.test_huggingface import found_model
from tests.models.tiny_hf import LENGTH, tokens, write_folder, write_tokenizer

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers about itself
DIALS = (0.0002, 0.0004, 0.0008, 0.0016)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(write_folder(tmp_path_factory.mktemp("llama"), "llama"))


def test_a_hugging_face_folder_loses_less_at_equal_bytes(folder: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(folder)
    build = found_model(checkpoint).build
    text, unseen = tokens(16_384, 1).reshape(-1).numpy(), tokens(4096, 2)

    def observed(weights):
        model = build({name: torch.tensor(array) for name, array in weights.items()})
        return observe(model, text[:4096], LENGTH, token_digest="", stored=checkpoint.shapes)

    divergence = Divergence(build, dict(checkpoint.items()), checkpoint.aliases, "cpu")

    def point(weights, dial: float) -> tuple[float, float]:
        recipe = trellis_recipe(dial, 8, checkpoint.stored_shapes)
        artifact = pack(from_tensors(dict(weights)), recipe, observed(weights))
        decoded = {record.name: torch.tensor(record.dequantize()) for record in artifact.records}
        return artifact.n_bytes, divergence.mean(decoded, [unseen])

    own = {name: checkpoint.tensor(name) for name in checkpoint.stored_shapes}
    plain = sorted(point(own, dial) for dial in DIALS)
    dial = 0.0006
    target = str(trellis_recipe(dial, 8, checkpoint.stored_shapes))
    config = FinetuneConfig(steps=60, lr=0.005, batch_tokens=512)
    found = finetune(checkpoint, target, build, observed, text, LENGTH, config)
    n_bytes, kl = point(found.tensors, dial)
    assert found.n_bytes == pytest.approx(n_bytes, rel=0.03)
    expected = np.interp(np.log(n_bytes), np.log([b for b, _ in plain]), np.log([k for _, k in plain]))
    assert plain[0][0] < n_bytes < plain[-1][0]
    print("KL", kl, "plain", np.exp(expected), "bytes", n_bytes, plain)
    assert np.log(kl) < expected - 0.05
    torch.set_num_threads(threads)


def test_the_command_writes_a_folder_again(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    for i in range(12):
        (text / f"{i}.txt").write_text(f"the quick brown fox {i} jumps over the lazy dog and runs to a river. " * 40)
    out = tmp_path / "cheaper"
    arguments = ["finetune", str(folder), "--for-packer", "14kB", "--steps", "4", "-o", str(out), "--text", str(text)]
    result = CliRunner().invoke(app, [*arguments, "--calib-tokens", "1024", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["n_bytes"] > 0
    before, after = load_checkpoint(folder), load_checkpoint(out)
    assert after.shapes == before.shapes
    assert (out / "config.json").exists()
    assert any(not np.array_equal(after.tensor(n), before.tensor(n)) for n in before.stored_shapes)


def test_a_size_that_is_none_is_refused_before_any_work(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["finetune", str(folder), "--for-packer", "12 plums", "-o", str(out)])
    assert result.exit_code != 0
    assert not out.exists()
