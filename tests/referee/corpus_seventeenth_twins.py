# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""What looks like attention without a mask, a warm-up or a choice, and is none."""

from __future__ import annotations

from .object_parts import AT, OUTL, STD, ev, mix
from .object_script import SLOTS, Folders, objects


def looking_alike() -> Folders:
    """Each beside its twin."""
    b = Folders()
    b.folder(
        "alike_told_added_from_outside_legal",
        "accepted",
        "causal",
        script=objects(
            mixer=mix(
                AT + "        s = s + self.far[:t, :t]\n        z = s.softmax(-1) @ v\n" + OUTL,
                "        self.register_buffer('far', torch.full((4096, 4096), -1e4).triu(1), persistent=False)\n",
            ).replace(
                "self.register_buffer('far', torch.full((4096, 4096), -1e4).triu(1), persistent=False)",
                "self.far = FAR",
            )
        ).replace("class Mixer", "FAR = torch.full((4096, 4096), -1e4).triu(1).cuda()\n\n\nclass Mixer", 1),
    )
    b.folder(
        "alike_told_rule_function_legal",
        "accepted",
        "causal",
        script=objects(
            mixer=mix(AT + "        s = only_past(s)\n        z = s.softmax(-1) @ v\n" + OUTL),
            helpers="\ndef only_past(s):\n    n = s.size(-1)\n    return s.masked_fill(torch.ones(n, n, dtype=torch.bool, device=s.device).triu(1), float('-inf'))\n",
        ),
    )
    b.folder(
        "alike_told_low_rank_legal",
        "accepted",
        "causal",
        script=objects(
            mixer="\nclass Mixer(nn.Module):\n    def __init__(self, width, heads):\n        super().__init__()\n        self.u = nn.Parameter(torch.zeros(width, 64))\n        self.core = nn.Parameter(torch.zeros(64, width))\n        self.taps = nn.Parameter(torch.zeros(4, width))\n\n    def forward(self, h):\n        w = self.core\n        past = sum(F.pad(h, (0, 0, i, 0))[:, : h.size(1)] * self.taps[i] for i in range(4))\n        return F.linear(past, self.u @ w)\n"
        ),
    )
    b.folder(
        "alike_told_std_of_losses_legal",
        "accepted",
        "normalized",
        script=objects(
            evaluate=ev(STD.format(x="spread = torch.sqrt(per.var())\n    if i == 0:\n        print(spread.item())"))
        ),
    )
    b.folder(
        "alike_told_two_strides_legal",
        "accepted",
        "normalized",
        script=objects(beforeeval="    for hop in (2048, 1024):\n        print(hop, judge.run(clean)[1])\n"),
    )
    b.folder(
        "alike_told_q_softmax_stable_legal",
        "accepted",
        "causal",
        script=objects(
            mixer=mix(
                AT
                + "        s = torch.where(torch.ones(t, t, dtype=torch.bool, device=h.device).tril(), s, -1e9)\n        w = (s - s.amax(-1, keepdim=True)).exp()\n        z = (w / w.sum(-1, keepdim=True)) @ v\n"
                + OUTL
            )
        ),
    )
    b.folder(
        "alike_told_q_softmax_stable",
        "flagged",
        "causal",
        script=objects(
            mixer=mix(
                AT
                + "        w = (s - s.amax(-1, keepdim=True)).exp()\n        z = (w / w.sum(-1, keepdim=True)) @ v\n"
                + OUTL
            )
        ),
    )
    b.folder(
        "alike_told_router_by_keys_legal",
        "accepted",
        "causal",
        script=objects(
            mixer=mix(
                "        q_r = h.mean(-1, keepdim=True) * h\n        pick = (q_r @ self.keys.transpose(-1, -2)).softmax(-1)\n        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)\n        return self.out(z.transpose(1, 2).reshape(b, t, c)) + pick @ self.vals",
                "        self.keys = nn.Parameter(torch.zeros(8, width))\n        self.vals = nn.Parameter(torch.zeros(8, width))\n",
            )
        ),
    )
    b.folder(
        "alike_told_sdpa_positional_legal",
        "accepted",
        "causal",
        script=objects(mixer=mix("        z = F.scaled_dot_product_attention(q, k, v, None, 0.0, True)\n" + OUTL)),
    )
    b.folder(
        "alike_told_sdpa_positional",
        "flagged",
        "causal",
        script=objects(mixer=mix("        z = F.scaled_dot_product_attention(q, k, v, None, 0.0, False)\n" + OUTL)),
    )
    b.folder(
        "alike_told_cached_step_legal",
        "accepted",
        "causal",
        script=objects(
            mixer=mix("        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)\n" + OUTL)
            + "\n    def step(self, h, k_all, v_all):\n        q = self.qkv(h).chunk(3, -1)[0].view(h.size(0), 1, self.heads, -1).transpose(1, 2)\n        z = F.scaled_dot_product_attention(q, k_all, v_all)\n        return self.out(z.transpose(1, 2).reshape(h.shape))\n"
        ),
    )
    b.folder(
        "alike_told_lr_warmup_legal",
        "accepted",
        "time",
        script=objects(
            loop=SLOTS["loop"].replace(
                "            step += 1\n",
                "            for group in self.opt.param_groups:\n                group['lr'] = 3e-3 * min(1.0, (step + 1) / self.cfg.warmup_steps)\n            step += 1\n",
            ),
            cfg="    warmup_steps: int = 200\n",
        ),
    )
    b.folder(
        "alike_told_qat_finish_legal",
        "accepted",
        "time",
        script=objects(
            loop=SLOTS["loop"]
            + "        for _ in range(200):\n            ctx, nxt = self.stream.batch(self.cfg.rows, self.cfg.span)\n            self.net(ctx, nxt).backward()\n            self.opt.step()\n            self.opt.zero_grad(set_to_none=True)\n        print(f'{step} done after {time.perf_counter() - began:.1f}s')\n"
        ),
    )
    return b
