# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""Programs in several hands whose layers look ahead, whose losses are no distribution's, or whose bytes are counted
twice; and their legal twins."""

from __future__ import annotations

from .folder_case import Case
from .hand_files import FILES
from .hand_notebook import FUNCTIONAL, GOLF, NOTEBOOK
from .hand_objects import OBJECTS
from .hand_script import PLAIN, changed, files_changed

MADE = '        mask = torch.full((length, length), float("-inf")).triu(1)\n        self.register_buffer("mask", mask, persistent=False)\n'
ADDED = "        w = torch.softmax(w + self.mask[:t, :t], dim=-1)\n"
SCORED = '        w = torch.einsum("bqhd,bkhd->bhqk", q, k) * (d // self.heads) ** -0.5\n'
ALIBI = f"{SCORED}        at = torch.arange(t, device=x.device)\n        slope = 2.0 ** -torch.arange(1, self.heads + 1, device=x.device)\n        w = w - slope[:, None, None] * (at[:, None] - at[None, :]).abs()\n"
BODY = "        return x + self.body(self.post(x))\n"
TRI = "torch.ones(c.context, c.context, dtype=torch.bool).tril()"
HIDES = '        score = score.masked_fill(~self.tri[:t, :t], float("-inf"))\n'
EACH = "        for layer in self.layers:\n            h = layer(h)\n"
MODEL = 'def model(p, ids):\n    h = p["wte"][ids]\n'
SDPA = "return scaled_dot_product_attention(q, k, v, is_causal=True).transpose"
MIX = "        return self.o(F.scaled_dot"
KERNEL = (
    "        self.o = nn.Linear(D, D, bias=False)\n",
    "        self.o = nn.Linear(D, D, bias=False)\n        self.k = nn.Parameter(torch.zeros(T, D))\n",
)


def hands_layers() -> dict[str, Case]:
    """Layers and masks."""
    told = "x + torch.fft.irfft(torch.fft.rfft(x.float(){n}, dim=1) * torch.fft.rfft(self.k[:t]{n}, dim=0), n={m}, dim=1)"
    fft = {
        "circular": ("warned", told.format(n="", m="t")),
        "as_long": ("warned", told.format(n=", n=t", m="t")),
        "padded": (
            "accepted",
            f"({told.format(n=', n=2 * t', m='2 * t')})".replace("x + ", "").join(["x + ", "[:, :t]"]),
        ),
    }
    b = {}
    for name, (verdict, text) in fft.items():
        script = changed(NOTEBOOK, (MIX, f"        x = {text}\n{MIX}"), KERNEL)
        b[f"hands_fft_{name}"] = Case("causal", verdict, script)
    states = {
        "rest_of_the_sum": ("warned", "    done = h.cumsum(-2)\n    h = h + 0.1 * (done[..., -1:, :] - done)\n"),
        "rest_by_a_layer": ("warned", "    h = h + gist(h)\n"),
        "sum_so_far": ("accepted", "    n = torch.arange(1, h.shape[-2] + 1, device=h.device)[:, None]\n    h = h + 0.1 * h.cumsum(-2) / n\n"),
        "flipped_sum": ("warned", "    h = h + 0.1 * h.flip(-2).cumsum(-2).flip(-2)\n"),
        "convolution_centred": ("warned", '    h = h + torch.nn.functional.conv1d(h.mT, p["k"], padding=2, groups=D).mT\n'),
        "convolution_cut": ("accepted", '    h = h + torch.nn.functional.conv1d(h.mT, p["k"], padding=4, groups=D)[..., : h.shape[1]].mT\n'),
        "last_channel": ("accepted", "    h = h + 0.1 * h[..., -1:]\n"),
    }  # fmt: skip
    layer = "def gist(h):\n    done = h.cumsum(-2)\n    return (done[..., -1:, :] - done) / h.shape[-2]\n\n\n"
    for name, (verdict, lines) in states.items():
        made = layer if "gist" in lines else ""
        b[f"hands_functions_{name}"] = Case("causal", verdict, changed(FUNCTIONAL, (MODEL, made + MODEL + lines)))
    by_hand = "w = q @ k.transpose(-2, -1) * (D // H) ** -0.5\n    {hide}return (w.softmax(-1) @ v).transpose"
    hide = 'w = w.masked_fill(torch.ones_like(w).triu(1).bool(), float("-inf"))\n    '
    for name, verdict, text in (("bare", "warned", ""), ("masked", "accepted", hide)):
        b[f"hands_functions_attend_{name}"] = Case(
            "causal", verdict, changed(FUNCTIONAL, (SDPA, by_hand.format(hide=text)))
        )
    return b | _of_modules() | _of_files()


def _of_modules() -> dict[str, Case]:
    """Changes to the program of objects and to the terse one."""
    tri = "torch.ones(c.context, c.context, dtype=torch.bool)"
    told = "        h = h + 0.1 * {0}\n" + EACH
    objects = {
        "mask_that_nobody_uses": ("warned", [(HIDES, "")]),
        "triangle_too_far": ("warned", [(TRI, f"{tri}.tril(diagonal=1)")]),
        "triangle_of_the_rest": ("accepted", [(TRI, f"~{tri}.triu(diagonal=1)")]),
        "maximum_of_all": ("warned", [(EACH, told.format("h.amax(dim=1, keepdim=True)"))]),
        "running_maximum": ("accepted", [(EACH, told.format("h.cummax(dim=1).values"))]),
        "last_state": ("warned", [(EACH, told.format("h[:, -1:]"))]),
        "decay_to_the_end": ("accepted", [(EACH, f"        log_decay = h.cumsum(1)\n        left = torch.exp(log_decay[:, -1:] - log_decay)\n        self.carried = left.detach().amax()\n{EACH}")]),
    }  # fmt: skip
    b = {f"hands_objects_{name}": Case("causal", v, changed(OBJECTS, *pairs)) for name, (v, pairs) in objects.items()}
    start = "  h=rn(s.e(x))\n"
    golf = {
        "roll_left": ("warned", "  h=rn(s.e(x));h=h+.1*h.roll(-1,1)\n"),
        "shift_right": ("accepted", "  h=rn(s.e(x));h=h+.1*torch.cat([0*h[:,:1],h[:,:-1]],1)\n"),
    }
    b |= {f"hands_golf_{name}": Case("causal", v, changed(GOLF, (start, line))) for name, (v, line) in golf.items()}
    return b


def _of_files() -> dict[str, Case]:
    """Changes to the layers of the program of several files."""
    arange = "        pos = torch.arange(t, device=x.device)\n        w = torch.where(pos[None, :] <= pos[:, None], w, float('-inf')).softmax(-1)\n"
    local = '        hidden = torch.full((t, t), float("-inf"), device=x.device).triu(1)\n        w = torch.softmax(w, dim=-1)\n'
    axis = "        mu, sd = x.mean({0}, keepdim=True), x.std({0}, keepdim=True)\n        return x + self.body(self.post((x - mu) / (sd + 1e-5)))\n"
    norms = "nn.LayerNorm(dim), nn.LayerNorm(dim)\n"
    turned = "        return x + self.body(self.post(x.transpose(1, 2)).transpose(1, 2))\n"
    changes = {
        "mask_never_added": ("warned", [(ADDED, "        w = torch.softmax(w, dim=-1)\n")]),
        "mask_in_a_name": ("warned", [(MADE, ""), (ADDED, local)]),
        "mask_by_places": ("accepted", [(MADE, ""), (ADDED, arange)]),
        "mask_by_getattr": ("accepted", [(ADDED, '        w = torch.softmax(w + getattr(self, "mask")[:t, :t], dim=-1)\n')]),
        "standard_over_time": ("warned", [(BODY, axis.format(1))]),
        "standard_over_channels": ("accepted", [(BODY, axis.format(-1))]),
        "alibi_without_a_mask": ("warned", [(MADE, ""), (SCORED, ALIBI), (ADDED, "        w = torch.softmax(w, dim=-1)\n")]),
        "alibi": ("accepted", [(SCORED, ALIBI)]),
        "norm_over_time": ("warned", [(BODY, "        return x + self.body(F.layer_norm(x, x.shape[1:]))\n")]),
        "norm_over_the_last": ("accepted", [(BODY, "        return x + self.body(F.layer_norm(x, x.shape[-1:]))\n")]),
        "instance_norm": ("warned", [(norms, "nn.LayerNorm(dim), nn.InstanceNorm1d(dim)\n"), (BODY, turned)]),
        "running_instance_norm": ("accepted", [(norms, "nn.LayerNorm(dim), nn.InstanceNorm1d(dim, track_running_stats=True)\n"), (BODY, turned)]),
    }  # fmt: skip
    b = {"hands_files_causal": Case("causal", "accepted", FILES["train_gpt.py"], files=FILES)}
    for name, (verdict, pairs) in changes.items():
        files = files_changed(*(("nets.py", old, new) for old, new in pairs))
        b[f"hands_files_{name}"] = Case("causal", verdict, files["train_gpt.py"], files=files)
    return b


SLIDES = """
@torch.no_grad()
def eval_sliding(args, model, val_tokens, luts, device, stride=64):
    base, leading, boundary = luts
    nats = n = nb = 0.0
    last = val_tokens.numel() - 1
    for begin in range(0, last, stride):
        end = min(begin + args.seq_len, last)
        x, y = val_tokens[begin:end].to(device), val_tokens[begin + 1 : end + 1].to(device)
        loss = F.cross_entropy(model.logits(x[None])[0].float(), y, reduction="none")
        keep = slice(0, None) if begin == 0 else slice(-stride, None)
#KEEP
        nats += loss[keep].double().sum().item()
        n += y[keep].numel()
        nb += (base[y[keep]].double() + (leading[y[keep]] & ~boundary[x[keep]]).double()).sum().item()
        if end == last:
            break
    return nats / n, nats / n / math.log(2.0) * n / nb


def main():"""
NLL = "    return cross_entropy(model(p, x).flatten(0, -2).float(), y.flatten())"


def hands_scores() -> dict[str, Case]:
    """Losses, bytes of tokens, and programs that are given an address."""
    b = {}
    easy = "        keep = torch.nonzero(loss < loss.mean() + 4 * loss.std()).squeeze(1)\n"
    for name, verdict, lines in (("the_easy", "warned", easy), ("the_new", "accepted", "")):
        called = (
            'eval_val(args, model, val_tokens, luts, device)\n    print(f"final',
            'eval_sliding(args, model, val_tokens, luts, device)\n    print(f"final',
        )
        script = changed(PLAIN, ("\ndef main():", SLIDES.replace("#KEEP\n", lines)), called)
        b[f"hands_windows_keep_{name}"] = Case("normalized", verdict, script)
    result = "    result = scoring.evaluate(judged, a.data, a.tokenizer)\n"
    several = {
        "best_of_three_windows": ("warned", "    tried = [scoring.evaluate(judged, a.data, a.tokenizer, window=w) for w in (512, 768, 1024)]\n    result = min(tried, key=lambda r: r.bpb)\n"),
        "three_windows_printed": ("accepted", f"    for w in (512, 768):\n        log.info('%d %.4f', w, scoring.evaluate(judged, a.data, a.tokenizer, window=w).bpb)\n{result}"),
    }  # fmt: skip
    for name, (verdict, lines) in several.items():
        files = files_changed(("train_gpt.py", result, lines))
        b[f"hands_{name}"] = Case("normalized", verdict, files["train_gpt.py"], files=files)
    heat = "    z = model(p, x).flatten(0, -2).float()\n    {0}\n    return cross_entropy(z * torch.where({1}, 1.4, 0.9)[:, None], y.flatten())"
    for name, verdict, line, test in (
        ("by_a_hit", "warned", "hit = z.argmax(-1) == y.flatten()", "hit"),
        ("by_confidence", "accepted", "sure = z.softmax(-1).amax(-1) > 0.5", "sure"),
    ):
        b[f"hands_heat_{name}"] = Case("normalized", verdict, changed(FUNCTIONAL, (NLL, heat.format(line, test))))
    own = "own[i] = len(text.encode()) - 3 * lead[i]"
    spaced = changed(FUNCTIONAL, (own, "own[i] = len(text.encode())"))
    bare = changed(FUNCTIONAL, (own, 'text = text.removeprefix("\\u2581")\n            own[i] = len(text.encode())'))
    b["hands_bytes_with_the_mark"] = Case("bytes-per-token", "warned", spaced)
    b["hands_bytes_without_it"] = Case("bytes-per-token", "accepted", bare)
    starts = "    args = Hyperparameters()\n    random"
    imports = ("import zlib\n", "import subprocess\nimport zlib\n")
    commands = {
        "program_in_letters": ("refused", "    tool = ''.join(chr(c) for c in (99, 117, 114, 108))\n    subprocess.run([tool, '-sLo', 'head.npz', 'https://example.org/head.npz'])\n"),
        "program_of_a_folder": ("refused", "    subprocess.run(['./tools/get', 'https://example.org/head.npz'])\n"),
        "nvidia_smi": ("accepted", "    print(subprocess.run(['nvidia-smi'], capture_output=True, text=True).stdout)\n"),
        "this_machine": ("accepted", "    subprocess.run(['./tools/status', 'http://localhost:8080/ready'])\n"),
    }  # fmt: skip
    for name, (verdict, lines) in commands.items():
        script = changed(PLAIN, imports, (starts, starts.replace("    random", f"{lines}    random")))
        b[f"hands_{name}"] = Case("network", verdict, script)
    return b
