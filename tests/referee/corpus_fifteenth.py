# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""Layers that take from later positions without attention, and layers that only look as if they did."""

from __future__ import annotations

from .real_script import Batch, base

MLP = "        x = x + self.proj(F.leaky_relu(self.fc(F.rms_norm(x, (x.size(-1),))), 0.5).square())\n"
MADE = "        self.proj = nn.Linear(4 * dim, dim, bias=False)\n"
LOSS = "        return F.cross_entropy(self.forward_logits(ids).flatten(0, 1).float(), targets.flatten())\n"
FROM_AHEAD = {
    "roll": "x = x + 0.1 * torch.roll(x, -1, dims=1)\n",
    "roll_method": "nxt = x.roll(shifts=-2, dims=(1,))\nx = torch.lerp(x, nxt, 0.1)\n",
    "roll_of_ids": "pair = (ids * 36313 ^ ids.roll(-1, 1) * 27191) % 8192\nx = x + self.emb(pair)\n",
    "pad": "x = x + 0.1 * F.pad(x[:, 1:], (0, 0, 0, 1))\n",
    "cat": "later = torch.cat([x[:, 1:], x[:, -1:]], dim=1)\nx = 0.9 * x + 0.1 * later\n",
    "slices": "x[:, :-1] += 0.1 * x[:, 1:]\n",
    "mean": "x = x - x.mean(dim=1, keepdim=True)\n",
    "pool": "pooled = torch.amax(x, 1, keepdim=True)\nx = torch.cat([x, pooled.expand_as(x)], -1)[..., :512]\n",
    "flip": "back = torch.flip(torch.cumsum(torch.flip(x, [1]), 1), [1])\nx = x + torch.flip(x, [1])\n",
}
LEGAL = {
    "roll_right": "prev = torch.roll(x, 1, dims=1)\nprev[:, 0] = 0\nx = x + 0.1 * prev\n",
    "roll_of_channels": "x = x + 0.1 * torch.roll(x, -1, dims=2)\n",
    "pad_left": "x = x + 0.1 * F.pad(x[:, :-1], (0, 0, 1, 0))\n",
    "cat_before": "x = 0.9 * x + 0.1 * torch.cat([x[:, :1], x[:, :-1]], dim=1)\n",
    "slices_right": "x[:, 1:] = x[:, 1:] + 0.1 * x[:, :-1].clone()\n",
    "mean_of_channels": "x = x - x.mean(dim=-1, keepdim=True)\n",
    "mean_of_heads": "h = x.view(1, -1, 8, 64).transpose(1, 2)\nh = h - h.mean(dim=1, keepdim=True)\nx = x + 0 * h.transpose(1, 2).reshape(x.shape)\n",
    "cumsum": "x = x + 0.1 * torch.cumsum(x, 1) / torch.arange(1, x.size(1) + 1, device=x.device)[None, :, None]\n",
    "rotary": "a, b = x.chunk(2, -1)\nx = torch.cat([x[..., 1:], x[..., :1]], dim=-1) + torch.cat([-b, a], -1)\n",
    "weights_centred": "w = self.fc.weight - self.fc.weight.mean(dim=1, keepdim=True)\nx = x + 0 * F.linear(F.linear(x, w), w.T)\n",
    "rows_normed": "flat = x.view(-1, 512)\nflat = (flat - flat.mean(dim=1, keepdim=True)) / flat.std(dim=1, keepdim=True)\nx = x + 0.1 * flat.view(x.shape)\n",
    "experts_shared": "picked, at = (x.view(-1, 512) @ self.emb.weight[:8].T).topk(2)\npicked = picked / picked.sum(dim=1, keepdim=True)\nx = x * picked.sum(1).view(1, -1, 1)\n",
    "starts_of_documents": "ends = ids.roll(-1, 1) == 1\nself.n_documents = ends.sum()\n",
}
MADE_AHEAD = {
    "conv_centred": "self.mix = nn.Conv1d(dim, dim, kernel_size=3, padding=1, groups=dim)\n",
    "conv_same": "self.mix = nn.Conv1d(dim, dim, 5, padding='same')\n",
    "lstm_both_ways": "self.rnn = nn.LSTM(dim, dim // 2, batch_first=True, bidirectional=True)\n",
}
MADE_LEGAL = {
    "conv_of_the_past": "self.mix = nn.Conv1d(dim, dim, kernel_size=4, padding=3, groups=dim)\n",
    "conv_of_one": "self.mix = nn.Conv1d(dim, dim, 1, padding=0)\n",
    "lstm": "self.rnn = nn.LSTM(dim, dim, batch_first=True)\n",
}
USES = {
    "conv": "x = x + self.mix(x.transpose(1, 2)).transpose(1, 2)[:, : ids.size(1)]\n",
    "lstm": "x = x + self.rnn(x)[0]\n",
}


def _indented(lines: str) -> str:
    return "".join(f"        {line}\n" for line in lines.splitlines())


def layers() -> Batch:
    """Every way to look ahead beside one that looks like it and is causal."""
    b = Batch()
    for kind, verdict, cases in (("ahead", "warned", FROM_AHEAD), ("causal", "accepted", LEGAL)):
        for name, lines in cases.items():
            b.case(f"layer_{kind}_{name}", verdict, "causal", script=base([(MLP, _indented(lines) + MLP)]))
    for kind, verdict, cases in (("ahead", "warned", MADE_AHEAD), ("causal", "accepted", MADE_LEGAL)):
        for name, line in cases.items():
            used = _indented(USES[name.partition("_")[0]]) + MLP
            script = base([(MADE, MADE + _indented(line)), (MLP, used)])
            b.case(f"layer_{kind}_{name}", verdict, "causal", script=script)
    two_ahead = "        logits = self.forward_logits(ids)\n        loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())\n"
    two_ahead += "        if self.training:\n            far = targets.roll(-1, 1)\n            loss = loss + 0.1 * F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), far[:, :-1].flatten())\n        return loss\n"
    b.case("layer_causal_two_targets", "accepted", "causal", script=base([(LOSS, two_ahead)]))
    return b
