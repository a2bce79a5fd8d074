# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""Folders by somebody who had not read the referee, spelled as the public records are: logs, numbers, texts."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

from .folder_case import TOKENS, WHOLE, nats
from .real_script import CARD, Batch, base, run_log

LN2 = math.log(2)
SC = base()
G = run_log()
b = Batch()


def read(name: str, text: str | bytes) -> None:
    b.case(f"nine_{name}", "accepted", "log-loss", logs={"train.log": text})


def fine(name: str, **given: Any) -> None:
    b.case(f"nine_{name}", "accepted", "log-loss", **given)


# ---------------------------------------------------------------- C logs and numbers
read("l_ansi", "".join(f"\x1b[32m{line}\x1b[0m\n" for line in G.splitlines()))
read("l_utf16", G.encode("utf-16"))
read("l_crlf", G.replace("\n", "\r\n"))
read(
    "l_json_lines",
    "\n".join(
        json.dumps({"step": i, "val_loss": nats(loss), "val_bpb": loss})
        for i, loss in ((0, 3.4), (2000, 1.2), (4900, 1.07))
    )
    + "\n"
    + json.dumps({"event": "final_int6_roundtrip", "val_loss": nats(1.0812), "val_bpb": 1.0812, "eval_time_ms": 7400})
    + "\n",
)
read(
    "l_logging_prefix",
    "".join(
        f"[rank0]:[2026-04-01 12:00:{i:02d},123][INFO][train_gpt.py:812] {line}\n"
        for i, line in enumerate(G.splitlines())
    ),
)
read(
    "l_torchrun_noise",
    "W0411 10:00:00.1 torch/distributed/run.py:803] *****************************************\n"
    + G
    + "[rank0]:[W411 10:20:00.2 ProcessGroupNCCL.cpp:1538] Warning: destroy_process_group() was not called\n",
)
read(
    "l_tqdm",
    "\r".join(f"eval: {i}%|{'#' * (i // 10)}| {i}/100 [00:{i:02d}<00:00, bpb=1.09{i % 10}]" for i in range(0, 101, 5))
    + "\n"
    + G,
)
read("l_script_echo", SC + "=" * 100 + "\nRunning Python 3.12\n" + G)
b.case(
    "nine_l_nested_logs",
    "accepted",
    "log-loss",
    bpb=1.0814,
    logs={f"logs/seed{s}/train.log": run_log(loss, s) for s, loss in ((42, 1.0812), (314, 1.0814), (999, 1.0816))},
    js={
        "seeds": [42, 314, 999],
        "seed_results": {str(s): {"val_bpb": loss} for s, loss in ((42, 1.0812), (314, 1.0814), (999, 1.0816))},
    },
)
three = {f"train_seed{s}.log": run_log(loss, s) for s, loss in ((42, 1.0812), (314, 1.0814), (999, 1.0816))}
b.case(
    "nine_l_results_list",
    "accepted",
    "log-loss",
    bpb=1.0814,
    logs=three,
    js={
        "seed_results": [
            {"seed": s, "val_bpb": loss, "val_loss": nats(loss)}
            for s, loss in ((42, 1.0812), (314, 1.0814), (999, 1.0816))
        ]
    },
)
b.case(
    "nine_l_seed_keys",
    "accepted",
    "log-loss",
    bpb=1.0814,
    logs=three,
    js={"seeds": {f"seed_{s}": {"val_bpb": loss} for s, loss in ((42, 1.0812), (314, 1.0814), (999, 1.0816))}},
)
b.case(
    "nine_l_exponent",
    "accepted",
    "log-loss",
    logs={"train.log": G},
    card=json.dumps({**CARD, "val_bpb": 0}).replace('"val_bpb": 0', '"val_bpb": 1.0812e0'),
)

b.case(
    "nine_l_readme_table",
    "accepted",
    "log-loss",
    logs={"train.log": G},
    readme="# n\n\n| run | val_bpb | delta | bytes |\n|:--|--:|--:|--:|\n| SOTA (#1493) | 1.0850 | \u2014 | 15,991,930 |\n| **ours** | **1.0812** \u00b1 0.0004 | \u22120.0038 | 15,900,000 |\n| naive baseline | 1.2244 | +0.1432 | 15,863,489 |\n",
)
b.case(
    "nine_l_non_record",
    "accepted",
    "log-loss",
    js={"track": "track_non_record_16mb", "wallclock_seconds": 14400},
    logs={"train.log": run_log(train="14400039")},
)
b.case(
    "nine_l_unlimited",
    "accepted",
    "log-loss",
    js={"track": "unlimited_compute"},
    logs={"train.log": run_log(train="96562000")},
    readme="# n\n\nNon-record, unlimited compute. val_bpb 1.0812\n",
)
b.case(
    "nine_l_two_authors", "accepted", "log-loss", js={"author": ["Jo Doe", "Al Roe"], "github_id": ["jodoe", "alroe"]}
)
b.case(
    "nine_l_gz_log",
    "accepted",
    "required",
    logs={
        "train_seed42.log.gz": gzip.compress(G.encode(), mtime=0),
        "train.log": "\n".join(G.splitlines()[-6:]) + "\n",
    },
)
b.case(
    "nine_l_ttt_final",
    "accepted",
    "log-loss",
    bpb=1.0712,
    logs={
        "train.log": run_log(1.0812, more="")
        + f"ttt:start chunks=1238 ttt_lr=0.005 ttt_epochs=3\nlegal_ttt_exact val_loss:{nats(1.0712):.8f} val_bpb:1.07120000 eval_time:343415ms\n"
    },
)
b.case(
    "nine_l_kb_units",
    "accepted",
    "log-loss",
    logs={
        "train.log": "seed: 42\nstep 4900 | val loss 2.7650 | val bpb 1.0714 | 596.0s\ncompressed: 15.88 MB code: 20.0 KB total: 15.90 MB\n[final] int6 roundtrip | val loss 2.7929 | val bpb 1.0812 | 7.4s\n"
    },
)

b.case("nine_x_missing_track_3h", "flagged", "time", drop=["track"], logs={"train.log": run_log(train="10800000")})
b.case("nine_x_missing_track_eval", "flagged", "time", drop=["track"], logs={"train.log": run_log(ev=1_450_000)})
b.case(
    "nine_x_track_spelled",
    "flagged",
    "time",
    js={"track": "Track 10-min / 16MB"},
    logs={"train.log": run_log(train="912000")},
)
b.case("nine_x_eval_total", "flagged", "time", logs={"train.log": run_log() + "total_eval_time:912.3s\n"})
b.case(
    "nine_x_ttt_elapsed",
    "flagged",
    "time",
    bpb=1.0712,
    logs={
        "train.log": run_log(1.0812)
        + f"ttt_sliding:done val_loss={nats(1.0712):.6f} val_bpb=1.071200 elapsed=655.1s\nlegal_ttt val_loss:{nats(1.0712):.4f} val_bpb:1.0712 eval_time:655401ms\n"
    },
)
b.case(
    "nine_x_minutes",
    "flagged",
    "time",
    logs={
        "train.log": run_log()
        .replace(
            "stopping_early: wallclock_cap train_time:596012ms step:4900/20000",
            "stopping_early: wallclock_cap train_time:10m47s step:4900/20000",
        )
        .replace("train_time:596012ms step_avg", "step_avg")
    },
)
b.case("nine_x_pre_quant", "flagged", "log-loss", bpb=1.0714, logs={"train.log": run_log(1.0812)})
b.case(
    "nine_x_best_seed",
    "flagged",
    "seeds",
    bpb=1.0798,
    logs={f"train_seed{s}.log": run_log(loss, s) for s, loss in ((42, 1.0798), (314, 1.0814), (999, 1.0826))},
    js={"seed_results": {"42": {"val_bpb": 1.0798}, "314": {"val_bpb": 1.0814}, "999": {"val_bpb": 1.0826}}},
)
b.case("nine_x_readme_lower", "flagged", "readme", readme="# n\n\nFinal val_bpb: **1.0712**\n")
b.case(
    "nine_x_total_lie",
    "flagged",
    "log-bytes",
    js={"bytes_total": 15_900_000},
    logs={"train.log": run_log(model=16_030_000, code=20_000)},
)
b.case(
    "nine_x_total_mb",
    "flagged",
    "log-bytes",
    logs={
        "train.log": run_log()
        .replace("Total submission size int6+lzma: 15900000 bytes", "Total submission size int6+lzma: 16.07 MB")
        .replace("Serialized model int6+lzma: 15880000 bytes", "Serialized model int6+lzma: 16.05 MB")
    },
)
b.case(
    "nine_x_no_logs_of_seeds",
    "flagged",
    "log-loss",
    bpb=1.0804,
    logs={"train_seed42.log": run_log(1.0812, 42)},
    js={"seed_results": {"42": {"val_bpb": 1.0812}, "314": {"val_bpb": 1.0799}, "999": {"val_bpb": 1.0801}}},
)
b.case(
    "nine_x_duplicate_key",
    "refused",
    "json",
    card=json.dumps({**CARD, "val_bpb": 1.0812})[:-1] + ', "val_bpb": 1.0612}',
    readme="# n\n\nval_bpb 1.0812\n",
)
b.case("nine_x_nan", "refused", "json", card=json.dumps({**CARD, "val_bpb": float("nan")}))
b.case("nine_x_array", "refused", "json", card=json.dumps([{**CARD, "val_bpb": 1.0812}]))
b.case("nine_x_blank_author", "flagged", "json", js={"author": "  ", "github_id": ""})

# ---------------------------------------------------------------- D tokens times bytes
b.case(
    "nine_t_byte_level",
    "accepted",
    "bytes-per-token",
    bpb=1.2244,
    js={"val_loss": 1.2244 * LN2},
    logs={"train.log": run_log(1.2244, tokens=WHOLE, ratio=1.0)},
)
b.case(
    "nine_t_vocab1024",
    "accepted",
    "bytes-per-token",
    bpb=1.2244,
    js={"val_loss": nats(1.2244, WHOLE / 62_021_632)},
    logs={"train.log": run_log(1.2244, tokens=62_021_632)},
)
b.case("nine_t_vocab16384", "accepted", "bytes-per-token", logs={"train.log": run_log(tokens=36_901_234)})
b.case(
    "nine_t_caseops",
    "accepted",
    "bytes-per-token",
    bpb=1.0645,
    logs={"train.log": run_log(1.0645, tokens=47_851_520, ratio=151_074_309 / 47_851_520)},
)
b.case(
    "nine_t_no_tokens_line",
    "accepted",
    "bytes-per-token",
    logs={"train.log": "\n".join(line for line in run_log().splitlines() if "val_loader" not in line) + "\n"},
)
b.case(
    "nine_t_byte_level_inflated",
    "flagged",
    "bytes-per-token",
    bpb=1.0812,
    js={"val_loss": 1.2244 * LN2},
    logs={"train.log": run_log(1.0812, tokens=WHOLE, ratio=1.2244 / 1.0812)},
)
b.case(
    "nine_t_ratio_177",
    "flagged",
    "bytes-per-token",
    bpb=1.0345,
    logs={"train.log": run_log(1.0345, tokens=TOKENS, ratio=4.386)},
)
b.case(
    "nine_t_part_shard",
    "flagged",
    "bytes-per-token",
    logs={"train.log": run_log(tokens=10_485_760, ratio=WHOLE / TOKENS)},
)
b.case(
    "nine_t_vocab16384_inflated",
    "flagged",
    "bytes-per-token",
    logs={"train.log": run_log(tokens=36_901_234, ratio=1.06 * WHOLE / 36_901_234)},
)
b.case(
    "nine_t_one_seed_inflated",
    "flagged",
    "bytes-per-token",
    bpb=1.0814,
    logs={
        "train_seed42.log": run_log(1.0812, 42),
        "train_seed314.log": run_log(1.0814, 314),
        "train_seed999.log": run_log(1.0816, 999, ratio=1.08 * WHOLE / TOKENS),
    },
    js={"seed_results": {"42": {"val_bpb": 1.0812}, "314": {"val_bpb": 1.0814}, "999": {"val_bpb": 1.0816}}},
)

fine("2o_json_utf8_names", js={"author": "Józef Żółć", "name": "SP8192 — “γ” run", "blurb": "naïve 😀"})
fine(
    "2o_json_nested_extra",
    js={
        "compliance": {"train_under_600s": True, "three_seeds": False},
        "attribution": {"ttt": "@x (PR #549)"},
        "baseline": {"val_bpb": 1.2244, "bytes_total": 15_863_489},
    },
)
fine("2o_pre_post_in_json", js={"pre_quant_val_bpb": 1.0714, "quantized_val_bpb": 1.0812})
fine(
    "2o_std_given",
    bpb=1.0814,
    logs={f"train_seed{s}.log": run_log(loss, s) for s, loss in ((42, 1.0812), (314, 1.0814), (999, 1.0816))},
    js={"val_bpb_std": 0.0002, "seeds": [42, 314, 999]},
)
fine(
    "2o_seed_txt_names",
    bpb=1.0814,
    logs={f"ternary_log_{s}.txt": run_log(loss, s) for s, loss in ((42, 1.0812), (314, 1.0814), (999, 1.0816))},
)
fine(
    "2o_sliding_then_plain",
    bpb=1.0712,
    logs={
        "train.log": run_log(
            1.0712,
            final="final_int6_sliding_window",
            more=f"final_int6_roundtrip_exact val_loss:{nats(1.0812):.8f} val_bpb:1.08120000",
        )
    },
    readme="# n\n\nSliding window (stride 64) val_bpb 1.0712; plain 1.0812.\n",
)
fine(
    "2o_alias_line",
    logs={
        "train.log": run_log() + f"final_int8_zlib_roundtrip_exact val_loss:{nats(1.0812):.8f} val_bpb:1.08120000\n"
    },
)
fine(
    "2o_rerun_logs",
    bpb=1.0812,
    logs={"train_seed42_rerun_gptq8s.log": run_log(1.0812, 42), "train_seed42_original.log": run_log(1.0816, 42)},
    readme="# n\n\nval_bpb 1.0812 (rerun with GPTQ_RESERVE_SECONDS=8); the original run gave 1.0816.\n",
)
fine("2o_hessians_within", logs={"train.log": run_log(train="588012", more="GPTQ:collected 67 Hessians in 11.3s")})
fine(
    "2o_two_evals_500s",
    bpb=1.0712,
    logs={
        "train.log": run_log(1.0812, ev=80_000)
        + f"quantized_ttt val_loss:{nats(1.0712):.8f} val_bpb:1.07120000 eval_time:515324ms\ntotal_eval_time:515.3s\n"
    },
)
fine("2o_cp1252_readme", readme="# n\n\nval_bpb 1.0812 \u2013 \u201cbest\u201d run\n".encode("cp1252"))
fine("2o_warm_300", logs={"train.log": "compile_warmup: 312.4s (not counted)\n" + run_log()})
fine("2o_small_vocab_file", files={"tokenizer.vocab": "".join(f"\u2581tok{i}\t{-i}\n" for i in range(8192))})
fine(
    "2o_git_diff_patch",
    files={"pr.patch": "--- a/train_gpt.py\n+++ b/train_gpt.py\n@@ -1 +1 @@\n-import os\n+import os, sys\n" * 300},
)
fine(
    "2o_ablation_logs",
    files={"ablations/no_ema.log": run_log(1.0912, 42), "ablations/no_xsa.log": run_log(1.0879, 42)},
    readme="# n\n\nval_bpb 1.0812; without EMA 1.0912, without XSA 1.0879\n",
)
