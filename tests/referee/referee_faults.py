"""Known faults of the field's submissions, as changes to a good folder: name -> (fault, rule, sentence)."""

from __future__ import annotations

import io
import json
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pgpack.formats.field.torch_baseline import TorchBaseline
from pgpack.formats.own.contents import Contents
from pgpack.tensors.grids import QuantizedTensor, UniformGrid
from pgpack.tensors.raw_values import RawValues
from pgpack.tensors.record import Record
from tests.submission.submission_folder import (
    SEEDS,
    TRAINING,
    claim,
    code_bytes,
    packed,
    recount,
    replaced,
    script,
    weights,
)

Fault = Callable[[Path], None]
MODEL = "model_seed42.pgpack"


def ship_raw(folder: Path) -> None:
    """#1412, #1934: the wrapper was counted, the script itself lies in the folder."""
    (folder / "train_gpt.py").write_bytes(TRAINING + b"# " + b"x" * 4000)


def stub_that_executes_another_file(folder: Path) -> None:
    """#1412: 74 bytes that execute 80,055."""
    (folder / "train_gpt.py").write_text(
        'exec(open(__file__.replace("train_gpt.py","train_gpt_decode.py")).read())\n'
    )
    (folder / "train_gpt_decode.py").write_bytes(TRAINING)


def truncated(folder: Path) -> None:
    data = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(data[:-100])


def with_one_bit_flipped(folder: Path) -> None:
    data = bytearray((folder / MODEL).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / MODEL).write_bytes(data)


def without_a_tensor(folder: Path) -> None:
    """The artifact of one seed lacks what those of the others have."""
    tensors = weights(7)
    del tensors["blocks.0.attn_scale"]
    (folder / f"model_seed{[*SEEDS][-1]}.pgpack").write_bytes(packed(tensors))


def only(name: str, data: bytes) -> Fault:
    """One artifact under another name, instead of the three."""

    def change(folder: Path) -> None:
        for seed in SEEDS:
            (folder / f"model_seed{seed}.pgpack").unlink()
        (folder / "decode.py").unlink()
        (folder / name).write_bytes(data)

    return change


def of_the_field(*parts: QuantizedTensor) -> bytes:
    """These tensors as the challenge's baseline stores them, through zlib."""
    records = [Record(f"blocks.{i}.w", part.shape, "plain", (part,)) for i, part in enumerate(parts)]
    from pgpack.codecs import BYTE_CODECS

    return TorchBaseline().write(Contents(records, {}, {}), (BYTE_CODECS["zlib"](),))[0]


def raw(values: Any, dtype: str = "fp32") -> QuantizedTensor:
    """A tensor stored as it is, NaN and infinity included."""
    array = np.asarray(values, np.float32)
    with np.errstate(over="ignore"):
        return QuantizedTensor(RawValues(dtype).symbols_of(array), RawValues(dtype), array.shape)


def held_at_a_floor() -> QuantizedTensor:
    """#433: rows whose scale is 1/31 and whose weights are as small as that."""
    symbols = np.random.default_rng(0).integers(-2, 3, (64, 32)).astype(np.int8)
    return QuantizedTensor(symbols, UniformGrid(np.full((64, 1), 1 / 31, np.float16)), (64, 32))


def malicious_pickle() -> bytes:
    """#640 loads with weights_only=False: a pickle that calls os.system."""
    import torch

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, ("true",)

    file = io.BytesIO()
    torch.save({"w": Evil(), "m": {}}, file)
    return zlib.compress(file.getvalue())


def decoder_line(line: str) -> Fault:
    """A line put at the start of the decoder, and all counts made anew."""

    def change(folder: Path) -> None:
        path = folder / "decode.py"
        path.write_text(line + "\n" + path.read_text())
        recount(folder)

    return change


def both(*faults: Fault) -> Fault:
    """One fault after the other."""

    def change(folder: Path) -> None:
        for fault in faults:
            fault(folder)

    return change


def without_logs(folder: Path) -> None:
    for path in folder.glob("*.log"):
        path.unlink()


def written(name: str, text: str) -> Fault:
    """A file with this text."""

    def change(folder: Path) -> None:
        (folder / name).write_text(text)

    return change


def log(old: str, new: str) -> Fault:
    return replaced("train_seed42.log", old, new)


def sliding_for_one_seed(folder: Path) -> None:
    replaced("train_seed42.log", "quantized_ttt_phased", "quantized_sliding_window")(folder)


def loss_before_quantization(folder: Path) -> None:
    """The seeds' losses replaced by what the logs measured before quantization."""
    path = folder / "submission.json"
    document = json.loads(path.read_text())
    for row in document["seed_results"].values():
        row["val_bpb"] -= 0.009
    path.write_text(json.dumps(document))


def gap_of_two_modes(folder: Path) -> None:
    """#212: before is plain, after is another way to measure, and README.md calls the difference a gap."""
    bpb = json.loads((folder / "submission.json").read_text())["val_bpb"]
    path = folder / "train_seed42.log"
    path.write_text(
        path.read_text() + f"diagnostic pre-quantization post-ema val_loss:3.2 val_bpb:{bpb - 0.0241:.8f}\n"
    )
    claim(pre_quant_val_bpb=round(bpb - 0.0241, 8))(folder)
    (folder / "README.md").write_text((folder / "README.md").read_text() + "\nquantization gap 0.0241\n")


def inflated(factor: float) -> Fault:
    """Bytes counted that are not in the text: every bpb falls, no loss does."""

    def change(folder: Path) -> None:
        for path in folder.glob("*.log"):
            path.write_text(
                re.sub(r"val_bpb:(\d\.\d{8})", lambda m: f"val_bpb:{float(m[1]) / factor:.8f}", path.read_text())
            )
        document = json.loads((folder / "submission.json").read_text())
        for row in (document, *document["seed_results"].values()):
            row["val_bpb"] /= factor
        (folder / "submission.json").write_text(json.dumps(document))

    return change


def weights_alone(folder: Path) -> None:
    """#1412: README.md's column of artifact bytes held the weights alone."""
    code = code_bytes(folder)
    text = (folder / "README.md").read_text()
    (folder / "README.md").write_text(
        re.sub(r"\d,\d{3}(?= )", lambda m: f"{int(m[0].replace(',', '')) - code:,}", text)
    )


def deleted(name: str) -> Fault:
    return lambda folder: (folder / name).unlink()


GUARDED = b"try:\n    import zstandard\nexcept ImportError:\n    zstandard = None\n"
MINIFY = b"import python_minifier\ncode_bytes = len(python_minifier.minify(open(__file__).read()))\n"
BEST = min(SEEDS.values())
FAULTS: dict[str, tuple[Fault, str, str]] = {
    "raw code instead of the wrapper": (ship_raw, "cap", r"over the cap of 5,500; packed .* it would be [\d,]+"),
    "a stub that executes an uncounted file": (
        stub_that_executes_another_file,
        "counted",
        "executed but not in counted_files: train_gpt_decode.py",
    ),
    "code counted through an absent minifier": (
        script(MINIFY),
        "code-size",
        "counts its own bytes through a minifier",
    ),
    "a wrapper whose payload is damaged": (
        replaced("train_gpt.py", 'b85decode("', 'b85decode("0000'),
        "extracts",
        "does not extract",
    ),
    "a script that does not parse": (
        written("train_gpt.py", "def main(:\n"),
        "compiles",
        "invalid syntax",
    ),
    "a zlib blob named zst": (
        only("final_model.int6.zst", of_the_field(raw([1, 2]))),
        "codec",
        "is zlib, but its name says zst",
    ),
    "a log that names another codec": (
        both(only("seed42.int6.ptz", of_the_field(raw([1, 2]))), log("quantized+rans", "int6+zstd")),
        "codec",
        "is zlib, but its log says zstd",
    ),
    "a pickle with code": (
        only("final_model.int6.ptz", malicious_pickle()),
        "no-code",
        "calls .*system.* could run code",
    ),
    "a truncated blob": (truncated, "decodes", "TruncatedArtifact: "),
    "a flipped bit": (with_one_bit_flipped, "decodes", "CorruptArtifact: "),
    "an fp16 overflow": (
        only("final_model.int8.ptz", of_the_field(raw([[1e6, 1]], "fp16"))),
        "fp16",
        r"blocks.0.w has 1",
    ),
    "an infinite weight": (only("final_model.int8.ptz", of_the_field(raw([[1e6, 1]], "fp16"))), "finite", "has 1"),
    "a NaN": (only("final_model.int8.ptz", of_the_field(raw([[np.nan, 1]]))), "finite", "NaN or infinite values"),
    "a seed without one of its tensors": (
        without_a_tensor,
        "keys",
        r"blocks.0.attn_scale missing instead of \(8,\)",
    ),
    "brotli not declared": (script(b"import brotli\n"), "dependencies", "brotli is neither in requirements.txt nor"),
    "an artifact that needs an undeclared library": (
        only("model.pgpack", packed(weights(1), "*=cast|shuffle|brotli")),
        "dependencies",
        "model.pgpack: compressed with brotli but brotli is neither",
    ),
    "zstandard in a silent try": (script(GUARDED), "dependencies", "zstandard is neither in requirements.txt"),
    "an install at run time": (
        script(b"import os\nos.system('apt-get install -y lrzip')\n"),
        "network",
        "apt-get install",
    ),
    "a download": (
        script(b"from huggingface_hub import hf_hub_download\nhf_hub_download('a', 'b')\n"),
        "network",
        "hf_hub_download",
    ),
    "torch.load that unpickles": (
        script(b"torch.load('x.pt', weights_only=False)\n"),
        "unpickling",
        r"weights_only=False\) runs whatever",
    ),
    "keys loaded leniently": (
        script(b"torch.nn.Linear(1, 1).load_state_dict({}, strict=False)\n"),
        "strict-load",
        "hides missing and unexpected",
    ),
    "GPTQ on validation tokens": (
        script(b"collect_hessians = print\nval_tokens = 0\ncollect_hessians(main, val_tokens)\n"),
        "calibration",
        r"line \d+: collect_hessians\(... val_tokens ...\)",
    ),
    "a log that calibrates on validation text": (
        log("GPTQ:collected", "GPTQ:calibration on fineweb_val_000000.bin\nGPTQ:collected"),
        "calibration",
        "fineweb_val",
    ),
    "Hessians beyond ten minutes": (
        log("train_time: 592054ms", "train_time: 599592ms"),
        "time",
        r"599.6 s \+ 4.7 s of Hessians",
    ),
    "a log over the cap": (
        log("Total submission size quantized+rans: ", "Total submission size quantized+rans: 1607132"),
        "log-bytes",
        "over the cap",
    ),
    "a log of another model": (
        log("Serialized model quantized+rans: ", "Serialized model quantized+rans: 1"),
        "log-bytes",
        "says the model has",
    ),
    "a total without the code": (claim(bytes_total=1519), "json-bytes", "which is the weights alone; with the code"),
    "a seed over the cap": (
        claim(seed_results={"42": {"val_bpb": 1.0619, "artifact_bytes": 16_024_793}}),
        "json-bytes",
        "seed 42 16,024,793",
    ),
    "wrong bytes of code": (claim(bytes_code=74), "json-bytes", "bytes_code is 74, the counted files have"),
    "a README with the weights alone": (weights_alone, "readme-bytes", "the weights alone, and nowhere the total"),
    "the best seed as the mean": (claim(val_bpb=BEST), "seeds", "that is the best seed"),
    "a wrong std": (claim(val_bpb_std=0.0001), "seeds", r"val_bpb_std is 0.0001, that of its seeds is 0.0006"),
    "seeds without results": (claim(seeds=[42, 0, 7]), "seeds", r"seeds \[0, 7, 42\] but results of \[0, 42, 1234\]"),
    "a table of another run": (
        claim(seed_results={str(seed): {"val_bpb": bpb - 0.003} for seed, bpb in SEEDS.items()}),
        "log-loss",
        "seed 42 claims 1.0589, its log ends with 1.0619",
    ),
    "the loss before quantization": (loss_before_quantization, "log-loss", "log measured before quantization"),
    "sliding and other losses in one table": (sliding_for_one_seed, "one-mode", "losses of different kinds"),
    "a gap between two ways to measure": (gap_of_two_modes, "one-mode", "0.0241 in README.md is not what"),
    "a README of another loss": (
        written("README.md", "val_bpb 1.0500\n"),
        "readme",
        "does not state val_bpb 1.0618",
    ),
    "a README row of another loss": (
        replaced("README.md", "| 42 | 1.06190", "| 42 | 1.05190"),
        "readme",
        "row of seed 42 does not state 1.0619",
    ),
    "spaces counted twice": (inflated(1.17), "bytes-per-token", r"\+17.00%.*a space counted twice"),
    "byte fallback counted as three": (inflated(1.0413), "bytes-per-token", "#1289"),
    "no log": (without_logs, "required", "no training log"),
    "no README": (deleted("README.md"), "required", "missing: README.md"),
    "JSON that is none": (written("submission.json", "{"), "json", "is not JSON"),
    "a decoder that gives other bits": (
        both(replaced("decode.py", "np.savez", "tensors[name] = -tensors[name]\nnp.savez"), recount),
        "bit-exact",
        "decode.py gives other bits for",
    ),
    "a decoder that needs the network": (
        decoder_line("import socket; socket.create_connection(('127.0.0.1', 9))"),
        "decoder",
        "network: socket",
    ),
    "a decoder that needs what is not declared": (
        decoder_line("import zstandard"),
        "dependencies",
        "import zstandard but zstandard is neither",
    ),
    "a decoder that reads an uncounted file": (
        both(written("tables.bin", "x" * 999), decoder_line('open(__file__[:-9] + "tables.bin").read()')),
        "counted",
        "tables.bin",
    ),
    "a decoder that unpickles": (
        decoder_line(r"import pickle; pickle.loads(b'cos\nsystem\n.')"),
        "unpickling",
        "unpickling: (posix|os).system",
    ),
}
