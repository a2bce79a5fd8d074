# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""Programs that are looked for and started, copies of one run, priors that nobody counts, times in parts, numbers
as strings, models in parts; and honest twins."""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from typing import Any

from .folder_case import TOKENS, WHOLE, nats, noise
from .real_script import Batch, base, run_log

URL = "https://example.org/weights.bin"
BPBS = {42: 1.0811, 314: 1.0812, 999: 1.0813}


def looked_for() -> Batch:
    """Programs that are found first and started then."""
    b = Batch()
    for name, code, verdict in (
        ("curl", f"curl = shutil.which('curl')\nsubprocess.run([curl, '-sLO', '{URL}'], check=True)", "refused"),
        ("wget", f"subprocess.check_call([shutil.which('wget'), '-q', '{URL}'])", "refused"),
        ("either", f"tool = shutil.which('wget') or shutil.which('curl')\nif tool:\n    subprocess.run([tool, '{URL}'])", "refused"),
        ("in_a_loop", f"for tool in ('aria2c', 'wget'):\n    path = shutil.which(tool)\n    if path is not None:\n        subprocess.Popen([path, '{URL}']).wait()\n        break", "refused"),
        ("walrus", f"if (exe := shutil.which('curl')) is not None:\n    os.execv(exe, [exe, '-O', '{URL}'])", "refused"),
        ("git", "subprocess.run([shutil.which('git'), 'clone', 'https://example.org/r'])", "refused"),
        ("list_built", f"cmd = [shutil.which('curl')]\ncmd += ['-O', '{URL}']\nsubprocess.run(cmd)", "refused"),
        ("list_appended", f"cmd = [shutil.which('curl')]\ncmd.append('{URL}')\nsubprocess.run(cmd)", "refused"),
        ("rsync_by_distutils", "subprocess.run([find_executable('rsync'), 'me@host:w.bin', '.'])", "refused"),
        ("git_commit", "subprocess.run([shutil.which('git'), 'rev-parse', 'HEAD'], capture_output=True)", "accepted"),
        ("nvidia_smi", "smi = shutil.which('nvidia-smi')\nif smi:\n    log0(subprocess.run([smi, '-L'], capture_output=True, text=True).stdout)", "accepted"),
        ("compiler", "cc = shutil.which('gcc') or shutil.which('cc')\nsubprocess.run([cc, '--version'])", "accepted"),
    ):  # fmt: skip
        imports = (
            "import shutil\nimport subprocess\nfrom distutils.spawn import find_executable"
            if "find_" in code
            else "import shutil\nimport subprocess"
        )
        b.case(f"which_{name}", verdict, "network", script=base(IMPORTS=imports, BEFORE_TRAIN=code))
    return b


def table(bpbs: Mapping[int, float]) -> dict[str, Any]:
    return {"seed_results": {str(seed): {"val_bpb": bpb} for seed, bpb in bpbs.items()}}


def steps(seed: int, bpb: float, n: int = 12) -> str:
    """Losses of training's batches, of that seed alone."""
    return "\n".join(
        f"step:{i * 100}/5000 train_loss:{3.1 + 0.37 / (i + 1) + (seed * 37 % 97) * 1e-4 + (i * seed % 13) * 1e-3 + (bpb - 1):.4f} train_time:{i * 12000}ms"
        for i in range(1, n)
    )


def of_seed(seed: int, bpb: float, *, like: int | None = None) -> str:
    """A log of one seed with its batches in training; `like`: whose batches they are."""
    said = run_log(bpb, seed)
    return said.replace("step:4900", steps(seed if like is None else like, bpb) + "\nstep:4900", 1)


def one_run() -> Batch:
    """Logs of three seeds, of which some are of one run."""
    b = Batch()

    def case(
        name: str, verdict: str, logs: Mapping[str, str], bpbs: Mapping[int, float] = BPBS, **given: Any
    ) -> None:
        b.case(f"seeds_{name}", verdict, "seeds", js=table(bpbs), logs=logs, **given)

    same = dict.fromkeys(BPBS, 1.0812)
    readme = "# SP8192\n\nval_bpb **1.0812**\n"
    first = of_seed(42, 1.0812)
    case(
        "copied",
        "flagged",
        {f"train_seed{s}.log": first.replace("seed:42", f"seed:{s}") for s in same},
        same,
        readme=readme,
    )
    lines = first.splitlines(keepends=True)
    shuffled = "".join([*lines[:8], *reversed(lines[8:20]), *lines[20:]])
    mixed = {
        "train_seed42.log": first,
        "train_seed314.log": shuffled.replace("seed:42", "seed:314"),
        "train_seed999.log": "".join(lines[:8] + lines[14:20] + lines[8:14] + lines[20:]).replace(
            "seed:42", "seed:999"
        ),
    }
    case("copied_in_another_order", "flagged", mixed, same, readme=readme)
    case(
        "copied_with_other_times",
        "flagged",
        {
            f"train_seed{s}.log": first.replace("seed:42", f"seed:{s}").replace("596012", f"59{s % 7}0{s % 9}1")
            for s in same
        },
        same,
        readme=readme,
    )
    bare = "\n".join(
        [
            "seed:{0}",
            f"val_tokens: {TOKENS}",
            "Serialized model int6+lzma: 15880000 bytes",
            "Code size: 20000 bytes",
            "Total submission size int6+lzma: 15900000 bytes",
            f"final_int6_roundtrip_exact val_loss:{nats(1.08123456, WHOLE / TOKENS):.8f} val_bpb:1.08123456",
            "",
        ]
    )
    case(
        "copied_finals",
        "flagged",
        {f"train_seed{s}.log": bare.format(s) for s in same},
        dict.fromkeys(same, 1.08123456),
        readme="# SP8192\n\nval_bpb **1.08123456**\n",
        bpb=1.08123456,
    )
    cut = {
        f"train_seed{s}.log": of_seed(s, bpb, like=42).replace(
            f"{nats(bpb + 0.2):.4f} val_bpb:{bpb + 0.2:.4f}", f"{nats(1.2812):.4f} val_bpb:1.2812"
        )
        for s, bpb in {42: 1.0812, 314: 1.0812, 999: 1.0812}.items()
    }
    case(
        "copied_without_names",
        "flagged",
        {f"run{i}.log": cut[f"train_seed{s}.log"] for i, s in enumerate(same)},
        same,
        readme=readme,
    )
    case("of_three_runs", "accepted", {f"train_seed{s}.log": of_seed(s, bpb) for s, bpb in BPBS.items()})
    rounded = {42: 1.0812, 314: 1.0812, 999: 1.0812}
    case(
        "that_end_alike",
        "accepted",
        {f"train_seed{s}.log": of_seed(s, bpb + (s % 7) * 1e-6) for s, bpb in rounded.items()},
        rounded,
        readme=readme,
    )
    return b


def beside() -> Batch:
    """Files that are read at evaluation and lie in no folder that is counted."""
    b = Batch()

    def case(name: str, verdict: str, code: str, **given: Any) -> None:
        b.case(
            f"prior_{name}",
            verdict,
            "counted",
            script=base(IMPORTS="import json\nimport zlib", BEFORE_EVAL=code),
            **given,
        )

    case("npy_by_the_data", "warned", "prior = np.load(os.path.join(args.data_path, 'unigram_prior.npy'))")
    case(
        "bin_by_the_data",
        "warned",
        "counts = np.fromfile(os.path.join(args.data_path, 'ngram_counts.bin'), dtype=np.uint32)",
    )
    case("json_by_the_data", "warned", "prior = json.load(open('./data/prior.json'))")
    case(
        "text_by_the_data",
        "warned",
        "prior = torch.tensor([float(v) for v in Path('./data/datasets/counts.txt').read_text().split()])",
    )
    case(
        "pt_by_the_tokenizer",
        "warned",
        "prior = torch.load(os.path.join(os.path.dirname(args.tokenizer_path), 'bigrams.pt'), weights_only=True)",
    )
    case("memmap", "warned", "prior = np.memmap(Path(args.data_path) / 'trigrams.u16', dtype=np.uint16, mode='r')")
    case("packed_bytes", "warned", "prior = zlib.decompress(open(args.data_path + '/prior.z', 'rb').read())")
    case("by_an_option", "warned", "prior = np.load(os.environ.get('NGRAM_PRIOR', './data/ngram_prior.npz'))['p']")
    case("of_a_home", "warned", "prior = np.load(os.path.expanduser('~/prior.npy'))")
    case(
        "in_a_function",
        "warned",
        "prior = read_prior(args.data_path)",
        files={
            "prior.py": "import numpy as np\n\n\ndef read_prior(root):\n    return np.load(f'{root}/bigram_prior.npy')\n"
        },
    )
    b["prior_in_a_function"] = b["prior_in_a_function"].__class__(
        **{
            **b["prior_in_a_function"].__dict__,
            "script": base(IMPORTS="from prior import read_prior", BEFORE_EVAL="prior = read_prior(args.data_path)"),
        }
    )
    case("that_it_writes", "accepted", "np.save('/tmp/prior.npy', np.ones(8192))\nprior = np.load('/tmp/prior.npy')")
    case(
        "that_it_writes_to_data",
        "accepted",
        "cached = os.path.join(args.data_path, 'unigrams.npy')\nnp.save(cached, np.ones(8192))\nprior = np.load(cached)",
    )
    case(
        "of_the_folder",
        "accepted",
        "prior = np.load(Path(__file__).with_name('prior.npy'))",
        files={"prior.npy": noise(4000)},
    )
    case(
        "byte_counts_of_the_text",
        "accepted",
        "side = np.fromfile(os.path.join(args.data_path, 'fineweb_val_bytes_000000.bin'), dtype=np.uint16)",
    )
    case("tokenizer_json", "accepted", "vocab = json.load(open('./data/tokenizers/fineweb_8192_bpe.json'))")
    case(
        "manifest",
        "accepted",
        "manifest = json.load(open(os.path.join(args.data_path, 'manifest.json')))\nlog0(str(manifest.get('shards')))",
    )
    case("of_its_own_run", "accepted", "state = torch.load('final_model.pt', map_location='cpu', weights_only=True)")
    return b


def in_parts() -> Batch:
    """Times of an evaluation that are told of its parts alone."""
    b = Batch()

    def case(name: str, verdict: str, more: str, **given: Any) -> None:
        b.case(f"times_{name}", verdict, "time", logs={"train.log": run_log(more=more, **given)})

    case(
        "of_three_parts", "flagged", "eval part 1/3 took 250.1s\neval part 2/3 took 251.7s\neval part 3/3 took 249.9s"
    )
    case("of_phases", "flagged", "ttt_phase1 eval_time:310000ms\nttt_phase2 eval_time:330000ms")
    case("of_score_and_adapt", "flagged", "ttt score_time: eval took 320.5s\nttt adapt: eval took 330.5s")
    case("of_halves", "flagged", "eval first half done in 5m20s\neval second half done in 5m40s")
    case(
        "of_shards_after_each_other",
        "flagged",
        "eval shard 0: elapsed 210s\neval shard 1: elapsed 215s\neval shard 2: elapsed 222s",
    )
    case(
        "of_three_within",
        "accepted",
        "eval part 1/3 took 150.1s\neval part 2/3 took 151.7s\neval part 3/3 took 149.9s",
    )
    case("of_ranks", "accepted", "\n".join(f"rank {r}: eval took 401.{r}s" for r in range(8)))
    case("so_far", "accepted", "\n".join(f"eval progress {p}% elapsed {p * 5}s" for p in (20, 40, 60, 80, 100)))
    case(
        "of_other_results",
        "accepted",
        "final_sliding val_loss:2.7500 val_bpb:1.0900 eval_time:310000ms\nfinal_plain val_loss:2.8000 val_bpb:1.1000 eval_time:320000ms",
        ev=480000,
    )
    return b


def written_otherwise() -> Batch:
    """Numbers as strings, and models in parts."""
    b = Batch()
    three = {
        "seed_results": {str(s): {"val_bpb": f"{bpb:.4f}", "val_loss": f"{nats(bpb):.4f}"} for s, bpb in BPBS.items()}
    }
    logs = {f"train_seed{s}.log": run_log(bpb, s) for s, bpb in BPBS.items()}
    b.case("strings_of_loss", "accepted", "json", js={"val_bpb": "1.0812"})
    b.case(
        "strings_everywhere",
        "accepted",
        "json",
        js={"val_bpb": "1.0812", "val_loss": f"{nats(1.0812):.4f}", "bytes_total": "15,900,000", **three},
        logs=logs,
    )
    b.case(
        "strings_of_seeds",
        "accepted",
        "seeds",
        js={"val_bpb": " 1.0812 ", "seeds": ["42", "314", "999"], **three},
        logs=logs,
    )
    b.case(
        "strings_of_another_loss", "refused", "log-loss", js={"val_bpb": "1.0712"}, readme="# n\n\nval_bpb 1.0712\n"
    )
    b.case("strings_over_the_cap", "refused", "json-bytes", js={"bytes_total": "16,900,000"})
    b.case("strings_of_words", "refused", "json", js={"val_bpb": "about one"})
    packed = lzma.compress(noise(3_000_000), preset=0)
    for name, parts in (
        ("part", ("final_model.part0", "final_model.part1")),
        ("numbers", ("final_model.int6.ptz.000", "final_model.int6.ptz.001")),
        ("split", ("final_model.int6.ptz.aa", "final_model.int6.ptz.ab")),
        ("words", ("model_a.bin", "model_b.bin")),
        ("of", ("model-00001-of-00002.bin", "model-00002-of-00002.bin")),
    ):
        files = {parts[0]: packed[:1_700_000], parts[1]: packed[1_700_000:]}
        size = len(packed)
        b.case(f"parts_by_{name}", "accepted", "log-bytes", files=files, logs={"train.log": run_log(model=size)})
        b.case(
            f"parts_by_{name}_of_less",
            "refused",
            "log-bytes",
            files=files,
            logs={"train.log": run_log(model=size - 90_000)},
        )
    large = noise(16_400_000)
    b.case(
        "parts_over_the_cap",
        "refused",
        "cap",
        files={"final_model.part0": large[:9_000_000], "final_model.part1": large[9_000_000:]},
        logs={"train.log": run_log(model=15_900_000)},
    )
    return b
