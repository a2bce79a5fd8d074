"""`pgpack transcode`: the field's file and ours, the same weights, the same loss, both sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgpack.unpack import unpack
from tests.commands.workshop import pgpack, succeed


@pytest.fixture(scope="module")
def field_file(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in the challenge's own container, under a name that says nothing."""
    path = tmp_path_factory.mktemp("field") / "model.dat"
    preset = ("--preset", "baseline-int8-zlib", "--passthrough", 64)
    succeed(pgpack("pack", model, *preset, "-o", path, "-q"))
    return path


def test_the_verdict_names_both_sizes_and_the_loss_is_that_of_both(
    field_file: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ours.pgpack"
    said = succeed(pgpack("transcode", field_file, "--checkpoint", model, "-o", out, "-q")).out
    before, after = field_file.stat().st_size, out.stat().st_size
    assert f"yours {before:,} B, ours {after:,} B at the same decoded weights" in said
    assert "equal bit for bit" in said
    theirs, ours = (
        succeed(pgpack("eval", path, "--checkpoint", model, "--json", "-q")).json for path in (field_file, out)
    )
    assert theirs["bpb"] == ours["bpb"]
    assert f"both {ours['bpb']:.6f} bits per byte" in said
    succeed(pgpack("verify", out, "-q"))


def test_json_says_the_same(field_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "ours.pgpack"
    found = succeed(pgpack("transcode", field_file, "-o", out, "--json", "-q")).json
    assert (found["kind"], found["n_bytes_before"]) == ("torch_baseline", field_file.stat().st_size)
    assert found["n_bytes"] == out.stat().st_size
    assert unpack(out.read_bytes()).digest == found["weights_digest"]
    assert "bpb" not in found


def test_a_checkpoint_is_sent_to_pack_and_a_damaged_file_is_named(
    model: Path, field_file: Path, tmp_path: Path
) -> None:
    refused = pgpack("transcode", model, "-o", tmp_path / "x.pgpack")
    assert (refused.code, "pgpack pack" in refused.err) == (2, True)
    cut = tmp_path / "cut.ptz"
    cut.write_bytes(field_file.read_bytes()[:-100])
    for verb in (("inspect", cut), ("eval", cut), ("unpack", cut, "-o", tmp_path / "y.pt")):
        refused = pgpack(*verb)
        assert refused.code == 4
        assert "ends early" in refused.err
    assert not (tmp_path / "x.pgpack").exists()


def test_at_the_same_loss_the_engine_needs_fewer_bytes(field_file: Path, model: Path, tmp_path: Path) -> None:
    out, small = tmp_path / "same.pgpack", tmp_path / "small.pgpack"
    line = ("transcode", field_file, "-o", out, "--equal-loss", small)
    refused = pgpack(*line, "-q")
    assert (refused.code, "give --checkpoint" in refused.err) == (2, True)
    found = succeed(pgpack(*line, "--checkpoint", model, "--json", "-q")).json
    assert 0 < found["equal_loss"]["kl"] <= found["kl"]
    assert found["equal_loss"]["n_bytes"] == small.stat().st_size < field_file.stat().st_size
    succeed(pgpack("verify", small, "--checkpoint", model, "-q"))
