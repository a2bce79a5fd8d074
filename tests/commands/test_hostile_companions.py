"""Small files beside the weights in an artifact from a stranger: a command ends with a sentence."""

from __future__ import annotations

import bz2
import json
from pathlib import Path

import pytest

from pgpack.unpack import check_digest, unpack
from tests.commands.workshop import pgpack
from tests.hostile.crafting import body_of, document, with_digest

NAMES = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
CONTENTS = {
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "a number": b"5",
    "a list": b"[]",
    "nothing": b"",
    "not UTF-8": b'{"model_type": "\xe9"}',
    "5000 digits": b'{"model_type": "gpt2", "vocab_size": ' + b"9" * 5000 + b"}",
    "NaN": b'{"model_type": "gpt2", "vocab_size": NaN, "n_embd": NaN}',
    "below zero": b'{"model_type": "gpt2", "vocab_size": -5, "n_embd": 0, "n_head": 0, "n_layer": -1}',
    "half a character": b'{"model_type": "\\ud800", "architectures": ["\\ud800"], "auto_map": {}}',
    "other types": b'{"model_type": ["a"], "architectures": 5, "model": 5, "added_tokens": 5}',
    "code": b'{"model_type": "gpt2", "auto_map": {"AutoModelForCausalLM": "evil.Model"}}',
}
COMMANDS = {
    "inspect": (),
    "analyze": (),
    "eval": ("--text", "text.txt"),
    "generate": ("--prompt", "a"),
    "folder": ("--as", "folder", "-o", "out"),
    "gguf": ("-o", "out.gguf"),
}


def crafted(contents: bytes) -> bytes:
    joined = contents * len(NAMES)
    stream = bz2.compress(joined)
    found = document(["raw", {"dtype": "fp32"}, "<u4", [4, 4], 0, []], [4, 4], 0)
    kept = [[[name, len(contents)] for name in NAMES], ["bz2"], [len(joined), len(stream)]]
    return with_digest({**found, "companions": kept}, body_of(found) + stream)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("contents", CONTENTS.values(), ids=CONTENTS)
def test_a_sentence_whatever_companions_hold(
    contents: bytes, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("hello world " * 50)
    data = crafted(contents)
    check_digest(unpack(data))
    Path("m.pgpack").write_bytes(data)
    verb = command if command in ("inspect", "analyze", "eval", "generate") else "unpack"
    found = pgpack(verb, "m.pgpack", *COMMANDS[command])
    assert found.code in (0, 1, 2, 4)
    assert "Traceback" not in found.err
    assert not found.code or found.err.count("rror: ") == 1, found.err
    if command == "folder" and not found.code:
        written = (tmp_path / "out" / "config.json").read_bytes()
        assert "auto_map" not in json.loads(written.decode())
