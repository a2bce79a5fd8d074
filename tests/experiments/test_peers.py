"""The bench against published packers and that of the levels of effort: sizes, and a run to the end on a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.rate_distortion import effort, headline, ingredients, peers, whole_dial
from experiments.rate_distortion.entquant import entquant, entropy_bytes
from experiments.rate_distortion.rows import Row
from experiments.rate_distortion.watersic import watersic
from pgpack.fit.effort import DEFAULT
from tests.commands.conftest import model, text_folder  # noqa: F401  fixtures


def test_entropy_of_symbols() -> None:
    assert entropy_bytes(np.array([0.0, 1.0] * 32)) == pytest.approx(8)
    assert entropy_bytes(np.zeros(100)) == 0


def test_entquant_trades_error_for_bits() -> None:
    weight = np.random.default_rng(0).standard_normal((20, 300)).astype(np.float32)
    coded = [entquant(weight, rate_weight) for rate_weight in (0.01, 0.1, 1.0)]
    sizes = [each.n_bytes for each in coded]
    errors = [float(np.square(each.weight - weight).mean()) for each in coded]
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert 3.5 < 8 * sizes[0] / weight.size < 6


def test_entquant_leaves_rows_of_zero() -> None:
    assert not entquant(np.zeros((3, 8), np.float32), 0.1).weight.any()


def test_a_packed_file_stands_beside_the_curves_whole(tmp_path: Path) -> None:
    recipe = "ndim<=1=cast; *=tcq(step=0.002,states=64)|rans_scaled(states=64)"
    told = {"n_bytes": 150, "sizes": {"overhead": {"companions": 40}}, "kl": 0.1, "bpb": 1.5, "recipe": recipe}
    (tmp_path / "a.pgpack.json").write_text(json.dumps(told))
    found = headline.packed(tmp_path / "a.pgpack.json")
    assert (found.n_bytes, found.kl, found.bpb, found.dial) == (150, 0.1, 1.5, 0.002)
    assert found.curve == headline.UNTUNED
    document = {
        "name": "m", "n_params": 800, "n_tokens": 9, "fp32_bpb": 1.0, "engine": "tcq-8",
        "curves": {
            "tcq-8": [vars(row(100, 0.2)), vars(row(200, 0.1)), vars(row(300, 0.01))],
            headline.EFFORT: [vars(found)],
        },
    }  # fmt: skip
    assert "150 B with config and tokenizer at KL 0.1000" in headline.markdown(document)
    assert "-25.0 % of `tcq-8`" in headline.markdown(document)


def test_curves_of_another_run_join_where_model_and_text_are_the_same() -> None:
    of = {"name": "m", "n_params": 800, "n_tokens": 9, "fp32_bpb": 1.0, "command": "make bench-peers"}
    kept = of | {"curves": {"tcq-8": [vars(row(100, 0.2))]}}
    later = of | {"curves": {"tcq-8": [vars(row(1, 0.2))], peers.LEAST: [vars(row(90, 0.2))]}}
    assert headline.joined(kept, later)
    assert {name: [each["n_bytes"] for each in rows] for name, rows in kept["curves"].items()} == {
        "tcq-8": [100],
        peers.LEAST: [90],
    }
    assert kept["command"] == f'make bench-peers` and with `--curves "{peers.LEAST}"'
    for other in ({"n_tokens": 10}, {"fp32_bpb": 1.01}, {"name": "n"}):
        assert not headline.joined(kept, later | other)


@pytest.mark.parametrize("rate", [2.0, 3.0])
def test_watersic_is_a_quarter_of_a_bit_above_the_limit(rate: float) -> None:
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((96, 400))
    hessian, weight = samples @ samples.T / 400, 0.02 * rng.standard_normal((400, 96))
    coded = watersic(weight.astype(np.float32), hessian, rate)
    error = weight - coded.weight
    bits = 8 * (coded.n_bytes - 2 * (400 + 96)) / weight.size
    assert bits == pytest.approx(rate, abs=0.02)
    limit = np.log2(0.02) + np.linalg.slogdet(hessian)[1] / 96 / np.log(4) - bits
    gap = np.log2(((error @ hessian) * error).mean() * 1.0) / 2 - limit
    assert 0.2 < gap < 0.3  # 0.255 in theory


def test_watersic_drops_what_is_never_used() -> None:
    hessian = np.diag([1.0, 1.0, 0.0, 1e-6])
    coded = watersic(np.ones((40, 4), np.float32), hessian.astype(np.float32), 2.0)
    assert not coded.weight[:, 2:].any()
    assert not watersic(np.ones((4, 2), np.float32), np.zeros((2, 2), np.float32), 2.0).weight.any()


def row(n_bytes: int, kl: float) -> Row:
    return Row("a", 1.0, n_bytes, 0.0, kl, 1.0, 0.0, 0.0, 0.0, "")


def test_sizes_between_points() -> None:
    rows = [row(400, 0.01), row(100, 0.16)]
    assert peers.bytes_at(rows, 0.04) == 200
    assert peers.bytes_at(rows, 0.5) is None


@pytest.mark.usefixtures("text_folder")
def test_benches_run_to_their_end(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(peers, "TARGETS", (0.02, 0.2, 1.0))
    monkeypatch.setattr(peers, "RATE_WEIGHTS", (0.05, 0.2, 0.4))
    monkeypatch.setattr(peers, "RATES", (3.0,))
    flags = ("--max-tokens", "256", "--work", str(tmp_path / "work"))
    names = ("tcq-8", peers.ENTQUANT, peers.WATERSIC, peers.DATA_FREE.name, peers.OWN_TEXT.name)
    shown = ("--curves", *names, "--calib-tokens", "512")
    peers.main([str(model), *flags, *shown, "--out", str(tmp_path / "peers")])
    found = json.loads((tmp_path / "peers.json").read_text())
    assert set(found["curves"]) == set(names)
    assert all(len(rows) in (1, 2, 3) for rows in found["curves"].values())
    assert "bytes at KL" in (tmp_path / "peers.md").read_text()
    effort.main([str(model), *flags, "--levels", str(DEFAULT), "0", "--out", str(tmp_path / "effort")])
    page = (tmp_path / "effort.md").read_text()
    assert "| 3 (default) | 32,768 tokens, 64 states | +0.0 % | " in page
    assert f"| against `{effort.PEER}` |" in page
    assert "| 0 | 2,048 random tokens, 8 states |" in page


def test_ingredients_stand_beside_the_default(model: Path, tmp_path: Path) -> None:  # noqa: F811  fixture
    flags = ["--max-tokens", "512", "--targets", "1e-6", "1e-5", "--work", str(tmp_path / "work")]
    only = ["4 states", "look-up shares left out", "drift", ingredients.STAGE_BY_STAGE, ingredients.MEASURED]
    ingredients.main([str(model), *flags, "--only", *only, "--out", str(tmp_path / "ingredients")])
    rows = json.loads((tmp_path / "ingredients.json").read_text())
    assert list(rows) == ["the default", *only]
    assert all(len(points) == 2 for points in rows.values())
    sizes = [[point["n_bytes"] for point in points] for points in rows.values()]
    assert (
        len({tuple(each) for each in sizes}) == len(rows) - 1
    )  # each changes something, but drift has nothing to mix
    assert rows[ingredients.MEASURED][0]["recipe"].count("tcq(step=") > 2  # kinds have steps of their own
    assert "| 4 states | " in (tmp_path / "ingredients.md").read_text()


def test_the_whole_dial_is_walked_to_both_ends(model: Path, tmp_path: Path) -> None:  # noqa: F811  fixture
    flags = ["--max-tokens", "512", "--calib-tokens", "512", "--work", str(tmp_path / "work")]
    whole_dial.main([str(model), *flags, "--out", str(tmp_path / "dial")])
    page = (tmp_path / "dial.md").read_text()
    bits = [float(line.split("|")[2]) for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert bits == sorted(bits, reverse=True)
    assert bits[0] >= whole_dial.MOST
    assert len(bits) > 6


def test_what_turns_back_is_said() -> None:
    rows = [row(300, 0.01), row(200, 0.1), row(210, 0.05)]
    assert [(a.n_bytes, b.n_bytes) for a, b in whole_dial.turned(rows, "n_bytes")] == [(200, 210)]
    assert [(a.kl, b.kl) for a, b in whole_dial.turned(rows, "kl")] == [(0.1, 0.05)]
