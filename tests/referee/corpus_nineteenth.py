# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""Logs in zstd, times in bare minutes, patterns in configurations, calls through partial and tables of functions."""

from __future__ import annotations

from .folder_case import MAIN, TTT, Case, log


def _zstd(text: str) -> bytes:
    """A frame of one raw block."""
    data = text.encode()
    block = (1 | len(data) << 3).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd\xa0" + len(data).to_bytes(4, "little") + block + data


_CONFIGURED = "import json\nimport torch\nCONFIG = json.load(open('config.json'))\n" + MAIN
_LOADS = "import functools\nimport torch\nmodel = torch.nn.Linear(1, 1)\nfunctools.partial(model.load_state_dict, strict={})({{}})\n"
_STAGES = (
    TTT
    + "STAGES = {'polish': adapt}\n\ndef main(model, stages, val_tokens, train_tokens):\n    for stage in stages:\n"
    "        STAGES[stage](model, %s)\n    torch.save(model.state_dict(), 'm.pt')\n"
)


def nineteenth() -> dict[str, Case]:
    """Each kind and its honest twin."""

    def timed(verdict: str, took: str) -> Case:
        return Case("time", verdict, files={"train.log": log(1.0812).replace("580000ms", took)})

    def configured(verdict: str, files: str) -> Case:
        return Case("training-text", verdict, _CONFIGURED, files={"config.json": f'{{\n"train": "{files}"\n}}\n'})

    def zstd(verdict: str, text: str) -> Case:
        return Case("log-loss", verdict, files={"train.log": None, "train.log.zst": _zstd(text)})

    return {
        "log_of_zstd": zstd("accepted", log(1.0812)),
        "log_of_zstd_of_another_loss": zstd("refused", log(1.0912)),
        "minutes_alone": timed("accepted", "9.7m"),
        "minutes_alone_over": timed("refused", "11.2m"),
        "pattern_of_training_files": configured("accepted", "data/fineweb_train_*.bin"),
        "pattern_of_every_split": configured("warned", "data/fineweb_*_*.bin"),
        "partial_strict": Case("strict-load", "accepted", _LOADS.format("True")),
        "partial_not_strict": Case("strict-load", "refused", _LOADS.format("False")),
        "table_of_stages": Case("training-text", "accepted", _STAGES % "train_tokens"),
        "table_of_stages_on_validation": Case("training-text", "warned", _STAGES % "val_tokens"),
    }
