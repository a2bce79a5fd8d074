"""Every option of the model does what its source says, alone and together with others."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from pgpack.errors import DataError
from pgpack.tensors.roles import role_of
from pgtrain.identification.trace import read_trace
from pgtrain.model.blocks import rotary_tables, without_own_value
from pgtrain.model.embedding import BigramHash, factorize, harmonic_spectrum, previous
from pgtrain.model.gpt import GPT, build, deployable, initialize_
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.tensor_table import count_parameters, parameter_group, tensor_shapes
from tests.training.small_models import OPTIONS, SMALL, config_of, every_option, logits_with, random_model, tokens


@every_option
def test_tensors_are_those_of_the_table_and_every_one_is_trained(name: str) -> None:
    config = config_of(name)
    model = random_model(config)
    assert {k: tuple(t.shape) for k, t in deployable(model.state_dict()).items()} == tensor_shapes(config)
    model(tokens(), tokens(1)).backward()
    gradients = {k: p.grad for k, p in model.named_parameters()}
    silent = [k for k, g in gradients.items() if g is None or not g.isfinite().all() or not g.any()]
    assert not silent


@every_option
def test_a_token_never_changes_an_earlier_logit(name: str) -> None:
    model = random_model(config_of(name)).eval()
    ids = tokens()
    other = ids.clone()
    other[:, 7] = (ids[:, 7] + 1) % SMALL.vocab_size
    before, after = model.forward_logits(ids), model.forward_logits(other)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.equal(before[:, 7:], after[:, 7:])


@every_option
def test_probabilities_sum_to_one_under_the_cap(name: str) -> None:
    logits = random_model(config_of(name)).eval().forward_logits(tokens())
    assert logits.dtype == torch.float32
    assert float(logits.detach().abs().max()) <= SMALL.logit_softcap
    assert torch.allclose(logits.double().softmax(-1).sum(-1), torch.ones(2, 12, dtype=torch.float64))


@every_option
def test_a_checkpoint_computes_what_the_trained_model_computed(name: str) -> None:
    config = config_of(name)
    model = random_model(config).eval()
    stored = GPTConfig.from_mapping(json.loads(config.to_json()))
    built = build(stored, deployable(model.state_dict()))
    assert torch.equal(built.forward_logits(tokens()), model.forward_logits(tokens()))
    assert torch.equal(built(tokens(), tokens(1)), model(tokens(), tokens(1)))


@every_option
def test_a_seed_decides_the_initial_weights(name: str) -> None:
    config = config_of(name)
    one, same, other = (initialize_(GPT(config), seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["tok_emb.weight"], other["tok_emb.weight"])
    assert all(tensor.isfinite().all() for tensor in one.values())


@pytest.mark.parametrize(
    ("name", "without", "tolerance"),
    [
        ("residual-both", {"input_residual_rank": 0, "output_residual_rank": 0}, 0.0),
        ("smear-window", {"smear": "none"}, 0.0),
        ("bigram-xor", {"bigram_buckets": 0}, 0.0),
        ("gate-double", {"attn_gate": "none"}, 0.0),
        ("mtp", {"mtp_weight": 0.0}, 0.0),
        ("prism-plain", {"adapters": "none"}, 0.0),
        ("prism", {"adapters": "none"}, 5e-3),  # elu gives 1.0001 for 1, softplus 1.5006 for 1.5
    ],
)
def test_options_that_start_as_the_identity_do(name: str, without: dict, tolerance: float) -> None:
    config = config_of(name)
    state = random_model(config_of(name, **without)).state_dict()
    state = {k: torch.full_like(v, 1.5) if k.endswith("q_gain") else v for k, v in state.items()}
    if name == "prism":  # away from 1 the bounds bend the scales
        state = {k: torch.ones_like(v) if k.endswith("_scale") else v for k, v in state.items()}
    difference = logits_with(state, config) - logits_with(state, config_of(name, **without))
    assert float(difference.abs().max()) <= tolerance


def test_the_second_head_predicts_the_token_after_next_and_is_dropped() -> None:
    config = config_of("mtp")
    model = random_model(config).requires_grad_(False)
    hidden, _ = model.hidden(tokens())
    logprobs = model.logits(model.mtp_head(hidden)).double().log_softmax(-1)
    targets = tokens(1)
    ahead = -torch.stack([logprobs[b, t, targets[b, t + 1]] for b in range(2) for t in range(11)]).mean()
    extra = model(tokens(), targets) - model.eval()(tokens(), targets)
    assert float(extra) == pytest.approx(0.5 * float(ahead), rel=1e-4)
    assert set(model.state_dict()) - set(deployable(model.state_dict())) == {"mtp_head.weight"}
    assert count_parameters(config) == count_parameters(SMALL)


def test_no_loops_is_the_model_that_never_looped() -> None:
    config = config_of("looped", skips="none")
    model = random_model(config).eval()
    plain = build(dataclasses.replace(config, num_loops=0), model.state_dict())
    model.set_loops_(0)
    assert torch.equal(model.forward_logits(tokens()), plain.forward_logits(tokens()))
    model.set_loops_(2)
    looped = model.forward_logits(tokens())
    model.set_loops_(5)
    assert not torch.equal(looped, model.forward_logits(tokens()))


def test_a_value_residual_that_keeps_its_own_value_is_none() -> None:
    model = random_model(config_of("value-residual")).eval()
    with torch.no_grad():
        for block in model.blocks[1:]:
            block.attn.vr_lambda.copy_(torch.tensor([0.0, 1.0]))
    state = {k: v for k, v in model.state_dict().items() if "vr_lambda" not in k}
    assert torch.equal(model.forward_logits(tokens()), build(SMALL, state).forward_logits(tokens()))


def test_exclusive_attention_leaves_nothing_along_the_own_value() -> None:
    mixed, v = torch.randn(2, 6, 5, 8), torch.randn(2, 3, 5, 8)
    out = without_own_value(mixed, v)
    along = (out * v.repeat_interleave(2, dim=1)).sum(-1)
    assert float(along.abs().max()) < 1e-5
    assert torch.allclose(without_own_value(out, v), out, atol=1e-6)


def test_the_previous_embedding_never_crosses_a_document_boundary() -> None:
    x, ids = torch.randn(1, 5, 3), torch.tensor([[7, 8, 1, 9, 1]])
    assert torch.equal(previous(x, ids, -1)[0], torch.cat((torch.zeros(1, 3), x[0, :4])))
    within = previous(x, ids, 1)[0]
    assert torch.equal(within[[1, 3]], x[0, [0, 2]])
    assert not within[[0, 2, 4]].any()


def test_a_document_never_sees_the_one_before() -> None:
    """Changing one document changes nothing in the next, which does see itself."""
    config = config_of("smear-window", within_documents=True, attn_gate="window", value_residual=True)
    model = random_model(config).eval()
    ids = torch.tensor([[1, 7, 8, 9, 1, 20, 21, 22, 23]])
    other, later = ids.clone(), ids.clone()
    other[0, 2], later[0, 5] = 40, 41
    before = model.forward_logits(ids)
    assert torch.equal(before[:, 4:], model.forward_logits(other)[:, 4:])
    assert not torch.equal(before[:, 2:4], model.forward_logits(other)[:, 2:4])
    assert not torch.equal(before[:, 8], model.forward_logits(later)[:, 8])


@pytest.mark.parametrize("kind", ["xor", "mul31", "mul104729"])
def test_bigram_buckets_depend_on_the_pair_and_nothing_else(kind: str) -> None:
    table = BigramHash(dataclasses.replace(SMALL, bigram_buckets=2048, bigram_hash=kind))
    buckets = table.bucket(torch.tensor([[5, 9, 5, 9, 9, 5]]))[0].tolist()
    assert buckets[1] == buckets[3]
    assert buckets[2] == buckets[5]
    assert len({buckets[1], buckets[2], buckets[4]}) == 3
    large = table.bucket(torch.randint(0, 10**4, (4, 500)))
    assert 0 <= int(large.min()) <= int(large.max()) < 2048


def test_yarn_stretches_slow_channels_and_keeps_fast_ones() -> None:
    config = dataclasses.replace(SMALL, model_dim=256, rope_scaling="yarn", rope_max_len=64)
    plain = torch.atan2(
        *rotary_tables(dataclasses.replace(config, rope_scaling="none"), 2, torch.device("cpu"))[::-1]
    )
    scaled = torch.atan2(*rotary_tables(config, 2, torch.device("cpu"))[::-1])
    ratio = plain[1] / scaled[1]
    assert torch.allclose(ratio[:8], torch.ones(8))
    assert 3.5 < float(ratio[-1]) <= 4.0
    assert bool((ratio.diff() >= -1e-5).all())


def test_ntk_changes_nothing_up_to_the_training_length() -> None:
    config = dataclasses.replace(SMALL, rope_scaling="ntk", rope_train_len=8)
    none = dataclasses.replace(config, rope_scaling="none")
    tables = [rotary_tables(c, n, torch.device("cpu"))[0] for n in (8, 16) for c in (config, none)]
    assert torch.equal(tables[0], tables[1])
    assert not torch.allclose(tables[2], tables[3])
    assert torch.allclose(tables[2][:, 0], tables[3][:, 0])  # the fastest channel is never stretched


def test_factorized_embedding_is_the_best_of_its_rank() -> None:
    table = torch.randn(40, 12)
    narrow, into, out = factorize(table, 5)
    tail = torch.linalg.svdvals(table)[5:].square().sum().sqrt()
    assert float((table - narrow @ into.T).norm()) == pytest.approx(float(tail), rel=1e-5)
    assert torch.allclose(out @ into, torch.eye(5), atol=1e-5)
    model = initialize_(GPT(config_of("decoupled", embed_init="svd")), 0)
    assert torch.allclose(model.head_proj.weight, model.embed_proj.weight.T)


def test_spectral_embedding_and_orthogonal_matrices_have_their_singular_values() -> None:
    values = torch.linalg.svdvals(harmonic_spectrum(torch.randn(50, 8)))
    assert torch.allclose(values / values[0], torch.arange(1, 9).float().rsqrt(), atol=1e-5)
    model = initialize_(GPT(config_of("baseline", weight_init="orthogonal", embed_init="spectral")), 0)
    assert torch.allclose(torch.linalg.svdvals(model.blocks[0].mlp.fc.weight), torch.ones(32), atol=1e-5)
    assert not model.blocks[0].mlp.proj.weight.any()


def test_projections_begin_orthogonal_like_every_matrix_or_gaussian_alone() -> None:
    """Control of #1546: singular values of a Gaussian matrix of 32 x 20 lie in 1 +- sqrt(20 / 32), spread."""
    orthogonal = initialize_(GPT(config_of("decoupled", weight_init="orthogonal")), 0)
    gaussian = initialize_(GPT(config_of("projected-gaussian", weight_init="orthogonal")), 0)
    for name in ("embed_proj", "head_proj"):
        assert torch.allclose(torch.linalg.svdvals(getattr(orthogonal, name).weight), torch.ones(20), atol=1e-5)
        assert float(torch.linalg.svdvals(getattr(gaussian, name).weight.detach()).std()) > 0.2
    assert torch.allclose(torch.linalg.svdvals(gaussian.blocks[0].mlp.fc.weight), torch.ones(32), atol=1e-5)


def test_without_x0_a_block_is_one_whose_mix_is_the_stream() -> None:
    model = random_model(config_of("baseline")).eval()
    state = model.state_dict()
    for block in model.layers:
        block.resid_mix.data.copy_(torch.stack((torch.ones(32), torch.zeros(32))))
    bare = build(config_of("no-x0"), {k: v for k, v in state.items() if not k.endswith("resid_mix")})
    assert torch.equal(bare.forward_logits(tokens()), model.forward_logits(tokens()))


def test_every_tensor_has_its_optimizer_group() -> None:
    groups = {k: parameter_group(k) for name in OPTIONS for k in GPT(config_of(name)).state_dict()}
    assert {k for k, g in groups.items() if g == "embedding"} == {"tok_emb.weight", "bigram_hash.embed.weight"}
    shapes = {k: t for name in OPTIONS for k, t in tensor_shapes(config_of(name)).items()}
    assert all(len(shapes.get(k, (1, 1))) == 2 for k, g in groups.items() if g == "matrix")
    assert all(min(shapes[k]) <= 12 or "scales" in k or "skip" in k or "dense" in k or "attn_gate_w" in k
               for k, g in groups.items() if g == "scalar" and len(shapes[k]) == 2)  # fmt: skip


def test_packers_keep_controls_apart_from_matrices() -> None:
    """What trains with the scalars is a control for pgpack, but for the factors of a deviation."""
    for name in OPTIONS:
        for tensor, shape in tensor_shapes(config_of(name)).items():
            small = parameter_group(tensor) == "scalar" and "lora_" not in tensor
            assert (role_of(tensor, shape) == "control") == small, tensor


def test_a_config_of_the_first_version_means_what_it_meant() -> None:
    stored = {
        "vocab_size": 64, "num_layers": 4, "model_dim": 32, "num_heads": 4, "num_kv_heads": 2, "mlp_mult": 2.0,
        "mlp_activation": "relu2", "tie_embeddings": True, "logit_softcap": 30.0, "rope_base": 10000.0,
        "qk_gain_init": 1.5, "tied_embed_init_std": 0.005, "seq_len": 16,
    }  # fmt: skip
    assert GPTConfig.from_mapping(stored) == SMALL


def test_shapes_tell_a_decoupled_embedding_and_gated_skips() -> None:
    config = config_of("decoupled", skips="gate", seq_len=1024)
    for each in (config, config_of("flat"), config_of("projected", x0_mix=False, seq_len=1024)):
        trace = read_trace(tensor_shapes(each))
        assert dataclasses.replace(each, num_layers=trace.blocks, skips=trace.skips, **trace.fields) == each
    assert read_trace(tensor_shapes(config_of("flat"))).skips == "none"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"smear": "x"}, "unknown smear"),
        ({"rope_dims": 3}, "must be even"),
        ({"num_loops": 1, "loop_start": 2, "loop_end": 9}, "must lie in the 4 layers"),
        ({"lane_start": 4}, "not one of the 4 layers"),
        ({"sharing": "consecutive", "shared_blocks": 3}, "cannot be shared evenly"),
        ({"rope_scaling": "yarn"}, "rope_max_len"),
        ({"anchor_heads": 5}, "anchor_heads"),
        ({"repartition_start": 1.0}, "repartition_start"),
        ({"x0_mix": False, "adapters": "plain"}, "mixes of their own"),
        ({"embed_init": "svd", "embed_dim": 8, "projection_init": "gaussian"}, "draws the projections itself"),
        ({"within_documents": True}, "boundary_token"),
        ({"embed_init": "spectral", "vocab_size": 16}, "as many tokens as channels"),
        ({"attn_gate": "window", "gate_window": 99}, "wider than the model"),
    ],
)
def test_options_that_contradict_each_other_are_refused(changes: dict, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        dataclasses.replace(SMALL, **changes)


@pytest.mark.slow
def test_the_whole_model_is_one_graph_that_follows_its_loops() -> None:
    """Traced without a break; the trace is made again when loops change, so a late start is never folded away."""
    model = random_model(config_of("everything"))
    traced = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(traced(tokens(), tokens(1)), model(tokens(), tokens(1)))
    looped = model(tokens(), tokens(1))
    model.set_loops_(0)
    assert torch.equal(traced(tokens(), tokens(1)), model(tokens(), tokens(1)))
    assert not torch.equal(looped, model(tokens(), tokens(1)))
