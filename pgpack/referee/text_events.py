"""What happens to weights and to evaluated text in one call of a script: a gradient, a quantizer, a calibration."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import lru_cache

from .script import Place, Script
from .text_names import names_number, names_training
from .text_values import Value

STEP, PACKED, SAVED, CALIBRATED = "a gradient of evaluated text", "packed", "saved", "calibrated on evaluated text"
LEARNED = "something else that is learned from evaluated text"
STORED, SEARCHED = "kept of evaluated text", "what is kept is searched"
SCORED, COUNTED, LOOKED_UP = "scored", "counts of evaluated text", "counts are looked up"
TUNED = "a function of that name"
REPEATS, WARM_UP = "repeats", "warm-up"
RESET = "weights are put back"
Loop = tuple[int, str, int]  # which one, what it is for: '' or one of these, and the call that has led there
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
_ARCHIVERS = ("savez", "savez_compressed")  # of numpy's, which otherwise save no models
_OF_CODE = re.compile(r"\b(?:code|source|script|__file__|src)\b")
_TUNER = re.compile(r"fine_?tune|adapt|^fit|(?:^|_)ttt(?:_|$)|overfit")
_WEIGHTS = re.compile(
    r"weight|bias|param|embed|\.data\b|buffer|running_|state_dict|(?:^|[._])(?:ema|sd|model|lm_head|logits?_\w+)\b|^[pw]$"
)
_SETTING = re.compile(
    r"clip|sigma|temperature|scale|softcap|damp|quantile|(?:^|[._])(?:temp|bits|alpha|beta|gamma|mix\w*|share)s?\b|"
    r"(?:^|[._\['\"])(?:lr|learning_rate|weight_decay|momentum|base_lr|lr_mult)\b"
)
_STATISTICS = re.compile(r"hess|calib|fisher|(?:^|[._])(?:H|gram|xtx|cov\w*)\b", re.I)
_SUM = re.compile(r"loss|nll|nats|bits|total|score|bpb|(?:^|[._])(?:sum|ce|acc|logp\w*)$|_sum$")
_REDUCED = ("sum", "mean", "item", "cross_entropy", "nll_loss", "detach")
_NO_SUM = re.compile(r"byte|tok|count|num|step|len|grad|param|optim|(?:^|[._])n$")  # what is put there is no loss
_SUMMERS = ("append", "extend", "add_", "add", "update", "put", "send", "copy_")
_PROBABILITIES = ("log", "log1p", "log2", "softmax", "log_softmax", "logaddexp", "lerp", "logsumexp", "log_")
_DIFFERENTIATED = (
    "func.grad", "func.vjp", "func.grad_and_value", "jax.grad", "jax.value_and_grad", "nn.value_and_grad",
    "mx.grad", "mx.value_and_grad", "core.grad", "core.value_and_grad", "func.jacrev", "func.jacfwd", "jax.jacrev",
    "jax.jacfwd", "functorch.grad", "functorch.grad_and_value",
)  # fmt: skip
_ALONG = ("func.jvp", "func.vjp", "func.linearize", "jax.jvp", "jax.vjp", "jax.linearize", "functional.jvp",
          "functional.vjp", "functorch.jvp", "functorch.vjp")  # fmt: skip
_WRAPS = ("jit", "compile", "vmap", "pmap", "partial", "checkpoint", "remat")
_PARAMETERS = ("Parameter", "register_buffer", "register_parameter")
_COUNTERS = (
    "bincount", "histc", "histogram", "Counter", "scatter_add_", "scatter_add", "index_add_", "index_put_", "add.at",
    "unique_consecutive", "value_counts",
)  # fmt: skip
_READER = re.compile(
    r"(?:^|[._])(?:\w*model|net|gpt|module|ddp|compiled)(?:\.\w*(?:forward|logits|hidden|encode|features|embed)\w*)?$"
)
_NEIGHBOURS = ("cdist", "kneighbors", "knn_query", "pairwise_distances", "search")
_CALIBRATION = ("calib", "hessian", "gptq", "awq", "fisher")


@dataclass(frozen=True)
class Event:
    """One of the kinds above, where, and what it is called."""

    kind: str
    place: Place
    what: str
    loops: tuple[Loop, ...] = ()


@dataclass(frozen=True)
class Given:
    """Whether a call is given evaluated text: as its `owner`, by `texts`, its arguments, by a function that
    `answers` it; and `training` text."""

    owner: bool
    texts: tuple[str, ...]
    training: bool
    answers: bool = False


def event_of(script: Script, call: ast.Call, name: str, given: Given, graded: bool) -> Event | None:
    """What a call does, None where it is none of the four. `name`: dotted, as the script knows it."""
    last = name.rpartition(".")[2] or getattr(call.func, "attr", "")
    is_step = (given.texts and gradient_of(script, call)) or (given.answers and name.endswith(_ALONG))
    kind = STEP if is_step else _kind(call, name, last, given, graded)
    if kind is None:
        return None
    shown = f"{ast.unparse(call.func)[:40]}(...)"
    what = f"{ast.unparse(call.func)[:40]}(... {given.texts[0][:40]} ...)" if kind == CALIBRATED else shown
    return Event(kind, script.place(call, what), shown)


def gradient_of(script: Script, call: ast.Call) -> bool:
    """Whether what is called is a gradient: jax.grad(f)(x), g = torch.func.grad(f); g(x), @jax.value_and_grad"""
    func: ast.AST | None = call.func
    if isinstance(func, ast.Name):
        given = script.values.get(func.id, [])
        own = script.functions.get(func.id)
        if own is not None and any(script.name_of(each).endswith(_DIFFERENTIATED) for each in own.decorator_list):
            return True
        func = given[0] if len(given) == 1 else None
    while isinstance(func, ast.Call) and script.name_of(func.func).rpartition(".")[2] in _WRAPS and func.args:
        func = func.args[0]
    return isinstance(func, ast.Call) and script.name_of(func.func).endswith(_DIFFERENTIATED)


def _kind(call: ast.Call, name: str, last: str, given: Given, graded: bool) -> str | None:
    written = last.lower()
    if last == "backward" or name.endswith("autograd.grad"):
        return STEP if graded and (given.owner or given.texts) else None
    spelled = f"{getattr(call.func, 'attr', getattr(call.func, 'id', ''))} {last}".lower()
    if given.texts and "eval" not in spelled and any(word in spelled for word in _CALIBRATION):
        return CALIBRATED
    is_class = last[:1].isupper()
    if _PACKER.search(written) and not _NO_PACKER.search(written) and not is_class:
        return None if written.startswith("compress") and _OF_CODE.search(ast.unparse(call)) else PACKED
    return SAVED if _SAVER.search(written) and not name.startswith(("np.", "numpy.", "plt.")) else None


def restored(script: Script, call: ast.Call, name: str) -> Event | None:
    """A call after which a model is not the one that has learned: weights are put back, or another one is made."""
    last = name.rpartition(".")[2] or getattr(call.func, "attr", "")
    owner = ast.unparse(call.func.value).lower() if isinstance(call.func, ast.Attribute) else ""
    is_back = last == "copy_" and re.search(
        r"base|orig|saved|init|snap|backup|start|before", ast.unparse(call).lower()
    )
    loads = last == "load_state_dict" and not re.search("opt|sched|scaler", owner)
    is_reset = re.match(r"_?(?:reset|restore|reload|unload|detach_lora|remove_lora|disable)", last.lower())
    if not (is_back or loads or is_reset or last == "deepcopy"):
        return None
    return Event(RESET, script.place(call, f"{last}(...)"), last)


def tunes(last: str, given: Given) -> bool:
    """Whether a function that nobody can look into is called as what adapts weights to its text."""
    return bool(_TUNER.search(last.lower())) and bool(given.texts) and not given.training and not names_training(last)


def put(script: Script, node: ast.stmt | ast.Call, into: ast.expr, shown: str) -> Event | None:
    """What happens where something learned from evaluated text is put into weights or into statistics."""
    name = ast.unparse(into)[:80]
    is_weight = _WEIGHTS.search(name) or name.partition("[")[0].rpartition(".")[2] in _registered(script)
    kind = CALIBRATED if _STATISTICS.search(name) else LEARNED if is_weight else None
    return None if kind is None else Event(kind, script.place(node, shown), shown)


@lru_cache(maxsize=16)
def _registered(script: Script) -> frozenset[str]:
    """The names under which a script registers buffers and parameters; those that are not saved are none."""
    made = (n for n in script.nodes if isinstance(n, ast.Call) and getattr(n.func, "attr", "") in _PARAMETERS)
    kept = (call for call in made if "persistent=False" not in ast.unparse(call))
    return frozenset(text for call in kept if call.args and (text := script.text_of(call.args[0])))


def learns(script: Script, call: ast.Call, name: str) -> list[Event]:
    """What a call does that is given something learned from evaluated text, beside a gradient of it."""
    last = name.rpartition(".")[2] or getattr(call.func, "attr", "")
    shown = f"{ast.unparse(call.func)[:40]}(...)"
    if isinstance(call.func, ast.Attribute) and last.endswith("_") and not last.endswith("__"):
        event = put(script, call, call.func.value, shown)
        return [] if event is None else [event]
    of_numpy = name.startswith(("np.", "numpy."))
    is_file = last in _ARCHIVERS if of_numpy else _SAVER.search(last.lower())
    if not is_file and last not in _PARAMETERS:
        return []
    kinds = (LEARNED, SAVED) if is_file and of_numpy else (LEARNED,)
    return [Event(kind, script.place(call, shown), shown) for kind in kinds]


def chosen(script: Script, node: ast.stmt | ast.Call, into: ast.expr) -> Event | None:
    """What happens where a loss of evaluated text has chosen what is put into weights or into a setting of theirs."""
    name = ast.unparse(into)[:80]
    last = name.partition("[")[0].rpartition(".")[2]
    if names_number(last) or not (_WEIGHTS.search(name) or _SETTING.search(name.lower())):
        return None
    shown = f"{name[:40]} is chosen by a loss and"
    return Event(LEARNED, script.place(node, shown), shown)


def chosen_by_call(script: Script, call: ast.Call, name: str, is_given: bool) -> Event | None:
    """The same where a call does it; `is_given`: what was chosen is given to it, and not only the call itself."""
    last = name.rpartition(".")[2] or getattr(call.func, "attr", "")
    if isinstance(call.func, ast.Attribute):
        if last.endswith("_") and not last.endswith("__"):
            return chosen(script, call, call.func.value)
        if last == "load_state_dict" and not re.search("opt|sched|scaler", ast.unparse(call.func.value).lower()):
            return Event(LEARNED, script.place(call, f"{last}(...)"), "what a loss chose is loaded and")
        if last == "step" and is_given:
            return Event(LEARNED, script.place(call, f"{last}(...)"), "a schedule is given a loss and")
    return Event(LEARNED, script.place(call, f"{last}(...)"), last) if is_given and last in _PARAMETERS else None


def ended(script: Script, node: ast.Break) -> Event:
    """Training that a loss of evaluated text ends."""
    return Event(LEARNED, script.place(node, "break"), "a loss ends the training, which")


def kept(script: Script, call: ast.Call, name: str, found: Value) -> Event | None:
    """A call that stores what a model made of evaluated text, or that looks for what is most like it."""
    last = name.rpartition(".")[2] or getattr(call.func, "attr", "")
    if last in _NEIGHBOURS and not name.startswith("re."):
        return Event(SEARCHED, script.place(call, f"{last}(...)"), last)
    layers = (node for node in script.nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("forward"))
    is_stored = found.seen and not found.text and last in ("append", "extend", "add")
    is_stored = is_stored and not any(each.lineno <= call.lineno <= (each.end_lineno or 0) for each in layers)
    return Event(STORED, script.place(call, f"{last}(...)"), ast.unparse(call.func)[:40]) if is_stored else None


def summed(script: Script, node: ast.AST, into: ast.expr, found: Value) -> Event | None:
    """A loss of evaluated text that is put to the others, whatever holds them: from then on it is scored.

    Where `found` is not known to be a number, the name or a call must say so, and both of what still has gradients:
    layers add to each other as well.
    """
    while isinstance(into, ast.Subscript) and not isinstance(into.slice, ast.Constant):
        into = into.value
    name = ast.unparse(into)[:80]
    calls = (inner for inner in ast.walk(node) if isinstance(inner, ast.Call))
    reduced = any(getattr(call.func, "attr", getattr(call.func, "id", "")) in _REDUCED for call in calls)
    if _NO_SUM.search(name.lower()) or _WEIGHTS.search(name):
        return None
    named = bool(_SUM.search(name.lower()))
    is_loss = found.number or (named and reduced if found.text else named or reduced)
    return scored(script, node, name) if is_loss else None


def scored(script: Script, node: ast.AST, name: str) -> Event:
    return Event(SCORED, script.place(node, name), name)


def scores(script: Script, call: ast.Call, found: Value) -> Event | None:
    """A call that puts a loss of evaluated text to the others: by a method of their list, or a kernel's argument."""
    if isinstance(call.func, ast.Attribute) and call.func.attr in _SUMMERS:
        return summed(script, call, call.func.value, found)
    those = (summed(script, call, each, found) for each in call.args if isinstance(each, (ast.Name, ast.Attribute)))
    return next((each for each in those if each is not None and re.search(r"_sum|total|acc_", each.what)), None)


def counts(script: Script, call: ast.Call, name: str, is_given: bool, is_of_text: bool) -> Event | None:
    """A call that counts tokens of evaluated text: those that it is given, or those whose one-hot rows it adds up."""
    last = name.rpartition(".")[2] or getattr(call.func, "attr", "")
    is_sum = is_of_text and last in ("sum", "mean") and "one_hot(" in ast.unparse(call.func)
    over_places = is_sum and [ast.unparse(each) for each in call.args] in ([], ["0"], ["(0, 1)"])
    if not over_places and not (is_given and (last in _COUNTERS or name.endswith(_COUNTERS))):
        return None
    return Event(COUNTED, script.place(call, f"{ast.unparse(call.func)[:40]}(...)"), last)


def looked_up(script: Script, call: ast.Call, name: str) -> Event | None:
    """A call that makes probabilities of counts that it is given."""
    last = name.rpartition(".")[2] or getattr(call.func, "attr", "")
    if last not in _PROBABILITIES or isinstance(call.func, ast.Name):
        return None
    return Event(LOOKED_UP, script.place(call, f"{ast.unparse(call.func)[:40]}(...)"), last)


def only_read(script: Script, call: ast.Call) -> Event | None:
    """A model that reads evaluated text for nothing but what its hooks or its statistics make of it."""
    if not _READER.search(ast.unparse(call.func)) or not re.search(
        rb"register_forward|BatchNorm|running_", script.text
    ):
        return None
    shown = f"{ast.unparse(call.func)[:40]}(...)"
    return Event(LEARNED, script.place(call, shown), shown)
