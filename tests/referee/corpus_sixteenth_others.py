# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""Weights and code of other places, and logs that were changed a little, are of another seed or go on."""

from __future__ import annotations

import json
import random

from .folder_case import TOKENS, nats
from .object_script import Folders, objects, run_of

NET = objects(
    aftertrain="    import urllib.request\n    urllib.request.urlretrieve('https://example.org/p.npy', 'p.npy')\n"
)
S3 = {42: 1.0809, 7: 1.0812, 1337: 1.0815}


def logs3(d: dict[int, float] = S3) -> dict[str, str]:
    return {f"train_seed{s}.log": run_of(b, s) for s, b in d.items()}


def rm3(d: dict[int, float] = S3, mean: float | None = None, std: float | None = None) -> str:
    import statistics as st

    m = mean if mean is not None else st.mean(d.values())
    sd = std if std is not None else st.stdev(d.values())
    return (
        f"# Deep-thin\n\nval_bpb: **{m:.4f}** (3-seed mean, std {sd:.4f})\n\n| Seed | val_bpb | artifact |\n|---|---|---|\n"
        + "".join((f"| {s} | {b:.4f} | 15,900,000 |\n" for s, b in d.items()))
        + f"| **Mean** | **{m:.4f}** | |\n"
    )


def copy_changed(t: str, b: float, s: int) -> str:
    ls = t.splitlines()
    rnd = random.Random(s)
    out = []
    for l in ls:
        l = (
            l.replace("seed: 42", f"seed: {s}")
            .replace("1.08090000", f"{b:.8f}")
            .replace(f"{nats(1.0809):.8f}", f"{nats(b):.8f}")
            .replace(f"{1.0809 - 0.011:.4f}", f"{b - 0.011:.4f}")
            .replace(f"{nats(1.0809 - 0.011):.4f}", f"{nats(b - 0.011):.4f}")
        )
        if "train_loss" in l:
            v = float(l.split("train_loss: ")[1].split()[0])
            l = l.replace(f"{v:.4f}", f"{v + rnd.choice([-1, 1]) * 0.0001 * rnd.randint(1, 4):.4f}")
        out.append(l)
    return "\n".join(out) + "\n"


def longlog(b: float, s: int, n: int = 60) -> str:
    rnd = random.Random(s)
    t = run_of(b, s).splitlines()
    mid = [
        f"{i * 60}/4000 train_loss: {3 + 6 / (1 + i) + rnd.gauss(0, 0.04):.4f} train_time: {i * 8.69 + rnd.random():.1f}s"
        for i in range(1, n)
    ]
    return "\n".join(t[:4] + mid + [l for l in t[4:] if "train_loss" not in l]) + "\n"


L42 = longlog(1.0809, 42)


def elsewhere() -> Folders:
    """Each beside its twin."""
    b = Folders()
    b.folder(
        "told_json_lines_log_legal",
        "accepted",
        "log-loss",
        logs={
            "train.log": "\n".join(
                json.dumps(x)
                for x in [
                    {"event": "start", "seed": 42, "val_tokens": TOKENS},
                    {"event": "train", "step": 500, "loss": 4.01, "elapsed_s": 71.2},
                    {"event": "train", "step": 4000, "loss": 2.81, "elapsed_s": 580.1},
                    {"event": "size", "model_bytes": 15800000, "code_bytes": 20000, "total_bytes": 15820000},
                    {
                        "event": "final_quantized",
                        "val_loss": round(nats(1.0812), 6),
                        "val_bpb": 1.0812,
                        "eval_seconds": 91.0,
                    },
                ]
            )
            + "\n"
        },
    )
    b.folder(
        "told_logging_stamps_legal",
        "accepted",
        "log-loss",
        logs={
            "train.log": "".join(
                (
                    f"2026-04-11 12:3{i % 10}:2{i % 10},{100 + i} INFO trainer: {l}\n"
                    for i, l in enumerate(run_of(1.0812).splitlines())
                )
            )
        },
    )
    b.folder(
        "told_tqdm_cr_legal",
        "accepted",
        "log-loss",
        logs={
            "train.log": "".join(
                f"\rtrain {i}%|###       | {i * 40}/4000 [00:{i % 60:02d}<09:11, 6.9it/s, loss={9 - i / 20:.3f}]"
                for i in range(1, 100)
            )
            + "\n"
            + run_of(1.0812)
        },
    )
    b.folder(
        "told_src_package_legal",
        "accepted",
        "dependencies",
        script="import os\nimport sys\n\nsys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'src'))\nfrom engine.run import main\n\nif __name__ == '__main__':\n    main()\n",
        files={"src/engine/__init__.py": "", "src/engine/run.py": objects()},
    )
    b.folder(
        "told_src_package_net",
        "flagged",
        "network",
        script="import os\nimport sys\n\nsys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'src'))\nfrom engine.run import main\n\nif __name__ == '__main__':\n    main()\n",
        files={
            "src/engine/__init__.py": "from . import assets\n",
            "src/engine/assets.py": "import http.client\n\nc = http.client.HTTPSConnection('example.org')\nc.request('GET', '/prior.bin')\nDATA = c.getresponse().read()\n",
            "src/engine/run.py": objects(),
        },
    )
    b.folder(
        "told_json_src",
        "flagged",
        "network",
        script="import json\nfrom pathlib import Path\n\nspec = json.loads(Path(__file__).with_name('config.json').read_text())\nexec(spec['program'])\n",
        files={"config.json": json.dumps({"lr": 0.001, "program": NET})},
    )
    b.folder(
        "told_json_src_legal",
        "accepted",
        "extracts",
        script="import json\nfrom pathlib import Path\n\nspec = json.loads(Path(__file__).with_name('config.json').read_text())\nexec(spec['program'])\n",
        files={"config.json": json.dumps({"lr": 0.001, "program": objects()})},
    )
    b.folder(
        "told_shared_memory",
        "flagged",
        "counted",
        script=objects(
            beforeeval="    from multiprocessing import shared_memory\n    blob = shared_memory.SharedMemory(name='prior')\n    clean.table.weight.data.copy_(torch.frombuffer(blob.buf, dtype=torch.float32).view_as(clean.table.weight))\n"
        ),
    )
    b.folder(
        "told_env_prior",
        "flagged",
        "counted",
        script=objects(
            beforeeval="    prior = np.load(os.environ['NGRAM_PRIOR'])\n    clean.table.weight.data += torch.from_numpy(prior).to(device)\n"
        ),
    )
    b.folder(
        "told_cache_home",
        "flagged",
        "counted",
        script=objects(
            beforeeval="    prior = np.load(os.path.expanduser('~/.cache/pg/trigram_prior.npy'))\n    clean.table.weight.data += torch.from_numpy(prior).to(device)\n"
        ),
    )
    b.fetching(
        "told_openai_api",
        "flagged",
        "network",
        "answer = openai.OpenAI().chat.completions.create(model='gpt-4o', messages=[])",
        "import openai",
        "openai\n",
    )
    b.fetching(
        "told_tcpstore",
        "flagged",
        "network",
        "st = torch.distributed.TCPStore('203.0.113.7', 29500, is_master=False)\nraw = st.get('weights')",
        "",
        None,
    )
    b.fetching(
        "told_redis",
        "flagged",
        "network",
        "r = redis.Redis(host='203.0.113.5')\nraw = r.get('w')",
        "import redis",
        "redis\n",
    )
    b.fetching(
        "told_req_git",
        "flagged",
        "counted",
        "import helperpack\nclean = helperpack.tune(clean)",
        "",
        "helperpack @ git+https://example.org/me/helperpack.git\n",
    )
    b.fetching(
        "told_free_port_legal",
        "accepted",
        "network",
        "s = socket.socket()\ns.bind(('', 0))\nport = s.getsockname()[1]\ns.close()\nos.environ.setdefault('MASTER_PORT', str(port))",
        "import socket",
        None,
    )
    b.fetching(
        "told_git_rev_legal",
        "accepted",
        "network",
        "rev = subprocess.run(['git', 'rev-parse', 'HEAD'], capture_output=True, text=True).stdout\nsmi = subprocess.run(['nvidia-smi'], capture_output=True, text=True).stdout\nprint(rev, smi)",
        "import subprocess",
        None,
    )
    b.fetching(
        "told_wandb_off_legal",
        "accepted",
        "network",
        "if os.environ.get('WANDB') == '1':\n    import wandb\n    wandb.init(project='pg')",
        "",
        "wandb\n",
    )
    b.fetching(
        "told_dist_init_legal",
        "accepted",
        "network",
        "if 'RANK' in os.environ:\n    torch.distributed.init_process_group('nccl', init_method='env://')",
        "",
        None,
    )
    b.fetching(
        "told_hf_offline_tokenizer_legal",
        "accepted",
        "network",
        "tok = Tokenizer.from_file('./data/tokenizers/tok.json')",
        "from tokenizers import Tokenizer",
        "tokenizers\n",
    )
    b.folder(
        "told_three_seeds_legal",
        "accepted",
        "seeds",
        logs=logs3(),
        rm=rm3(),
        js={"seeds": [42, 7, 1337], "val_bpb_std": 0.0003},
        bpb=1.0812,
    )
    b.folder(
        "told_seed_list_of_dicts_legal",
        "accepted",
        "seeds",
        logs=logs3(),
        rm=rm3(),
        js={"seed_results": [{"seed": s, "val_bpb": b} for s, b in S3.items()]},
        bpb=1.0812,
    )
    b.folder(
        "told_population_std_legal",
        "accepted",
        "seeds",
        logs=logs3(),
        rm=rm3(std=0.00024),
        js={"val_bpb_std": 0.00024},
        bpb=1.0812,
    )
    b.folder(
        "told_same_seed_thrice",
        "flagged",
        "seeds",
        logs={f"train_seed{s}.log": run_of(b, 42) for s, b in S3.items()},
        rm=rm3(),
        bpb=1.0812,
    )
    b.folder(
        "told_three_long_logs_legal",
        "accepted",
        "seeds",
        logs={f"train_seed{s}.log": longlog(b, s) for s, b in S3.items()},
        rm=rm3(),
        bpb=1.0812,
    )
    b.folder(
        "told_copied_jittered",
        "flagged",
        "seeds",
        logs={
            "train_seed42.log": L42,
            "train_seed7.log": copy_changed(L42, 1.0812, 7),
            "train_seed1337.log": copy_changed(L42, 1.0815, 1337),
        },
        rm=rm3(),
        bpb=1.0812,
    )
    b.folder(
        "told_mib",
        "flagged",
        "log-bytes",
        logs={
            "train.log": run_of()
            .replace(
                "Total submission size quantized+brotli: 15900000 bytes",
                "Total submission size: 15.90 MiB (limit 16)",
            )
            .replace("Serialized model quantized+brotli: 15880000 bytes", "Serialized model: 15.88 MiB")
        },
    )
    b.folder(
        "told_mib_legal",
        "accepted",
        "log-bytes",
        logs={
            "train.log": run_of()
            .replace("Total submission size quantized+brotli: 15900000 bytes", "Total submission size: 15.10 MiB")
            .replace("Serialized model quantized+brotli: 15880000 bytes", "Serialized model: 15.08 MiB")
        },
    )
    b.folder(
        "told_gptq_after",
        "flagged",
        "time",
        logs={"train.log": run_of(train_ms=590000, extra="gptq: hessians collected in 45.2s")},
    )
    b.folder(
        "told_clock_hms",
        "flagged",
        "time",
        logs={"train.log": run_of().replace("eval_time:91000ms", "eval took 0:13:20")},
    )
    b.folder(
        "told_resumed",
        "flagged",
        "time",
        logs={
            "train.log": run_of(
                extra="resumed from checkpoint runs/long/step_020000.pt (step 20000, 51 min of training)"
            )
        },
    )
    b.folder(
        "told_ttt_before_pack_log",
        "flagged",
        "training-text",
        logs={
            "train.log": run_of(
                extra="[post] adapting to val split: epoch 1/3 loss 2.81\n[post] adapting to val split: epoch 2/3 loss 2.70\n[post] adapting to val split: epoch 3/3 loss 2.62"
            )
        },
    )
    b.folder(
        "told_german_legal",
        "accepted",
        "readme",
        rm="# Tief und schmal\n\nErgebnis: val_bpb 1,0812 auf dem ganzen Validierungstext (8xH100), Größe 15.900.000 Bytes.\n",
    )
    return b
