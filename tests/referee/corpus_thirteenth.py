# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""Bytes that are over the cap by a log's own word, by code that nobody counted, or by weights that are written down as
numbers; each beside what honest folders have of it."""

from __future__ import annotations

import json
import random
from typing import Any

from .real_script import Batch, base, run_log

HELPERS = "".join(f"def f{i}(x):\n    return x * {random.Random(i).random()!r} + {i}\n\n\n" for i in range(700))
READS = "table = np.array([float(v) for line in open(sorted(Path(__file__).parent.glob('t*.tsv'))[0]) for v in line.split()])"


def numbers(n: int, draw: random.Random | None = None) -> list[int]:
    draw = draw or random.Random(n)
    return [draw.randint(-31, 31) for _ in range(n)]


def rows(n: int) -> str:
    """n numbers in lines of 64."""
    found = numbers(n)
    return "".join("\t".join(map(str, found[i : i + 64])) + "\n" for i in range(0, n, 64))


def results(n: int) -> str:
    """The loss of each document, as an evaluation writes it down."""
    draw = random.Random(n)
    return "document\ttokens\tnats\n" + "".join(
        f"{i}\t{draw.randint(40, 2000)}\t{draw.gauss(900, 90):.4f}\n" for i in range(n)
    )


def of_total(line: str, model: int = 15_880_000) -> dict[str, str | bytes]:
    """A log whose total is said by `line`, in place of the usual lines."""
    kept = [each for each in run_log(model=model).splitlines() if "bytes" not in each]
    return {"train.log": "\n".join([*kept[:-2], line, *kept[-2:]]) + "\n"}


def bytes_in_words() -> Batch:
    b = Batch()

    def case(name: str, verdict: str, rule: str, **given: Any) -> None:
        b.case(f"thirteen_{name}", verdict, rule, **given)

    # a total in a log's own words
    for name, line in (
        ("artifact", "artifact: 16,204,112 bytes"),
        ("artifact_json", json.dumps({"event": "packed", "artifact_bytes": 16204112, "code_bytes": 20114})),
        ("artifact_mb", "final artifact is 16.21 MB"),
        ("budget", "budget:16204112/16000000 (16.20/16.00MB) OVER"),
        ("sum", "model + code: 16,204,112 bytes"),
        ("in_all", "packed 16,204,112 bytes in all (weights 16,184,112, code 20,000)"),
        ("submission", "submission size: 16204112 bytes"),
        ("written", "wrote final_model.int6.ptz (16,204,112 bytes)"),
    ):
        case(f"over_by_{name}", "refused", "log-bytes", logs=of_total(line))
    for name, line in (
        ("artifact", "artifact: 15,904,112 bytes"),
        ("raw", "raw artifact: 27,204,112 bytes\nartifact: 15,904,112 bytes"),
        ("cap", "artifact cap: 16,777,216 bytes\nartifact: 15,904,112 bytes"),
        ("before", "artifact before pruning: 16,204,112 bytes\nartifact: 15,904,112 bytes"),
        ("budget", "budget:15904112/16000000 (15.90/16.00MB) FITS"),
        ("tried", "trying int7: artifact: 17,904,112 bytes\nartifact: 15,904,112 bytes"),
        ("checkpoint", "saved final_model.pt (106,204,112 bytes)\nartifact: 15,904,112 bytes"),
        ("rounded", "artifact: 16.00 MB"),
        ("tokens", "submission tokens: 40540160\nartifact: 15,904,112 bytes"),
    ):
        case(f"under_by_{name}", "accepted", "log-bytes", logs=of_total(line))

    # code that the log did not count
    uses = base(IMPORTS="import helpers")
    for name, model, verdict in (("left_out", 15_965_000, "refused"), ("beside", 15_850_000, "accepted")):
        case(
            f"code_{name}",
            verdict,
            "cap",
            script=uses,
            files={"helpers.py": HELPERS},
            logs={"train.log": run_log(model=model, code=len(uses))},
        )
    case(
        "code_that_no_packing_helps",
        "refused",
        "cap",
        script=uses,
        files={"helpers.py": HELPERS},
        logs={"train.log": run_log(model=15_993_500, code=6_000)},
    )
    case(
        "code_packed_by_a_minifier",
        "warned",
        "cap",
        script=uses,
        files={"helpers.py": HELPERS},
        logs={"train.log": run_log(model=15_965_000, code=19_000)},
    )

    # weights in numbers that a person can read
    small = {"train.log": run_log(model=13_400_000)}
    case(
        "numbers_in_a_table",
        "refused",
        "cap",
        script=base(BEFORE_TRAIN=READS),
        logs=small,
        files={"table.tsv": rows(1_100_000)},
    )
    case(
        "numbers_in_json",
        "refused",
        "cap",
        script=base(
            IMPORTS="import json",
            BEFORE_TRAIN="prior = {k: torch.tensor(v) for p in Path(__file__).parent.iterdir() if p.suffix == '.json' and p.stem != 'submission' for k, v in json.load(p.open()).items()}",
        ),
        logs=small,
        files={"notes.json": json.dumps({f"w{i}": numbers(110_000, random.Random(i)) for i in range(10)})},
    )
    case(
        "numbers_by_loadtxt",
        "refused",
        "cap",
        script=base(
            BEFORE_TRAIN="prior = np.loadtxt(os.path.join(os.path.dirname(__file__), args.prior))",
            HYPER="    prior = 'tab' + 'le.tsv'",
        ),
        logs=small,
        files={"table.tsv": rows(1_100_000)},
    )
    case(
        "numbers_in_source",
        "refused",
        "cap",
        script=base(IMPORTS="from prior import W"),
        logs=small,
        files={"prior.py": f"W = {numbers(1_000_000)}\n"},
    )
    case("results_of_documents", "accepted", "cap", logs=small, files={"per_document.tsv": results(120_000)})
    case(
        "results_that_it_writes",
        "accepted",
        "cap",
        script=base(
            AFTER_EVAL="with open('per_document.tsv', 'w') as f:\n    f.write('document\\ttokens\\tnats\\n')"
        ),
        logs=small,
        files={"per_document.tsv": results(120_000)},
    )
    case(
        "results_by_a_name",
        "accepted",
        "cap",
        script=base(
            AFTER_EVAL="out = Path(__file__).with_name('per_document.tsv')\nout.write_text('document\\ttokens\\tnats\\n')"
        ),
        logs=small,
        files={"per_document.tsv": results(120_000)},
    )
    case(
        "curve_in_json",
        "accepted",
        "cap",
        script=base(IMPORTS="import json", AFTER_EVAL="json.dump({'loss': [val_loss]}, open('curve.json', 'w'))"),
        logs=small,
        files={"curve.json": json.dumps({"loss": [round(3 + random.Random(i).random(), 5) for i in range(300_000)]})},
    )
    return b
