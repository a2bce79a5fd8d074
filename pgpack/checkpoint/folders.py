"""A model folder as Hugging Face writes it: which of its files are the weights, and which run beside them.

    model.safetensors | its shards' index | pytorch_model.bin | its index      the weights, in this order
    config.json, tokenizer.json, ..., LICENSE                                  companions: read when asked for

Owns names and sizes. Nothing outside the folder is read, and nothing in it is executed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from pgpack.errors import CheckpointError
from pgpack.files import pointer_in

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
ANY_WEIGHTS = ("*.index.json", "*.safetensors", "*.gguf", "*.bin", "*.npz")
OTHERS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".npz")  # endings of what may be another model
NO_OTHERS = ("pytorch_model", "training_args", "optimizer", "scheduler", "scaler", "rng_state")
COMPANIONS = (
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "chat_template.jinja",
)
LICENCES = ("LICENSE*", "LICENCE*")
MODULES = "modules.json"
OF_MLX = "adapters.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
SHARDS = ("*_train_*.bin", "*_val_*.bin")  # of tokens
KEPT = "calibration-"  # how the name of what a study keeps of its calibration begins
NUMBERED = re.compile(  # with the number that tells parts of one model from each other left out
    r"(.*-)\d+(-of-\d+\..+)|((?:consolidated|weights)\.)\d+(\..+)|(.*(?<![a-z])(?:rank_?|(?:part|shard)[_-]?))\d+(.*)"
    r"|(layer_)\d+(-model_.+)|(hf_model_)\d+(_\d+\.pt)"
)
OF_SEVERAL = re.compile(r".*-\d+-of-(\d+)\.(?!gguf)\w+")  # parts of a GGUF say themselves what is missing
RANKS = re.compile(r"(mp|tp|pp|dp)?_?rank_?\d+(_\d+)*")  # names of folders, one a process
COMPANION_LIMIT = 64 << 20
PART_OF_DCP = ".distcp"
SHOWN, MOST_FOLDERS = 5, 64  # folders named, and looked into of each


OTHER_FOLDERS = {  # what lies in a folder -> what it is, and what to do
    f"*{PART_OF_DCP}": (
        "a distributed checkpoint of torch; make one file of it first: python -m "
        "torch.distributed.checkpoint.format_utils dcp_to_torch {folder} model.pt"
    ),
    "zero_to_fp32.py": (
        "a checkpoint of DeepSpeed; make one file of it first with the zero_to_fp32.py in it, or name its "
        "mp_rank_00_model_states.pt"
    ),
    "saved_model.pb": "a SavedModel of TensorFlow; store the model's arrays by name as .safetensors",
    "_CHECKPOINT_METADATA": "a checkpoint of Orbax (JAX); store the model's arrays by name as .safetensors",
    "manifest.ocdbt": "a checkpoint of Orbax (JAX); store the model's arrays by name as .safetensors",
}

BELOW_ALL = {  # the same, where no weights lie below the folder
    "*.msgpack": "parameters of Flax; store the model's arrays by name as .safetensors",
    "*.h5": "HDF5, as Keras stores it; store its arrays by name as .safetensors",
    "*.keras": "a Keras model; store its arrays by name as .safetensors",
    "*.onnx": "an ONNX model; store the model's arrays by name as .safetensors",
    "*/*.onnx": "an ONNX model; store the model's arrays by name as .safetensors",
    "*.index": "a checkpoint of TensorFlow; store the model's arrays by name as .safetensors",
    "*/_CHECKPOINT_METADATA": "steps of Orbax (JAX); store the model's arrays by name as .safetensors",
    "*/manifest.ocdbt": "a checkpoint of Orbax (JAX); store the model's arrays by name as .safetensors",
    "_METADATA": "a checkpoint of Orbax (JAX); store the model's arrays by name as .safetensors",
    "*/.zarray": "arrays of zarr, as of T5X and Orbax (JAX); store the model's arrays by name as .safetensors",
}


def adapter_in(path: Path) -> Path | None:
    """The folder of an adapter (PEFT), given by itself or by the file of its weights; None for anything else."""
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and path.name not in ADAPTER_WEIGHTS:
        return None
    whole = path.is_dir() and any((folder / name).is_file() for name in WEIGHTS)
    has_both = (folder / ADAPTER_CONFIG).is_file() and any((folder / name).is_file() for name in ADAPTER_WEIGHTS)
    return folder if has_both and not whole else None


def _is_of_mlx(path: Path) -> bool:
    """Whether a file, or a folder that holds no model, is an adapter that MLX wrote."""
    folder = path if path.is_dir() else path.parent
    meant = not any((folder / name).is_file() for name in WEIGHTS) if path.is_dir() else path.name == OF_MLX
    return meant and all((folder / name).is_file() for name in (ADAPTER_CONFIG, OF_MLX))


def refuse_adapter(path: Path) -> None:
    """Raises CheckpointError when `path` is an adapter: by itself it is no model."""
    folder = adapter_in(path)
    if folder is None:
        if _is_of_mlx(path):
            raise CheckpointError(f"{path}: an adapter of MLX, not a model; merge it with mlx_lm.fuse first")
        return
    try:
        base = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError, RecursionError):
        base = None
    of = f" of {base}" if isinstance(base, str) else ""
    raise CheckpointError(
        f"{path}: an adapter{of}, not a model; give that model's folder as --base DIR, or merge it first "
        "(PEFT: merge_and_unload)"
    )


def weights_in(folder: Path) -> Path:
    """The file in `folder` that holds its weights or lists their shards, by transformers' order of preference.

    Raises: CheckpointError when there is none, or several and none of them has a model's usual name.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    is_study = (folder / "study.json").is_file()
    for pattern in ANY_WEIGHTS:
        others = (path for path in folder.glob(pattern) if path.name not in COMPANIONS)
        found = sorted(path for path in others if not _is_beside(path.name, is_study))
        if len(found) == 1:
            _refuse_part(found[0])
            return found[0]
        if found:
            names = ", ".join(path.name for path in found[:3]) + (", ..." if len(found) > 3 else "")
            index = " (shards need their index, *.index.json)" if "-of-" in found[0].name else ""
            raise CheckpointError(f"{folder}: a folder; name the checkpoint file in it: {names}{index}")
    if any(folder.glob(SHARDS[1])):
        raise CheckpointError(f"{folder}: token shards, not a checkpoint; give it as --data or --text")
    if is_study:
        raise CheckpointError(f"{folder}: a study, not a checkpoint; look at it with: pgpack frontier {folder}")
    raise CheckpointError(f"{folder}: {_other_folder(folder)}")


def _refuse_part(only: Path) -> None:
    """Raises CheckpointError when the only file of weights in a folder is one of several, as its name says."""
    found = OF_SEVERAL.fullmatch(only.name)
    if found is not None and int(found[1]) > 1:
        raise CheckpointError(
            f"{only.parent}: {only.name} is one part of {int(found[1])}, and neither the others nor their index are "
            "there; fetch them all, or name the file itself for this part alone"
        )


def _other_folder(folder: Path) -> str:
    """A sentence's end that says what a folder without weights is, or below which of its folders they lie."""
    for pattern, what in OTHER_FOLDERS.items():
        if any(folder.glob(pattern)):
            return what.format(folder=shlex.quote(str(folder)))
    below: list[str] = []
    for place, folders, names in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith("."))[: MOST_FOLDERS if depth < 3 else 0]
        known = (Path(name) for name in names if not name.startswith(NO_OTHERS))
        if depth and any(name.suffix in (*OTHERS, PART_OF_DCP) for name in known):
            below.append(Path(place).relative_to(folder).as_posix())
    if below:
        more = f" and {len(below) - SHOWN} more" if len(below) > SHOWN else ""
        return f"a folder without weights; they may lie below it, name one of {', '.join(below[:SHOWN])}{more}"
    if own := [path.name for path in _others_in(folder)]:
        return f"a folder; name the checkpoint file in it: {', '.join(own[:SHOWN])}{', ...' if own[SHOWN:] else ''}"
    for pattern, what in BELOW_ALL.items():
        if any(folder.glob(pattern)):
            return what
    return "a folder; name the checkpoint file in it (there is no model.safetensors, pytorch_model.bin or *.gguf)"


def _is_beside(name: str, is_study: bool) -> bool:
    """Whether a file is named as what is no checkpoint: a shard of tokens, or what a study keeps of calibration."""
    return any(fnmatch(name, shard) for shard in SHARDS) or (is_study and name.startswith(KEPT))


def taken_of(folder: Path, taken: Sequence[Path]) -> tuple[str, ...]:
    """A sentence on which weights of a folder are read; none where they have a model's usual name and lie alone.

    `taken`: those files, the first as `weights_in` gives it. The same model as torch files, by transformers'
    names, and what its trainer keeps are no others.
    """
    beside = [path.name for path in _others_in(folder) if path not in taken]
    if (folder / MODULES).is_file():  # of sentence-transformers: those below it are parts of the model
        below = (path for each in sorted(folder.iterdir()) if each.is_dir() for path in _others_in(each))
        beside += [path.relative_to(folder).as_posix() for path in below if path not in taken]
    if taken[0].name in WEIGHTS and not beside:
        return ()
    listed = ", ".join(beside[:3]) + (f" and {len(beside) - 3} more" if len(beside) > 3 else "")
    others = f"; {listed} beside it {'is' if len(beside) == 1 else 'are'} not" if beside else ""
    return (f"of {folder} the file {taken[0].name} is read{others}",)


def _others_in(folder: Path) -> list[Path]:
    """The files in a folder that may hold a model, by their names; sorted."""
    found = (path for path in folder.iterdir() if path.suffix in OTHERS and path.is_file())
    return sorted(path for path in found if not path.name.startswith(NO_OTHERS))


def part_of(taken: Sequence[Path]) -> tuple[str, ...]:
    """A sentence on a file that is one of several, as its name says, where the others are not `taken` with it."""
    file = taken[0]
    if len(taken) > 1 or NUMBERED.fullmatch(file.name) is None:
        return _part_by_folder(file) if len(taken) == 1 else ()
    beside = [each.name for each in _of_other_numbers(file)]
    if not beside and "-of-" not in file.name:
        return ()
    listed = ", ".join(beside[:3]) + (f" and {len(beside) - 3} more" if len(beside) > 3 else "")
    rest = f"; {listed} beside it {'is' if len(beside) == 1 else 'are'} not" if beside else ""
    return (f"{file.name} is one part of several by its name, and it alone is read{rest}",)


def _part_by_folder(file: Path) -> tuple[str, ...]:
    """A sentence on a file whose folder is one of several that hold one each, as Megatron's `mp_rank_00`."""
    folder = file.absolute().parent
    if RANKS.fullmatch(folder.name) is None:
        return ()
    beside = (each for each in folder.parent.iterdir() if each.name != folder.name and RANKS.fullmatch(each.name))
    others = sorted(each.name for each in beside if (each / file.name).is_file())
    if not others:
        return ()
    listed = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    are = "is" if len(others) == 1 else "are"
    return (f"{folder.name}/{file.name} is one part of several, and it alone is read; that in {listed} {are} not",)


def _of_other_numbers(path: Path) -> list[Path]:
    """What lies beside `path` under its name with other numbers, sorted; nothing where its name has none."""
    if (found := NUMBERED.fullmatch(path.name)) is None:
        return []
    before, after = (part for part in found.groups() if part is not None)
    same = re.compile(rf"{re.escape(before)}\d+{re.escape(after)}")
    return sorted(each for each in path.parent.iterdir() if each.name != path.name and same.fullmatch(each.name))


def refuse_pointer(path: Path) -> None:
    """Raises CheckpointError when a file is what git-lfs or git-annex leaves in place of the contents."""
    if what := pointer_in(path):
        raise CheckpointError(f"{path} is {what}")


@dataclass(frozen=True, eq=False)
class Companions(Mapping[str, bytes]):
    """File name -> contents, read or made when first asked for. Raises: whatever making one does."""

    makers: Mapping[str, Callable[[], bytes]]
    _held: dict[str, bytes] = field(default_factory=dict, init=False, repr=False)

    def __getitem__(self, name: str) -> bytes:
        if name not in self._held:
            self._held[name] = self.makers[name]()
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.makers)

    def __len__(self) -> int:
        return len(self.makers)

    def __contains__(self, name: object) -> bool:
        return name in self.makers

    def with_config(self, config: Mapping[str, object]) -> Companions:
        """The same with another config.json."""
        text = json.dumps(config, indent=2).encode()
        return Companions({**self.makers, CONFIG: lambda: text})


def companions_of(folder: Path) -> Companions:
    """What lies beside the weights in `folder` and is needed to run them; nothing where there is no config.json.

    Asking raises: CheckpointError for a file of more than COMPANION_LIMIT bytes, or a git-lfs pointer.
    """
    return Companions({name: partial(_contents, path) for name, path in companion_paths(folder).items()})


def companion_paths(folder: Path) -> dict[str, Path]:
    """File name -> path of what `companions_of` reads."""
    if not (folder / CONFIG).is_file():
        return {}
    licences = sorted(path for pattern in LICENCES for path in folder.glob(pattern))
    found = [folder / name for name in COMPANIONS] + licences
    return {path.name: path for path in found if path.is_file()}


def _contents(path: Path) -> bytes:
    if path.stat().st_size > COMPANION_LIMIT:
        raise CheckpointError(f"{path} has more than {COMPANION_LIMIT >> 20} MiB, too much for what it should be")
    refuse_pointer(path)
    return path.read_bytes()


def config_of(companions: Mapping[str, bytes]) -> dict[str, object]:
    """The fields of config.json; none where there is no such file, or it is no JSON object."""
    try:
        found = json.loads(companions[CONFIG]) if CONFIG in companions else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
