"""Folders that differ in what they claim: numbers of README and logs."""

from __future__ import annotations

import json

from .folder_case import (
    BPB,
    MAIN,
    WHOLE,
    Case,
    log,
    nats,
)


def written() -> dict[str, Case]:
    three = {"1": {"val_bpb": 1.08}, "2": {"val_bpb": 1.081}, "3": {"val_bpb": 1.086}}
    logs = {f"train_seed{s}.log": log(row["val_bpb"], int(s)) for s, row in three.items()}
    card = json.dumps({"author": "A", "github_id": "a", "name": "n", "date": "d", "track": "x", "val_bpb": BPB})
    return {
        "good": Case("json", "accepted"),
        "readme_more_digits": Case(
            "readme", "accepted", files={"README.md": "val_bpb 1.08119835\n", "train.log": log(1.08119835)}
        ),
        "readme_three_digits": Case("readme", "accepted", files={"README.md": "val_bpb 1.081\n"}),
        "readme_two_digits": Case("readme", "warned", files={"README.md": "val_bpb 1.08\n"}),
        "readme_another_loss": Case("readme", "refused", files={"README.md": "val_bpb 1.0793\n"}),
        "readme_row_more_digits": Case(
            "readme",
            "accepted",
            claims={"val_bpb": 1.0823, "seed_results": three},
            files={
                **logs,
                "train.log": None,
                "README.md": "val_bpb 1.08233\n\n| seed | bpb |\n|---|---|\n| 2 | 1.08100000 |\n",
            },
        ),
        "readme_row_of_another_loss": Case(
            "readme",
            "refused",
            claims={"val_bpb": 1.0823, "seed_results": three},
            files={
                **logs,
                "train.log": None,
                "README.md": "val_bpb 1.0823\n\n| seed | bpb |\n|---|---|\n| 2 | 1.0610 |\n",
            },
        ),
        "log_fewer_digits": Case(
            "log-loss",
            "accepted",
            claims={"val_bpb": 1.25798},
            files={"train.log": log(1.25798).replace("1.25798000", "1.2580")},
        ),
        "log_three_digits": Case(
            "log-loss", "accepted", files={"train.log": log(BPB).replace("1.08120000", "1.081")}
        ),
        "claim_fewer_digits": Case(
            "log-loss", "accepted", claims={"val_bpb": 1.0812}, files={"train.log": log(1.08123)}
        ),
        "mean_of_three_digits": Case(
            "seeds", "accepted", claims={"val_bpb": 1.082, "seed_results": three}, files={**logs, "train.log": None}
        ),
        "mean_is_wrong": Case(
            "seeds", "refused", claims={"val_bpb": 1.0801, "seed_results": three}, files={**logs, "train.log": None}
        ),
        "claim_differs_in_the_sixth_digit": Case(
            "log-loss",
            "refused",
            claims={"val_bpb": 1.064837},
            files={"train.log": log(1.064841)},
            words="1.064837.*1.064841",
        ),
        "json_bom": Case("json", "accepted", files={"submission.json": b"\xef\xbb\xbf" + card.encode()}),
        "json_utf16": Case("json", "accepted", files={"submission.json": card.encode("utf-16")}),
        "readme_bom": Case("readme", "accepted", files={"README.md": b"\xef\xbb\xbfval_bpb 1.0812\n"}),
        "log_bom": Case("log-loss", "accepted", files={"train.log": b"\xef\xbb\xbf" + log(BPB).encode()}),
        "log_utf16": Case("log-loss", "accepted", files={"train.log": log(BPB).encode("utf-16")}),
        "script_bom": Case("compiles", "accepted", b"\xef\xbb\xbf" + MAIN.encode()),
        "requirements_bom": Case(
            "dependencies", "accepted", "import brotli\n", files={"requirements.txt": b"\xef\xbb\xbfbrotli\n"}
        ),
        "a_blank_author": Case("json", "warned", claims={"author": "  "}),
    }


def logged() -> dict[str, Case]:
    lines = {
        "equals": "final val_bpb=1.0812, val_nats=2.7892",
        "bpb_first": "final val_bpb:1.0812 val_loss:2.7929",
        "bpb_only": "final_sliding_window_exact val_bpb:1.08120000",
        "json_line": '{"event": "final", "val_bpb": 1.0812, "val_loss": 2.7929}',
        "table": "| sliding | val_bpb | 1.0812 |",
        "words": "Final result: 1.0812 bits per byte",
        "words_after": "bits per byte: 1.0812",
        "capitals": "FINAL VAL_BPB = 1.08120",
        "space": "eval done val_bpb 1.0812",
        "unnamed": "result after everything: 1.08120",
    }
    found = {
        f"log_{name}": Case(
            "log-loss",
            "warned" if name in ("words", "unnamed") else "accepted",
            files={"train.log": f"seed: 42\ntrain_time: 580000ms\n{line}\n"},
        )
        for name, line in lines.items()
    }
    names = (
        "0f0e0d0c-1111-2222-3333-444455556666.txt",
        "run.out",
        "logs/a1b2.txt",
        "stdout",
        "nohup.out",
        "output.jsonl",
    )
    found |= {
        f"log_called_{name.replace('/', '_')}": Case(
            "required", "accepted", files={"train.log": None, name: log(BPB)}
        )
        for name in names
    }
    two = {"42": {"val_bpb": 1.0812}, "314": {"val_bpb": 1.0814}}
    three = {"train_seed1.log": log(1.08, 1), "train_seed2.log": log(1.081, 2), "train_seed3.log": log(1.086, 3)}
    other = 62_021_632
    table = {str(s): {"val_bpb": b, "val_loss": nats(b)} for s, b in ((1, 1.08), (2, 1.081), (3, 1.086))}
    return found | {
        "log_prints_nothing": Case("log-loss", "warned", files={"train.log": "seed: 42\nstep 1\nstep 2\n"}),
        "no_log": Case("required", "refused", files={"train.log": None}),
        "log_says_another_loss": Case("log-loss", "refused", files={"train.log": "final val_bpb=1.1012\n"}),
        "log_two_seeds_in_one": Case(
            "log-loss",
            "accepted",
            claims={"val_bpb": 1.0813, "seed_results": two},
            files={"train.log": None, "train_seeds42_314.log": log(1.0812, 42) + log(1.0814, 314)},
        ),
        "log_two_seeds_spelled_otherwise": Case(
            "log-loss",
            "accepted",
            claims={"val_bpb": 1.0813, "seed_results": two},
            files={"train.log": (log(1.0812, 42) + log(1.0814, 314)).replace("seed: ", "=== Running SEED=")},
        ),
        "log_two_seeds_wrong": Case(
            "log-loss",
            "refused",
            claims={"val_bpb": 1.0803, "seed_results": {"42": {"val_bpb": 1.0792}, "314": {"val_bpb": 1.0814}}},
            files={"train.log": log(1.0812, 42) + log(1.0814, 314)},
        ),
        "log_copy_of_a_seed": Case(
            "log-loss", "accepted", claims={"val_bpb": 1.08233}, files={**three, "train.log": log(1.08, 1)}
        ),
        "log_copy_with_another_name": Case(
            "log-loss",
            "accepted",
            claims={"val_bpb": 1.08233},
            files={**three, "train.log": None, "log_best.txt": log(1.08, 1) + "\n"},
        ),
        "log_of_all_beside": Case(
            "log-loss",
            "accepted",
            claims={"val_bpb": 1.08233},
            files={**three, "train.log": log(1.08, 1) + log(1.081, 2) + log(1.086, 3)},
        ),
        "log_mean_is_wrong": Case(
            "log-loss", "refused", claims={"val_bpb": 1.0793}, files={**three, "train.log": None}
        ),
        "log_baseline_beside": Case(
            "bytes-per-token",
            "accepted",
            claims={"val_loss": nats(BPB)},
            files={"baseline.log": log(1.22, 7, tokens=other, ratio=WHOLE / other)},
        ),
        "log_large_baseline_beside": Case(
            "log-bytes", "warned", files={"baseline.log": log(1.22, 7, total=17_000_000)}
        ),
        "log_slow_ablation_beside": Case(
            "time", "accepted", files={"ablation.log": log(1.09, 7).replace("580000ms", "900000ms")}
        ),
        "log_calibrated_baseline_beside": Case(
            "calibration",
            "accepted",
            files={"other.log": log(1.09, 7, more="calibrating on fineweb_val_000000.bin\n")},
        ),
        "log_own_is_over_the_cap": Case("log-bytes", "refused", files={"train.log": log(BPB, total=16_100_000)}),
        "one_of_eight_seeds_differs": Case(
            "bytes-per-token",
            "refused",
            claims={
                "val_bpb": 1.08233,
                "seed_results": {**table, "3": {"val_bpb": 1.086, "val_loss": nats(1.086) * 1.01}},
            },
            files={**three, "train.log": None},
            words=r"^bytes per token differ.*: 3\.76\d+ seed 3;",
        ),
    }
