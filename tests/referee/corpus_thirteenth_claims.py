"""Means, copies of a run, times in other words, numbers of other languages, modules in zips: by another stranger."""

from __future__ import annotations

from typing import Any

from .corpus_twelfth_claims import of_seeds
from .folder_case import zipped
from .real_script import Batch, base, run_log

SEEDS = {"train_seed42.log": (1.0812, 42), "train_seed314.log": (1.0820, 314), "train_seed999.log": (1.0828, 999)}
ROWS = "| Seed | bpb |\n|---|---|\n| 42 | 1.0812 |\n| 314 | 1.0820 |\n| 999 | 1.0828 |\n"
ZIPPED = (
    "import os, sys\nsys.path.insert(0, os.path.join(os.path.dirname(__file__), 'code.zip'))\n"
    "import golf\ngolf.main()\n"
)
BATCHES = "".join(
    f"step:{i}/20000 train_loss:{3 - i / 9000:.4f} train_time:{i * 120}ms\n" for i in range(1000, 4900, 100)
)


def of_three(**given: Any) -> dict[str, str]:
    return {name: run_log(bpb, seed, **given) for name, (bpb, seed) in SEEDS.items()}


def readme(mean: str, std: str = "0.0008", rows: str = ROWS) -> str:
    return f"# n\n\nval_bpb **{mean}** (3-seed mean, std {std})\n\n{rows}| **Mean** | **{mean}** |\n"


def claimed_in_words() -> Batch:
    b = Batch()

    def case(name: str, verdict: str, rule: str, **given: Any) -> None:
        b.case(f"thirteen_{name}", verdict, rule, **given)

    # a mean in words
    case("best_seed_as_mean", "refused", "seeds", bpb=1.0812, readme=readme("1.0812"), logs=of_three())
    case("best_seed_in_blurb", "refused", "seeds", js={"blurb": "Mean of 3 seeds: 1.0812"}, logs=of_three())
    case("best_seed_of_rows", "refused", "seeds", readme=readme("1.0812"))
    case("mean_in_words", "accepted", "seeds", bpb=1.082, readme=readme("1.0820"), logs=of_three())
    case("std_far_off", "warned", "seeds", bpb=1.082, readme=readme("1.0820", "0.0001"), logs=of_three())
    told = "# n\n\nval_bpb **1.0812** (seed 42); the mean of all three seeds is 1.0820.\n"
    case("best_seed_as_such", "accepted", "seeds", readme=told, logs=of_three())

    # one run under several seeds, of which one is claimed
    case("copies_beside", "warned", "seeds", logs=of_seeds(shift=0.0))
    own = {name: text.replace("ema:", f"{BATCHES}ema:") for name, text in of_seeds().items()}
    case("copies_of_batches", "warned", "seeds", logs=own)
    case("runs_beside", "accepted", "seeds", logs=of_seeds())

    # times
    long, final = {"train.log": run_log(ev=912_345)}, "ttt_sliding"
    case("eval_time", "refused", "time", logs=long)
    case("eval_time_of_a_mean", "refused", "time", bpb=1.082, logs=of_three(ev=912_345))
    case("eval_time_short", "accepted", "time", bpb=1.082, logs=of_three(ev=412_345))
    for i, words in enumerate(("elapsed=911.8s", "took 911.8s", "eval_seconds: 911.8", "ttt_time: 15m12s")):
        text = run_log(final=final).replace("eval_time:7421ms", words)
        case(f"eval_in_words_{i}", "refused", "time", logs={"train.log": text})
    for name, words, verdict in (("long", "911.8s", "refused"), ("short", "411.8s", "accepted")):
        case(f"ttt_took_{name}", verdict, "time", logs={"train.log": run_log(final=final) + f"ttt took {words}\n"})
    beside = "diagnostic_plain val_loss:2.9000 val_bpb:1.1200 eval_time:912345ms"
    case("slow_diagnostic", "accepted", "time", logs={"train.log": run_log(more=beside)})

    # numbers of other languages
    case("decimal_comma", "accepted", "readme", readme="# n\n\nval_bpb 1,0812 bei 15.900.000 Bytes\n")
    case("other_decimal_comma", "refused", "readme", readme="# n\n\nval_bpb 1,0712 bei 15.900.000 Bytes\n")

    # modules in a zip file
    golf = zipped(golf=base())
    case("module_in_zip", "accepted", "dependencies", script=ZIPPED, files={"code.zip": golf})
    case("module_in_no_zip", "refused", "dependencies", script=ZIPPED)
    case("other_module_in_zip", "refused", "dependencies", script=ZIPPED, files={"code.zip": zipped(other=base())})
    return b
