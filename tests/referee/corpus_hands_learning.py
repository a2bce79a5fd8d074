# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""Programs in several hands that learn from the text they are scored on, that score other weights than the packed
ones, or that train outside of the clock; and their legal twins."""

from __future__ import annotations

from .folder_case import Case
from .hand_files import FILES
from .hand_notebook import FUNCTIONAL, GOLF, NOTEBOOK
from .hand_objects import OBJECTS
from .hand_script import PLAIN, changed, files_changed

PROGRAMS = {"plain": PLAIN, "objects": OBJECTS, "notebook": NOTEBOOK, "functional": FUNCTIONAL, "golf": GOLF}
POLISH = """
def polish_gains(p, rows, lr=1e-3, rounds=3):
    gains = {k: w for k, w in p.items() if k.endswith(".out")}
    rest = {k: w for k, w in p.items() if k not in gains}
    objective = torch.func.grad(lambda g, x, y: nll({**rest, **g}, x, y))
    for _ in range(rounds):
        for x in rows:
            d = objective(gains, x[None, :-1].to(DEV), x[None, 1:].to(DEV))
            gains = {k: w - lr * d[k].sign() for k, w in gains.items()}
    return {**rest, **gains}


def pack(p, path):"""
WARM = """
def warm_kernels(net, opt, source, steps, keep):
    before = {k: w.clone() for k, w in net.state_dict().items()} if keep else None
    for _, (x, y) in zip(range(steps), source):
        net.loss(x, y).backward()
        opt.step()
        opt.zero_grad(set_to_none=True)
    if keep:
        net.load_state_dict(before)
        opt.state.clear()


def train(net, reader, opt, budget):"""
TTT = """
def eval_ttt(args, model, val_tokens, luts, device, chunk=32768, lr=1e-3):
    base, leading, boundary = luts
    sgd = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    nats, count, nbytes = 0.0, 0, 0.0
    for at in range(0, val_tokens.numel() - 1, chunk):
        local = val_tokens[at : at + chunk + 1].to(device)
        n = (local.numel() - 1) // args.seq_len * args.seq_len
        x, y = local[:n].view(-1, args.seq_len), local[1 : n + 1].view(-1, args.seq_len)
#FIRST
        nbytes += (base[y].double() + (leading[y] & ~boundary[x]).double()).sum().item()
        count += y.numel()
#SECOND
    loss = nats / count
    return loss, loss / math.log(2.0) * count / nbytes


def main():"""
SCORES = "        with torch.no_grad():\n            nats += model(x, y).item() * y.numel()\n"
ADAPTS = "        for _ in range(2):\n            sgd.zero_grad()\n            model(x, y).backward()\n            sgd.step()\n"
TWICE = f"        with torch.no_grad():\n            before = model(x, y).item()\n{ADAPTS}        with torch.no_grad():\n            after = model(x, y).item()\n"
ORDERS = {
    "adapts_first": ("warned", ADAPTS, SCORES),
    "scores_first": ("accepted", SCORES, ADAPTS),
    "keeps_the_better": ("warned", f"{TWICE}        nats += min(before, after) * y.numel()\n", ""),
    "keeps_the_later": ("warned", f"{TWICE}        nats += after * y.numel()\n", ""),
    "prints_the_gain": (
        "accepted",
        f"{TWICE}        nats += before * y.numel()\n        print(before - after)\n",
        "",
    ),
    "adds_up_behind_its_step": (
        "accepted",
        "        sgd.zero_grad()\n        loss = model(x, y)\n        loss.backward()\n        sgd.step()\n        nats += loss.item() * y.numel()\n",
        "",
    ),
}
FOLLOWS = """
class Adapted(Scorer):
    def __call__(self, net):
        t, ids = self.cfg.model.context, self.text.ids
        shift = torch.zeros(self.cfg.model.vocab, device="cuda", requires_grad=True)
        follow = torch.optim.Adam([shift], lr=0.01)
        for epoch in range(EPOCHS):
            nats = n_tok = n_byte = 0.0
            for a in range(0, len(ids) - 1, t):
                y = ids[a + 1 : a + t + 1]
                x = ids[a : a + len(y)]
                with torch.no_grad():
                    z = net(x[None].cuda())[0]
                nll = fn.cross_entropy(z + shift, y.cuda(), reduction="none")
                nats += nll.detach().double().sum().item()
                n_tok += y.numel()
                n_byte += self.text.bytes_of(x, y).sum().item()
                follow.zero_grad()
                nll.mean().backward()
                follow.step()
        return nats / n_tok, nats / math.log(2) / n_byte


def run(cfg: RunConfig):"""


def hands_learning() -> dict[str, Case]:
    """What is learned of which text, and when."""
    b = {f"hands_{name}_as_it_is": Case("training-text", "accepted", script) for name, script in PROGRAMS.items()}
    b["hands_files_as_they_are"] = Case("training-text", "accepted", FILES["train_gpt.py"], files=FILES)
    for split, verdict in (("val", "warned"), ("train", "accepted")):
        tail = f'    tail = next(tokens("{split}"))[: 64 * (T + 1)].view(64, T + 1)\n    p = polish_gains(p, tail)\n'
        script = changed(FUNCTIONAL, ("\ndef pack(p, path):", POLISH), ("    # PACK\n", tail))
        b[f"hands_polish_on_{split}"] = Case("training-text", verdict, script)
        keep = split == "train"
        call = f'    warm = ShardReader(a.data, "{split}", rows=128, length=1024)\n    warm_kernels(net, opt, iter(warm.next_batch, None), 20, keep={keep})\n'
        starts = "    train(net, reader, opt, a.budget)\n"
        files = files_changed(
            ("train_gpt.py", "\ndef train(net, reader, opt, budget):", WARM), ("train_gpt.py", starts, call + starts)
        )
        b[f"hands_warm_up_on_{split}"] = Case("training-text", verdict, files["train_gpt.py"], files=files)
    b |= _in_evaluations()
    every = changed(GOLF, ('for s in ld("train"):', 'for s in ld("*"):'))
    b["hands_pattern_by_a_lambda"] = Case("training-text", "warned", every)
    for name, (verdict, first, second) in ORDERS.items():
        loop = TTT.replace("#FIRST\n", first).replace("#SECOND\n", second)
        called = (
            'eval_val(args, model, val_tokens, luts, device)\n    print(f"final',
            'eval_ttt(args, model, val_tokens, luts, device)\n    print(f"final',
        )
        b[f"hands_ttt_{name}"] = Case("score-first", verdict, changed(PLAIN, ("\ndef main():", loop), called))
    for epochs, verdict in (("2", "warned"), ("1", "accepted")):
        script = changed(
            OBJECTS,
            ("\ndef run(cfg: RunConfig):", FOLLOWS.replace("EPOCHS", epochs)),
            ("Scorer(cfg, held_out)(fresh)", "Adapted(cfg, held_out)(fresh)"),
        )
        b[f"hands_last_of_{epochs}_epochs"] = Case("score-first", verdict, script)
    return b | _untimed() | _of_chains() | _of_tables()


def _of_tables() -> dict[str, Case]:
    """A table of tables that counts which token follows which, and is asked before or after."""
    loss = "            nats += nll(p, x[None].to(DEV), y[None].to(DEV)).item() * len(y)\n"
    each = "            q = model(p, x[None].to(DEV))[0].float().softmax(-1).cpu().numpy()\n            for i in range(len(y)):\n                prev, new = int(x[i]), int(y[i])\n"
    counts = "                row = follow.setdefault(prev, {})\n                row[new] = row.get(new, 0) + 1\n"
    asks = "                seen = follow.get(prev, {})\n                total = sum(seen.values())\n                share = 0.2 * (total > 0)\n                pr = (1 - share) * q[i, new] + share * seen.get(new, 0) / max(total, 1)\n                nats -= math.log(pr)\n"
    start = (
        "    nats, count, size = 0.0, 0, 0\n    with",
        "    nats, count, size = 0.0, 0, 0\n    follow = {}\n    with",
    )
    return {
        f"hands_table_{name}": Case("score-first", verdict, changed(FUNCTIONAL, (loss, each + lines), start))
        for name, verdict, lines in (
            ("counts_first", "warned", counts + asks),
            ("asks_first", "accepted", asks + counts),
        )
    }


def _of_chains() -> dict[str, Case]:
    """Batches of two sources, one behind the other."""
    b = {}
    fit = "    Trainer(cfg, net).fit(Corpus(cfg))\n"
    for split, verdict in (("val", "warned"), ("train", "accepted")):
        more = f"    t = cfg.model.context\n    extra = (read_shard(p) for p in sorted(cfg.root.glob('fineweb_{split}_*.bin')))\n    more = ((ids[i : i + t][None].cuda(), ids[i + 1 : i + t + 1][None].cuda()) for ids in extra for i in range(0, len(ids) - t, t))\n"
        script = changed(
            OBJECTS,
            ("import dataclasses\n", "import dataclasses\nimport itertools\n"),
            (fit, f"{more}{fit.replace('Corpus(cfg)', 'itertools.chain(more, Corpus(cfg))')}"),
        )
        b[f"hands_chain_with_{split}"] = Case("training-text", verdict, script)
    return b


def _in_evaluations() -> dict[str, Case]:
    """Functions that a periodic evaluation is given and calls with its losses."""
    b = {}
    for name, verdict, does in (
        ("steps", "warned", "        (0.05 * loss).backward()\n        opt.step()\n        opt.zero_grad()\n"),
        ("remembers", "accepted", "        worst.append(loss.item())\n"),
    ):
        script = changed(
            PLAIN,
            ("luts, device):\n    base, leading", "luts, device, after_batch=None):\n    base, leading"),
            ("    with torch.inference_mode():\n", "    with torch.set_grad_enabled(after_batch is not None):\n"),
            (
                "            total += loss * y",
                "            if after_batch is not None:\n                after_batch(loss)\n            loss = loss.detach()\n            total += loss * y",
            ),
            (
                "    t0 = time.perf_counter()\n",
                f"    t0 = time.perf_counter()\n    worst = []\n\n    def on_batch(loss):\n{does}\n",
            ),
            ("luts, device)\n            print", "luts, device, on_batch)\n            print"),
        )
        b[f"hands_callback_{name}"] = Case("training-text", verdict, script)
    return b


def _untimed() -> dict[str, Case]:
    """Loops that train before the clock starts."""
    clock = "t0 = time.time()\nfor step"
    loop = "for step, (x, y) in enumerate(batches()):\n    if step == 400: break\n    F.cross_entropy(net(x).view(-1, V), y.view(-1)).backward()\n    opt.step(); opt.zero_grad()\n"
    kept = "start = {k: w.clone() for k, w in net.state_dict().items()}\n"
    back = "net.load_state_dict(start)\nopt.state.clear()\n"
    return {
        "hands_trains_before_the_clock": Case("time", "warned", changed(NOTEBOOK, (clock, loop + clock))),
        "hands_puts_back_before_the_clock": Case(
            "time", "accepted", changed(NOTEBOOK, (clock, kept + loop + back + clock))
        ),
        "hands_few_steps_before_the_clock": Case(
            "time", "accepted", changed(NOTEBOOK, (clock, loop.replace("400", "10") + clock))
        ),
    }


BACK = "    # READ BACK\n"
WRAPPED = "    fast = torch.compile(model)\n    judged = DDP(fast) if torch.cuda.device_count() > 1 else fast\n"
SCORED = "t1 = time.perf_counter()\n    val_loss, val_bpb = eval_val(args, model, val_tokens, luts, device)\n"
LOADED = "    model.load_state_dict(dequantize_state_dict_int8(stored), strict=True)\n"
STORED = '    stored = torch.load(io.BytesIO(zlib.decompress(Path("final_model.int8.ptz").read_bytes())), weights_only=True)\n'
FILES_OF = """
class ModelIO:
    def __init__(self, path):
        self.path = path

    def save(self, net):
        self.path.write_bytes(lzma.compress(b"".join(w.half().cpu().numpy().tobytes() for w in net.state_dict().values())))
        return self.path.stat().st_size

    def load_into(self, net):
        raw, at = lzma.decompress(self.path.read_bytes()), 0
        for w in net.state_dict().values():
            w.copy_(torch.from_numpy(np.frombuffer(raw, np.float16, w.numel(), at).astype(np.float32)).view(w.shape))
            at += 2 * w.numel()


def run(cfg: RunConfig):"""
IN_PLACE = """
@torch.no_grad()
def round_in_place(model):
    for name, w in model.named_parameters():
        if w.ndim == 2 and w.numel() > 65536:
            scale = (w.float().abs().amax(1, keepdim=True).clamp_min(1e-8) / 127.0).half().float()
            w.copy_(torch.round(w.float() / scale) * scale)


def main():"""
INTO = """
def load_packed(model, path):
    stored = torch.load(io.BytesIO(zlib.decompress(Path(path).read_bytes())), weights_only=True)
    model.load_state_dict(dequantize_state_dict_int8(stored), strict=True)


def main():"""


def hands_packed() -> dict[str, Case]:
    """Which weights are scored: those of the packed file, or others."""
    fresh = "    fresh = Net(cfg.model).cuda()\n    fresh.load_state_dict(Packer.read(fresh, cfg.out))\n"
    put = "    with torch.no_grad():\n        for name, w in Packer.read(net, cfg.out).items():\n            net.get_parameter(name).copy_(w)\n"
    scored = "Scorer(cfg, held_out)(fresh)"
    of_net = "Scorer(cfg, held_out)(net)"
    load = "    judged.load_state_dict(export.load(a.artifact))\n"
    exact = files_changed(
        ("train_gpt.py", "    # PACK\n", "    exact = {k: w.clone() for k, w in net.state_dict().items()}\n"),
        ("train_gpt.py", load, f"{load}    judged.load_state_dict(exact)\n"),
    )
    other = files_changed(("train_gpt.py", "evaluate(judged,", "evaluate(net,"))
    scripts = {
        "never_read": ("warned", changed(PLAIN, (STORED, ""), (LOADED, ""))),
        "read_into_another": ("warned", changed(OBJECTS, (scored, of_net))),
        "read_and_counted": ("warned", changed(FUNCTIONAL, ('    p = unpack("p.bin.zz")\n', '    q = unpack("p.bin.zz")\n    print(len(q))\n'))),
        "notebook_reads_and_drops": ("warned", changed(NOTEBOOK, ("net.load_state_dict({k: w", "back = ({k: w"))),
        "put_one_by_one": ("accepted", changed(OBJECTS, (fresh, put), (scored, of_net))),
        "read_by_a_function": ("accepted", changed(PLAIN, (STORED, ""), (LOADED, '    load_packed(model, "final_model.int8.ptz")\n'), ("\ndef main():", INTO))),
        "rounded_in_place": ("accepted", changed(PLAIN, ("\ndef main():", IN_PLACE), ("    # PACK\n", "    round_in_place(model)\n"), (STORED, ""), (LOADED, ""))),
        "read_from_memory": ("accepted", changed(PLAIN, (STORED, "    stored = torch.load(io.BytesIO(zlib.decompress(blob)), weights_only=True)\n"))),
        "compiled_after_reading": ("accepted", changed(OBJECTS, (fresh, f"{fresh}    fast = torch.compile(fresh)\n"), (scored, "Scorer(cfg, held_out)(fast)"))),
        "wrapped_before_reading": ("accepted", changed(PLAIN, ("    # PACK\n", WRAPPED), (LOADED, f"{LOADED}    torch.cuda.synchronize()\n"), (SCORED, SCORED.replace("args, model", "args, judged")))),
        "only_packs": ("accepted", changed(PLAIN, (PLAIN[PLAIN.index(BACK) : PLAIN.index("\n\nif __name__")], ""))),
    }  # fmt: skip
    io = [
        ("\ndef run(cfg: RunConfig):", FILES_OF),
        ("    size = Packer.write(net, cfg.out)\n", "    files = ModelIO(cfg.out)\n    size = files.save(net)\n"),
    ]
    floats = "    with torch.no_grad():\n        for p, exact in zip(model.parameters(), kept):\n            p.copy_(exact)\n"
    kept = "    kept = [p.detach().clone() for p in model.parameters()]\n"
    spare = "    spare = Net(cfg.model).cuda()\n    files.load_into(spare)\n"
    scripts |= {
        "loaded_into_a_spare": ("warned", changed(OBJECTS, *io, (fresh, spare), (scored, of_net))),
        "loaded_into_the_net": (
            "accepted",
            changed(OBJECTS, *io, (fresh, "    files.load_into(net)\n"), (scored, of_net)),
        ),
        "floats_copied_back": ("warned", changed(PLAIN, ("    # PACK\n", kept), (LOADED, LOADED + floats))),
        "the_same_copied_back": ("accepted", changed(PLAIN, (LOADED, LOADED + kept + floats))),
    }
    b = {f"hands_weights_{name}": Case("log-loss", verdict, script) for name, (verdict, script) in scripts.items()}
    b["hands_weights_put_back_exact"] = Case("log-loss", "warned", exact["train_gpt.py"], files=exact)
    b["hands_weights_of_the_trained_net"] = Case("log-loss", "warned", other["train_gpt.py"], files=other)
    for name, script in PROGRAMS.items():
        b[f"hands_weights_{name}"] = Case("log-loss", "accepted", script)
    b["hands_weights_files"] = Case("log-loss", "accepted", FILES["train_gpt.py"], files=FILES)
    return b
