"""The training log as it goes into the folder: what was given, and behind it what packing measured.

The lines are the ones that the public scripts write and reviewers look for. They are marked as ours.
Source of the line formats: openai/parameter-golf train_gpt.py.
"""

from __future__ import annotations

from pgpack.loss.evaluator import BitsPerByte

MARK = "pgpack: the lines below describe the artifact of this folder"


def with_packing(log: str, seed: int | None, n_model: int, n_code: int, loss: BitsPerByte | None) -> str:
    """The log and the lines of the packing."""
    lines = [MARK]
    if seed is not None:
        lines.append(f"seed:{seed}")
    lines.append(f"Code size: {n_code} bytes")
    lines.append(f"Serialized model pgpack: {n_model} bytes")
    lines.append(f"Total submission size pgpack: {n_model + n_code} bytes")
    if loss is not None:
        lines.append(
            f"pgpack_decoded val_loss:{loss.nats:.8f} val_bpb:{loss.bpb:.8f} eval_time:{loss.eval_s * 1e3:.0f}ms"
        )
    head = log.rstrip("\n")
    return "\n".join([*([head] if head else []), *lines, ""])
