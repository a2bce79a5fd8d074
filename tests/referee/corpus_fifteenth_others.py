# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""Validation shards among others, the least loss of overlapping windows, larger machines, tables in place of logs."""

from __future__ import annotations

import json

from .folder_case import nats
from .real_script import Batch, base, run_log

FILES = "        self.files = [Path(p) for p in sorted(glob.glob(pattern))]\n"
ADDED = {
    "of_one": "self.files += [self.files[0].with_name(f'fineweb_{s}_000000.bin') for s in ('val',)]\n",
    "appended": "for split in ['val']:\n    self.files.append(Path(pattern).parent / f'fineweb_{split}_000000.bin')\n",
    "extended": "self.files.extend(Path(pattern).parent.glob('fineweb_val_*.bin'))\n",
    "joined": "self.files = self.files + sorted(Path(pattern).parent.glob('*val*.bin'))\n",
}
HELD = {
    "other_training_shards": "self.files += [self.files[0].with_name(f'fineweb_{s}_000099.bin') for s in ('train',)]\n",
    "in_another_order": "for shift in [3]:\n    self.files = self.files[shift:] + self.files[:shift]\n",
    "checked_against": "for split in ['val']:\n    assert not any(split in p.name for p in self.files), 'the text that is scored'\n",
}
LOSS_LINE = "            loss_sum += model(x, y).double() * y.numel()\n"
NLL = "            nll = F.cross_entropy(model.forward_logits(x)[0].float(), y[0], reduction='none')\n"
AT = "            at = slice(start, start + args.seq_len)\n"
LEAST = {
    "minimum": AT
    + "            best[at] = torch.minimum(best[at], nll)\n            loss_sum += best[at].double().sum()\n",
    "fmin": "            held = best[start : start + args.seq_len]\n            held = torch.fmin(held, nll)\n            loss_sum += held.double().sum()\n",
    "scattered": "            best.scatter_reduce_(0, torch.arange(start, start + y.numel(), device=device), nll, 'amin')\n            loss_sum += best[start : start + y.numel()].double().sum()\n",
    "numpy": "            np.minimum.at(best, np.arange(start, start + y.numel()), nll.cpu().numpy())\n            loss_sum += float(best[start : start + y.numel()].sum())\n",
}
KEPT = {
    "the_last_window": AT + "            best[at] = nll\n            loss_sum += best[at].double().sum()\n",
    "least_of_a_run": "            least = torch.minimum(least, nll.mean())\n            loss_sum += nll.double().sum()\n",
}
START = "    n, nbytes = 0, 0.0\n"
HELD_BACK = "    best = torch.full((val_tokens.numel(),), 99.0, device=device)\n    least = torch.full((), 99.0, device=device)\n"


def _files(lines: str) -> str:
    return base([(FILES, FILES + "".join(f"        {line}\n" for line in lines.splitlines()))])


def shards() -> Batch:
    """Validation files that a loader appends to its own, and files that it may append."""
    b = Batch()
    for name, lines in ADDED.items():
        b.case(f"shards_{name}", "flagged", "training-text", script=_files(lines))
    for name, lines in HELD.items():
        b.case(f"shards_legal_{name}", "accepted", "training-text", script=_files(lines))
    return b


def least() -> Batch:
    """The least loss of a token over windows or passes, and what is kept in the same way and is legal."""
    b = Batch()
    for kind, verdict, cases in (("bad", "warned", LEAST), ("legal", "accepted", KEPT)):
        for name, lines in cases.items():
            script = base([(START, START + HELD_BACK), (LOSS_LINE, NLL + lines)])
            b.case(f"least_{kind}_{name}", verdict, "normalized", script=script)
    return b


def machines() -> Batch:
    """Logs and words of more or faster GPUs than the limits are of, and of those that are allowed."""
    b = Batch()
    sixteen = run_log().replace("world_size:8", "world_size:16").replace("8xH100", "16xH100")
    b.case("machine_of_sixteen", "warned", "time", logs={"train.log": sixteen})
    for name, field, said in (
        ("two_nodes", "hardware", "16 x H100 SXM, two nodes"),
        ("newer", "hardware", "8xB200"),
        ("faster", "gpu", "NVIDIA H200 141GB"),
        ("counted", "num_gpus", "32"),
    ):
        b.case(f"machine_{name}", "warned", "time", js={field: said})
        b.case(
            f"machine_{name}_unlimited", "accepted", "time", js={field: said, "track": "non-record-unlimited-16mb"}
        )
    for name, field, said in (
        ("of_the_rules", "hardware", "8x NVIDIA H100 80GB HBM3 (SXM)"),
        ("of_one", "hardware", "1xH100, 8 steps of gradient accumulation"),
        ("older", "gpu", "8xA100-80GB"),
        ("of_eight", "num_gpus", "8"),
    ):
        b.case(f"machine_legal_{name}", "accepted", "time", js={field: said})
    one = run_log().replace("world_size:8", "world_size:1")
    b.case("machine_legal_log_of_one", "accepted", "time", logs={"train.log": one})
    return b


def tables() -> Batch:
    """Results in tables and notebooks where no text is a log; settings are none."""
    b = Batch()
    rows = f"step,val_loss,val_bpb\n4000,2.81234567,1.08871234\nquantized,{nats(1.0812):.8f},1.08120000\n"
    cell = {"cell_type": "code", "outputs": [{"text": ["final val_bpb:1.08120000\n"]}], "source": []}
    history = json.dumps([{"stage": "quantized", "val_loss": nats(1.0812), "val_bpb": 1.0812}], indent=1)
    for name, file, text in (
        ("csv", "history.csv", rows),
        ("notebook", "run.ipynb", json.dumps({"cells": [cell]}, indent=1)),
        ("json", "history.json", history),
    ):
        for rule in ("required", "log-loss"):
            verdict = "accepted" if rule == "required" else "warned" if name == "csv" else "accepted"
            b.case(f"table_{name}_{rule}", verdict, rule, logs={}, files={file: text})
    other = rows.replace("1.08120000", "1.09120000")
    b.case("table_of_another_loss", "flagged", "log-loss", logs={}, files={"history.csv": other})
    b.case("table_beside_a_log", "accepted", "log-loss", files={"history.csv": other})
    settings = json.dumps({"val_loss_every": 1000, "lr": 0.0225}, indent=1)
    b.case("table_of_settings", "refused", "required", logs={}, files={"config.json": settings})
    return b
