"""`pgpack init-adapter`: a file that builds the user's own model, ready to be filled in."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from pgpack.bench.options import Opening
from pgpack.files import replace_file

from ..options.output import output_option
from ..options.text import opening_options
from ..options.types import PATH
from ..screen.output import Screen, claim_output, screen_options

EPILOG = """\b
Examples:
  pgpack init-adapter adapter.py --checkpoint final_model.pt
  pgpack sweep final_model.pt --model adapter.py:build --val 'fineweb_val_*.bin' \\
      --tokenizer fineweb_8192_bpe.model --seq-len 2048 -o study
"""

TEMPLATE = '''\
"""Builds the model of a checkpoint for pgpack: pgpack ... --model {file}:build --seq-len N

The contract: `build(state_dict) -> nn.Module`. `state_dict` maps names to float32 torch tensors; the module must hold
exactly these weights and give logits of shape (batch, time, vocabulary) from token ids of shape (batch, time), by
`forward_logits(ids)` if it has one, else by `forward(ids)`. It is called for the checkpoint, and again for every
artifact that is measured, always with the same names and shapes.

Calibration sees every matrix W that takes part in a product (nn.Linear, F.linear, matmul, @) as long as W is a
parameter of the module under its name in the state dict, a cast, a transpose or a part of one. Artifacts never hold
banks.
{banks}
{tensors}
"""

from __future__ import annotations

import torch
from torch import nn

# Import your script without running its training, for example with its folder on the path:
#   import sys; from pathlib import Path; sys.path.insert(0, str(Path(__file__).parent))
#   from train_gpt import GPT, Hyperparameters


class Logits(nn.Module):
    """Your model as a function from ids to logits; most scripts' forward(ids, targets) gives the loss instead."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward_logits(self, ids: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("return logits (batch, time, vocabulary), with the softcap, in float32")


def build(state_dict: dict[str, torch.Tensor]) -> nn.Module:
    """The model with the weights of `state_dict`."""
    model: nn.Module
    raise NotImplementedError("make your model here: model = GPT(...) in float32, without torch.compile")
    model.load_state_dict({load}, strict=True)
    return Logits(model)


if __name__ == "__main__":  # python {file} CHECKPOINT: are the logits what the contract says?
    import sys

    from pgpack.checkpoint.checkpoint import load_checkpoint

    from pgpack.errors import PgpackError

    if len(sys.argv) != 2:
        sys.exit("give a checkpoint: python {file} CHECKPOINT")
    try:
        tensors = {{name: torch.tensor(array) for name, array in load_checkpoint(sys.argv[1]).items()}}
        built = build(tensors).eval()
        ids = torch.arange(16).unsqueeze(0)
        with torch.no_grad():
            logits = built.forward_logits(ids) if hasattr(built, "forward_logits") else built(ids)
            later = ids.clone()
            later[0, -1] += 1
            changed = built.forward_logits(later) if hasattr(built, "forward_logits") else built(later)
    except NotImplementedError as error:
        sys.exit(f"not filled in yet: {{error}}")
    except PgpackError as error:
        sys.exit(f"error: {{error}}")
    assert logits.shape[:2] == ids.shape, logits.shape
    assert torch.isfinite(logits).all(), "NaN or infinite logits"
    assert torch.allclose(logits[:, :-1], changed[:, :-1], atol=1e-4), "a later token changes earlier logits"
    print("ok:", tuple(logits.shape))
'''
BANKED = """\
Your checkpoint holds banks. Its script loads them with `banked(state_dict)` below; calibration sees the matrices
that are taken out of them one by one, as in F.linear(x, self.qo_bank[i]).
"""
HELPER = '''

def banked(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict with its matrices in banks again."""
    from pgpack.checkpoint.dialects import banks_of

    banks = banks_of(state_dict)
    inside = {name for members in banks.values() for name in members}
    stacked = {bank: torch.stack([state_dict[name] for name in members]) for bank, members in banks.items()}
    return stacked | {name: tensor for name, tensor in state_dict.items() if name not in inside}
'''
SHOWN = 40  # tensors listed in the file


@click.command("init-adapter", epilog=EPILOG)
@click.argument("name", metavar="[OUT]", required=False, type=PATH)
@output_option(type=PATH, help="File to write [default: adapter.py].")
@click.option("--checkpoint", type=PATH, help="List the tensors of this checkpoint or artifact.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@opening_options
@screen_options
def command(
    *, name: Path | None, out: Path | None, checkpoint: Path | None, force: bool, opening: Opening, screen: Screen
) -> None:
    """Write OUT, a template of the file that --model takes for a model that is not pgtrain's.

    Its head says what the function must do; run as a program on a checkpoint it checks that.
    """
    if name is not None and out is not None:
        raise click.UsageError(f"give {name} or -o {out}, not both")
    out = name or out or Path("adapter.py")
    if out.suffix != ".py":
        raise click.UsageError(f"{out}: the adapter is a Python file; give a name ending in .py")
    claim_output(out, force, checkpoint)
    shapes, dialect = _tensors(checkpoint, opening) if checkpoint else ({}, "")
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, template(out.name, shapes, dialect).encode())
    document = {"adapter": str(out), "tensors": len(shapes), "dialect": dialect}
    attempt = shlex.join(["python", str(out), "CHECKPOINT"])
    screen.show(document, f"written to {out}; fill in the two functions, then try it: {attempt}")


def template(file: str, shapes: Mapping[str, Sequence[int]], dialect: str) -> str:
    """The text of an adapter for tensors of these shapes."""
    in_banks = dialect.startswith("banked")
    listed = [f"    {name} {tuple(shape)}" for name, shape in shapes.items()]
    if len(listed) > SHOWN:
        listed = [*listed[:SHOWN], f"    and {len(listed) - SHOWN} more"]
    tensors = "\n".join(["The tensors of your checkpoint:", "", *listed]) if listed else ""
    load = "banked(state_dict)" if in_banks else "state_dict"
    text = TEMPLATE.format(file=file, banks=BANKED if in_banks else "", tensors=tensors, load=load)
    text = text.replace('\n\n\n"""', '\n"""').replace('\n\n"""', '\n"""')
    return text.replace("\n\nif __name__", f"{HELPER}\n\nif __name__") if in_banks else text


def _tensors(path: Path, opening: Opening) -> tuple[dict[str, tuple[int, ...]], str]:
    """(name -> shape, dialect) of a checkpoint or an artifact."""
    from pgpack.bench.artifact import ArtifactFile, open_either

    found = open_either(path, opening.base, key=opening.key)
    if isinstance(found, ArtifactFile):
        unpacked = found.unpacked
        shapes = {record.name: record.shape for record in unpacked.records}
        return shapes | {alias: shapes[stored] for alias, stored in unpacked.aliases.items()}, ""
    return dict(found.shapes), found.dialect
