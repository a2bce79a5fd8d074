"""Low-rank adapters whose matrices lie among a model's tensors, or alone: said, since nothing merges them here.

X.weight  X.lora_A.default.weight  X.lora_B.default.weight     PEFT; also lora_down and lora_up, lora_a and lora_b
X.ia3_l, X.hada_w1_a, X.lokr_w1, X.oft_r, X.vera_lambda_b      its other adapters, and those of LyCORIS
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LORA = re.compile(
    r".*[.]lora_(?:A|B|a|b|down|up|embedding_A|embedding_B)(?:[.].*)?"
    r"|.*[.](?:ia3_l"
    r"|hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2)|oft_(?:r|R|blocks)|vera_lambda_[bd]|boft_[RsP])"
    r"(?:[.].*)?"
)
BESIDE = re.compile(r".*[.](?:alpha|lora_magnitude_vector(?:[.].*)?|dora_scale)")  # what adapters hold as well


def unmerged(names: Iterable[str], file: str) -> tuple[str, ...]:
    """A sentence on adapters in a file by the names of its tensors; none where there are none."""
    known = list(names)
    found = [name for name in known if LORA.fullmatch(name)]
    if not found:
        return ()
    if len(found) == len([name for name in known if not BESIDE.fullmatch(name)]):
        return (
            f"{file} holds an adapter (LoRA or the like) and no model, and is packed as such; for the model with it "
            "give the folder with its adapter_config.json, and that of the model as --base DIR",
        )
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return (
        f"{file}: {found[0]}{more}: an adapter (LoRA or the like) that is not merged, and is packed beside its "
        "weights; merge it first (PEFT: merge_and_unload) for the model alone",
    )
