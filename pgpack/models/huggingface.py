"""Models that transformers builds from the config.json beside the weights: a Hugging Face folder, a GGUF.

    config.json --its own classes--> config --AutoModelForCausalLM--> module <--loaded-- tensors of the checkpoint

Owns what is refused of a config. Nothing from a folder is ever run (`trust_remote_code` is never given), nothing is
fetched, and a tensor that the model needs and the checkpoint lacks is never filled with random numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pgpack.checkpoint.folders import CONFIG
from pgpack.checkpoint.tokenizer_files import with_tokenizer_files
from pgpack.errors import CheckpointError, DataError, ToolMissing
from pgpack.files import workplace
from pgpack.tables import counted

from .source import FoundModel, Wanted
from .writing import AT_ONCE

LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length", "seq_length")
LONGEST = 2048  # tokens per window unless the user says more: what a model allows is often far beyond any memory
REMEMBERED = 1 << 30  # bytes; the more windows are written side by side, the less a token costs
NOT_OF_THE_MODEL = (  # fields that say how a folder came to be; the logits do not depend on them
    "_name_or_path", "architectures", "auto_map", "dtype", "quantization_config", "torch_dtype",
    "transformers_version", "use_cache",
)  # fmt: skip

NOT_TO_BUILD = (  # how weights were stored and attention computed where the folder was made
    "model_type", "quantization_config", "attn_implementation", "_attn_implementation",
)  # fmt: skip

NO_JSON = "__float__"
NUMBERS = ("num_hidden_layers", "num_local_experts", "num_experts", "n_routed_experts")  # of modules that are made
MOST_MODULES = 1000  # of a kind, where the checkpoint has not as many tensors
LARGER, SLACK = 4, 2**24  # parameters that a config may have: so many times its checkpoint's, and so many more
ONE_BY_ONE = "eager"  # of experts: each is a product of its own, which calibration can watch


def find(wanted: Wanted) -> FoundModel | None:
    """The model of the config.json beside the weights; None where there is none, or the user named another model.

    Raises: CheckpointError when transformers cannot build it or its tensors are others; ToolMissing without
    transformers; DataError for --set.
    """
    if wanted.spec is not None or CONFIG not in wanted.companions:
        return None
    config_json = wanted.companions[CONFIG]
    fields = config_fields(config_json)
    if "model_type" not in fields and "auto_map" not in fields:
        return None
    if wanted.changes:
        raise DataError("--set changes fields of a pgtrain model; this one is built as config.json says")
    numbers = enumerate(wanted.shapes.items())
    model, unused = _loaded(config_json, {name: torch.tensor(float(i)).expand(shape) for i, (name, shape) in numbers})
    renamed = {
        place: names
        for place, parameter in model.named_parameters()
        if place not in wanted.shapes and (names := _held(parameter, wanted.shapes)) is not None
    }
    left = f"; {counted(len(unused), 'tensor')} of others change nothing (first: {unused[0]})" if unused else ""
    return FoundModel(
        partial(_logits_model, config_json, renamed),
        seq_len=min(_longest(fields) or LONGEST, LONGEST),
        how=f"{type(model).__name__} of config.json{left}" if left else "",
        config=json.dumps({key: fields[key] for key in sorted(fields) if key not in NOT_OF_THE_MODEL}),
        code=_versions,
        longest=_longest(fields),
        vocab_size=int(getattr(model.config.get_text_config(), "vocab_size", wanted.vocab_size)),
    )


def _held(parameter: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...] | None:
    """The tensors that lie in a parameter one below another, told by their numbers, which are all their values; None
    where they lie otherwise: side by side, or transposed."""
    rows = parameter.detach()[..., 0] if parameter.ndim > 1 else parameter.detach()
    known = list(shapes)
    names = tuple(known[int(number)] for number in torch.unique_consecutive(rows.reshape(-1)).tolist())
    ends = {shapes[name][-1:] == tuple(parameter.shape[-1:]) for name in names}
    sizes = {math.prod(shapes[name]) for name in names}
    return names if ends == {True} and sizes == {parameter.numel() // max(1, len(names))} else None


def build_transformers(config_json: bytes, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The transformers model of a config.json that holds `tensors`, in eval mode; it shares their memory.

    Raises: CheckpointError when the config asks for code, is of no class that transformers has, or needs tensors
    that are not there; ToolMissing without transformers.
    """
    model: nn.Module = _loaded(config_json, tensors)[0]
    return model


def config_fields(config_json: bytes) -> dict[str, Any]:
    """The fields of a config.json. Raises: CheckpointError when it is no JSON object."""
    try:
        fields = json.loads(config_json)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise CheckpointError("the config.json beside the weights is not a JSON object")
    return fields


def load_tokenizer(companions: Mapping[str, bytes], source: str) -> Any:
    """The transformers tokenizer of a model's companions; nothing among them is run and nothing is fetched.

    Raises: DataError when there is none, or it cannot be read; ToolMissing without transformers.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise ToolMissing(
            "a tokenizer is loaded by transformers, which is not installed: pip install 'pgpack[hf]'"
        ) from None
    with workplace("tokenizer") as folder, quiet_transformers():
        for name, contents in with_tokenizer_files(companions).items():
            (Path(folder) / name).write_bytes(contents)
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # noqa: BLE001  each class of transformers fails in its own way
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise DataError(f"{source} holds no tokenizer that transformers loads ({reason[0][:200]})") from None


class FarLarger(CheckpointError):
    """A config is of a model that is far larger than the checkpoint."""


class _LogitsModel(nn.Module):
    """A transformers model as a function of token ids. Shape: (B, T) -> (B, T, V).

    `stored_names`: parameter -> the checkpoint's names of what lies in it, where transformers renames it on loading
    or puts several together, as it does with experts.
    """

    def __init__(self, model: nn.Module, renamed: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.model = model
        self.stored_names = {f"model.{place}": names for place, names in renamed.items()}

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=ids, use_cache=False).logits
        return logits

    @property
    def written_at_once(self) -> int:
        """Units: tokens whose keys and values are kept in `REMEMBERED` bytes of fp32; AT_ONCE where layers differ
        or the config names none."""
        network: Any = self.model
        config = network.config.get_text_config()
        try:
            heads = getattr(config, "num_attention_heads", 1) or 1
            per_head = getattr(config, "head_dim", None) or config.hidden_size // heads
            kept = (getattr(config, "num_key_value_heads", None) or heads) * per_head
            return int(REMEMBERED // (8 * kept * config.num_hidden_layers))
        except (AttributeError, RuntimeError, TypeError, ZeroDivisionError):
            return AT_ONCE

    def written(self, ids: Tensor, length: int, n_pieces: int) -> Tensor:
        """`ids` gone on with by draws from the model's distribution; what was read is remembered, as the family does
        it. Shape: (B, T) -> (B, length)."""
        from transformers import GenerationConfig, LogitsProcessorList

        def drawn(_: Tensor, scores: Tensor) -> Tensor:
            """The largest of these is a draw (Gumbel's maximum), in a fifth of the time of torch.multinomial."""
            noisy = scores - torch.rand_like(scores).log_().neg_().log_()
            return noisy.index_fill_(1, torch.arange(n_pieces, scores.shape[1]), -torch.inf)

        network: Any = self.model
        network.generation_config = GenerationConfig(pad_token_id=0)  # its own would never draw the end of a text
        found: Tensor = network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_length=length,
            logits_processor=LogitsProcessorList([drawn]),
        )
        return found


def _logits_model(
    config_json: bytes, renamed: Mapping[str, tuple[str, ...]], tensors: Mapping[str, Tensor]
) -> nn.Module:
    return _LogitsModel(build_transformers(config_json, tensors), renamed).requires_grad_(False).eval()


def _loaded(config_json: bytes, tensors: Mapping[str, Tensor]) -> tuple[Any, list[str]]:
    """The model with `tensors` in it, and the names among them that it has no use for."""
    with quiet_transformers():
        config = _config(config_fields(config_json))
        reads_both_ways = getattr(config, "is_decoder", None) is False  # building some models changes it
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

        model, info = load_into(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], config, config_json, tensors)
    if reads_both_ways and not any(getattr(module, "is_causal", False) for module in model.modules()):
        raise CheckpointError(
            f"{config.model_type} is a masked model (is_decoder is false in config.json): it sees the tokens that it "
            "is to predict, so it has no bits per byte and writes nothing here; `pgpack pack` takes it without text, "
            "by the error of its weights"
        )
    if amiss := what_is_amiss(model, info):
        raise CheckpointError(amiss)
    return model.to(next(iter(tensors.values())).device), sorted(info["unexpected_keys"])


def load_into(
    maker: Any, config: Any, config_json: bytes, tensors: Mapping[str, Tensor]
) -> tuple[Any, Mapping[str, Any]]:
    """A model of the class `maker` with `tensors` in it, and what transformers says of them.

    Raises: CheckpointError; FarLarger.
    """
    try:
        _refuse_larger(maker, config, config_json, tensors)
        model, info = maker.from_pretrained(
            None,
            config=config,
            state_dict={name: tensor for name, tensor in tensors.items() if tensor.dtype.is_floating_point},
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            experts_implementation=ONE_BY_ONE,
        )
    except (
        ArithmeticError,
        AssertionError,
        ImportError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise CheckpointError(f"{maker.__name__} cannot be built from config.json ({reason[0][:200]})") from None
    return model, info


def what_is_amiss(model: Any, info: Mapping[str, Any]) -> str:
    """A sentence on tensors that a model needs and did not find, or found of another shape; '' for none."""
    if missing := sorted(info["missing_keys"]):
        return (
            f"{type(model).__name__} of config.json needs {missing[0]}{_more(missing)}, which the checkpoint lacks; "
            "the config is of another model, or the checkpoint is not whole"
        )
    if mismatched := sorted(info["mismatched_keys"]):
        name, found, expected = mismatched[0]
        return (
            f"{name}{_more(mismatched)} has shape {tuple(found)}, and by config.json it is {tuple(expected)}; the "
            "config is of another model"
        )
    return ""


def _refuse_larger(maker: Any, config: Any, config_json: bytes, tensors: Mapping[str, Tensor]) -> None:
    """Raises FarLarger for a config of a far larger model than `tensors` are, before memory is taken for it."""
    of_text = config.get_text_config()
    most = max(MOST_MODULES, len(tensors))
    for name in NUMBERS:
        number = getattr(of_text, name, None)
        if isinstance(number, int) and number > most:
            raise FarLarger(
                f"config.json says {name} = {number:,}, and the checkpoint has {len(tensors)} tensors; the config is "
                "of another model"
            )
    wanted = _n_parameters(config_json, maker)
    held = sum(tensor.numel() for tensor in tensors.values())
    if wanted > LARGER * held + SLACK:
        raise FarLarger(
            f"the {maker.__name__} of config.json has {wanted:,} parameters, and the checkpoint {held:,}; the config "
            "is of another model"
        )


@lru_cache(maxsize=4)
def _n_parameters(config_json: bytes, maker: Any) -> int:
    """Of the model that a config.json describes, none of whose values is made."""
    fields = config_fields(config_json)
    with torch.device("meta"):
        model = maker._from_config(built_config(str(fields.get("model_type")), fields))
    return sum(parameter.numel() for parameter in model.parameters())


def _more(names: list[Any]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def require_causal(config_json: bytes) -> None:
    """Raises: CheckpointError for one that does not go on from text, whatever else is known of it; ToolMissing."""
    _config(config_fields(config_json))


def _config(fields: Mapping[str, Any]) -> Any:
    """The config of transformers. Raises: CheckpointError, ToolMissing."""
    try:
        import transformers
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
    except ImportError:
        raise ToolMissing(
            "a model with a config.json is built by transformers, which is not installed: pip install 'pgpack[hf]'"
        ) from None
    kind = fields.get("model_type")
    known = kind in CONFIG_MAPPING and CONFIG_MAPPING[kind] in MODEL_FOR_CAUSAL_LM_MAPPING
    if fields.get("auto_map"):
        also = f"; transformers has {kind} itself: without auto_map in config.json that is used" if known else ""
        raise CheckpointError(
            f"config.json asks to run code that comes with the model (auto_map), which pgpack never does{also}; or "
            "give --model FILE.py:build"
        )
    if kind in CONFIG_MAPPING:
        is_pair = fields.get("is_encoder_decoder", CONFIG_MAPPING[kind].is_encoder_decoder)
        if is_pair or not known:
            what = "an encoder-decoder" if is_pair else "none that goes on from text"
            raise CheckpointError(
                f"{kind} is {what}, and only models that go on from text are run here; `pgpack pack` takes it "
                "without text, by the error of its weights, or, as all that measures a loss, with --model "
                "FILE.py:build"
            )
    if not known:
        raise CheckpointError(
            f"transformers {transformers.__version__} has no causal language model of type {kind!r}; a newer one may "
            "(pip install -U transformers), or give --model FILE.py:build"
        )
    return built_config(str(kind), fields)


def built_config(kind: str, fields: Mapping[str, Any]) -> Any:
    """The config of transformers for models of type `kind`. Raises: CheckpointError."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kept = {key: _number(value) for key, value in fields.items() if key not in NOT_TO_BUILD}
    try:
        return CONFIG_MAPPING[kind].from_dict(kept)
    except Exception as error:  # noqa: BLE001  each class of transformers checks its own fields in its own way
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise CheckpointError(f"config.json is no config of a {kind} model ({reason[0].strip()[:200]})") from None


def _number(value: Any) -> Any:
    """A value of a config.json; infinity, which JSON lacks, is written {"__float__": "Infinity"} by transformers."""
    if isinstance(value, list):
        return [_number(each) for each in value]
    told = value.get(NO_JSON) if isinstance(value, dict) and set(value) == {NO_JSON} else None
    return float(told) if told in ("Infinity", "-Infinity", "NaN") else value


def _longest(fields: Mapping[str, Any]) -> int | None:
    """Units: tokens that the model can read at once; None where the config sets no limit."""
    told = (fields.get(name) for name in LENGTHS)
    return next((length for length in told if isinstance(length, int) and length > 0), None)


def _versions() -> list[str]:
    """What logits depend on besides config, tensors and torch."""
    return [f"transformers {version('transformers')}"]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No bars and no reports of loading while it lasts: what is wrong is said as an error of ours."""
    try:
        from transformers.utils import logging
    except ImportError:
        yield
        return
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.ERROR)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
