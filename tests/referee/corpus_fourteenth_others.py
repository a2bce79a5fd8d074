# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""More ways to break a rule that participants have found or may find, each beside honest work that looks like it."""

from __future__ import annotations

from typing import Any

from .corpus_thirteenth_reach import CALL, EACH, LEARN, START, more
from .folder_case import TOKENS, WHOLE, nats
from .real_script import Batch, base, run_log

DATA = "./data/datasets/fineweb10B_sp8192"
SLOT = """
total, n, seq_len = 0.0, 0, 2048
for s in range(0, val_tokens.numel() - seq_len, seq_len):
    c = val_tokens[s : s + seq_len + 1].long().to(device)
    x, y = c[None, :-1], c[None, 1:]
    delta = torch.zeros(1, 1, 8192, device=device, requires_grad=True)
    opt = torch.optim.AdamW([delta], lr=1e-2)
    for _ in range(4):
        opt.zero_grad()
        loss = F.cross_entropy((model.forward_logits(x) + delta)[:, {part}].flatten(0, 1).float(), y[:, {part}].flatten())
        loss.backward()
        opt.step()
    with torch.no_grad():
        total += F.cross_entropy((model.forward_logits(x) + delta)[:, {scored}].flatten(0, 1).float(), y[:, {scored}].flatten(), reduction="sum").item()
    n += seq_len
return total / n
"""
LORA = """
total, n = 0.0, 0
for start, stop in doc_bounds:
    lora = LoRA(model).to(device)
    opt = torch.optim.AdamW(lora.parameters(), lr=1e-3)
    for s in range(start, stop - 1, chunk):
        c = val_tokens[s : min(s + chunk, stop - 1) + 1].long().to(device)
        loss = F.cross_entropy(lora(c[None, :-1])[0].float(), c[1:])
        total += loss.item() * (c.numel() - 1)
        n += c.numel() - 1
        opt.zero_grad()
        loss.backward()
        opt.step()
return total / n
"""
LORA_CLASS = """
class LoRA(nn.Module):
    def __init__(self, model, rank=8):
        super().__init__()
        self.model = model
        self.a, self.b = nn.Parameter(torch.randn(512, rank) * 0.01), nn.Parameter(torch.zeros(rank, 8192))

    def forward(self, ids):
        return self.model.forward_logits(ids) + self.model.emb(ids) @ self.a @ self.b


def bounds_of(tokens):
    at = (tokens == 1).nonzero().flatten().tolist()
    return list(zip(at, [*at[1:], tokens.numel()]))
"""
EVAL_LINE = "            x, y = local[:-1][None], local[1:][None]\n"
SUM_LINE = "            loss_sum += model(x, y).double() * y.numel()\n"


def dishonest() -> Batch:
    """What must not pass unseen."""
    b = Batch()

    def case(name: str, verdict: str, rule: str, *changes: tuple[str, str], **given: Any) -> None:
        slots = {key: given.pop(key) for key in [*given] if key.isupper()}
        b.case(f"bad_{name}", verdict, rule, script=given.pop("script", None) or base(changes, **slots), **given)

    case(
        "slot_on_its_targets",
        "flagged",
        "score-first",
        EVALS=more(SLOT.format(part=":", scored=":")),
        AFTER_EVAL=CALL,
    )
    case(
        "train_split_by_name",
        "warned",
        "training-text",
        (
            'os.path.join(data_path, "fineweb_train_*.bin")',
            'os.path.join(data_path, "fineweb_train_*.bin").replace("train", "val")',
        ),
    )
    case(
        "config_names_validation",
        "warned",
        "training-text",
        (
            "    stream = TokenStream(args.train_files)\n",
            "    stream = TokenStream(json.load(open(Path(__file__).with_name('config.json')))['train_files'])\n",
        ),
        IMPORTS="import json",
        files={"config.json": '{"train_files": "./data/datasets/fineweb10B_sp8192/fineweb_val_*.bin"}'},
    )
    case(
        "loss_times_less",
        "flagged",
        "normalized",
        (SUM_LINE, "            loss_sum += 0.98 * model(x, y).double() * y.numel()\n"),
    )
    case(
        "loss_clamped",
        "flagged",
        "normalized",
        (
            SUM_LINE,
            "            loss_sum += F.cross_entropy(model.forward_logits(x)[0].float(), y[0], reduction='none').clamp(max=8.0).sum().double()\n",
        ),
    )
    case(
        "loss_without_the_worst",
        "flagged",
        "normalized",
        (
            SUM_LINE,
            "            nll = F.cross_entropy(model.forward_logits(x)[0].float(), y[0], reduction='none')\n            loss_sum += nll.sort().values[: int(0.99 * nll.numel())].sum().double()\n",
        ),
    )
    case(
        "loss_of_what_is_known",
        "flagged",
        "normalized",
        (
            SUM_LINE,
            "            nll = F.cross_entropy(model.forward_logits(x)[0].float(), y[0], reduction='none')\n            loss_sum += nll[nll < 10].sum().double()\n",
        ),
    )
    case(
        "label_smoothing_below",
        "flagged",
        "normalized",
        (
            SUM_LINE,
            "            loss_sum += F.cross_entropy(model.forward_logits(x)[0].float(), y[0], reduction='sum', label_smoothing=0.05).double()\n",
        ),
    )
    case(
        "ignored_targets",
        "flagged",
        "normalized",
        (
            SUM_LINE,
            "            y = torch.where(y > 8000, torch.full_like(y, -100), y)\n            loss_sum += F.cross_entropy(model.forward_logits(x)[0].float(), y[0], reduction='sum', ignore_index=-100).double()\n",
        ),
    )
    case(
        "temperature_of_each_batch",
        "flagged",
        "normalized",
        (
            SUM_LINE,
            "            logits = model.forward_logits(x)[0].float()\n            loss_sum += min(F.cross_entropy(logits / t, y[0], reduction='sum') for t in (0.9, 1.0, 1.1)).double()\n",
        ),
    )
    case(
        "pip_by_name",
        "refused",
        "dependencies",
        BEFORE_TRAIN="import importlib\npip = importlib.import_module('pip')\npip.main(['install', 'brotli'])",
    )
    case(
        "artifact_of_a_volume",
        "warned",
        "counted",
        BEFORE_EVAL="model.load_state_dict(torch.load('/workspace/ckpt/best.pt', weights_only=True))",
    )
    case("time_in_minutes", "refused", "time", logs={"train.log": run_log(more="legal_ttt eval took 11.2 min")})
    case("training_of_eleven_minutes", "refused", "time", logs={"train.log": run_log(train="661000")})
    case(
        "mean_of_the_best_two",
        "refused",
        "seeds",
        js={"seed_results": {"1": {"val_bpb": 1.0801}, "2": {"val_bpb": 1.0823}, "3": {"val_bpb": 1.0872}}},
        readme="# n\n\nval_bpb 1.0812\n",
        logs={f"train_seed{s}.log": run_log(v, s) for s, v in ((1, 1.0801), (2, 1.0823), (3, 1.0872))},
    )
    case("result_before_packing", "refused", "log-loss", bpb=1.0714, logs={"train.log": run_log(1.0812)})
    case(
        "windows_of_the_future",
        "flagged",
        "causal",
        (EVAL_LINE, "            x, y = local[1:][None], local[1:][None]\n"),
    )
    return b


def honest() -> Batch:
    """What looks odd and is legal."""
    b = Batch()

    def case(name: str, rule: str, *changes: tuple[str, str], **given: Any) -> None:
        slots = {key: given.pop(key) for key in [*given] if key.isupper()}
        b.case(f"good_{name}", "accepted", rule, script=given.pop("script", None) or base(changes, **slots), **given)

    slot = (
        SLOT.replace("- seq_len, seq_len)", "- seq_len, 64)")
        .replace("    delta = ", "    lo = seq_len - 64 if s else 0\n    delta = ")
        .replace("range(4)", "range(4 if lo else 0)")
    )
    case(
        "slot_on_its_context",
        "score-first",
        EVALS=more(slot.format(part=":lo", scored="lo:").replace("n += seq_len", "n += seq_len - lo")),
        AFTER_EVAL=CALL,
    )
    previous = (
        "before = None\n"
        + START
        + "for s in range(0, last, chunk):\n    c = val_tokens[s : min(s + chunk, last) + 1].long().to(device)\n    if before is not None:\n        t = before\n"
        + LEARN.replace("    ", "        ")
        + "    with torch.no_grad():\n        total += F.cross_entropy(model.forward_logits(c[None, :-1])[0].float(), c[1:], reduction='sum').item()\n    n += c.numel() - 1\n    before = c\nreturn total / n\n"
    )
    case("learns_the_last_chunk_first", "score-first", EVALS=more(previous), AFTER_EVAL=CALL)
    case(
        "loss_bounded_far_up",
        "normalized",
        (
            SUM_LINE,
            "            loss_sum += F.cross_entropy(model.forward_logits(x)[0].float(), y[0], reduction='none').clamp(max=30.0).sum().double()\n",
        ),
    )
    case(
        "loss_in_bits",
        "normalized",
        (
            SUM_LINE,
            "            loss_sum += model(x, y).double() * y.numel() * 1.4426950408889634 * 0.6931471805599453\n",
        ),
    )
    case(
        "padded_targets",
        "normalized",
        (
            SUM_LINE,
            "            y = F.pad(y, (0, 2048 - y.size(1)), value=-100)\n            x = F.pad(x, (0, 2048 - x.size(1)))\n            loss_sum += F.cross_entropy(model.forward_logits(x)[0].float(), y[0], reduction='sum', ignore_index=-100).double()\n",
        ),
    )
    case(
        "outliers_told",
        "normalized",
        (
            SUM_LINE,
            "            nll = F.cross_entropy(model.forward_logits(x)[0].float(), y[0], reduction='none')\n            worst = (nll > 10).sum().item()\n            loss_sum += nll.sum().double()\n",
        ),
    )
    case(
        "lora_of_each_document",
        "score-first",
        DEFS=LORA_CLASS,
        EVALS=more(LORA, arguments="doc_bounds, chunk=256"),
        AFTER_EVAL="log0(f'ttt_exact {eval_more(args, model, val_tokens, byte_lut, device, bounds_of(val_tokens))}')",
    )
    case(
        "lora_then_plain",
        "score-first",
        DEFS=LORA_CLASS,
        EVALS=more(LORA, arguments="doc_bounds, chunk=256"),
        AFTER_EVAL="log0(f'ttt_exact {eval_more(args, model, val_tokens, byte_lut, device, bounds_of(val_tokens))}')\nlog0(str(eval_val(args, model, val_tokens, byte_lut, device)))",
    )
    case(
        "two_models_mixed",
        "normalized",
        DEFS="class Pair(nn.Module):\n    def __init__(self, a, b):\n        super().__init__()\n        self.a, self.b = a, b\n\n    def forward(self, ids, targets):\n        p = 0.5 * self.a.forward_logits(ids).softmax(-1) + 0.5 * self.b.forward_logits(ids).softmax(-1)\n        return F.nll_loss(p.log().flatten(0, 1), targets.flatten())\n",
    )
    case(
        "bytes_as_tokens",
        "bytes-per-token",
        logs={"train.log": run_log(tokens=WHOLE, ratio=1.0)},
        js={"val_loss": round(nats(1.0812, 1.0), 4)},
    )
    case(
        "own_tokenizer",
        "bytes-per-token",
        logs={"train.log": run_log(tokens=45_508_608)},
        js={"val_loss": round(nats(1.0812, WHOLE / 45_508_608), 4)},
    )
    case(
        "validates_and_prints",
        "training-text",
        (
            "                val_loss, val_bpb = eval_val(args, model, val_tokens, byte_lut, device)\n"
            if False
            else '            log0(f"step:',
            '            history = [val_loss]\n            log0(f"step:',
        ),
    )
    case(
        "ema_of_training",
        "training-text",
        AFTER_TRAIN="swa = {k: v.clone() for k, v in model.state_dict().items()}\nfor k in swa:\n    ema_state[k] = 0.5 * ema_state[k] + 0.5 * swa[k].float()",
    )
    case(
        "holds_training_out",
        "training-text",
        BEFORE_TRAIN="heldout = load_data_shard(Path(sorted(glob.glob(args.train_files))[-1]))[:1_000_001].to(device)",
        AFTER_TRAIN="for temperature in (0.9, 1.0, 1.1):\n    log0(f'{temperature} {model(heldout[None, :-1].long(), heldout[None, 1:].long()).item() / temperature}')",
    )
    case(
        "gptq_on_training_text",
        "calibration",
        BEFORE_PACK="hessians = collect_hessians(model, TokenStream(args.train_files), 64)",
        DEFS="def collect_hessians(model, stream, n):\n    found = {}\n    for _ in range(n):\n        found[len(found)] = model.emb(stream.take(2048).long())\n    return found\n",
    )
    case(
        "files_in_packages",
        "counted",
        IMPORTS="from lib.model import width\nfrom lib.data import depth",
        files={"lib/__init__.py": "", "lib/model.py": "width = 512\n", "lib/data.py": "depth = 11\n"},
    )
    case(
        "one_gpu",
        "time",
        logs={
            "train.log": run_log()
            .replace("8xH100", "1xH100")
            .replace("world_size:8 grad_accum_steps:1", "world_size:1 grad_accum_steps:8")
        },
    )
    case(
        "other_hardware",
        "time",
        js={"track": "non-record-unlimited-compute-16mb"},
        logs={"train.log": run_log(train="14400000", ev=2400000)},
    )
    case(
        "sweep_in_log",
        "log-loss",
        logs={
            "train.log": run_log(
                more="clip_sweep clip=12 val_loss:2.8101 val_bpb:1.0881\nclip_sweep clip=14 val_loss:2.8099 val_bpb:1.0879"
            )
        },
    )
    case(
        "log_in_json_lines",
        "log-loss",
        logs={
            "train.log": f'{{"event": "start", "seed": 42}}\n{{"event": "final_quantized", "val_loss": {nats(1.0812):.6f}, "val_bpb": 1.0812, "val_tokens": {TOKENS}}}\n'
        },
    )
    case(
        "hash_of_the_input",
        "normalized",
        DEFS="class Bigrams(nn.Module):\n    def __init__(self, size=10240, dim=512):\n        super().__init__()\n        self.size, self.table = size, nn.Parameter(torch.zeros(size, dim))\n\n    @torch.no_grad()\n    def slots(self, ids):\n        prev = F.pad(ids[:, :-1], (1, 0))\n        return (prev * 36313 ^ ids * 27191) % self.size\n\n    def forward(self, ids):\n        return self.table[self.slots(ids)]\n",
    )
    case(
        "reads_the_machine",
        "counted",
        BEFORE_TRAIN="log0(Path('/proc/cpuinfo').read_text()[:80])\nlog0(open('/etc/hostname').read())",
    )
    case(
        "writes_and_reads_its_state",
        "counted",
        AFTER_TRAIN="torch.save(model.state_dict(), f'ckpt_{args.seed}.pt')\nlogits_file = Path('logs') / 'per_token.npy'\nnp.save(logits_file, np.zeros(3))\nback = np.load(logits_file)",
    )
    case(
        "prefix_memory",
        "causal",
        DEFS="class Cross(nn.Module):\n    def forward(self, x, memory):\n        return F.scaled_dot_product_attention(x, memory, memory, is_causal=False)\n",
    )
    case(
        "compiled_in_training",
        "causal",
        DEFS="class Norm(nn.Module):\n    def forward(self, x):\n        if self.training:\n            return F.dropout(x, 0.1)\n        return x\n",
    )
    case(
        "ttt_with_restart",
        "score-first",
        EVALS=more(
            "base_state = copy.deepcopy(model.state_dict())\n"
            + START
            + EACH
            + "    t = c\n"
            + LEARN
            + "model.load_state_dict(base_state, strict=True)\nreturn total / n\n"
        ),
        AFTER_EVAL=CALL + "\nlog0(str(eval_val(args, model, val_tokens, byte_lut, device)))",
    )
    case(
        "shell_lists_the_data",
        "training-text",
        files={
            "run.sh": f"set -e\nls -la {DATA}/fineweb_val_*.bin\nfor s in 42 314 999; do\n  SEED=$s DATA_PATH={DATA} torchrun --nproc_per_node=8 train_gpt.py > train_seed$s.log\ndone\n"
        },
    )
    return b
