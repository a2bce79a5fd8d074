"""The second half of `corpus_ninth`: dishonest numbers and texts."""

from __future__ import annotations

from .corpus_ninth import b
from .folder_case import TOKENS, WHOLE
from .real_script import Batch, run_log

# dishonest numbers and texts
b.case("nine_2x_no_track_600001", "flagged", "time", drop=["track"], logs={"train.log": run_log(train="741000")})
b.case("nine_2x_track_null", "flagged", "time", js={"track": None}, logs={"train.log": run_log(train="5400000")})
b.case("nine_2x_track_empty", "flagged", "time", js={"track": ""}, logs={"train.log": run_log(ev=905_000)})
b.case(
    "nine_2x_hessians_over",
    "flagged",
    "time",
    logs={"train.log": run_log(train="599812", more="GPTQ:collected 67 Hessians in 11.3s")},
)
b.case("nine_2x_training_line_claimed", "flagged", "log-loss", bpb=1.1212, logs={"train.log": run_log(1.1812)})
b.case(
    "nine_2x_running_bpb",
    "flagged",
    "log-loss",
    bpb=1.0502,
    logs={"train.log": run_log(1.0812, more="  ttt_chunk [11/1238] bpb=1.050200 time=3.9s")},
)
b.case(
    "nine_2x_std_too_small",
    "flagged",
    "seeds",
    bpb=1.0814,
    logs={f"train_seed{s}.log": run_log(loss, s) for s, loss in ((42, 1.0794), (314, 1.0814), (999, 1.0834))},
    js={
        "val_bpb_std": 0.0002,
        "seed_results": {"42": {"val_bpb": 1.0794}, "314": {"val_bpb": 1.0814}, "999": {"val_bpb": 1.0834}},
    },
)
b.case(
    "nine_2x_worst_seed_over_cap",
    "flagged",
    "log-bytes",
    bpb=1.0814,
    logs={
        f"train_seed{s}.log": run_log(loss, s, model=m)
        for s, loss, m in ((42, 1.0812, 15_900_000), (314, 1.0814, 15_900_000), (999, 1.0816, 16_010_000))
    },
)
b.case(
    "nine_2t_sp4096_19pct",
    "flagged",
    "bytes-per-token",
    bpb=1.0812,
    logs={"train.log": run_log(tokens=45_508_608, ratio=1.19 * WHOLE / 45_508_608)},
)
b.case(
    "nine_2t_half_text",
    "flagged",
    "bytes-per-token",
    logs={"train.log": run_log(tokens=20_270_080, ratio=WHOLE / TOKENS)},
)
b.case(
    "nine_2t_json_loss_differs", "flagged", "bytes-per-token", js={"val_loss": 2.9929}, logs={"train.log": run_log()}
)
b.case("nine_2t_sp4096", "accepted", "bytes-per-token", logs={"train.log": run_log(tokens=45_508_608)})
b.case(
    "nine_2t_drop_windows",
    "accepted",
    "bytes-per-token",
    logs={"train.log": run_log(tokens=40_538_112, ratio=WHOLE / TOKENS)},
)


def ninth() -> Batch:
    return b
