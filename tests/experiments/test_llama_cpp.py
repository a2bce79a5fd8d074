"""llama.cpp as a peer, with a program in its place that copies the model: names, importance and rows are in order."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.rate_distortion import llama_cpp, peers
from experiments.rate_distortion.laboratory import Laboratory
from pgpack.bench.options import BenchOptions
from pgpack.errors import PgpackError
from tests.models.tiny_hf import write_folder, write_tokenizer

pytest.importorskip("transformers")
pytest.importorskip("gguf")
ENGINE = "ndim<=1=cast; *=tcq(step=0.001,states=4)|rans_scaled(states=4)"


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    folder = tmp_path_factory.mktemp("peer")
    model = write_tokenizer(write_folder(folder / "model", "llama-tied"))
    text = folder / "text.txt"
    text.write_text("\n".join(f"the quick brown fox number {n} jumps over the lazy dog" for n in range(400)))
    options = BenchOptions(text=(str(text),), seq_len=32)
    return Laboratory(model, "model", folder / "work", 256, "@calib=tokens(count=512)", options)


def program(folder: Path, body: str) -> Path:
    path = folder / "llama-quantize"
    path.write_text(f"#!{sys.executable}\nimport shutil, sys\n{body}\n")
    path.chmod(0o755)
    return path


def importance(path: Path) -> dict[str, np.ndarray]:
    """The file as llama.cpp reads it: number of entries; per entry its name, calls and values."""
    data, found = path.read_bytes(), {}
    (n,), at = struct.unpack_from("<i", data), 4
    for _ in range(n):
        (length,) = struct.unpack_from("<i", data, at)
        name = data[at + 4 : at + 4 + length].decode()
        calls, size = struct.unpack_from("<ii", data, at := at + 4 + length)
        found[name] = np.frombuffer(data, "<f4", size, at + 8) / calls
        at += 8 + 4 * size
    assert at == len(data)
    return found


def test_a_copy_of_the_model_has_no_loss(
    laboratory: Laboratory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp, "TYPES", {"Q4_K_M": 4.5})
    calibration = laboratory.calibration("observed", laboratory.recipe(ENGINE))
    copying = program(
        tmp_path, "assert sys.argv[1] == '--imatrix' and sys.argv[5] == 'Q4_K_M'; shutil.copy(*sys.argv[3:5])"
    )
    (row,) = llama_cpp.llama_rows(laboratory, copying, calibration, tmp_path / "files")
    assert row.kl == pytest.approx(0, abs=1e-9)
    assert row.n_bytes == 4 * laboratory.checkpoint.n_params  # blocks alone, without tokenizer and fields
    found = importance(tmp_path / "files" / "importance.dat")
    hessian = calibration.load("model.layers.0.mlp.down_proj.weight.hessian")
    np.testing.assert_allclose(found["blk.0.ffn_down.weight"], np.diag(hessian))
    assert {name.split(".")[-2] for name in found} >= {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_up"}


def test_what_the_program_says_when_it_fails(laboratory: Laboratory, tmp_path: Path) -> None:
    calibration = laboratory.calibration("observed", laboratory.recipe(ENGINE))
    failing = program(tmp_path, "sys.exit('no such type')")
    with pytest.raises(PgpackError, match="llama-quantize failed: no such type"):
        next(llama_cpp.llama_rows(laboratory, failing, calibration, tmp_path / "files"))


def test_a_small_table_is_as_fine_as_the_matrices() -> None:
    recipe = "numel<=4096=cast; role:embedding=gptq(bits=8,clip=30); *=gptq(bits=6,clip=19.275); @container=own"
    shown = "numel<=4096=cast; role:embedding=gptq(bits=6,clip=19.275); *=gptq(bits=6,clip=19.275); @container=own"
    assert peers.small_table(recipe) == shown
    assert peers.small_table("*=cast") == "*=cast"


def test_sizes_are_read_off_the_pareto_set() -> None:
    def row(n_bytes: int, kl: float) -> peers.Row:
        return peers.Row("a", 1.0, n_bytes, 0.0, kl, 1.0, 0.0, 0.0, 0.0, "")

    assert peers.bytes_at([row(400, 0.01), row(500, 0.08), row(100, 0.16)], 0.04) == 200
