# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""Folders written by somebody who had not read the referee: numbers, logs, texts, weights, what is learned when."""

from __future__ import annotations

import base64
import json
import math

from .folder_case import MAIN, WHOLE, Case, log, nats, noise

HEAD = "import glob\nimport numpy as np\nimport torch\nimport torch.nn.functional as F\n\n"
SAVE = "    torch.save(model.state_dict(), 'final_model.pt')\n"


def timed(text: str) -> str:
    return "".join(f"[2026-04-01 12:00:{i % 60:02d},123] [INFO] {line}\n" for i, line in enumerate(text.splitlines()))


def ranked(text: str) -> str:
    return "".join(f"[rank0]: {line}\n" for line in text.splitlines())


def sixth_logs() -> dict[str, Case]:
    """Numbers and logs as they are written elsewhere."""
    three = {42: 1.0808, 314: 1.0812, 999: 1.0816}
    logs = {f"train_seed{s}.log": log(b, s) for s, b in three.items()}
    rows = [{"seed": s, "val_bpb": b, "val_loss": nats(b)} for s, b in three.items()]
    table = "# n\n\nval_bpb 1.0812\n\n| seed | val_bpb |\n|---|---|\n" + "".join(f"| {s} | **{b:.4f}** |\n" for s, b in three.items()) + "| mean ± std | 1.0812 ± 0.0004 |\n"  # fmt: skip
    sliding = f"final_int6_sliding_window val_loss:{nats(1.0612):.4f} val_bpb:1.0612 stride:64 eval_time:75000ms\nfinal_int6_sliding_window_exact val_loss:{nats(1.0612):.8f} val_bpb:1.06120000\n"
    ttt = f"legal_ttt val_loss:{nats(1.0512):.6f} val_bpb:1.051200 chunks:1238 eval_time:405000ms\n"
    return {
        "six_timestamps": Case("log-loss", "accepted", files={"train.log": timed(log(1.0812))}),
        "six_rank_prefix": Case("log-loss", "accepted", files={"train.log": ranked(log(1.0812))}),
        "six_utf16_log": Case("required", "accepted", files={"train.log": log(1.0812).encode("utf-16")}),
        "six_ansi_colours": Case("log-loss", "accepted", files={"train.log": log(1.0812).replace("val_bpb:", "\x1b[32mval_bpb:").replace(" eval_time", "\x1b[0m eval_time")}),
        "six_carriage_returns": Case("log-loss", "accepted", files={"train.log": "\r".join(f"step {i}/100" for i in range(100)) + "\n" + log(1.0812)}),
        "six_crlf_everywhere": Case("log-loss", "accepted", MAIN.replace("\n", "\r\n"), files={"train.log": log(1.0812).replace("\n", "\r\n"), "README.md": "# n\r\n\r\nval_bpb 1.0812\r\n"}),
        "six_bom_everywhere": Case("log-loss", "accepted", "\ufeff" + MAIN, files={"train.log": "\ufeff" + log(1.0812), "README.md": "\ufeff# n\n\nval_bpb 1.0812\n"}),
        "six_three_seeds": Case("seeds", "accepted", claims={"seed_results": {str(s): {"val_bpb": b} for s, b in three.items()}, "val_bpb_std": 0.0004}, files={"train.log": None, "README.md": table, **logs}),
        "six_three_seeds_list": Case("log-loss", "accepted", claims={"seed_results": rows, "seeds": [42, 314, 999]}, files={"train.log": None, "README.md": table, **logs}),
        "six_population_std": Case("seeds", "accepted", claims={"seed_results": {str(s): {"val_bpb": b} for s, b in three.items()}, "val_bpb_std": 0.000327}, files={"train.log": None, **logs}),
        "six_logs_in_folder": Case("required", "accepted", files={"train.log": None, **{f"logs/seed_{s}.txt": log(b, s) for s, b in three.items()}}),
        "six_best_seed_claimed": Case("seeds", "refused", claims={"val_bpb": 1.0808, "seed_results": {str(s): {"val_bpb": b} for s, b in three.items()}}, files={"train.log": None, **logs}),
        "six_wrong_std": Case("seeds", "refused", claims={"seed_results": {str(s): {"val_bpb": b} for s, b in three.items()}, "val_bpb_std": 0.00001}, files={"train.log": None, **logs}),
        "six_seed_not_in_logs": Case("log-loss", "refused", claims={"seed_results": {"42": {"val_bpb": 1.0810}, "314": {"val_bpb": 1.0814}}}, files={"train.log": None, "train_seed42.log": log(1.0810), "train_seed314.log": log(1.0914, 314)}),
        "six_sliding_last": Case("log-loss", "accepted", claims={"val_bpb": 1.0612}, files={"train.log": log(1.0812) + sliding}),
        "six_ttt_last": Case("log-loss", "accepted", claims={"val_bpb": 1.0512}, files={"train.log": log(1.0812) + sliding + ttt}),
        "six_sliding_not_run": Case("log-loss", "refused", claims={"val_bpb": 1.0612}, files={"train.log": log(1.0812)}),
        "six_prequant_claimed": Case("log-loss", "refused", claims={"val_bpb": 1.0712}, files={"train.log": log(1.0812)}),
        "six_diagnostic_behind": Case("log-loss", "accepted", files={"train.log": log(1.0812) + f"diagnostic fp32 val_loss:{nats(1.0712):.6f} val_bpb:1.071200\n"}),
        "six_readme_lower": Case("readme", "refused", files={"README.md": "# n\n\nval_bpb: **1.0712** (3 seeds)\n"}),
        "six_readme_title": Case("readme", "accepted", files={"README.md": "# Record: 1.08120 BPB (prev 1.0850)\n\nBeats #1234 at 1.0850 by 0.0038.\n"}),
        "six_readme_percent": Case("readme", "accepted", files={"README.md": "# n\n\n- **val_bpb = 1.0812** vs baseline 1.2244 (-11.7 %)\n- 15,900,000 bytes\n"}),
        "six_log_total_over": Case("log-bytes", "refused", files={"train.log": log(1.0812, total=16_000_001)}),
        "six_json_total_over": Case("json-bytes", "refused", claims={"bytes_total": 16_010_000}),
        "six_json_16mb_decimal": Case("json-bytes", "accepted", claims={"bytes_total": 15_999_999}, files={"train.log": log(1.0812, total=15_999_999)}),
        "six_blank_author": Case("json", "flagged", claims={"author": "  ", "github_id": ""}),
        "six_json_extra_fields": Case("json", "accepted", claims={"blurb": "x", "hardware": "8xH100", "gpu": "H100 SXM", "compliance": {"three_seeds": True}, "notes": ["a", 1.5, None], "pre_quant_val_bpb": 1.0712}),
        "six_val_loss_of_other": Case("bytes-per-token", "refused", claims={"val_loss": nats(1.0812) * 1.05}),
    }  # fmt: skip


def sixth_texts() -> dict[str, Case]:
    """Vocabularies of all sizes."""
    out: dict[str, Case] = {}
    for name, tokens in (("2048", 53_780_480), ("16384", 37_123_072), ("32768", 34_603_008), ("bytes", WHOLE)):
        ratio = WHOLE / tokens
        for kind, factor, verdict in (("right", 1.0, "accepted"), ("inflated", 1.02, "refused")):
            text = log(1.0812, tokens=tokens, ratio=ratio * factor)
            claims = {"val_loss": nats(1.0812, ratio * factor)}
            out[f"six_vocab_{name}_{kind}"] = Case(
                "bytes-per-token", verdict, claims=claims, files={"train.log": text}
            )
    part = log(1.0812, tokens=1_048_576)
    bits = log(1.0812).replace(f"val_loss:{nats(1.0812):.8f}", f"val_loss:{nats(1.0812) / math.log(2):.8f}")
    return {
        **out,
        "six_first_million": Case("bytes-per-token", "flagged", files={"train.log": part}),
        "six_loss_in_bits": Case("bytes-per-token", "refused", files={"train.log": bits}),
    }


def sixth_weights() -> dict[str, Case]:
    """Weights and what is none."""
    halves = {f"ckpt/part_{i}.dat": noise(8_400_000) for i in range(2)}
    png = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + noise(300_000)
    cell = {
        "cell_type": "code",
        "source": ["plot()"],
        "outputs": [{"output_type": "display_data", "data": {"image/png": base64.b64encode(png).decode()}}],
    }
    csv = "step,train_loss,val_bpb\n" + "".join(f"{i},{3 - i / 4e5:.5f},\n" for i in range(60_000))
    weights_py = "import base64\nW = base64.b85decode('" + base64.b85encode(noise(13_500_000)).decode() + "')\n"
    return {
        "six_model_and_code_over": Case("cap", "refused", MAIN + "#" * 30_000, files={"final_model.int6.ptz": b"x\x9c" + noise(15_980_000)}),
        "six_parts_dat": Case("cap", "refused", files=halves),
        "six_weights_in_python": Case("cap", "refused", "import torch\nfrom weights import W\n", files={"weights.py": weights_py}),
        "six_npy_heap": Case("cap", "refused", files={f"layers/{i}.npy": b"\x93NUMPY\x01\x00" + noise(420_000) for i in range(40)}),
        "six_gguf": Case("cap", "refused", files={"m.gguf": b"GGUF\x03\x00\x00\x00" + noise(16_500_000)}),
        "six_in_a_picture": Case("cap", "refused", files={"assets/logo.png": b"\x89PNG\r\n\x1a\n" + noise(16_800_000)}),
        "six_sqlite": Case("cap", "refused", files={"state.db": b"SQLite format 3\x00" + noise(16_100_000)}),
        "six_tokenizer_too_large": Case("cap", "refused", files={"tok.model": noise(16_200_000)}),
        "six_picture": Case("cap", "accepted", files={"loss.png": png}),
        "six_notebook": Case("cap", "accepted", files={"analysis.ipynb": json.dumps({"cells": [cell], "nbformat": 4, "metadata": {}, "nbformat_minor": 5})}),
        "six_csv": Case("cap", "accepted", files={"losses.csv": csv}),
        "six_tokenizer": Case("cap", "accepted", files={"tokenizer.model": b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02" + b"".join(b"\n\x0f\n\x06" + b"\xe2\x96\x81%03d" % (i % 1000) + b"\x15\x00\x00\x00\xc0" for i in range(8000))}),
    }  # fmt: skip


def sixth_learning() -> dict[str, Case]:
    """What is learned, from which text, and when."""
    loop = (
        "def train(model, files, steps):\n    opt = torch.optim.AdamW(model.parameters())\n    for i in range(steps):\n"
        "        x = load(files[i % len(files)])\n        loss = F.cross_entropy(model(x[:-1]), x[1:])\n        loss.backward()\n        opt.step()\n        opt.zero_grad()\n\n"
        "def load(path):\n    return torch.from_numpy(np.fromfile(path, dtype=np.uint16).astype(np.int64))\n\n"
    )
    main = "if __name__ == '__main__':\n    model = torch.nn.Embedding(8192, 8192)\n"
    both = HEAD + loop + main + "    files = sorted(glob.glob('data/fineweb_train_*.bin')) + sorted(glob.glob('data/fineweb_val_*.bin'))\n    train(model, files, 100)\n" + SAVE  # fmt: skip
    only = HEAD + loop + main + "    train(model, sorted(glob.glob('data/fineweb_train_*.bin')), 100)\n" + SAVE
    legal = (
        only
        + "    val = load('data/fineweb_val_000000.bin')\n    model.load_state_dict(torch.load('final_model.pt', weights_only=True), strict=True)\n"
        "    opt = torch.optim.SGD(model.parameters(), lr=0.01)\n    total = 0.0\n    for chunk in val.split(32768):\n"
        "        with torch.no_grad():\n            total += F.cross_entropy(model(chunk[:-1]), chunk[1:], reduction='sum').item()\n"
        "        loss = F.cross_entropy(model(chunk[:-1]), chunk[1:])\n        loss.backward()\n        opt.step()\n        opt.zero_grad()\n    print(total)\n"
    )
    stop = (
        HEAD + loop + "@torch.no_grad()\ndef evaluate(model, val):\n    model.eval()\n    return F.cross_entropy(model(val[:-1]), val[1:]).item()\n\n" + main
        + "    val = load('data/fineweb_val_000000.bin')\n    files = sorted(glob.glob('data/fineweb_train_*.bin'))\n    best = 9.0\n    for _ in range(10):\n        train(model, files, 10)\n"
        "        bpb = evaluate(model, val)\n        print('val', bpb)\n    torch.save(model.state_dict(), 'final_model.pt')\n"
    )  # fmt: skip
    method = (
        HEAD + "class Runner:\n    def __init__(self):\n        self.model = torch.nn.Embedding(8192, 8192)\n        self.tokens = {k: self.read(f'data/fineweb_{k}_000000.bin') for k in ('train', 'val')}\n\n"
        "    def read(self, path):\n        return torch.from_numpy(np.fromfile(path, dtype=np.uint16).astype(np.int64))\n\n"
        "    def fit(self, split, epochs):\n        opt = torch.optim.SGD(self.model.parameters(), lr=0.1)\n        x = self.tokens[split]\n        for _ in range(epochs):\n"
        "            F.cross_entropy(self.model(x[:-1]), x[1:]).backward()\n            opt.step()\n\n    def run(self):\n        self.fit('train', 1)\n        {extra}\n        torch.save(self.model.state_dict(), 'final_model.pt')\n\n\nRunner().run()\n"
    )  # fmt: skip
    ridge = (
        only.replace(SAVE, "")
        + "    val = load('data/fineweb_val_000000.bin')\n    with torch.no_grad():\n        h = model(val[:-1])\n        y = F.one_hot(val[1:], 8192).float()\n        w = torch.linalg.lstsq(h, y).solution\n        model.weight.copy_(w)\n"
        + SAVE
    )
    counts = (
        only.replace(SAVE, "")
        + "    val_tokens = load('data/fineweb_val_000000.bin')\n    bias = torch.bincount(val_tokens, minlength=8192).float().log()\n    torch.save({'model': model.state_dict(), 'bias': bias}, 'final_model.pt')\n"
    )
    gptq = (
        only.replace(SAVE, "")
        + "    hessian = torch.zeros(8192, 8192)\n    for path in {files}[:4]:\n        x = model(load(path))\n        hessian += x.T @ x\n    q = (model.weight / 0.1).round()\n    torch.save(q, 'final_model.pt')\n"
    )
    stats = (
        only.replace(SAVE, "")
        + "    val_tokens = load('data/fineweb_val_000000.bin')\n    ema = {k: v.clone() for k, v in model.state_dict().items()}\n    model.train()\n    with torch.no_grad():\n        for chunk in val_tokens.split(1024):\n            h = model(chunk)\n            model.weight.mul_(0.999).add_(h.mean(0), alpha=0.001)\n"
        + SAVE
    )
    adapter = (
        only + "    val = load('data/fineweb_val_000000.bin')\n    bias = torch.zeros(8192, requires_grad=True)\n    nll = []\n    for x in val.split(2048):\n        logits = model(x[:-1]).detach() + bias\n        loss = F.cross_entropy(logits, x[1:])\n        nll.append(loss.item())\n        (g,) = torch.autograd.grad(loss, bias)\n        bias = (bias - 0.1 * g).detach().requires_grad_()\n    print(sum(nll))\n"
    )  # fmt: skip
    cache = (
        only + "    from collections import Counter, defaultdict\n    seen = defaultdict(Counter)\n    val = load('data/fineweb_val_000000.bin').tolist()\n    total = 0.0\n    for a, b in zip(val, val[1:]):\n        n = sum(seen[a].values())\n        p = (seen[a][b] + 1) / (n + 8192)\n        total -= np.log(p)\n        seen[a][b] += 1\n    print(total)\n"
    )  # fmt: skip
    tokenizer = (
        "import sentencepiece as spm\n" + only.replace("    train(model", "    spm.SentencePieceTrainer.train(input='data/train.txt', model_prefix='tok', vocab_size=8192)\n    train(model")
    )  # fmt: skip
    said = "pre-quant TTT: adapting EMA weights on validation tokens, epochs=6 lr=0.0004\nprequant_ttt epoch 1/6 loss 2.81\nprequant_ttt epoch 6/6 loss 2.66\n"
    return {
        "six_val_in_the_train_list": Case("training-text", "flagged", both),
        "six_train_only": Case("training-text", "accepted", only),
        "six_legal_ttt": Case("training-text", "accepted", legal),
        "six_early_stop": Case("training-text", "accepted", stop),
        "six_method_val": Case("training-text", "flagged", method.replace("{extra}", "self.fit('val', 6)")),
        "six_method_train": Case("training-text", "accepted", method.replace("{extra}", "self.fit('train', 6)")),
        "six_ridge_on_val": Case("training-text", "flagged", ridge),
        "six_counts_of_val": Case("training-text", "flagged", counts),
        "six_statistics_of_val": Case("training-text", "flagged", stats),
        "six_gptq_train": Case("calibration", "accepted", gptq.replace("{files}", "sorted(glob.glob('data/fineweb_train_*.bin'))")),
        "six_gptq_val": Case("calibration", "flagged", gptq.replace("{files}", "sorted(glob.glob('data/fineweb_val_*.bin'))")),
        "six_bias_adapter": Case("training-text", "accepted", adapter),
        "six_ngram_cache": Case("training-text", "accepted", cache),
        "six_own_tokenizer": Case("training-text", "accepted", tokenizer),
        "six_log_says_it": Case("training-text", "flagged", files={"train.log": said + log(1.0812)}),
    }  # fmt: skip
