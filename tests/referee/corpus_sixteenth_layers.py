# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""Layers that mix a position with later ones by hand, and layers that only look as if they did."""

from __future__ import annotations

from .object_parts import OUTL, mix
from .object_script import SLOTS, Folders, objects


def mixers() -> Folders:
    """Each beside its twin."""
    b = Folders()
    b.folder(
        "told_hand_attention_no_mask",
        "flagged",
        "causal",
        script=objects(
            mixer=mix(
                "        s = q @ k.transpose(-1, -2) / math.sqrt(q.size(-1))\n        z = s.softmax(-1) @ v\n" + OUTL
            )
        ),
    )
    b.folder(
        "told_hand_attention_mask_legal",
        "accepted",
        "causal",
        script=objects(
            mixer=mix(
                "        s = q @ k.transpose(-1, -2) / math.sqrt(q.size(-1))\n        s = s.masked_fill(torch.ones(t, t, dtype=torch.bool, device=h.device).triu(1), float('-inf'))\n        z = s.softmax(-1) @ v\n"
                + OUTL
            )
        ),
    )
    b.folder(
        "told_hand_buffer_mask_legal",
        "accepted",
        "causal",
        script=objects(
            mixer=mix(
                "        s = torch.einsum('bhqd,bhkd->bhqk', q, k) / math.sqrt(q.size(-1)) + self.wall[:t, :t]\n        z = torch.einsum('bhqk,bhkd->bhqd', F.softmax(s, dim=-1), v)\n"
                + OUTL,
                "        self.register_buffer('wall', torch.full((4096, 4096), float('-inf')).triu(1), persistent=False)\n",
            )
        ),
    )
    b.folder(
        "told_hand_einsum_none",
        "flagged",
        "causal",
        script=objects(
            mixer=mix(
                "        s = torch.einsum('bhqd,bhkd->bhqk', q, k) / math.sqrt(q.size(-1))\n        z = torch.einsum('bhqk,bhkd->bhqd', F.softmax(s, dim=-1), v)\n"
                + OUTL
            )
        ),
    )
    b.folder(
        "told_mask_off_by_one",
        "flagged",
        "causal",
        script=objects(
            mixer=mix(
                "        s = q @ k.transpose(-1, -2) / math.sqrt(q.size(-1))\n        s = s.masked_fill(torch.ones(t, t, dtype=torch.bool, device=h.device).triu(2), float('-inf'))\n        z = s.softmax(-1) @ v\n"
                + OUTL
            )
        ),
    )
    b.folder(
        "told_band_mask_both_ways",
        "flagged",
        "causal",
        script=objects(
            mixer=mix(
                "        at = torch.arange(t, device=h.device)\n        near = (at[:, None] - at[None]).abs() < 128\n        z = F.scaled_dot_product_attention(q, k, v, attn_mask=near)\n"
                + OUTL
            )
        ),
    )
    b.folder(
        "told_band_mask_causal_legal",
        "accepted",
        "causal",
        script=objects(
            mixer=mix(
                "        at = torch.arange(t, device=h.device)\n        gap = at[:, None] - at[None]\n        z = F.scaled_dot_product_attention(q, k, v, attn_mask=(gap >= 0) & (gap < 128))\n"
                + OUTL
            )
        ),
    )
    b.folder(
        "told_linear_over_time",
        "flagged",
        "causal",
        script=objects(
            mixer="\nclass Mixer(nn.Module):\n    def __init__(self, width, heads):\n        super().__init__()\n        self.across = nn.Linear(2048, 2048, bias=False)\n        self.out = nn.Linear(width, width, bias=False)\n\n    def forward(self, h):\n        return self.out(self.across(h.transpose(1, 2)).transpose(1, 2))\n"
        ),
    )
    b.folder(
        "told_tril_over_time_legal",
        "accepted",
        "causal",
        script=objects(
            mixer="\nclass Mixer(nn.Module):\n    def __init__(self, width, heads):\n        super().__init__()\n        self.across = nn.Parameter(torch.zeros(2048, 2048))\n        self.out = nn.Linear(width, width, bias=False)\n\n    def forward(self, h):\n        t = h.size(1)\n        return self.out(torch.tril(self.across)[:t, :t] @ h)\n"
        ),
    )
    b.folder(
        "told_mean_over_time",
        "flagged",
        "causal",
        script=objects(blockextra="h = h * torch.sigmoid(self.up(h.mean(dim=1, keepdim=True))[..., : h.size(-1)])"),
    )
    b.folder(
        "told_cummean_over_time_legal",
        "accepted",
        "causal",
        script=objects(
            blockextra="h = h * torch.sigmoid(self.up(h.cumsum(1) / torch.arange(1, h.size(1) + 1, device=h.device)[None, :, None])[..., : h.size(-1)])"
        ),
    )
    b.folder(
        "told_fft_mix",
        "flagged",
        "causal",
        script=objects(blockextra="h = h + torch.fft.fft(torch.fft.fft(h, dim=-1), dim=1).real / 1000"),
    )
    b.folder(
        "told_fft_causal_conv_legal",
        "accepted",
        "causal",
        script=objects(
            blockextra="h = h + torch.fft.irfft(torch.fft.rfft(h.float(), n=2 * h.size(1), dim=1) * torch.fft.rfft(self.taps, n=2 * h.size(1), dim=0), n=2 * h.size(1), dim=1)[:, : h.size(1)].to(h.dtype)"
        ).replace(
            "        self.up = nn",
            "        self.taps = nn.Parameter(torch.zeros(512, cfg.width))\n        self.up = nn",
            1,
        ),
    )
    b.folder(
        "told_expert_choice",
        "flagged",
        "causal",
        script=objects(
            blockextra="score = h[..., 0].softmax(1)\n        pick = score.topk(h.size(1) // 4, dim=1).indices\n        h = h.scatter_add(1, pick[..., None].expand(-1, -1, h.size(-1)), self.down(F.relu(self.up(h.gather(1, pick[..., None].expand(-1, -1, h.size(-1)))))))"
        ),
    )
    b.folder(
        "told_token_choice_legal",
        "accepted",
        "causal",
        script=objects(
            blockextra="gate, pick = h[..., :4].softmax(-1).topk(2, dim=-1)\n        h = h + gate.sum(-1, keepdim=True) * self.down(F.relu(self.up(h)))"
        ),
    )
    b.folder(
        "told_norm_over_time",
        "flagged",
        "causal",
        script=objects(blockextra="h = (h - h.mean((1, 2), keepdim=True)) / (h.std((1, 2), keepdim=True) + 1e-5)"),
    )
    b.folder(
        "told_lookahead_feature",
        "flagged",
        "causal",
        script=objects(
            netlogits="\n    def logits(self, ids):\n        gap = torch.zeros_like(ids)\n        for i in range(ids.size(1) - 2, -1, -1):\n            gap[:, i] = torch.where(ids[:, i + 1] == 13, 0, gap[:, i + 1] + 1)\n        h = self.table(ids) + self.table(gap.clamp(max=63))\n        for block in self.blocks:\n            h = block(h)\n        return F.linear(F.rms_norm(h, (h.size(-1),)), self.table.weight)\n\n    def forward(self, ids, nxt):\n        return F.cross_entropy(self.logits(ids).flatten(0, 1).float(), nxt.flatten())\n"
        ),
    )
    b.folder(
        "told_lookback_feature_legal",
        "accepted",
        "causal",
        script=objects(
            netlogits="\n    def logits(self, ids):\n        gap = torch.zeros_like(ids)\n        for i in range(1, ids.size(1)):\n            gap[:, i] = torch.where(ids[:, i] == 13, 0, gap[:, i - 1] + 1)\n        h = self.table(ids) + self.table(gap.clamp(max=63))\n        for block in self.blocks:\n            h = block(h)\n        return F.linear(F.rms_norm(h, (h.size(-1),)), self.table.weight)\n\n    def forward(self, ids, nxt):\n        return F.cross_entropy(self.logits(ids).flatten(0, 1).float(), nxt.flatten())\n"
        ),
    )
    b.folder(
        "told_hash_trigram_embed_legal",
        "accepted",
        "causal",
        script=objects(
            netlogits=SLOTS["netlogits"].replace(
                "        h = self.table(ids)\n",
                "        prev = F.pad(ids, (1, 0))[:, :-1]\n        h = self.table(ids) + self.table((ids * 36313 ^ prev * 27191) % 8191)\n",
            )
        ),
    )
    b.folder(
        "told_hash_next_embed",
        "flagged",
        "causal",
        script=objects(
            netlogits=SLOTS["netlogits"].replace(
                "        h = self.table(ids)\n",
                "        ahead = F.pad(ids, (0, 1))[:, 1:]\n        h = self.table(ids) + self.table((ids * 36313 ^ ahead * 27191) % 8191)\n",
            )
        ),
    )
    return b
