"""LoRA adapters as PEFT writes them, merged into the checkpoint that they were trained on.

    adapter_config.json  adapter_model.safetensors     W + alpha / r B A, one tensor at a time

Owns what a folder with an adapter is. Refuses one without its base, of another kind, or of another model.
Source: Hu et al. 2021, arXiv:2106.09685; names and scaling as in huggingface/peft, tuners/lora; alpha / sqrt(r) of
Kalajdzievski 2023, arXiv:2312.03732.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CheckpointError
from pgpack.files import Unchanged

from .checkpoint import Checkpoint, load_checkpoint
from .files import read_file
from .folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_in, config_of, refuse_adapter
from .unchanged import watched

PREFIX = "base_model.model."
OF_CONV1D = ("c_attn.weight", "q_attn.weight", "c_proj.weight", "c_fc.weight")
ACROSS = dict.fromkeys(("gpt2", "openai-gpt", "imagegpt", "decision_transformer"), OF_CONV1D)  # lie as (in, out)
ALPHA = 8  # PEFT's own, where a config does not say
PLAIN_STARTS = ("gaussian", "eva", "orthogonal")  # ways to begin that leave the base as it is, as true and false do
UNDERSTOOD = frozenset(  # what a config may say: it is read here, it shows in the tensors, or it is of training alone
    (
        "peft_type",
        "use_dora",
        "r",
        "lora_alpha",
        "rank_pattern",
        "alpha_pattern",
        "use_rslora",
        "fan_in_fan_out",
        "init_lora_weights",
        "bias",
        "lora_bias",
        "target_modules",
        "target_parameters",
        "exclude_modules",
        "modules_to_save",
        "layers_to_transform",
        "layers_pattern",
        "trainable_token_indices",
        "ensure_weight_tying",
        "task_type",
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "peft_version",
        "lora_dropout",
        "loftq_config",
        "eva_config",
        "corda_config",
        "lora_ga_config",
        "runtime_config",
        "megatron_config",
        "megatron_core",
        "qalora_group_size",
    )
)
PARTS = {"lora_A.weight": ("A", ".weight"), "lora_B.weight": ("B", ".weight"),
         "lora_embedding_A": ("A", ".weight"), "lora_embedding_B": ("B", ".weight")}  # fmt: skip


def open_merged(path: Path | str, base: Path | str | None = None, key: str | None = None) -> Checkpoint:
    """The checkpoint in `path`; where that is an adapter, `base` with the adapter merged into it.

    `key`: which of several state dicts, of the base where there is one.
    Raises: CheckpointError as `load_checkpoint`, for an adapter without a base, or a base without an adapter.
    """
    folder = adapter_in(Path(path))
    if folder is None and base is not None:
        refuse_adapter(Path(path))
        raise CheckpointError(f"{path} is no adapter folder (there is no {ADAPTER_CONFIG}), and --base is for those")
    if folder is None or base is None:
        return load_checkpoint(path, key=key)
    if adapter_in(Path(base)) is not None:
        raise CheckpointError(
            f"{base} is an adapter itself; --base is the folder of the model that it was trained on"
        )
    return _Merge.read(folder, load_checkpoint(base, key=key)).checkpoint()


@dataclasses.dataclass(frozen=True, eq=False)
class _Merge:
    """`parts`: the base's name -> {"A": adapter's name, "B": ...}; `whole`: the base's name -> adapter's name,
    of what comes in its place: modules that were trained whole, an embedding that PEFT keeps beside its change."""

    folder: Path
    base: Checkpoint
    config: Mapping[str, Any]
    adapter: Any
    parts: Mapping[str, Mapping[str, str]]
    whole: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path, base: Checkpoint) -> _Merge:
        """Raises: CheckpointError where the adapter cannot be merged into `base`."""
        config = _config(folder)
        file = next(folder / name for name in ADAPTER_WEIGHTS if (folder / name).is_file())
        unchanged = Unchanged([file])
        adapter = read_file(file)
        adapter = dataclasses.replace(adapter, load=watched(adapter.load, unchanged))
        parts: dict[str, dict[str, str]] = {}
        whole = {}
        for name in adapter.shapes:
            stem = name.removeprefix(PREFIX)
            end = next((end for end in PARTS if stem.endswith(f".{end}")), None)
            if end is None and "lora_" in stem:
                raise CheckpointError(f"{file}: {name} is no plain LoRA (DoRA?); merge the adapter with PEFT first")
            if end is None:
                plain = stem.replace(".modules_to_save.", ".").replace(".base_layer.", ".")
                whole[_held(plain, base, file)] = name
                continue
            letter, kind = PARTS[end]
            parts.setdefault(_held(stem.removesuffix(f".{end}") + kind, base, file), {})[letter] = name
        if (lone := next((name for name, pair in parts.items() if len(pair) < 2), None)) is not None:
            raise CheckpointError(f"{file}: {lone} has only one of lora_A and lora_B; the adapter is not whole")
        tied = {name for pair in base.aliases.items() for name in pair}
        if (shared := next((name for name in (*parts, *whole) if name in tied), None)) is not None:
            raise CheckpointError(
                f"{file} changes {shared}, which is tied to another tensor; merge it with PEFT first"
            )
        return cls(folder, base, config, adapter, parts, whole)

    def checkpoint(self) -> Checkpoint:
        for name in self.parts:
            rank = self.adapter.shapes[self.parts[name]["A"]][0]
            if (told := self.told(name, "rank_pattern", "r", rank)) != rank:
                raise CheckpointError(
                    f"{self.folder}: its change of {name} is of rank {rank}, {ADAPTER_CONFIG} says {told:g}; they "
                    "are of different adapters"
                )
            self.scale(name, rank)  # a number, or the reason why not
            shape = self.adapter.shapes[self.whole[name]] if name in self.whole else self.base.shapes[name]
            if self.delta_shape(name) != shape:
                raise CheckpointError(
                    f"{self.folder}: its change of {name} is of shape {self.delta_shape(name)}, the base's is "
                    f"{shape}; the adapter is of another model"
                )
        shapes = {name: self.adapter.shapes[self.whole[name]] if name in self.whole else shape
                  for name, shape in self.base.shapes.items()}  # fmt: skip
        return dataclasses.replace(
            self.base, shapes=shapes, load=self.load, source=f"{self.folder} merged into {self.base.source}"
        )

    def load(self, name: str) -> NDArray[Any]:
        whole = self.whole.get(name)
        array = self.base.load(name) if whole is None else np.asarray(self.adapter.load(whole))
        if name not in self.parts:
            return array
        a, b = (np.asarray(self.adapter.load(self.parts[name][letter]), np.float32) for letter in "AB")
        delta = self.scale(name, len(a)) * (b @ a)
        merged: NDArray[Any] = np.asarray(array, np.float32) + (delta.T if self.is_across(name) else delta)
        return merged

    def is_across(self, name: str) -> bool:
        """Whether the base keeps W as (in, out): GPT-2's Conv1D, and embeddings. As PEFT does, the model is believed
        and not the adapter's `fan_in_fan_out`, which counts where the model does not say."""
        if "embedding" in self.parts[name]["A"].rpartition("lora_")[2]:
            return True
        kind = config_of(self.base.companions).get("model_type")
        return name.endswith(ACROSS.get(str(kind), ())) if kind else bool(self.config.get("fan_in_fan_out"))

    def delta_shape(self, name: str) -> tuple[int, ...]:
        a, b = (self.adapter.shapes[self.parts[name][letter]] for letter in "AB")
        shape = (b[0], a[1]) if len(a) == len(b) == 2 and a[0] == b[1] else ()
        return shape[::-1] if self.is_across(name) else shape

    def scale(self, name: str, rank: int) -> float:
        alpha = self.told(name, "alpha_pattern", "lora_alpha", ALPHA)
        return alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def told(self, name: str, by_module: str, of_all: str, default: float) -> float:
        """A number of the module of `name`: by its pattern, else that of all. Raises: CheckpointError."""
        module = name.rpartition(".")[0]
        patterns = self.config.get(by_module) or {}
        found = next((a for key, a in patterns.items() if re.fullmatch(rf"(.*\.)?({key})", module)), None)
        found = self.config.get(of_all, default) if found is None else found
        if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
            raise CheckpointError(f"{self.folder}: {ADAPTER_CONFIG} says {found!r} of {name}, which is no number")
        return float(found)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / ADAPTER_CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind, dora = str(config.get("peft_type", "LORA")), config.get("use_dora")
    except (ValueError, AttributeError, RecursionError):
        raise CheckpointError(f"{path}: not a JSON object") from None
    if kind.upper() != "LORA" or dora:
        raise CheckpointError(
            f"{folder}: an adapter of kind {'DoRA' if dora else kind}; only LoRA is merged here, merge it with PEFT "
            "first (merge_and_unload)"
        )
    start = config.get("init_lora_weights", True)
    if not isinstance(start, bool | None) and start not in PLAIN_STARTS:
        raise CheckpointError(
            f"{folder}: init_lora_weights is {start!r} in {ADAPTER_CONFIG}, by which PEFT may change the base "
            "itself; merge it with PEFT first (merge_and_unload)"
        )
    if strange := sorted(name for name, value in config.items() if value and name not in UNDERSTOOD):
        raise CheckpointError(
            f"{folder}: {ADAPTER_CONFIG} sets {', '.join(strange)}, which is not known here; merge the adapter with "
            "PEFT first (merge_and_unload)"
        )
    return dict(config)


def _held(name: str, base: Checkpoint, file: Path) -> str:
    """The base's name of a tensor: it, or what is left of it without the names of wrappers."""
    parts = name.split(".")
    for i in range(len(parts)):
        if (found := ".".join(parts[i:])) in base.shapes:
            return found
    raise CheckpointError(f"{file}: {name} is not in {base.source}; the adapter is of another model")
