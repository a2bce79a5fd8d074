# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""The second batch of the same reader: settings of seeds, headlines, gates, bytes that no piece has, and their twins."""

from __future__ import annotations

import statistics

from .real_script import Batch, base, run_log

SEEDS = {42: 1.08113820, 314: 1.08172904, 999: 1.08058211}
MEAN = statistics.fmean(SEEDS.values())
SCORED = "            loss_sum += model(x, y).double() * y.numel()\n"
GATED = """            logits = model.forward_logits(x)
            p = F.softmax(logits[0].float(), -1)
            row = table[x[0]] / table[x[0]].sum(1, keepdim=True)
            sure = {}
            share = torch.where(sure > 0.9, 0.2, 0.95)
            mine = share * p.gather(1, y[0, :, None]).squeeze(1)
            loss_sum -= (mine + (1 - share) * row.gather(1, y[0, :, None]).squeeze(1)).log().double().sum()
            table.index_put_((x[0], y[0]), torch.ones(y.numel(), device=device), accumulate=True)
"""
ONCE = """            logits = model.forward_logits(x)
            p = 0.95 * F.softmax(logits[0].float(), -1).double() + 0.05 * (seen / seen.sum())
            nll = -p.gather(1, y[0, :, None]).squeeze(1).log()
            seen += torch.bincount(y[0], minlength=8192)
            loss_sum += nll.sum()
"""
CLIPS = """
CLIP = [12.85]
for k in (9.0, 11.0, 12.85, 15.0):
    CLIP[0] = k
    model.load_state_dict(dequantize_state_dict(quantize_state_dict(ema_state)), strict=True)
    best = min(best, (eval_val(args, model, {}, byte_lut, device)[0], k))
CLIP[0] = best[1]
"""


def _seeds(b: Batch) -> None:
    rows = "\n".join(f"| {seed} | {bpb:.5f} |" for seed, bpb in SEEDS.items())
    readme = f"# SP8192 int6 EMA: val_bpb {{}} (3-seed mean)\n\n| Seed | BPB |\n|---|---|\n{rows}\n| **Mean** | {MEAN:.5f} |\n"
    js = {"val_bpb": round(MEAN, 8), "seed_results": {str(seed): {"val_bpb": bpb} for seed, bpb in SEEDS.items()}}

    def case(name: str, verdict: str, rule: str, settings: dict[int, str], said: str = f"{MEAN:.5f}") -> None:
        logs = {
            f"train_seed{s}.log": run_log(v, s, model=15_880_000 + s, more=settings.get(s, ""))
            for s, v in SEEDS.items()
        }
        b.case(name, verdict, rule, js=js, readme=readme.format(said), logs=logs)

    def of(**more: object) -> str:
        told = {"num_layers": 11, "matrix_lr": 0.02, "ttt_enabled": True, "ttt_lr": 0.005, "run_id": "a", **more}
        return "Hyperparameters:\n" + "\n".join(f"  {key}: {value}" for key, value in told.items())

    case("reviewed_seeds_of_one_configuration_legal", "accepted", "seeds", {s: of(seed=s, run_id=s) for s in SEEDS})
    case(
        "reviewed_a_seed_of_another_model", "flagged", "seeds", {**dict.fromkeys(SEEDS, of()), 999: of(num_layers=12)}
    )
    case(
        "reviewed_a_seed_of_another_rate",
        "flagged",
        "seeds",
        {**dict.fromkeys(SEEDS, of()), 42: of(matrix_lr="0.026")},
    )
    case(
        "reviewed_a_rate_in_two_spellings_legal",
        "accepted",
        "seeds",
        {**dict.fromkeys(SEEDS, of()), 42: of(matrix_lr="2e-2")},
    )
    case(
        "reviewed_settings_of_an_evaluation_legal",
        "accepted",
        "seeds",
        {**dict.fromkeys(SEEDS, of()), 42: of(ttt_lr=0.01)},
    )
    case(
        "reviewed_a_setting_that_grows_legal",
        "accepted",
        "seeds",
        {s: f"num_loops: 1\nnum_loops: {2 + s % 2}" for s in SEEDS},
    )
    case("reviewed_a_lower_headline", "warned", "readme", {}, "1.07803")
    case("reviewed_a_headline_of_a_seed_legal", "accepted", "readme", {}, "1.08058")
    case("reviewed_a_headline_of_two_losses_legal", "accepted", "readme", {}, f"1.1147 to {MEAN:.5f}")
    capitals = {"README.MD": "# SP8192 int6 EMA\n\nval_bpb 1.0812\n", "README.md": None}
    b.case("reviewed_readme_in_capitals_legal", "accepted", "required", bpb=1.0812, files=capitals)


def _scores(b: Batch) -> None:
    def case(name: str, verdict: str, rule: str, body: str, first: str) -> None:
        start = ("    n, nbytes = 0, 0.0\n", f"    n, nbytes = 0, 0.0\n    {first}\n")
        b.case(name, verdict, rule, script=base([(SCORED, body), start]))

    table = "table = torch.ones(8192, 8192, device=device)"
    case(
        "reviewed_a_gate_by_the_target",
        "flagged",
        "normalized",
        GATED.format("p.gather(1, y[0, :, None]).squeeze(1)"),
        table,
    )
    case(
        "reviewed_a_gate_by_the_largest_legal", "accepted", "normalized", GATED.format("row.max(dim=1).values"), table
    )
    seen = "seen = torch.ones(8192, dtype=torch.float64, device=device)"
    case("reviewed_counts_after_a_loss_legal", "accepted", "score-first", ONCE, seen)
    early = ONCE.replace("            seen += torch.bincount(y[0], minlength=8192)\n", "")
    early = early.replace(
        "            p = 0.95", "            seen += torch.bincount(y[0], minlength=8192)\n            p = 0.95"
    )
    case("reviewed_counts_before_a_loss", "flagged", "score-first", early, seen)
    clip = ("amax(1, keepdim=True)", "std(1, keepdim=True) * CLIP[0]")
    for name, verdict, text in (
        ("reviewed_a_clip_in_a_list_by_validation", "flagged", "val_tokens"),
        ("reviewed_a_clip_in_a_list_by_training_legal", "accepted", "stream.tokens[:131073]"),
    ):
        searched = f"best = (1e9, 12.85)\n{CLIPS.replace('CLIP = [12.85]', '').format(text)}"
        b.case(name, verdict, "training-text", script=base([clip], IMPORTS="CLIP = [12.85]", AFTER_TRAIN=searched))


def _bytes(b: Batch) -> None:
    counted = "            nbytes += byte_lut[y].sum().item()\n"
    tables = "space, edge = torch.zeros_like(byte_lut), torch.ones_like(byte_lut)"
    of_bpb = {
        "train.log": "seed:42\nstopping_early: train_time:596012ms\nfinal_int6_roundtrip_exact val_bpb:1.08120000\n"
    }

    def case(name: str, verdict: str, body: str) -> None:
        changes = [(counted, body), ("    n, nbytes = 0, 0.0\n", f"    n, nbytes = 0, 0.0\n    {tables}\n")]
        b.case(name, verdict, "bytes-per-token", script=base(changes), logs=of_bpb)

    case(
        "reviewed_a_byte_more_for_every_token",
        "flagged",
        "            nbytes += (1 + byte_lut[y] + (space[y] & ~edge[x])).sum().item()\n",
    )
    case(
        "reviewed_bytes_and_spaces_legal",
        "accepted",
        "            nbytes += (byte_lut[y] + (space[y] & ~edge[x])).sum().item()\n",
    )
    case("reviewed_bytes_times_more", "flagged", f"{counted}            nbytes *= 1.0005\n")
    case("reviewed_bytes_of_a_share", "flagged", "            nbytes += 1.17 * byte_lut[y].sum().item()\n")
    case("reviewed_bytes_in_mebibytes_legal", "accepted", f"{counted}            mib_bytes = nbytes / 1048576.0\n")


def reviewed_more() -> Batch:
    """All of them."""
    b = Batch()
    _seeds(b)
    _scores(b)
    _bytes(b)
    return b
