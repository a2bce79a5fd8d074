"""Artifacts of a layout that only their script knows; weights beside a model, in every total that speaks of them."""

from __future__ import annotations

import io
import pickle
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
