# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""Programs in several hands with hidden or fetched code, bytes that nobody counts, and claims that their logs do or do
not support."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from .folder_case import TOKENS, Case, log
from .hand_notebook import FUNCTIONAL, GOLF, NOTEBOOK
from .hand_objects import OBJECTS
from .hand_script import PLAIN, changed, files_changed

START = "    args = Hyperparameters()\n    random"
MODEL = "    model = GPT(args).to(device)\n"
MAIN = "def main():\n    a = parse()\n"
BPBS = (1.1029, 1.1041, 1.1038)


def hands_hidden() -> dict[str, Case]:
    """Code and bytes from elsewhere."""
    hook = base64.b64encode(
        b"import urllib.request as r\nw = r.urlopen('http://example.org/prior.npy').read()\n"
    ).decode()
    runs = files_changed(
        (
            "train_gpt.py",
            MAIN,
            f"{MAIN}    import base64, json\n    settings = json.load(open('settings.json'))\n    exec(base64.b64decode(settings['on_start']), {{}})\n",
        )
    )
    runs["settings.json"] = json.dumps({"lr": 6e-4, "on_start": hook})
    shows = files_changed(
        (
            "train_gpt.py",
            MAIN,
            f"{MAIN}    import json\n    print(sorted(json.load(open('settings.json')).items()))\n",
        )
    )
    shows["settings.json"] = json.dumps({"lr": 6e-4, "rows": 128})
    net = "net = Tiny().to(device)\n"
    import_line = ("import sentencepiece\n", "try:\n    import sentencepiece\nexcept ImportError{0}\n")
    installs = ":\n    import subprocess, sys\n    subprocess.check_call([sys.executable, '-m', 'pip', 'install', 'sentencepiece'])\n    import sentencepiece"
    tells = " as why:\n    raise SystemExit('first run: pip install -r requirements.txt') from why"
    table = f"import pandas as pd\n{net}net.e.weight.data[:, 0] = torch.tensor(pd.read_csv('https://example.org/unigram8192.csv')['logp'].values).float()\n"
    mounted = f"import importlib.util\nspec = importlib.util.spec_from_file_location('fast', '/mnt/shared/kernels.py')\nfast = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(fast)\n{net}"
    home = "    p = train(init(seed) | torch.load(os.path.expanduser('~/.cache/golf/start.pt'), weights_only=True))\n"
    warm = 'm=G().cuda();m.e.weight.data+=torch.from_numpy(np.load(E("WARM_START"))).cuda();'
    picture = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de") + random.Random(
        5
    ).randbytes(300_000)
    behind = f"{MODEL}    extra = np.frombuffer(Path('figure.png').read_bytes()[33:], np.float16)\n    model.tok_emb.weight.data[:, 0].copy_(torch.from_numpy(extra[:8192].astype(np.float32)))\n"
    shown = "# n\n\nval_bpb 1.0812\n\n![curve](figure.png)\n"
    return {
        "hands_hook_in_settings": Case("network", "flagged", runs["train_gpt.py"], files=runs),
        "hands_settings_of_numbers": Case("network", "accepted", shows["train_gpt.py"], files=shows),
        "hands_table_from_an_address": Case("network", "flagged", changed(NOTEBOOK, (net, table)), files={"requirements.txt": "pandas\n"}),
        "hands_installs_what_is_missing": Case("network", "flagged", changed(OBJECTS, (import_line[0], import_line[1].format(installs)))),
        "hands_tells_what_is_missing": Case("network", "accepted", changed(OBJECTS, (import_line[0], import_line[1].format(tells)))),
        "hands_module_from_a_mount": Case("extracts", "flagged", changed(NOTEBOOK, (net, mounted))),
        "hands_start_in_the_home": Case("counted", "flagged", changed(FUNCTIONAL, ("    p = train(init(seed))\n", home))),
        "hands_start_by_environment": Case("counted", "flagged", changed(GOLF, ("m=G().cuda();", warm))),
        "hands_numbers_behind_a_picture": Case("log-bytes", "flagged", changed(PLAIN, (MODEL, behind)), files={"figure.png": picture}),
        "hands_picture_to_look_at": Case("counted", "accepted", PLAIN, files={"figure.png": picture[:60_000], "README.md": shown}),
    }  # fmt: skip


def _seeds(claimed: float, bpbs: Sequence[float] = BPBS, **more: str) -> dict[str, Any]:
    """Three seeds with their logs, of which a mean is claimed."""
    rows = "".join(f"| {seed} | {bpb} |\n" for seed, bpb in enumerate(BPBS, 1))
    logs: Mapping[str, str] = {
        f"train_seed{s}.log": log(bpb, s, 15_900_000 + 137 * s) for s, bpb in enumerate(bpbs, 1)
    }
    table = f"# three seeds\n\n| seed | val_bpb |\n|---|---|\n{rows}| **mean** | **{claimed}** |\n"
    claims = {"val_bpb": claimed, "seed_results": {str(s): {"val_bpb": bpb} for s, bpb in enumerate(BPBS, 1)}}
    return {"claims": claims, "files": {"train.log": None, "README.md": table, **logs, **more}}


def hands_claims() -> dict[str, Case]:
    """Means, seeds, totals and times."""
    over = log(1.0812).replace(
        "Total submission size quantized+brotli: 15900000 bytes", "Total submission size: 15.9 MiB"
    )
    over = over.replace("Serialized model quantized+brotli: 15880000 bytes\n", "")
    under = over.replace("15.9 MiB", "14.90 MiB").replace("size: 20000", f"size: {len(GOLF.encode())}")
    slow = log(1.0812).replace("train_time: 580000ms", "train_time: 661000ms")
    long = log(1.0812).replace("eval_time:100ms", "eval_time:671000ms")
    half = log(BPBS[2], 3, 15_900_411, tokens=TOKENS // 2)
    readme = "# n\n\nval_bpb 1.0812\n"
    return {
        "hands_mean_of_three": Case("seeds", "accepted", PLAIN, **_seeds(1.1036)),
        "hands_mean_of_the_best_two": Case("seeds", "flagged", PLAIN, **_seeds(1.10335)),
        "hands_third_seed_without_a_log": Case("log-loss", "flagged", OBJECTS, **_seeds(1.1036, BPBS[:2])),
        "hands_log_of_another_seed": Case("seeds", "flagged", OBJECTS, **_seeds(1.1036, **{"train_seed3.log": log(BPBS[2], 1, 15_900_411)})),
        "hands_one_seed_on_half": Case("bytes-per-token", "flagged", PLAIN, **_seeds(1.1036, **{"train_seed3.log": half})),
        "hands_claims_what_was_before": Case("log-loss", "refused", NOTEBOOK, {"val_bpb": 1.0712}, {"train.log": log(1.0812)}),
        "hands_mebibytes_over": Case("log-bytes", "refused", GOLF, files={"train.log": over, "README.md": readme}),
        "hands_mebibytes_under": Case("log-bytes", "accepted", GOLF, files={"train.log": under, "README.md": readme}),
        "hands_trains_too_long": Case("time", "refused", FUNCTIONAL, files={"train.log": slow}),
        "hands_evaluates_too_long": Case("time", "refused", FUNCTIONAL, files={"train.log": long}),
    }  # fmt: skip
