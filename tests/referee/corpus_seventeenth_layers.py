# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""Attention and layers of libraries that see all of a sequence, and what is legal and looks like it."""

from __future__ import annotations

from .object_parts import AT, OUTL, mix
from .object_script import SLOTS, Folders, objects


def attending() -> Folders:
    """Each beside its twin."""
    b = Folders()
    b.folder(
        "again_told_slots_legal",
        "accepted",
        "causal",
        script=objects(
            mixer=mix(
                "        s = q @ self.keys.T\n        z = s.softmax(-1) @ self.slots\n" + OUTL,
                "        self.keys = nn.Parameter(torch.randn(64, width // heads))\n        self.slots = nn.Parameter(torch.randn(64, width // heads))\n",
            )
        ),
    )
    b.folder(
        "again_told_retention_legal",
        "accepted",
        "causal",
        script=objects(
            mixer=mix(
                "        gap = torch.arange(t, device=h.device)\n        d = (0.97 ** (gap[:, None] - gap[None]).clamp_min(0)) * (gap[:, None] >= gap[None])\n        z = ((q @ k.transpose(-1, -2)) * d) @ v\n"
                + OUTL
            )
        ),
    )
    b.folder(
        "again_told_sample_topk_legal",
        "accepted",
        "causal",
        script=objects(
            netlogits=SLOTS["netlogits"]
            + "\n    @torch.no_grad()\n    def sample(self, ids, n, k=50):\n        for _ in range(n):\n            top = torch.topk(self.logits(ids)[:, -1], k, dim=1)\n            ids = torch.cat([ids, top.indices.gather(1, torch.multinomial(top.values.softmax(-1), 1))], 1)\n        return ids\n"
        ),
    )
    b.folder(
        "again_told_flex_legal",
        "accepted",
        "causal",
        script=objects(
            imports="from torch.nn.attention.flex_attention import create_block_mask, flex_attention",
            mixer=mix(
                "        def near(b, h, q_idx, kv_idx):\n            return (q_idx >= kv_idx) & ((q_idx - kv_idx).abs() < 512)\n        z = flex_attention(q, k, v, block_mask=create_block_mask(near, None, None, t, t))\n"
                + OUTL
            ),
        ),
    )
    b.folder(
        "again_told_flex_both",
        "flagged",
        "causal",
        script=objects(
            imports="from torch.nn.attention.flex_attention import create_block_mask, flex_attention",
            mixer=mix(
                "        def near(b, h, q_idx, kv_idx):\n            return (q_idx - kv_idx).abs() < 512\n        z = flex_attention(q, k, v, block_mask=create_block_mask(near, None, None, t, t))\n"
                + OUTL
            ),
        ),
    )
    b.folder(
        "again_told_rectangular_legal",
        "accepted",
        "causal",
        script=objects(
            mixer=mix(
                "        k = torch.cat([self.mem_k.expand(b, -1, -1, -1), k], 2)\n        v = torch.cat([self.mem_v.expand(b, -1, -1, -1), v], 2)\n        see = torch.ones(t, t + 1, dtype=torch.bool, device=h.device).tril(1)\n        z = F.scaled_dot_product_attention(q, k, v, attn_mask=see)\n"
                + OUTL,
                "        self.mem_k = nn.Parameter(torch.zeros(1, heads, 1, width // heads))\n        self.mem_v = nn.Parameter(torch.zeros(1, heads, 1, width // heads))\n",
            )
        ),
    )
    b.folder(
        "again_told_heads_mix_legal",
        "accepted",
        "causal",
        script=objects(
            mixer=mix(
                "        q, k, v = (x.transpose(1, 2) for x in (q, k, v))\n        z = F.scaled_dot_product_attention(q.flatten(0, 1)[:, None], k.flatten(0, 1)[:, None], v.flatten(0, 1)[:, None]).view(b, t, self.heads, -1)\n        return self.out(z.reshape(b, t, c))"
            )
        ),
    )
    b.folder(
        "again_told_fft_loss_curve_legal",
        "accepted",
        "causal",
        script=objects(
            aftertrain="    with torch.no_grad():\n        print(torch.fft.rfft(net.table.weight.float(), dim=1).abs().mean().item())\n"
        ),
    )
    b.folder(
        "again_told_einsum_over_time",
        "flagged",
        "causal",
        script=objects(
            mixer='\nclass Mixer(nn.Module):\n    def __init__(self, width, heads):\n        super().__init__()\n        self.across = nn.Parameter(torch.zeros(2048, 2048))\n        self.out = nn.Linear(width, width, bias=False)\n\n    def forward(self, h):\n        return self.out(torch.einsum("bsd,st->btd", h, self.across))\n'
        ),
    )
    b.folder(
        "again_told_matmul_over_time",
        "flagged",
        "causal",
        script=objects(
            mixer="\nclass Mixer(nn.Module):\n    def __init__(self, width, heads):\n        super().__init__()\n        self.across = nn.Parameter(torch.zeros(2048, 2048))\n        self.out = nn.Linear(width, width, bias=False)\n\n    def forward(self, h):\n        return self.out(self.across @ h)\n"
        ),
    )
    b.folder(
        "again_told_exp_attention",
        "flagged",
        "causal",
        script=objects(mixer=mix(AT + "        w = s.exp()\n        z = (w / w.sum(-1, keepdim=True)) @ v\n" + OUTL)),
    )
    b.folder(
        "again_told_mha_no_mask",
        "flagged",
        "causal",
        script=objects(
            mixer="\nclass Mixer(nn.Module):\n    def __init__(self, width, heads):\n        super().__init__()\n        self.core = nn.MultiheadAttention(width, heads, batch_first=True, bias=False)\n\n    def forward(self, h):\n        return self.core(h, h, h, need_weights=False)[0]\n"
        ),
    )
    b.folder(
        "again_told_mha_mask_legal",
        "accepted",
        "causal",
        script=objects(
            mixer="\nclass Mixer(nn.Module):\n    def __init__(self, width, heads):\n        super().__init__()\n        self.core = nn.MultiheadAttention(width, heads, batch_first=True, bias=False)\n\n    def forward(self, h):\n        see = nn.Transformer.generate_square_subsequent_mask(h.size(1), device=h.device)\n        return self.core(h, h, h, attn_mask=see, need_weights=False)[0]\n"
        ),
    )
    b.folder(
        "again_told_sdpa_default",
        "flagged",
        "causal",
        script=objects(mixer=mix("        z = F.scaled_dot_product_attention(q, k, v)\n" + OUTL)),
    )
    b.folder(
        "again_told_flash_default",
        "flagged",
        "causal",
        script=objects(
            imports="from flash_attn import flash_attn_func",
            mixer=mix("        z = flash_attn_func(q, k, v)\n" + OUTL),
        ),
        req="flash-attn\n",
    )
    b.folder(
        "again_told_next_doc_len",
        "flagged",
        "causal",
        script=objects(
            netlogits=SLOTS["netlogits"].replace(
                "        h = self.table(ids)\n",
                "        size = (ids != 1).sum(dim=1, keepdim=True).clamp(max=8191)\n        h = self.table(ids) + self.table(size)\n",
            )
        ),
    )
    b.folder(
        "again_told_sort_desc",
        "flagged",
        "causal",
        script=objects(
            netlogits=SLOTS["netlogits"].replace(
                "        h = self.table(ids)\n",
                "        bag = F.one_hot(ids, 8192).sum(1, keepdim=True).float()\n        h = self.table(ids) + bag @ self.table.weight / ids.size(1)\n",
            )
        ),
    )
    return b
