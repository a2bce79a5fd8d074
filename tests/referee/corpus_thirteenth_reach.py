# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""Evaluations whose indices reach into what is not scored yet, or leave a part of the text out; and honest windows."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from .real_script import Batch, base

CALL = "log0(f'ttt_exact {eval_more(args, model, val_tokens, byte_lut, device)}')"
START = "opt = torch.optim.SGD(model.parameters(), lr=1e-3)\ntotal, n, last = 0.0, 0, val_tokens.numel() - 1\n"
EACH = "for s in range(0, last, chunk):\n    c = val_tokens[s : min(s + chunk, last) + 1].long().to(device)\n    with torch.no_grad():\n        total += F.cross_entropy(model.forward_logits(c[None, :-1])[0].float(), c[1:], reduction='sum').item()\n    n += c.numel() - 1\n"
LEARN = "    loss = model(t[None, :-1], t[None, 1:])\n    opt.zero_grad()\n    loss.backward()\n    opt.step()\n"
SLIDING = """
seq_len, last = 2048, val_tokens.numel() - 1
window_starts = [ws for ws in range(0, last, stride) if min(ws + seq_len, last) - ws >= stride or ws == 0]
num_chunks = (last + chunk - 1) // chunk
chunk_windows = [[] for _ in range(num_chunks)]
for ws in window_starts:
    s = 0 if ws == 0 else min(ws + seq_len, last) - ws - stride
    chunk_windows[min((ws + s) // chunk, num_chunks - 1)].append(ws)
opt = torch.optim.SGD(model.parameters(), lr=1e-3)
loss_sum, token_count = torch.zeros((), device=device), 0
for ci in range(num_chunks):
    chunk_start, chunk_end = ci * chunk, min((ci + 1) * chunk, last)
    windows = chunk_windows[ci]
    with torch.inference_mode():
        for bi in range(0, len(windows), 32):
            batch = windows[bi : bi + 32]
            x, y = (torch.zeros(len(batch), seq_len, dtype=torch.int64, device=device) for _ in range(2))
            for i, ws in enumerate(batch):
                end = min(ws + seq_len, last)
                tok = val_tokens[ws : end + 1].long().to(device)
                x[i, : end - ws] = tok[:-1]
                y[i, : end - ws] = tok[1:]
            nll = F.cross_entropy(model.forward_logits(x).flatten(0, 1).float(), y.flatten(), reduction="none").reshape(len(batch), seq_len)
            for i, ws in enumerate(batch):
                wlen = min(ws + seq_len, last) - ws
                s = 0 if ws == 0 else max(wlen - stride, 0)
                loss_sum += nll[i, s:wlen].sum()
                token_count += wlen - s
    seqs = (chunk_end - chunk_start) // seq_len
    for _ep in range(2):
        for bs in range(0, seqs, 8):
            be = min(bs + 8, seqs)
            first, stop = chunk_start + bs * seq_len, chunk_start + be * seq_len + 1
            if stop > val_tokens.numel():
                continue
            local = val_tokens[first:stop].long().to(device)
            loss = model(local[:-1].reshape(-1, seq_len), local[1:].reshape(-1, seq_len))
            opt.zero_grad()
            loss.backward()
            opt.step()
return loss_sum.item() / token_count
"""


def more(body: str, pre: str = "", arguments: str = "chunk=32768, stride=64") -> str:
    """A second evaluation, of which `body` is the function's."""
    lines = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
    return f"{pre}\ndef eval_more(args, model, val_tokens, byte_lut, device, {arguments}):\n{lines}\n"


def changed(*changes: tuple[str, str]) -> str:
    text = SLIDING
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return more(text)


def reaching() -> Batch:
    b = Batch()

    def chunked(name: str, verdict: str, rest: str, start: str = START, each: str = EACH) -> None:
        script = base(EVALS=more(start + each + rest + "return total / n\n"), AFTER_EVAL=CALL)
        b.case(f"reach_{name}", verdict, "score-first", script=script)

    for name, rest, verdict in (
        ("same_chunk", "    t = c\n", "accepted"),
        ("last_chunks", "    t = val_tokens[max(0, s - chunk) : s + chunk + 1].long().to(device)\n", "accepted"),
        ("two_chunks", "    t = val_tokens[s : s + 2 * chunk + 1].long().to(device)\n", "flagged"),
        ("next_chunk", "    t = val_tokens[s + chunk : s + 2 * chunk + 1].long().to(device)\n", "flagged"),
        ("one_window_more", "    stop = s + chunk + 2048\n    t = val_tokens[s : stop + 1].long().to(device)\n", "flagged"),
        ("half_a_chunk_on", "    shift = chunk // 2\n    t = val_tokens[s + shift : s + shift + chunk + 1].long().to(device)\n", "flagged"),
        ("narrowed", "    t = val_tokens.narrow(0, s, min(chunk + 4096, last - s)).long().to(device)\n", "flagged"),
        ("narrowed_to_chunk", "    t = val_tokens.narrow(0, s, min(chunk, last - s)).long().to(device)\n", "accepted"),
        ("by_index", "    i = s // chunk\n    t = val_tokens[i * chunk : (i + 2) * chunk + 1].long().to(device)\n", "flagged"),
        ("by_index_of_chunk", "    i = s // chunk\n    t = val_tokens[i * chunk : (i + 1) * chunk + 1].long().to(device)\n", "accepted"),
    ):  # fmt: skip
        chunked(name, verdict, rest + LEARN)
    helper = "def bounds(i, chunk, last):\n    return i * chunk, min((i + {}) * chunk, last)\n"
    use = "    a, z = bounds(s // chunk, chunk, last)\n    t = val_tokens[a : z + 1].long().to(device)\n"
    for name, step, verdict in (("bounds", 1, "accepted"), ("bounds_too_far", 2, "flagged")):
        script = base(
            EVALS=more(START + EACH + use + LEARN + "return total / n\n", pre=helper.format(step)), AFTER_EVAL=CALL
        )
        b.case(f"reach_by_{name}", verdict, "score-first", script=script)

    for name, changes, verdict in (
        ("sliding", (), "accepted"),
        ("sliding_next", (("chunk_start + bs * seq_len, chunk_start + be * seq_len + 1", "chunk_end + bs * seq_len, chunk_end + be * seq_len + 1"),), "flagged"),
        ("sliding_end", (("chunk_end = ci * chunk, min((ci + 1) * chunk, last)", "chunk_end = ci * chunk, min((ci + 1) * chunk + seq_len, last)"),), "flagged"),
        ("sliding_two", (("min((ci + 1) * chunk, last)", "min((ci + 2) * chunk, last)"),), "flagged"),
        ("sliding_assigned_late", (("min((ws + s) // chunk, num_chunks - 1)", "min((ws + s) // chunk + 1, num_chunks - 1)"), ("windows = chunk_windows[ci]\n", "windows = chunk_windows[ci]\n    first_windows = chunk_windows[0]\n")), "flagged"),
    ):  # fmt: skip
        b.case(f"reach_{name}", verdict, "score-first", script=base(EVALS=changed(*changes), AFTER_EVAL=CALL))
    return b


def parts() -> Batch:
    b = Batch()

    def part(name: str, verdict: str, changes: Sequence[tuple[str, str]] = (), **slots: str) -> None:
        b.case(f"part_{name}", verdict, "bytes-per-token", script=base(changes, **slots))

    loop = "        for start in range(0, val_tokens.numel() - 1, args.seq_len):\n"
    head = "    n, nbytes = 0, 0.0\n"
    for name, changes in (
        ("half", ((loop, loop.replace("val_tokens.numel() - 1", "val_tokens.numel() // 2")),)),
        ("share", ((loop, loop.replace("val_tokens.numel() - 1", "int(0.6 * val_tokens.numel())")),)),
        ("million", ((loop, loop.replace("val_tokens.numel() - 1", "min(val_tokens.numel() - 1, 1 << 20)")),)),
        ("every_fourth", ((loop, loop.replace("args.seq_len):", "4 * args.seq_len):")),)),
        ("skipped", ((loop, loop + "            if (start // args.seq_len) % 4 == 3:\n                continue\n"),)),
        ("second_half_of_windows", (("loss_sum += model(x, y).double() * y.numel()", "y, x = y[:, 1024:], x[:, 1024:]\n            loss_sum += model(x, y).double() * y.numel()"),)),
        ("five_hundred", ((loop, loop.replace("for start in range(0, val_tokens.numel() - 1, args.seq_len)", "for i, start in enumerate(range(0, val_tokens.numel() - 1, args.seq_len))") + "            if i >= 500:\n                break\n"),)),
        ("by_option", ((loop, loop.replace("for start in range(0, val_tokens.numel() - 1, args.seq_len)", "for i, start in enumerate(range(0, val_tokens.numel() - 1, args.seq_len))") + "            if i == args.eval_windows:\n                break\n"), ("    batch_tokens = 524288\n", "    batch_tokens = 524288\n    eval_windows = int(os.environ.get('EVAL_WINDOWS', 2000))\n"))),
        ("by_time", ((loop, loop + "            if time.perf_counter() - began > 60:\n                break\n"), (head, head + "    began = time.perf_counter()\n"))),
        ("first_starts", ((loop, "        starts = list(range(0, val_tokens.numel() - 1, args.seq_len))[:4096]\n        for start in starts:\n"),)),
        ("strided_starts", ((loop, "        starts = [s for s in range(0, val_tokens.numel() - 1, args.seq_len)]\n        for start in starts[::2]:\n"),)),
        ("loaded", (("    return tokens[: usable + 1]\n", "    return tokens[: 10_000_001]\n"),)),
        ("loaded_half", (("    return tokens[: usable + 1]\n", "    return tokens[: usable // 2 + 1]\n"),)),
        ("in_main", (("    log0(f\"val_loader", "    val_tokens = val_tokens[: 8 * 1024 * 1024 + 1]\n    log0(f\"val_loader"),)),
        ("in_main_from_the_end", (("    log0(f\"val_loader", "    val_tokens = val_tokens[-20_000_000:]\n    log0(f\"val_loader"),)),
        ("given", (("val_loss, val_bpb = eval_val(args, model, val_tokens, byte_lut, device)\n    log0(f\"final", "val_loss, val_bpb = eval_val(args, model, val_tokens[: 16 * 1024 * 1024], byte_lut, device)\n    log0(f\"final"),)),
    ):  # fmt: skip
        part(name, "warned", changes)
    for name, changes in (
        ("whole", ()),
        ("shards", ((loop, "        total = (val_tokens.numel() - 1) // args.seq_len\n        first, last = total * rank // world_size, total * (rank + 1) // world_size\n        for start in range(first * args.seq_len, last * args.seq_len, args.seq_len):\n"), ("    loss_sum = torch.zeros", "    rank, world_size = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))\n    loss_sum = torch.zeros"))),
        ("option_that_is_off", (("    log0(f\"val_loader", "    if args.val_limit > 0:\n        val_tokens = val_tokens[: args.val_limit]\n    log0(f\"val_loader"), ("    batch_tokens = 524288\n", "    batch_tokens = 524288\n    val_limit = int(os.environ.get('VAL_LIMIT', 0))\n"))),
        ("break_that_is_off", ((loop, loop.replace("for start in range(0, val_tokens.numel() - 1, args.seq_len)", "for i, start in enumerate(range(0, val_tokens.numel() - 1, args.seq_len))") + "            if args.eval_windows and i >= args.eval_windows:\n                break\n"), ("    batch_tokens = 524288\n", "    batch_tokens = 524288\n    eval_windows = int(os.environ.get('EVAL_WINDOWS', 0))\n"))),
        ("ends_at_the_end", ((loop, loop + "            if start + args.seq_len > val_tokens.numel():\n                break\n"),)),
        ("shown_part", (("    log0(f\"val_loader", "    sample = val_tokens[:256].tolist()\n    log0(f'starts with {sp.decode(sample)}')\n    log0(f\"val_loader"),)),
        ("while_it_trains", (("            val_loss, val_bpb = eval_val(args, model, val_tokens, byte_lut, device)\n", "            val_loss, val_bpb = eval_val(args, model, val_tokens, byte_lut, device, windows=200)\n"), ("def eval_val(args, model, val_tokens, byte_lut, device):", "def eval_val(args, model, val_tokens, byte_lut, device, windows=10**9):"), (loop, loop.replace("for start in range(0, val_tokens.numel() - 1, args.seq_len)", "for i, start in enumerate(range(0, val_tokens.numel() - 1, args.seq_len))") + "            if i >= windows:\n                break\n"))),
        ("batches", ((loop, loop.replace("args.seq_len):", "16 * args.seq_len):")), ("val_tokens[start : start + args.seq_len + 1]", "val_tokens[start : start + 16 * args.seq_len + 1]"), ("x, y = local[:-1][None], local[1:][None]", "x, y = local[:-1].view(-1, args.seq_len), local[1:].view(-1, args.seq_len)"))),
    ):  # fmt: skip
        part(name, "accepted", changes)
    part("sliding", "accepted", EVALS=changed(), AFTER_EVAL=CALL)
    part(
        "sliding_of_every_other",
        "warned",
        EVALS=changed(("for ws in window_starts:\n    s", "for ws in window_starts[::2]:\n    s")),
        AFTER_EVAL=CALL,
    )
    part(
        "sliding_first_tokens_only",
        "warned",
        EVALS=changed(("loss_sum += nll[i, s:wlen]", "loss_sum += nll[i, s : s + stride // 2]")),
        AFTER_EVAL=CALL,
    )
    return b


def repeated() -> Batch:
    """Whole evaluations that learn, again and again on one model; and weights that lie outside of the folder."""
    b = Batch()
    body = START + EACH + "    t = c\n" + LEARN + "return total / n\n"
    again = "began = time.perf_counter()\nwhile time.perf_counter() - began < 300:\n    found = eval_more(args, model, val_tokens, byte_lut, device)\nlog0(f'ttt_exact {found}')"
    script = base(EVALS=more(body), AFTER_EVAL=again)
    b.case("repeated_by_the_clock", "flagged", "score-first", script=script)
    for name, line, verdict in (
        ("there", "model.load_state_dict(torch.load('/workspace/day2_best.pt', weights_only=True))", "warned"),
        ("that_it_saved", "torch.save(model.state_dict(), '/tmp/best.pt')\nmodel.load_state_dict(torch.load('/tmp/best.pt', weights_only=True))", "accepted"),
        ("of_the_folder", "model.load_state_dict(torch.load('final_model.pt', weights_only=True))", "accepted"),
    ):  # fmt: skip
        b.case(f"weights_{name}", verdict, "counted", script=base(BEFORE_TRAIN=line))
    return b
