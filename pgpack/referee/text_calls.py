"""What a call in a walked script does and gives back: the script's own functions and classes, libraries by name."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from dataclasses import replace

from .script import Script
from .text_events import (
    RESET,
    TUNED,
    Event,
    Given,
    chosen_by_call,
    counts,
    event_of,
    kept,
    learns,
    looked_up,
    restored,
    scores,
    tunes,
)
from .text_expressions import Expressions
from .text_names import SPLITS, is_evaluated_path, names_evaluated, names_training
from .text_values import (
    DICTIONARY,
    FUNCTION,
    NOTHING,
    Call,
    Function,
    Kind,
    Scope,
    Value,
    decorators,
    parameters,
    path_of,
)

DEPTH = 14  # of calls
TABLE = 16  # functions of a dictionary of which one is called
LIBRARIES = {"torch", "numpy", "sentencepiece", "triton", "scipy", "tqdm"}
# calls whose result is no text any more
_NUMBERS = {
    "len", "item", "numel", "dim", "size", "print", "isinstance", "type", "stat", "detach", "exists", "getsize",
    "any", "all", "count", "hash", "id", "log", "info", "debug", "range", "warning", "perf_counter", "time",
}  # fmt: skip
_CONVERTED = {"int", "float", "bool"}
_LOSSES = {"cross_entropy", "nll_loss"}
_LOSES = {"item", "tolist"}  # what makes numbers of it
_REDUCES = _NUMBERS | {"sum", "mean", "max", "min", "numel", "nonzero", "most_common", "unique", "std"}
_SAME = {
    "str",
    "Path",
    "fspath",
    "expanduser",
    "abspath",
    "realpath",
    "resolve",
    "strip",
    "lower",
    "copy",
    "deepcopy",
    "with_name",
}
# calls that only move text, also where no gradients are computed
_DATA = {
    "tensor", "from_numpy", "as_tensor", "array", "asarray", "zip", "enumerate", "iter", "next", "list", "tuple",
    "cat", "stack", "concatenate", "load", "memmap", "fromfile", "DataLoader", "TensorDataset", "tqdm", "reversed",
    "sorted", "glob", "open", "join", "get", "cycle", "chain", "islice", "frombuffer", "set", "dict", "read_bytes",
}  # fmt: skip
_TRAINERS = (
    "train",
    "Train",
    "train_from_iterator",
    "train_new_from_iterator",
)  # of tokenizers, which nobody looks into
_JOINS = re.compile(r"concat|combine|merge|chain|interleave|mix|union|extend")
_PUT = {"append", "extend", "add", "insert", "put", "appendleft", "update", "copy_", "setdefault"}
_COPIES = {"symlink", "link", "copy", "copy2", "copyfile", "move", "rename"}
# methods of libraries too, so that an unknown owner says nothing
_COMMON = {
    "step", "backward", "train", "eval", "forward", "load_state_dict", "state_dict", "to", "__init__", "get",
    "update", "append", "add", "write", "read", "close", "load", "save", "zero_grad", "items", "keys", "values",
    "copy", "join",
}  # fmt: skip


class Calls(Expressions):
    """Calls."""

    def _Call(self, node: ast.Call, scope: Scope) -> Value:
        script = scope.script
        name = script.name_of(node.func)
        last = name.rpartition(".")[2] or getattr(node.func, "attr", "")
        is_name = isinstance(node.func, ast.Name)
        owner = NOTHING if is_name else self.value(getattr(node.func, "value", node.func), scope)
        if not isinstance(node.func, (ast.Name, ast.Attribute)):
            owner = self.value(node.func, scope)
        args = [self.value(arg, scope) for arg in node.args]
        keywords = [(item.arg or "", self.value(item.value, scope)) for item in node.keywords]
        named, held = dict(keywords), [self.whole(value) for value in (*args, *(value for _, value in keywords))]
        shown = [*node.args, *(item.value for item in node.keywords)]
        texts = tuple(ast.unparse(arg) for arg, value in zip(shown, held, strict=True) if value.text)
        counted = self._told(script, node, name, [owner, *held])
        answers = self.any([self._handed_on(argument, scope) for argument in shown])
        given = Given(owner.text, texts, any(value.training for value in held), answers.learned)
        self.happened(event_of(script, node, name, given, scope.graded), restored(script, node, name))
        self._owner_gets(node, last, owner, held, counted is not None, scope)
        if last == "add_argument" and args and args[0].word is not None:
            stored = Value(word="False") if named.get("action", NOTHING).word == "store_true" else NOTHING
            option = args[0].word.strip("-").replace("-", "_")
            told = self.given.option(option)
            self.options[option] = named.get("default", stored) if told is None else self.constant(told)
        self.site = id(node)
        result = self._of_script(node, last, owner, args, named, scope)
        if result is not None:
            return result.forgotten if _is_score(last) else result | Value(owner.text)
        if _links(last, owner, args):
            what = f"{last}(...) puts it among the training files and"
            self.happened(Event(TUNED, script.place(node, what), what))
        trained = any(name.startswith("train") and self.whole(value).text for name, value in keywords)
        trained |= last in _TRAINERS and bool(texts) and not given.training
        if (tunes(last, given) and scope.graded) or trained:
            self.happened(Event(TUNED, script.place(node, f"{last}(...)"), f"{last}(...)"))
        passed = self._passed_on(node, name, last, owner, args, scope)
        if last == "iter" and len(args) == 2 and (function := self.definitions.function(args[0].kind))[0]:
            passed = self.run(Call(*function[0], function[1], graded=scope.graded)).plain  # until it gives the second
        found = self._of_library(last, owner, args, held, scope.graded) if passed is None else passed
        if counted is not None and name.endswith("add.at") and node.args and path_of(node.args[0]):
            self.bind(node.args[0], args[0] | Value(seen=True, table=True), node, scope)
        is_number = last in _LOSES or (last == "float" and isinstance(node.func, ast.Name))
        whole = self.any([owner, *held])
        is_loss = last in _LOSSES or (last == "item" and not whole.text)
        chosen = ((whole.chosen or answers.chosen) and last not in _NUMBERS - {"item"}) or (is_loss and whole.learned)
        if is_number and whole.learned:
            return replace(found, number=True, chosen=chosen)
        table = counted is not None or (last not in _REDUCES and whole.table)
        return replace(found, number=whole.number and last not in _DATA, table=table, chosen=chosen)

    def _told(self, script: Script, node: ast.Call, name: str, values: Sequence[Value]) -> Event | None:
        """What a call does with what was learned of evaluated text before; the event of counting, if it counts."""
        held, every = values[1:], self.any(values)
        in_place = isinstance(node.func, ast.Attribute) and node.func.attr.endswith("_")
        learned, number = any(value.learned for value in held), any(value.number for value in held)
        self.happened(*(learns(script, node, name) if learned or (in_place and number) else ()))
        is_given = any(value.chosen for value in held)
        if (is_given or self.is_choice) and not learned:
            self.happened(chosen_by_call(script, node, name, is_given))
        if learned or values[0].learned:
            self.happened(kept(script, node, name, self.any(held)))
        if learned or number:
            self.happened(scores(script, node, self.any(held)))
        self.happened(looked_up(script, node, name) if every.table else None)
        counted = counts(script, node, name, any(value.text for value in held), values[0].learned)
        self.happened(counted)
        return counted

    def _owner_gets(
        self, node: ast.Call, last: str, owner: Value, held: Sequence[Value], is_counted: bool, scope: Scope
    ) -> None:
        """What an object holds once a method has put something into it."""
        whole = self.any(held)
        if not isinstance(node.func, ast.Attribute) or not path_of(node.func.value):
            return
        if is_counted and last.endswith("_"):
            gets = Value(seen=True, table=True)
        elif last in _PUT and whole.text:
            gets = Value(True)
        elif whole.learned and (last in _PUT or last.endswith("_")):
            gets = Value(seen=True)
        else:
            gets = Value(chosen=last in _PUT and whole.chosen)
        if gets != NOTHING:
            self.bind(node.func.value, owner | gets, node, scope)

    def _handed_on(self, argument: ast.expr, scope: Scope) -> Value:
        """A function that is given to another one is called by it; what it answers."""
        if not isinstance(argument, ast.Name):
            return NOTHING
        held = scope.find(argument.id)
        function, own = self.definitions.function((FUNCTION, argument.id, None) if held is None else held.kind)
        if function is None or own is not None:
            return NOTHING
        self.site = id(argument)
        return self.run(Call(*function))

    def _of_script(
        self, node: ast.Call, last: str, owner: Value, args: list[Value], named: dict[str, Value], scope: Scope
    ) -> Value | None:
        """What a call of the script's own functions and classes gives back, None when it is none."""
        found, own = None, owner.kind
        func = node.func
        if isinstance(func, ast.Name):
            if (held := scope.find(func.id)) is not None and held.kind is not None:
                found, own = self._called_object(held.kind)
            elif last in self.definitions.bases:
                return self._made(last, node, args, named, scope)
            else:
                found, own = self.definitions.functions.get(last), None
        elif isinstance(func, ast.Attribute):
            of_module = isinstance(func.value, ast.Name) and _is_local(scope.script.imported.get(func.value.id))
            if isinstance(func.value, ast.Call) and getattr(func.value.func, "id", "") == "super" and scope.own:
                bases = self.definitions.classes(str(scope.own[0]))[1:]
                found, own = next((self.definitions.methods.get((base, last)) for base in bases), None), scope.own
            elif isinstance(func.value, ast.Name) and func.value.id in self.definitions.bases:
                found, own = self.definitions.methods.get((func.value.id, last)), (func.value.id,)
            elif owner.kind is not None:
                found, own = self._method_of(owner.kind, last)
            elif of_module and last in self.definitions.bases:
                return self._made(last, node, args, named, scope)
            elif of_module:
                found = self.definitions.functions.get(last)
            elif last not in _COMMON and not owner.text and (only := self.definitions.only_method(last)):
                own, found = only
        else:
            return self._of_value(func, owner, args, named, scope)
        return None if found is None else self.run(Call(*found, own, args, named, scope.graded))

    def _of_value(
        self, func: ast.expr, owner: Value, args: list[Value], named: dict[str, Value], scope: Scope
    ) -> Value | None:
        """What a called value gives back; of a dictionary's functions each where nobody knows which it is."""
        called = [self._called_object(owner.kind)]
        if called[0][0] is None and isinstance(func, ast.Subscript):
            kind = self.value(func.value, scope).kind
            held = self.attributes.get(kind, {}) if kind is not None and kind[0] == DICTIONARY else {}
            called = [self._called_object(value.kind) for value in held.values()][:TABLE]
        results = [self.run(Call(*each, own, args, named, scope.graded)) for each, own in called if each is not None]
        return self.any(results) if len(results) > 1 else next(iter(results), None)

    def _method_of(self, kind: Kind, name: str) -> tuple[tuple[Script, Function] | None, Kind | None]:
        """What is called as an object's method: its class's, or a function that it holds under that name."""
        found = self.definitions.method(kind, name)
        held = self.attributes.get(kind, {}).get(name)
        return (found, kind) if found is not None or held is None else self._called_object(held.kind)

    def _called_object(self, kind: Kind | None) -> tuple[tuple[Script, Function] | None, Kind | None]:
        """What is called where a value is: the function that it is, or its `__call__`."""
        if kind is None or kind[0] == FUNCTION:
            return self.definitions.function(kind)
        return self.definitions.method(kind, "__call__"), kind

    def _made(self, name: str, node: ast.Call, args: list[Value], named: dict[str, Value], scope: Scope) -> Value:
        """A new object of a class of the script: told apart by where it is made, and of what."""
        kind: Kind = (
            name,
            node.lineno,
            node.col_offset,
            *args,
            *sorted((k, v.text, v.training) for k, v in named.items()),
        )
        if "Module" in {base for each in self.definitions.classes(name) for base in self.definitions.bases[each]}:
            self.happened(Event(RESET, scope.script.place(node, name), name))
        if self.depth < DEPTH and (method := self.definitions.method(kind, "__init__")) is not None:
            self.run(Call(*method, kind, args, named, scope.graded))
        else:
            fields = [field for each in self.definitions.classes(name) for field in self.definitions.fields[each]]
            self.attributes.setdefault(kind, {}).update({**dict(zip(fields, args, strict=False)), **named})
        return Value(kind=kind)

    def run(self, call: Call) -> Value:
        site = self.site
        self.reached.add(id(call.function))
        held = sum(value.text for values in self.attributes.values() for value in values.values())
        named = sorted(call.named.items(), key=lambda item: item[0])
        key = (id(call.function), call.own, *call.args, *named, call.graded, held)
        if key not in self.known:
            if self.depth >= DEPTH:
                return NOTHING
            self.known[key] = NOTHING, ()  # of one that calls itself
            before, self.events = self.events, []
            loops, self.loops = self.loops, ()
            is_choice, self.is_choice = self.is_choice, False
            self.depth += 1
            scope = self._entered(call)
            function = id(call.function)
            for name, found in scope.values.items():
                self.entered[function, name] = self.entered.get((function, name), NOTHING) | found
            self.block(call.function.body, scope)
            self.given_back[function] = self.given_back.get(function, NOTHING) | scope.returned
            self.depth -= 1
            self.known[key] = scope.returned, tuple(dict.fromkeys(self.events))
            self.events, self.loops, self.is_choice = before, loops, is_choice
        returned, events = self.known[key]
        self.happened(*(_led_by(event, site) for event in events))
        return returned

    def _entered(self, call: Call) -> Scope:
        """The names of a function as it starts."""
        script, function, own, args, named, graded = call
        names, marks = parameters(function), decorators(script, function)
        scope = Scope(script, {}, self.closures.get(id(function)), own, graded)
        scope.graded = "enable_grad" in marks or (graded and not marks & {"no_grad", "inference_mode"})
        if own is not None and names and "staticmethod" not in marks and (names[0] in ("self", "cls", "this")):
            scope.values[names.pop(0)] = Value(kind=own)
        defaults = dict(zip(names[::-1], reversed(function.args.defaults), strict=False))
        given = {**dict(zip(names, args, strict=False)), **named}
        rest = self.any([self.whole(value) for value in args[len(names) :]])
        for name in (*names, *(each.arg for each in function.args.kwonlyargs)):
            default = defaults.get(name)
            found = given.get(name, NOTHING if default is None else self.value(default, scope))
            scope.values[name] = self.called(name, found)
        for extra in (function.args.vararg, function.args.kwarg):
            if extra is not None:
                scope.values[extra.arg] = rest
        return scope

    def _passed_on(
        self, node: ast.Call, name: str, last: str, owner: Value, args: list[Value], scope: Scope
    ) -> Value | None:
        """What a call gives back that only converts it, None of others."""
        if last in _CONVERTED and args:
            is_token = last == "int" and isinstance(node.args[0], ast.Subscript) and args[0].text
            return Value(is_token, word=args[0].word)
        if name.startswith("os.") and last in ("get", "getenv") and args:
            return self.of_environment(args[0].word, args[1] if len(args) > 1 else NOTHING, scope)
        if (name.startswith("os.path") and last == "join") or (last == "Path" and len(args) > 1):
            return self.joined(node.args, "/", scope)
        if last == "replace" and len(args) == 2:
            return _replaced(owner, *args)
        if last in _SAME:
            return args[0] if args else owner
        of_text = last in ("detach", "log", "count") and (owner.learned or (last == "log" and self.any(args).learned))
        return Value(seen=True) if of_text else NOTHING if last in _NUMBERS or _is_score(last) else None

    @staticmethod
    def _of_library(last: str, owner: Value, args: Sequence[Value], held: Sequence[Value], graded: bool) -> Value:
        """What a function that nobody can look into gives back, by its name and what it is given."""
        words = [value.word for value in args if value.word is not None]
        text = owner.text or any(value.text for value in held) or any(word in SPLITS for word in words)
        training = owner.training or any(value.training for value in held) or any(map(_is_train, words))
        seen = text or owner.seen or any(value.seen for value in held)
        if not graded and not owner.text and last not in _DATA and not names_evaluated(last):
            return Value(seen=seen)
        mixed = any(value.text and value.training for value in (owner, *held))
        if training and not mixed and not (text and (last in _DATA or _JOINS.search(last.lower()))):
            return Value(owner.text, True, seen=seen)
        return Value(text or names_evaluated(last), seen=seen)


def _led_by(event: Event, site: int) -> Event:
    """An event of a function, with the call that has led to its loops."""
    return replace(event, loops=tuple((loop, kind, led or site) for loop, kind, led in event.loops))


def _replaced(owner: Value, old: Value, new: Value) -> Value | None:
    """A text with a part replaced: train_files.replace("train", "val")."""
    if owner.word is None or old.word is None or new.word is None:
        return None
    word = owner.word.replace(old.word, new.word)
    return Value(is_evaluated_path(word), "fineweb_train" in word, None, word)


def _links(last: str, owner: Value, args: Sequence[Value]) -> bool:
    """Whether a call gives a file of the validation split the name of a training file."""
    pair = [*args, owner] if last in ("symlink_to", "hardlink_to") else [*args] if last in _COPIES else []
    return len(pair) > 1 and pair[0].text and pair[1].training and not pair[1].text


def _is_local(module: str | None) -> bool:
    """Whether an imported module may be the folder's own: `math.log` is not the script's `log`."""
    return module is not None and module.partition(".")[0] not in sys.stdlib_module_names | LIBRARIES


def _is_score(name: str) -> bool:
    """An evaluation, whose result is a number."""
    return "eval" in name.lower() and not names_evaluated(name)


def _is_train(word: str) -> bool:
    return len(word) < 40 and names_training(word)
