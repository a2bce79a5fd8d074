"""Logs, totals, shell scripts and keywords that do not say what they seem to: by the stranger of `corpus_twelfth`."""

from __future__ import annotations

import random
from typing import Any

from .real_script import Batch, base, run_log

TABLE = {"42": {"val_bpb": 1.0812}, "314": {"val_bpb": 1.0814}}
MEAN = 1.0813


def of_seeds(first: float = 1.0812, second: float = 1.0814, shift: float = 0.01) -> dict[str, str]:
    """Two logs; the losses in training of the second are those of the first plus `shift`."""
    logs = {"train_seed42.log": run_log(first, 42), "train_seed314.log": run_log(first + shift, 314)}
    final = run_log(second, 314).splitlines()[-2:]
    return {**logs, "train_seed314.log": "\n".join([*logs["train_seed314.log"].splitlines()[:-2], *final]) + "\n"}


def numbers_as_log(n: int) -> str:
    draw = random.Random(3)
    return "".join(f"step:{i} train_loss:{draw.gauss(3, 0.5):.7f} grad:{draw.gauss(3, 0.5):.7f}\n" for i in range(n))


def claims() -> Batch:
    b = Batch()

    def case(name: str, verdict: str, rule: str, **given: Any) -> None:
        b.case(f"twelve_{name}", verdict, rule, **given)

    # one run under two seeds
    case("one_run_as_two", "warned", "seeds", js={"seed_results": TABLE}, bpb=MEAN, logs=of_seeds(shift=0.0))
    case("two_runs", "accepted", "seeds", js={"seed_results": TABLE}, bpb=MEAN, logs=of_seeds())

    # bytes: less than the model alone, more than the cap even with the code packed
    case("total_below_the_model", "warned", "json-bytes", js={"bytes_total": 15_700_000})
    case("total_of_packed_code", "accepted", "json-bytes", js={"bytes_total": 15_885_000})
    case(
        "seed_below_its_model",
        "warned",
        "json-bytes",
        js={"seed_results": {"42": {"val_bpb": 1.0812, "artifact_bytes": 15_100_000}}},
    )
    case(
        "code_left_out",
        "refused",
        "cap",
        logs={"train.log": run_log(model=15_999_900, code=20_000).replace("Total submission", "Total of the")},
    )
    case(
        "numbers_as_code",
        "refused",
        "cap",
        script=base(IMPORTS="from table import W"),
        files={"table.py": f"W = {[random.Random(i).randint(-31, 31) for i in range(200_000)]}\n"},
    )
    case(
        "code_that_packs",
        "warned",
        "cap",
        logs={"train.log": run_log(model=15_992_000, code=6_000)},
        script=base() + "# more\n" * 1000,
    )

    # a log that is none
    reads = "w = np.array([float(x) for x in re.findall(r'grad:([\\d.-]+)', open('train_seed7.log').read())])"
    case(
        "weights_as_a_log",
        "refused",
        "cap",
        script=base(IMPORTS="import re", BEFORE_TRAIN=reads),
        files={"train_seed7.log": numbers_as_log(360_000)},
    )
    case(
        "a_long_log",
        "accepted",
        "log-loss",
        logs={"train.log": run_log().replace("ema:", numbers_as_log(60_000) + "ema:")},
    )

    # fetching by the shell that starts the run, and by what reports it
    run = "SEED=42 torchrun --standalone --nproc_per_node=8 train_gpt.py\n"
    for name, lines, verdict in (
        ("curl", "curl -sLO https://example.org/prior.bin\n", "warned"),
        ("pip", "pip install -q brotli\n", "warned"),
        ("requirements", "pip install -q -r requirements.txt\n", "accepted"),
        ("nothing", "export NCCL_IB_DISABLE=1  # not: wget https://example.org\n", "accepted"),
    ):
        case(f"shell_runs_after_{name}", verdict, "network", files={"run.sh": f"#!/bin/bash\n{lines}{run}"})
    case(
        "shell_sets_up",
        "accepted",
        "network",
        files={
            "setup.sh": "wget -q https://example.org/miniconda.sh\npip install torch\npython3 -c 'import torch'\n"
        },
    )
    wandb = {"req": "torch\nnumpy\nsentencepiece\nwandb\n"}
    case(
        "wandb",
        "warned",
        "network",
        script=base(IMPORTS="import wandb", BEFORE_TRAIN="wandb.init(project='golf', config=vars(args))"),
        **wandb,
    )
    case(
        "wandb_offline",
        "accepted",
        "network",
        script=base(IMPORTS="import wandb", BEFORE_TRAIN="wandb.init(project='golf', mode='offline')"),
        **wandb,
    )
    case(
        "wandb_if_asked",
        "accepted",
        "network",
        script=base(
            HYPER="    wandb = os.environ.get('WANDB', '')",
            BEFORE_TRAIN="if args.wandb:\n    import wandb\n    wandb.init(project=args.wandb)",
        ),
        **wandb,
    )

    # classes that unpickle
    keeps = "    def find_class(self, module, name):\n        raise pickle.UnpicklingError(name)\n"
    for name, body, verdict in (("open", "    pass\n", "refused"), ("closed", keeps, "accepted")):
        defined = f"import pickle\n\n\nclass Reader(pickle.Unpickler):\n{body}"
        case(
            f"{name}_unpickler",
            verdict,
            "unpickling",
            script=base(DEFS=defined, BEFORE_TRAIN="config = Reader(open('config.bin', 'rb')).load()"),
        )
    loaded = "state = torch.load('m.pt', weights_only=bool(0))"
    case("weights_only_bool", "refused", "unpickling", script=base(BEFORE_TRAIN=loaded))

    # keywords in a dictionary
    for name, given, verdict in (("allowed", "True", "refused"), ("denied", "False", "accepted")):
        lines = f"options = {{'allow_pickle': {given}}}\nprior = np.load('prior.npy', **options)"
        case(f"pickle_{name}_by_dictionary", verdict, "unpickling", script=base(BEFORE_TRAIN=lines))
    return b
