"""The referee: is this folder the submission that it says it is? Every rule is one row of `table.RULES`.

    folder ─┬─ scan (bounded, nothing followed) ──────────┐
            ├─ submission.json, README.md, logs ──────────┤
            ├─ scripts as syntax trees, never imported ────┼─> Evidence ─> one pure function per rule ─> Verdict
            ├─ decoders and wrappers run behind a fence ───┤
            └─ the model on text, when both are given ─────┘

Owns what is collected (`evidence`), how foreign code is run (`fence`, `runs`, `warm`) and the rules. Refuses to
repair anything, and to decode a foreign artifact in its own process before the fenced one has decoded it.
"""
