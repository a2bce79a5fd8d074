"""How a model that nobody named was found, as a document that studies and manifests keep and `inspect` repeats.

    {"nats", "bigram", "tokens", "config": {...}, "fields": {name: {"value", "by", "next", "behind"}}}

`by` is what decided a field: names, shapes, loss, usage (of public scripts, where the loss hardly tells), user, or
nothing, where no value of it changes the model; `next` the next value and `behind` how many nats per token it loses
more. Owns the text of it; a model source the document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

FOUND_KEY = "model_found"  # of a checkpoint's metadata
KINDS = {
    "names": "the names of tensors",
    "shapes": "shapes",
    "loss": "the loss",
    "usage": "what public scripts have, for the loss hardly tells (give it if yours differs)",
    "user": "what was said",
    "nothing": "nothing, and nothing depends on them",
}


def read_evidence(text: str | None) -> Mapping[str, Any] | None:
    """The document; None where there is none, or it is none."""
    try:
        found = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("fields"), dict) else None


def evidence_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """What was found, and what each field was decided by, for people."""
    yield (
        f"model found by its tensors and its loss: {document.get('nats', 0):.4f} nats per token on "
        f"{document.get('tokens', 0):,} tokens, a bigram of the text {document.get('bigram', 0):.4f}"
    )
    for kind, words in KINDS.items():
        said = [_said(name, each) for name, each in document["fields"].items() if each.get("by") == kind]
        if said:
            yield f"  by {words}: {', '.join(said)}"


def _said(name: str, field: Mapping[str, Any]) -> str:
    value = json.dumps(field.get("value")).strip('"')
    after = f" ({field['next']} {field['behind']:+.4f})" if "next" in field else ""
    return f"{name}={value}{after}"
