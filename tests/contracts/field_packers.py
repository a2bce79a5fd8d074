"""The field's packers said again, slowly and in torch, from their descriptions: the oracle of the presets.

Nothing here uses pgpack. GPTQ is naive optimal brain quantization in float64: the inverse Hessian of the columns
that are left is carried along and one column is eliminated after the other.
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import tempfile
import zlib

import brotli
import numpy as np
import torch
import zstandard

FP32_NAMES = ("attn_scale", "mlp_scale", "resid_mix", "q_gain", "skip_weight")
GROUPS = ("tok_emb", "attn.c_k", "attn.c_q", "attn.c_v", "attn.proj", "mlp.fc", "mlp.proj")


def torch_bytes(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def synthetic_state(dim, vocab, layers=2, hidden=None, gates=False, seed=0):
    """A state dict of the challenge's shapes with heavy-tailed rows, fp32."""
    rng = np.random.default_rng(seed)

    def matrix(rows, cols):
        spread = 0.02 * np.exp(0.4 * rng.standard_normal((rows, 1)))
        return torch.tensor(spread * rng.standard_t(8, (rows, cols)), dtype=torch.float32)

    state = {"skip_weights": torch.ones(1, dim), "tok_emb.weight": matrix(vocab, dim)}
    for i in range(layers):
        block = {
            "attn_scale": torch.tensor(1 + 0.1 * rng.standard_normal(dim), dtype=torch.float32),
            "resid_mix": torch.tensor(rng.standard_normal((2, dim)), dtype=torch.float32),
            "attn.q_gain": torch.tensor(1.5 + rng.standard_normal(4), dtype=torch.float32),
            "attn.c_q.weight": matrix(dim, dim),
            "attn.c_k.weight": matrix(dim // 2, dim),
            "attn.c_v.weight": matrix(dim // 2, dim),
            "attn.proj.weight": matrix(dim, dim),
            "mlp.fc.weight": matrix(hidden or 4 * dim, dim),
            "mlp.proj.weight": matrix(dim, hidden or 4 * dim),
        }
        if gates:
            block["attn.attn_gate_w"] = matrix(8, 12)
        state |= {f"blocks.{i}.{name}": tensor for name, tensor in block.items()}
    return state


def synthetic_hessians(state, seed=1):
    """Second moments of correlated inputs for every matrix, one input of each dead."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, tensor in state.items():
        if tensor.ndim == 2:
            n = tensor.shape[1]
            x = rng.standard_normal((3 * n, n)) @ (np.eye(n) + 0.3 * rng.standard_normal((n, n)) / np.sqrt(n))
            x *= np.exp(0.5 * rng.standard_normal(n))
            x[:, n // 3] = 0
            found[name] = torch.tensor(x.T @ x / len(x), dtype=torch.float32)
    return found


def baseline_state(state, bits, fp16_names=()):
    """The dictionary of the challenge's int8 export, and of PR #212's narrower one."""
    top = 2 ** (bits - 1) - 1
    quantized, scales, dtypes, passthrough, qmeta, original = {}, {}, {}, {}, {}, {}
    for name, tensor in state.items():
        if name in fp16_names or tensor.numel() <= 65536:
            if name not in fp16_names and any(word in name for word in FP32_NAMES):
                passthrough[name] = tensor.float().clone()
            else:
                passthrough[name] = tensor.half()
                original[name] = "".join(["float", "32"])
            continue
        edge = torch.quantile(tensor.abs(), 0.9999984, dim=1)[:, None]
        step = torch.clamp(edge / top, min=1 / top)
        clipped = torch.clamp(tensor, min=-edge, max=edge)
        quantized[name] = torch.clamp(torch.round(clipped / step), -top, top).to(torch.int8)
        scales[name] = step[:, 0].half()
        dtypes[name] = "".join(["float", "32"])
        qmeta[name] = {"scheme": "per_row", "axis": 0}
    whole = {"__quant_format__": "int8_clean_per_row_v1", "quantized": quantized, "scales": scales}
    whole |= {"dtypes": dtypes, "passthrough": passthrough}
    if qmeta:
        whole["qmeta"] = qmeta
    if original:
        whole["passthrough_orig_dtypes"] = original
    return whole


def baseline_file(state):
    return zlib.compress(torch_bytes(baseline_state(state, 8)), 9)


def int6_file(state):
    raw = torch_bytes(baseline_state(state, 6, fp16_names=("tok_emb.weight",)))
    return zstandard.ZstdCompressor(level=22).compress(raw)


def obq(weight, hessian, clip, bits):
    """(int8 symbols, fp16 steps): step = clip * std / R per row; columns by falling Hessian diagonal."""
    top = 2 ** (bits - 1) - 1
    W, H = weight.double().clone(), hessian.double().clone()
    dead = H.diagonal() == 0
    H[dead, dead] = 1.0
    W[:, dead] = 0.0
    order = torch.argsort(H.diagonal(), descending=True, stable=True).tolist()
    H += 0.01 * H.diagonal().mean() * torch.eye(len(H), dtype=torch.float64)
    steps = torch.clamp(clip * weight.std(dim=1) / top, min=1e-10).half()
    s = steps.double()
    inverse = torch.linalg.inv(H)
    symbols = torch.zeros(weight.shape, dtype=torch.int8)
    for j in order:
        q = torch.clamp(torch.round(W[:, j] / s), -top, top)
        symbols[:, j] = q.to(torch.int8)
        error = (W[:, j] - q * s) / inverse[j, j]
        W -= torch.outer(error, inverse[j])
        inverse -= torch.outer(inverse[:, j], inverse[j]) / inverse[j, j]
    return symbols, steps


def sdclip_tensors(state, hessians, settings, passthrough, top_k=0):
    """(w, m) of the SDClip records. `settings`: name -> (clip, bits). `top_k`: tensors with an LQER correction."""
    w, m, errors = {}, {}, {}
    for name, tensor in state.items():
        if top_k and name.endswith(".attn_gate_w"):
            steps = (tensor.abs().amax(dim=1) / 127).half()
            w[name + ".gq"] = torch.clamp(torch.round(tensor / steps.float()[:, None]), -127, 127).to(torch.int8)
            w[name + ".gs"] = steps
            m[name] = "gate_int8_row"
        elif tensor.numel() <= passthrough:
            w[name] = tensor.half()
            m[name] = "passthrough (float16)"
        else:
            clip, bits = settings(name)
            w[name + ".q"], w[name + ".scale"] = obq(tensor, hessians[name], clip, bits)
            m[name] = f"gptq (int{bits})"
            errors[name] = tensor - w[name + ".q"].float() * w[name + ".scale"].float()[:, None]
    for name in sorted(errors, key=lambda name: -errors[name].norm())[:top_k]:
        correct(w, name, errors[name])
        m[name] += "+lqer_asym"
    return w, m


def correct(w, name, error):
    """A rank-4 correction: A = U S at 2 bits with one step, B = V^T at 4 bits with a step per 64 values."""
    U, S, Vh = torch.linalg.svd(error, full_matrices=False)
    A, B = (U[:, :4] * S[:4]).contiguous(), Vh[:4].contiguous().reshape(-1, 64)
    A_step = (A.abs().max() / 1.5).half()
    B_steps = (B.abs().amax(dim=1) / 7.5).half()
    w[name + ".lqA_a"] = torch.clamp(torch.round(A / A_step.float()), -2, 1).to(torch.int8)
    w[name + ".lqAs_a"] = A_step
    codes = torch.clamp(torch.round(B / B_steps.float()[:, None]), -8, 7).to(torch.int8)
    w[name + ".lqB_a"] = codes.reshape(4, -1)
    w[name + ".lqBs_a"] = B_steps


def shuffled_brotli(w, m):
    raw = torch_bytes({"w": w, "m": m})
    return brotli.compress(b"BSHF\x02" + raw[0::2] + raw[1::2], quality=11)


def sdclip_file(state, hessians, passthrough):
    """PR #1394."""
    settings = lambda name: (20, 8) if "tok_emb" in name else (12.85, 6)  # noqa: E731
    return shuffled_brotli(*sdclip_tensors(state, hessians, settings, passthrough))


def by_kind(embedding, mlp, attention):
    """PR #1586's choice of (clip, bits) by substring."""

    def settings(name):
        if "tok_emb" in name:
            return embedding, 7
        if ".mlp." in name:
            return mlp, 6
        return (attention, 6) if ".attn." in name else (12.85, 6)

    return settings


def layer_clip_file(state, hessians, passthrough):
    """PR #1586."""
    return shuffled_brotli(*sdclip_tensors(state, hessians, by_kind(15, 12, 13), passthrough))


def lrzip(data):
    with tempfile.TemporaryDirectory() as directory:
        source, target = os.path.join(directory, "in"), os.path.join(directory, "out.lrz")
        with open(source, "wb") as file:
            file.write(data)
        subprocess.run(["lrzip", "-z", "-L", "9", "-o", target, source], check=True, capture_output=True)
        with open(target, "rb") as file:
            return file.read()


def nearest_neighbours(matrix):
    """Rows from row 0 on, each followed by the unused row at the least L1 distance, the first of equals."""
    left = list(range(1, len(matrix)))
    order = [0]
    wide = matrix.astype(np.int64)
    while left:
        distances = np.abs(wide[left] - wide[order[-1]]).sum(axis=1)
        order.append(left.pop(int(np.argmin(distances))))
    return np.array(order, dtype=np.uint16)


def pergroup_file(state, hessians, passthrough, layers=2):
    """PR #1855."""
    w, m = sdclip_tensors(state, hessians, by_kind(14, 11.5, 13), passthrough, top_k=3)
    rest, streams, shapes, orders = dict(w), [], {}, b""
    for group in GROUPS:
        prefixes = [""] if group == "tok_emb" else [f"blocks.{i}." for i in range(layers)]
        plain = b""
        for key in (f"{prefix}{group}.weight.q" for prefix in prefixes):
            if key not in w:
                continue
            matrix = rest.pop(key).numpy()
            shapes.setdefault(("_" if group == "tok_emb" else "") + f"{group}.weight.q", []).append(matrix.shape)
            if group in ("tok_emb", "attn.c_q", "mlp.fc"):
                order = nearest_neighbours(matrix)
                orders += order.tobytes()
                matrix = matrix[order]
            plain += matrix.T.tobytes()
        streams.append(lrzip(plain) if plain else b"")
    scaffold = {"r": dict(sorted(rest.items())), "m": m, "s": shapes}
    streams.append(brotli.compress(torch_bytes(scaffold), quality=11, lgwin=24))
    streams.append(brotli.compress(orders, quality=11))
    lengths = [len(stream) for stream in streams]
    return b"PGRP" + struct.pack("<10I", len(streams), *lengths) + b"".join(streams)
