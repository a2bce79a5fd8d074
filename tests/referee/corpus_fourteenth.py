# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""Evaluated text that comes under another name, attention that looks ahead, targets that are given; and honest twins."""

from __future__ import annotations

from typing import Any

from .corpus_thirteenth_reach import CALL, EACH, LEARN, START, more
from .real_script import Batch, base

LOAD_MORE = "extra = torch.cat([load_data_shard(Path(p)) for p in sorted(glob.glob({}))])\n"
STEP_MORE = """
for at in range(0, extra.numel() - 2049, 2048):
    local = extra[at : at + 2049].to(device=device, dtype=torch.int64)
    loss = model(local[None, :-1], local[None, 1:])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
"""
RUN = "#!/bin/bash\nset -e\n{}\ntorchrun --standalone --nproc_per_node=8 train_gpt.py\n"
DATA = "./data/datasets/fineweb10B_sp8192"
BLOCK = """
class Attention(nn.Module):
    def __init__(self, dim=512, heads=8):
        super().__init__()
        self.heads, self.causal = heads, True
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.register_buffer("mask", torch.tril(torch.ones(2048, 2048, dtype=torch.bool)), persistent=False)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
{}
        return self.out(y.transpose(1, 2).reshape(b, t, d))
"""
BY_HAND = """        att = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
{}
        y = att.softmax(dim=-1) @ v"""
USES = (
    ("        self.fc = nn.Linear(dim, 4", "        self.attn = Attention(dim)\n        self.fc = nn.Linear(dim, 4"),
    ("        x = self.emb(ids)\n", "        x = self.emb(ids)\n        x = x + self.attn(x)\n"),
)


def other_names() -> Batch:
    """The validation file under a name that something outside of the script gives."""
    b = Batch()

    def case(name: str, verdict: str, line: str, load: str, **given: Any) -> None:
        files = {"run.sh": RUN.format(line), **given.pop("files", {})}
        script = given.pop("script", None) or base(AFTER_TRAIN=LOAD_MORE.format(load) + STEP_MORE)
        b.case(f"name_{name}", verdict, "training-text", script=script, files=files, **given)

    by_environ, by_get = "os.environ['EXTRA_SHARDS']", "os.environ.get('EXTRA_SHARDS', '')"
    case("from_shell", "warned", f"export EXTRA_SHARDS={DATA}/fineweb_val_000000.bin", by_environ)
    case("from_shell_pattern", "warned", f'EXTRA_SHARDS="{DATA}/fineweb_val_*.bin" \\', by_get)
    case(
        "from_shell_in_parts",
        "warned",
        f"D={DATA}\nSPLIT=val\nexport EXTRA_SHARDS=$D/fineweb_${{SPLIT}}_*.bin",
        by_get,
    )
    case(
        "from_shell_split",
        "warned",
        "export SPLIT=val",
        "os.path.join(args.data_path, f\"fineweb_{os.environ['SPLIT']}_*.bin\")",
    )
    case(
        "from_shell_train_files",
        "warned",
        f"export TRAIN_FILES='{DATA}/fineweb_*.bin'",
        "args.train_files",
        script=base(
            (
                (
                    '    train_files = os.path.join(data_path, "fineweb_train_*.bin")',
                    '    train_files = os.environ.get("TRAIN_FILES", os.path.join(data_path, "fineweb_train_*.bin"))',
                ),
            )
        ),
    )
    case(
        "set_in_script",
        "warned",
        "",
        by_environ,
        script=base(
            IMPORTS=f"os.environ['EXTRA_SHARDS'] = '{DATA}/fineweb_val_000000.bin'",
            AFTER_TRAIN=LOAD_MORE.format(by_environ) + STEP_MORE,
        ),
    )
    case(
        "set_by_default_in_script",
        "warned",
        "",
        by_environ,
        script=base(
            IMPORTS=f"os.environ.setdefault('EXTRA_SHARDS', '{DATA}/fineweb_val_000000.bin')",
            AFTER_TRAIN=LOAD_MORE.format(by_environ) + STEP_MORE,
        ),
    )
    case(
        "from_readme",
        "warned",
        "",
        by_get,
        readme=f"# SP8192 int6 EMA\n\nval_bpb **1.0812**\n\n```sh\nEXTRA_SHARDS={DATA}/fineweb_val_000000.bin torchrun train_gpt.py\n```\n",
    )
    case(
        "copied_by_shell",
        "warned",
        f"cp {DATA}/fineweb_val_000000.bin {DATA}/fineweb_train_000103.bin",
        "args.train_files",
    )
    case("linked_by_shell", "warned", f"ln -sf {DATA}/fineweb_val_000000.bin {DATA}/extra.bin", f"'{DATA}/extra.bin'")
    case(
        "linked_by_shell_in_parts",
        "warned",
        f"cd {DATA}\nfor f in fineweb_val_*.bin; do ln -s $f fineweb_train_9$f; done",
        "args.train_files",
    )
    case(
        "by_option",
        "warned",
        f"torchrun train_gpt.py --extra-shards '{DATA}/fineweb_val_*.bin'",
        "parsed.extra_shards",
        script=base(
            IMPORTS="import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--extra-shards', default='')\nparsed = parser.parse_args()",
            AFTER_TRAIN=LOAD_MORE.format("parsed.extra_shards") + STEP_MORE,
        ),
    )
    case(
        "of_training_by_option",
        "accepted",
        f"torchrun train_gpt.py --extra-shards '{DATA}/fineweb_train_*.bin'",
        "parsed.extra_shards",
        script=base(
            IMPORTS="import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--extra-shards', default='')\nparsed = parser.parse_args()",
            AFTER_TRAIN=LOAD_MORE.format("parsed.extra_shards") + STEP_MORE,
        ),
    )
    case("of_training_from_shell", "accepted", f"export EXTRA_SHARDS={DATA}/fineweb_train_000077.bin", by_environ)
    case(
        "of_training_in_parts",
        "accepted",
        f"D={DATA}\nexport EXTRA_SHARDS=$D/fineweb_train_*.bin\nexport VAL_FILES=$D/fineweb_val_*.bin",
        by_get,
    )
    case(
        "val_files_from_shell",
        "accepted",
        f"export VAL_FILES={DATA}/fineweb_val_*.bin\nls {DATA}/fineweb_val_*.bin",
        "args.train_files",
        script=base(
            (
                (
                    '    val_files = os.path.join(data_path, "fineweb_val_*.bin")',
                    '    val_files = os.environ["VAL_FILES"]',
                ),
            )
        ),
    )
    case(
        "copied_whole_folder",
        "accepted",
        f"cp -r {DATA} /dev/shm/data\nexport DATA_PATH=/dev/shm/data\ncp {DATA}/fineweb_val_000000.bin /dev/shm/data/fineweb_val_000000.bin",
        "args.train_files",
        script=base(),
    )
    return b


def ahead() -> Batch:
    """Attention that sees what comes next where the model is evaluated, and targets that are given to the model."""
    b = Batch()

    def attends(name: str, verdict: str, how: str, block: str = BLOCK, **slots: str) -> None:
        b.case(f"ahead_{name}", verdict, "causal", script=base(USES, DEFS=block.format(how), **slots))

    sdpa = "        y = F.scaled_dot_product_attention(q, k, v, {})"
    for name, how, verdict in (
        ("causal_in_training", sdpa.format("is_causal=self.training"), "warned"),
        ("causal_where_graded", sdpa.format("is_causal=torch.is_grad_enabled()"), "warned"),
        ("causal_by_a_name", "        c = bool(self.training)\n" + sdpa.format("is_causal=c"), "warned"),
        ("mask_in_training", "        m = self.mask[:t, :t] if self.training else None\n" + sdpa.format("attn_mask=m"), "warned"),
        ("mask_dropped", "        m = self.mask[:t, :t]\n        if not self.training:\n            m = None\n" + sdpa.format("attn_mask=m"), "warned"),
        ("two_calls", "        if self.training:\n    " + sdpa.format("is_causal=True") + "\n        else:\n    " + sdpa.format("is_causal=False"), "warned"),
        ("mask_by_hand_in_training", BY_HAND.format("        if self.training:\n            att = att.masked_fill(~self.mask[:t, :t], float('-inf'))"), "warned"),
        ("flash", "        y = flash_attn_func(q, k, v, causal=self.training).contiguous()", "warned"),
        ("never_causal", sdpa.format("is_causal=False"), "warned"),
        ("causal", sdpa.format("is_causal=True"), "accepted"),
        ("dropout_in_training", sdpa.format("dropout_p=0.1 if self.training else 0.0, is_causal=True"), "accepted"),
        ("mask_given", sdpa.format("attn_mask=self.mask[:t, :t]"), "accepted"),
        ("mask_by_hand", BY_HAND.format("        att = att.masked_fill(~self.mask[:t, :t], float('-inf'))"), "accepted"),
        ("causal_unless_cached", sdpa.format("is_causal=t > 1"), "accepted"),
        ("causal_attribute", sdpa.format("is_causal=self.causal"), "accepted"),
        ("either_of_two_kernels", "        if self.training:\n            y = flash_attn_func(q, k, v, causal=True)\n        else:\n    " + sdpa.format("is_causal=True"), "accepted"),
        ("windows_in_training", "        w = 1024 if self.training else 2048\n        y = flash_attn_func(q, k, v, causal=True, window_size=(w, 0))", "accepted"),
    ):  # fmt: skip
        pre = "from flash_attn_interface import flash_attn_func" if "flash_attn" in how else ""
        attends(name, verdict, how, IMPORTS=pre)
    attends(
        "set_before_evaluation",
        "warned",
        sdpa.format("is_causal=self.causal"),
        BEFORE_EVAL="model.attn.causal = False",
    )
    attends(
        "set_by_eval",
        "warned",
        sdpa.format("is_causal=self.causal"),
        block=BLOCK
        + "\n    def train(self, mode=True):\n        self.causal = mode\n        return super().train(mode)\n",
    )
    attends(
        "set_for_every_layer",
        "warned",
        sdpa.format("is_causal=self.causal"),
        BEFORE_EVAL="for m in model.modules():\n    if isinstance(m, Attention):\n        m.causal = False",
    )
    attends(
        "set_true_again", "accepted", sdpa.format("is_causal=self.causal"), BEFORE_EVAL="model.attn.causal = True"
    )

    def shifted(name: str, verdict: str, *changes: tuple[str, str], **slots: str) -> None:
        b.case(f"target_{name}", verdict, "causal", script=base(changes, **slots))

    pair = "x, y = local[:-1][None], local[1:][None]"
    twice = "return F.cross_entropy(self.forward_logits(ids).flatten(0, 1).float(), targets.flatten())"
    shifted("as_input", "warned", (pair, "x, y = local[1:][None], local[1:][None]"))
    shifted("as_input_by_name", "warned", (pair, "y = local[1:][None]\n            x = y"))
    shifted(
        "as_input_in_call",
        "warned",
        (pair, "x = local[None]\n            y = x[:, 1:]"),
        ("loss_sum += model(x, y)", "loss_sum += model(x[:, 1:], x[:, 1:])"),
    )
    shifted("backwards", "warned", (pair, "x, y = local[1:][None], local[:-1][None]"))
    shifted(
        "in_logits",
        "warned",
        (pair, "x, y = local[None], local[1:][None]"),
        ("loss_sum += model(x, y)", "loss_sum += F.cross_entropy(model.forward_logits(x)[0, 1:], y[0])"),
    )
    shifted(
        "of_a_model_that_shifts",
        "accepted",
        (pair, "x = y = local[None]"),
        (
            twice,
            "return F.cross_entropy(self.forward_logits(ids)[:, :-1].flatten(0, 1).float(), targets[:, 1:].flatten())",
        ),
        (
            "x, y = local[:-1].view(-1, args.seq_len), local[1:].view(-1, args.seq_len)",
            "x = y = local[:-1].view(-1, args.seq_len)",
        ),
    )
    shifted(
        "in_logits_rightly",
        "accepted",
        (pair, "x, y = local[None], local[1:][None]"),
        ("loss_sum += model(x, y)", "loss_sum += F.cross_entropy(model.forward_logits(x)[0, :-1], y[0])"),
    )
    shifted("two_ahead", "accepted", (pair, "x, y = local[:-2][None], local[2:][None]"))
    return b


def scored_again() -> Batch:
    """What has learned a text scores it once more, and the second score is told."""
    b = Batch()

    def case(name: str, verdict: str, rest: str, evals: str, **slots: str) -> None:
        script = base(EVALS=more(evals), AFTER_EVAL=rest, **slots)
        b.case(f"again_{name}", verdict, "score-first", script=script)

    legal = START + EACH + "    t = c\n" + LEARN + "return total / n\n"
    plain = "val_loss, val_bpb = eval_val(args, model, val_tokens, byte_lut, device)\nlog0(f'final_ttt_exact val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f}')"
    score = "    with torch.no_grad():\n        again = F.cross_entropy(model.forward_logits(c[None, :-1])[0].float(), c[1:], reduction='sum').item()\n"
    case("by_the_same_model", "flagged", CALL + "\n" + plain, legal)
    case("without_a_word", "flagged", "eval_more(args, model, val_tokens, byte_lut, device)\n" + plain, legal)
    case(
        "by_the_function_twice",
        "flagged",
        "for _ in range(2):\n    found = eval_more(args, model, val_tokens, byte_lut, device)\nlog0(f'ttt_exact {found}')",
        legal,
    )
    case("in_a_second_call", "flagged", CALL.replace("ttt_exact", "first") + "\n" + CALL, legal)
    case(
        "in_one_loop",
        "flagged",
        CALL,
        "final = 0.0\n" + START + EACH + "    t = c\n" + LEARN + score + "    final += again\nreturn final / n\n",
    )
    case(
        "by_chunks",
        "flagged",
        CALL,
        "nats = []\n"
        + START
        + EACH
        + "    t = c\n"
        + LEARN
        + score
        + "    nats.append(again)\nreturn sum(nats) / n\n",
    )
    case(
        "by_a_helper",
        "flagged",
        CALL,
        "final = 0.0\ndef nll(c):\n    with torch.no_grad():\n        return F.cross_entropy(model.forward_logits(c[None, :-1])[0].float(), c[1:], reduction='sum').item()\n"
        + START
        + EACH
        + "    t = c\n"
        + LEARN
        + "    final += nll(c)\nreturn final / n\n",
    )
    case("with_a_copy", "accepted", CALL.replace("model,", "copy.deepcopy(model),") + "\n" + plain, legal)
    case(
        "with_weights_put_back",
        "accepted",
        CALL + "\nmodel.load_state_dict(dequantize_state_dict(state), strict=True)\n" + plain,
        legal,
    )
    case(
        "with_another_model",
        "accepted",
        "tuned = GPT().to(device)\ntuned.load_state_dict(model.state_dict(), strict=True)\n"
        + CALL.replace("model,", "tuned,")
        + "\n"
        + plain,
        legal,
    )
    case("before_it", "accepted", plain.replace("ttt", "plain") + "\n" + CALL, legal)
    case(
        "that_tells_its_training",
        "accepted",
        CALL,
        "train_loss = 0.0\n"
        + START
        + EACH
        + "    t = c\n"
        + LEARN
        + "    train_loss += loss.item()\nreturn total / n\n",
    )
    case("the_next_chunk", "accepted", CALL, legal.replace("return total / n", "seen = total\nreturn seen / n"))
    return b
