"""Artifacts of a layout that only their script knows; weights beside a model, in every total that speaks of them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
import zlib

from .folder_case import MAIN, Case, log, noise

PRIOR = "import numpy as np\nimport torch\nPRIOR = np.load('bigram_prior.npy')\n" + MAIN
CODE = 20_000
MODEL, PRIOR_BYTES = 15_200_000, 300_000


def _torch_file(n_bytes: int) -> bytes:
    """What torch.save writes of numbers under names of one's own."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"blocks.0.q": 1, "blocks.0.s": 2}, 2))
        archive.writestr("archive/data/0", noise(n_bytes))
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def _script(source: str) -> str:
    return source + "#" * (CODE - len(source))


def own_layouts() -> dict[str, Case]:
    """Artifacts that decompress and hold names of their own, beside those that break off."""
    whole = zlib.compress(_torch_file(90_000), 1)
    files = {"of_torch": whole, "of_arrays": zlib.compress(b"\x93NUMPY" + noise(90_000), 1)}
    found = {
        f"layout_{name}": Case(
            "decodes", "warned", _script(MAIN), files={"final_model.int6.ptz": data}, words="not decided"
        )
        for name, data in files.items()
    }
    broken = {"final_model.int6.ptz": whole[:-2000]}
    found["layout_that_breaks_off"] = Case("decodes", "refused", _script(MAIN), files=broken)
    return {name: _logged(case) for name, case in found.items()}


def _logged(case: Case) -> Case:
    data = case.files["final_model.int6.ptz"] or b""
    said = log(1.0812, total=len(data) + CODE).replace("brotli", "zlib")
    return Case(case.rule, case.verdict, case.script, files={**case.files, "train.log": said}, words=case.words)


def priors() -> dict[str, Case]:
    """A prior that the code opens beside the model: in the total of submission.json and README.md, or left out."""
    model = zlib.compress(_torch_file(MODEL), 0)
    whole = len(model) + PRIOR_BYTES + CODE
    files = {
        "final_model.int6.ptz": model,
        "bigram_prior.npy": b"\x93NUMPY\x01\x00" + noise(PRIOR_BYTES - 8),
        "train.log": log(1.0812, total=len(model) + CODE).replace("brotli", "zlib"),
    }

    def case(rule: str, verdict: str, total: int) -> Case:
        readme = f"# n\n\nval_bpb 1.0812\n\n{total:,} bytes in all\n"
        return Case(rule, verdict, _script(PRIOR), {"bytes_total": total}, {**files, "README.md": readme})

    return {
        "prior_in_the_json_total": case("json-bytes", "accepted", whole),
        "prior_left_out_of_the_json_total": case("json-bytes", "refused", whole - PRIOR_BYTES),
        "prior_in_the_readme_total": case("readme-bytes", "accepted", whole),
        "prior_in_the_margin": case("margin", "accepted", whole),
    }


def _open(name: str) -> str:
    return _script(f"import numpy as np\nimport torch\nTABLE = np.fromfile({name!r}, dtype=np.uint8)\n" + MAIN)


def alone() -> dict[str, Case]:
    """A prior that the code opens, in a folder that does not hold the model of which the log speaks."""

    def case(rule: str, verdict: str, model: int, n_bytes: int, total: int | None = None) -> Case:
        files = {"prior.dat": noise(n_bytes), "train.log": log(1.0812, total=model + CODE)}
        claims = {} if total is None else {"bytes_total": total}
        return Case(rule, verdict, _open("prior.dat"), claims, files)

    return {
        "alone_within_the_cap": case("log-bytes", "accepted", 15_200_000, 300_000),
        "alone_and_large": case("log-bytes", "accepted", 11_000_000, 4_000_000),
        "alone_in_the_json_total": case("json-bytes", "accepted", 15_200_000, 300_000, 15_500_000 + CODE),
        "alone_not_in_the_json_total": case("json-bytes", "warned", 15_200_000, 300_000, 15_200_000 + CODE),
        "alone_over_the_cap": case("cap", "refused", 15_200_000, 1_400_000),
        "alone_is_no_model": case("artifact", "warned", 15_200_000, 300_000),
    }


def of_seeds() -> dict[str, Case]:
    """Models of several seeds, told apart by their folders, by numbers in their names, or there for some of them."""
    seeds = {42: 15_600_100, 314: 15_600_200, 999: 15_600_300}
    claims = {"val_bpb": 1.0813, "seed_results": {s: {"val_bpb": 1.0812 + i * 1e-4} for i, s in enumerate(seeds)}}

    def case(rule: str, verdict: str, name: str, sizes: dict[int, int], told: dict[int, int] = seeds) -> Case:
        models = {name.format(s): noise(n) for s, n in sizes.items()}
        logs = {f"train_seed{s}.log": log(1.0812 + i * 1e-4, s, total=told[s] + CODE) for i, s in enumerate(seeds)}
        return Case(rule, verdict, _script(MAIN), claims, {**models, **logs, "train.log": None})

    larger = {**seeds, 999: 16_100_000}
    parts = {1: 5_600_000, 2: 5_600_000, 3: 5_600_000}
    return {
        "seeds_in_folders": case("cap", "accepted", "seed_{}/model.bin", seeds),
        "seeds_in_folders_over": case("cap", "refused", "seed_{}/model.bin", larger),
        "seeds_by_number": case("cap", "accepted", "model_s{}.bin", seeds),
        "seeds_by_number_over": case("cap", "flagged", "model_s{}.bin", larger),
        "seeds_by_number_other_sizes": case("cap", "refused", "w{}.bin", parts),
        "seeds_of_which_one_is_here": case("seeds", "accepted", "model_seed{}.bin", {42: seeds[42]}),
        "seeds_without_a_result": case("seeds", "refused", "model_seed{}.bin", {7: seeds[42]}),
    }


def _archive(kind: str, **members: str | bytes) -> bytes:
    """A zip or a tar.gz of files whose names end in .log."""
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in members.items():
                packed.writestr(f"{name}.log", data)
        return out.getvalue()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in members.items():
            raw = data if isinstance(data, bytes) else data.encode()
            info = tarfile.TarInfo(f"{name}.log")
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return out.getvalue()


def packed_logs() -> dict[str, Case]:
    """Logs that were compressed are read; what hides among them, or behind them, is none."""
    said, over = log(1.0812), log(1.0812, total=16_020_000)
    steps = "".join(f"step:{i} loss:{9 - i / 9000:.4f} norm:{i * 7919 % 997 / 1000:.3f}\n" for i in range(20_000))

    def case(rule: str, verdict: str, **files: bytes | None) -> Case:
        given = {name.replace("__", "."): data for name, data in files.items()}
        return Case(rule, verdict, _script(MAIN), files={"train.log": None, **given})

    full = gzip.compress((steps + said).encode())
    return {
        "packed_log_alone": case("log-loss", "accepted", train__log__gz=gzip.compress(said.encode())),
        "packed_log_of_bz2": case("log-loss", "accepted", train__log__bz2=bz2.compress(said.encode())),
        "packed_log_of_xz": case("log-loss", "accepted", train__log__xz=lzma.compress(said.encode())),
        "packed_logs_in_a_zip": case("log-loss", "accepted", logs__zip=_archive("zip", train=said)),
        "packed_logs_in_a_tar": case("log-loss", "accepted", logs__tgz=_archive("tar", train=said)),
        "packed_log_beside": case("log-bytes", "accepted", train__log=said.encode(), full__log__gz=full),
        "packed_log_of_another_loss": case(
            "log-loss", "refused", train__log__gz=gzip.compress(said.replace("1.08120000", "1.09120000").encode())
        ),
        "packed_log_over_the_cap": case("log-bytes", "refused", train__log__gz=gzip.compress(over.encode())),
        "packed_log_with_weights_behind": case(
            "cap", "flagged", train__log=said.encode(), full__log__gz=full + noise(900_000)
        ),
        "packed_log_with_weights_beside": case(
            "cap", "flagged", train__log=said.encode(), logs__zip=_archive("zip", train=said, more=noise(900_000))
        ),
        "events_that_nothing_opens": case(
            "log-bytes", "accepted", train__log=said.encode(), events__dat=noise(90_000)
        ),
    }
