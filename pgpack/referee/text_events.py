"""What happens to weights and to evaluated text in one call of a script: a gradient, a quantizer, a calibration."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from .script import Place, Script
from .text_names import names_training

STEP, PACKED, SAVED, CALIBRATED = "a gradient of evaluated text", "packed", "saved", "calibrated on evaluated text"
_PACKER = re.compile(
    r"(?:^|_)(?:quanti[sz]e\w*|gptq\w*|awq|rtn|serialize\w*|pack(?:_\w+)?|packed_save|compress\w*|encode_model|"
    r"export_(?:quant|artifact|submission|packed)\w*|write_artifact|to_int\d|int\d_\w*pack\w*|quant_\w+|\w+_quant)(?:_|$)"
)
_NO_PACKER = re.compile(
    r"fake|qat|_ste|dequant|deserial|unpack|decompress|uncompress|packed_seq|sequence|^eval|^load|^log"
)
_SAVER = re.compile(
    r"(?:^|_)(?:save|save_(?:file|model|state|weights|pretrained|checkpoint|artifact|final)\w*|export\w*)$"
)
_OF_CODE = re.compile(r"\b(?:code|source|script|__file__|src)\b")
_TUNER = re.compile(r"fine_?tune|adapt|^fit|(?:^|_)ttt(?:_|$)|overfit")
_CALIBRATION = ("calib", "hessian", "gptq", "awq", "fisher")


@dataclass(frozen=True)
class Event:
    """One of the four kinds above, where, and what it is called."""

    kind: str
    place: Place
    what: str


@dataclass(frozen=True)
class Given:
    """Whether a call is given evaluated text: as its `owner`, by `texts`, its arguments; and `training` text."""

    owner: bool
    texts: tuple[str, ...]
    training: bool


def event_of(script: Script, call: ast.Call, name: str, given: Given, graded: bool) -> Event | None:
    """What a call does, None where it is none of the four. `name`: dotted, as the script knows it."""
    last = name.rpartition(".")[2] or getattr(call.func, "attr", "")
    written = last.lower()
    shown = f"{ast.unparse(call.func)[:40]}(...)"
    if last == "backward" or name.endswith("autograd.grad"):
        if graded and (given.owner or given.texts):
            return Event(STEP, script.place(call, shown), shown)
        return None
    if given.texts and "eval" not in written and any(word in written for word in _CALIBRATION):
        return Event(CALIBRATED, script.place(call, f"{last}(... {given.texts[0][:40]} ...)"), shown)
    of_code = written.startswith("compress") and _OF_CODE.search(ast.unparse(call))
    if _PACKER.search(written) and not _NO_PACKER.search(written) and not last[:1].isupper() and not of_code:
        return Event(PACKED, script.place(call, shown), shown)
    if _SAVER.search(written) and not name.startswith(("np.", "numpy.", "plt.")):
        return Event(SAVED, script.place(call, shown), shown)
    return None


def tunes(last: str, given: Given) -> bool:
    """Whether a function that nobody can look into is called as what adapts weights to its text."""
    return bool(_TUNER.search(last.lower())) and bool(given.texts) and not given.training and not names_training(last)
