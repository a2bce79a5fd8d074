"""What `analyze` reads off weights, on checkpoints made so that the answer is known."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest

from pgpack.checkpoint.analysis import Analysis, analyze
from pgpack.checkpoint.checkpoint import from_tensors, load_checkpoint, save_tensors
from pgpack.checkpoint.dialects import banked
from pgpack.errors import CheckpointError, DataError

D, HIDDEN, HEADS = 8, 16, 2


def orthogonal(rows: int, columns: int, seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(max(rows, columns), min(rows, columns))))
    return (q if rows >= columns else q.T).astype(np.float32)


def state(layers: int = 3) -> dict[str, np.ndarray]:
    """Block i: |attn.proj| = 2 (i + 1), scale 0.5; |mlp.proj| = 4, scale i + 1; so 5 (i + 1) in all."""
    tensors = {"tok_emb.weight": np.random.default_rng(0).normal(size=(32, D)).astype(np.float32)}
    for i in range(layers):
        at = f"blocks.{i}"
        tensors |= {
            f"{at}.attn_scale": np.full(D, 0.5), f"{at}.mlp_scale": np.full(D, i + 1.0),
            f"{at}.resid_mix": np.stack((np.full(D, 0.25), np.linspace(-1, 3, D))),
            f"{at}.attn.q_gain": np.array([1.0, 1.0 + i]),
            f"{at}.attn.c_q.weight": np.eye(D), f"{at}.attn.c_k.weight": np.eye(D)[:4],
            f"{at}.attn.c_v.weight": np.eye(D)[4:],
            f"{at}.attn.proj.weight": orthogonal(D, D, i) * 2 * (i + 1) / D**0.5,
            f"{at}.mlp.fc.weight": orthogonal(HIDDEN, D, i),
            f"{at}.mlp.proj.weight": orthogonal(D, HIDDEN, i) * 2**0.5,
        }  # fmt: skip
    return {name: np.asarray(array, dtype=np.float32) for name, array in tensors.items()}


def of(tensors: Mapping[str, np.ndarray], **metadata: object) -> Analysis:
    return analyze(from_tensors(tensors, {key: json.dumps(value) for key, value in metadata.items()}))


def test_a_contribution_is_norm_times_mean_scale() -> None:
    found = of(state())
    assert [block.contribution for block in found.blocks] == pytest.approx([5.0, 10.0, 15.0])
    assert [block.attn for block in found.blocks] == pytest.approx([1.0, 2.0, 3.0])
    assert (found.total, found.ratio) == pytest.approx((30.0, 3.0))
    assert [block.q_gain_std for block in found.blocks] == pytest.approx([0.0, 0.5**0.5, 2**0.5])
    assert [(block.keep, block.x0) for block in found.blocks] == [pytest.approx((0.25, 1.0))] * 3


def test_a_banked_file_says_what_its_unbanked_twin_says(tmp_path) -> None:
    save_tensors(tmp_path / "banked.safetensors", banked(state()), {})
    save_tensors(tmp_path / "plain.safetensors", state(), {})
    one, other = (analyze(load_checkpoint(tmp_path / f"{name}.safetensors")) for name in ("banked", "plain"))
    assert one.blocks == other.blocks
    assert {tensor.name: tensor for tensor in one.tensors} == {tensor.name: tensor for tensor in other.tensors}
    assert (one.dialect, other.dialect) == ("banked", "unbanked")


def test_a_skip_acts_with_its_weight_where_the_gate_is_closed() -> None:
    """lerp(w s, x, sigmoid(g)): a gate of 0 leaves half of the weight, a large one nothing."""
    tensors = state() | {"skip_weights": np.full((2, D), 0.8), "skip_gates": np.array([[0.0], [40.0]]).repeat(D, 1)}
    assert [skip.effective for skip in of(tensors).skips] == pytest.approx([0.4, 0.0])
    del tensors["skip_gates"]
    assert [(skip.gate, skip.effective) for skip in of(tensors).skips] == [(None, pytest.approx(0.8))] * 2


def test_lanes_are_those_from_the_start_that_the_file_names() -> None:
    post = np.ones((3, 2, 2))
    post[2] = [[0.1, -0.9], [0.0, 0.0]]
    tensors = state() | {"parallel_post_lambdas": post, "parallel_resid_lambdas": np.full((3, 2), 1.1)}
    (lane,) = of(tensors, model_config={"lane_start": 2}).lanes
    assert (lane.layer, lane.attn_crosses, lane.mlp_crosses) == (2, pytest.approx(0.9), 0.5)
    unknown = of(tensors)
    assert len(unknown.lanes) == 3
    assert any("does not say where lanes start" in note for note in unknown.notes)


def test_orthogonal_projections_that_know_nothing_of_each_other_are_told_from_inverses() -> None:
    rng = np.random.default_rng(1)
    wide, narrow = 96, 64
    into, other = (np.linalg.qr(rng.normal(size=(wide, narrow)))[0] for _ in range(2))
    table = {"tok_emb.weight": rng.normal(size=(100, narrow)), "embed_proj.weight": into}
    unrelated = of(table | {"head_proj.weight": other.T})
    inverse = of(table | {"head_proj.weight": into.T})
    assert unrelated.roundtrip is not None
    assert inverse.roundtrip is not None
    assert unrelated.roundtrip.residual == pytest.approx(unrelated.roundtrip.unrelated, rel=0.05)
    assert unrelated.roundtrip.unrelated == pytest.approx((1 + 64 / 96) ** 0.5)
    assert inverse.roundtrip.residual == pytest.approx(0.0, abs=1e-6)
    assert all((row.largest, row.smallest) == pytest.approx((1.0, 1.0)) for row in unrelated.projections)


def test_two_factors_are_read_as_their_product() -> None:
    a, b = np.diag([3.0, 2.0, 0.0])[:2], np.eye(3)[:, :2]
    (row,) = of({"input_residual.A.weight": a, "input_residual.B.weight": b}).projections
    assert (row.name, row.shape, row.largest, row.smallest) == ("input_residual (B A)", (3, 3), 3.0, 2.0)


def test_a_block_with_scales_for_each_run_has_a_row_for_each_run() -> None:
    tensors = {
        "shared_blocks.0.attn.proj.weight": np.eye(4), "shared_blocks.0.mlp.proj.weight": np.eye(4),
        "shared_blocks.0.attn_scales": np.array([[1.0] * 4, [3.0] * 4]),
        "shared_blocks.0.mlp_scales": np.array([[0.0] * 4, [1.0] * 4]),
        "shared_blocks.0.attn_lora_A": np.ones((2, 4, 1)),
    }  # fmt: skip
    found = of(tensors)
    assert [block.label for block in found.blocks] == ["shared_blocks.0 run 0", "shared_blocks.0 run 1"]
    assert [block.contribution for block in found.blocks] == pytest.approx([2.0, 8.0])
    assert any("deviations" in note for note in found.notes)


def test_what_is_multiplied_at_every_depth_is_shown_beside_the_blocks() -> None:
    tables = {"virtual_attn_scales": np.full((5, D), 2.0), "virtual_mlp_scales": np.arange(5.0)[:, None].repeat(D, 1)}
    found = of(state(2) | tables)
    assert [(depth.attn_scale, depth.mlp_scale) for depth in found.depths] == [(2.0, float(i)) for i in range(5)]


def test_peak_kurtosis_and_spread_of_rows() -> None:
    spiked = np.tile([1.0, -1.0], (4, 8)) * np.array([[1.0], [1.0], [2.0], [4.0]])
    (row,) = of({"x.weight": spiked}).tensors
    std = (22 / 4) ** 0.5
    assert (row.std, row.peak, row.row_spread) == pytest.approx((std, 4 / std, 4.0))
    assert row.kurtosis == pytest.approx((1 + 1 + 16 + 256) / 4 / std**4 - 3)
    (flat,) = of({"ones": np.ones(5)}).tensors
    assert (flat.std, flat.peak, flat.kurtosis) == (0.0, 0.0, 0.0)


def test_what_is_missing_is_said_and_never_made_up() -> None:
    bare = {name: array for name, array in state().items() if "scale" not in name and "resid_mix" not in name}
    found = of(bare)
    assert found.total is None
    assert found.ratio is None
    assert [block.contribution for block in found.blocks] == [None] * 3
    assert [block.attn_norm for block in found.blocks] == pytest.approx([2.0, 4.0, 6.0])
    said = " ".join(found.notes)
    assert all(word in said for word in ("attn_scale", "resid_mix", "skip_weights", "no lanes", "embed_proj"))
    assert any("blocks" in note for note in of({"w": np.eye(3)}).notes)


def test_values_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(CheckpointError, match="NaN"):
        of({"w": np.array([[np.nan]])})


def test_a_picture_is_drawn_whatever_is_missing() -> None:
    from pgpack.picture import figure_bytes
    from pgpack.report.analysis_plot import analysis_figure

    def svg(analysis: Analysis) -> bytes:
        return figure_bytes(analysis_figure(analysis, "title"), ".svg")

    whole, nothing = of(state()), of({"w": np.eye(3)})
    assert svg(whole) == svg(whole)
    assert b"largest / smallest 3" in svg(whole)
    assert len(analysis_figure(whole, "title").axes) == 3  # there are no skips
    with pytest.raises(DataError, match="nothing of this checkpoint can be drawn"):
        svg(nothing)


def test_norms_are_drawn_where_blocks_have_no_scales() -> None:
    from pgpack.report.analysis_plot import analysis_figure, described

    scaleless = of({name: array for name, array in state().items() if not name.endswith("_scale")})
    (norms, *others) = analysis_figure(scaleless, "title").axes
    assert norms.get_title(loc="left") == "Norm of output projections"
    heights = [bar.get_height() for bar in norms.patches]
    assert heights == [b.attn_norm for b in scaleless.blocks] + [b.mlp_norm for b in scaleless.blocks]
    assert "Norm of output projections" in described(scaleless)
    assert not any("Contribution" in axes.get_title(loc="left") for axes in others)


def test_legends_cross_nothing_that_is_drawn_and_every_panel_has_a_title() -> None:
    from pgpack.report.analysis_plot import analysis_figure, described

    figure = analysis_figure(of(state()), "What the weights say")
    figure.draw_without_rendering()
    legends = [axes.get_legend() for axes in figure.axes]
    assert sum(legend is not None for legend in legends) == 2
    for axes, legend in zip(figure.axes, legends, strict=True):
        assert axes.get_title(loc="left")
        assert axes.get_ylabel()
        if legend is not None:
            box, frame = legend.get_window_extent(), axes.get_window_extent()
            assert box.y0 >= frame.y1 - 1
            assert not box.overlaps(axes.title.get_window_extent())
            assert box.y1 <= axes._left_title.get_window_extent().y0 + 1
    assert "3 blocks" in described(of(state()))
