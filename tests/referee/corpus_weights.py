"""Folders that differ in what is scored and what is weighed: text, updates on it, artifacts."""

from __future__ import annotations

import base64

from .folder_case import (
    BPB,
    MAIN,
    RATIO,
    TTT,
    WHOLE,
    Case,
    log,
    nats,
    noise,
)


def scored() -> dict[str, Case]:
    found = {}
    for pieces, tokens in (("1024", 62_021_632), ("4096", 45_508_608), ("16384", 36_912_345), ("32768", 33_100_117)):
        ratio = WHOLE / tokens
        for name, factor in (("right", 1.0), ("inflated", 1.15), ("inflated_a_little", 1.01)):
            found[f"vocab{pieces}_{name}"] = Case(
                "bytes-per-token",
                "accepted" if factor == 1 else "refused",
                claims={"val_loss": nats(BPB, factor * ratio)},
                files={"train.log": log(BPB, tokens=tokens, ratio=factor * ratio)},
            )
    ours = "def main(model, val_tokens, train_tokens):\n    train(model, train_tokens)\n"
    train = "\ndef train(model, tokens):\n    for x in tokens:\n        model(x).backward()\n\n"
    save = "    torch.save(model.state_dict(), 'm.pt')\n"
    return found | {
        "vocab4096_a_part": Case(
            "bytes-per-token",
            "warned",
            claims={"val_loss": nats(BPB, WHOLE / 45_508_608)},
            files={"train.log": log(BPB, tokens=22_000_000, ratio=WHOLE / 45_508_608)},
        ),
        "vocab_with_separators": Case(
            "bytes-per-token",
            "refused",
            claims={"val_loss": nats(BPB, 1.15 * RATIO)},
            files={
                "train.log": log(BPB, ratio=1.15 * RATIO).replace("val_tokens: 40540160", "val tokens = 40,540,160")
            },
        ),
        "prequant_log": Case(
            "training-text", "refused", files={"train.log": log(BPB, more="prequant_ttt_enabled: True\n")}
        ),
        "prequant_log_spelled_otherwise": Case(
            "training-text",
            "refused",
            files={"train.log": log(BPB, more="[pre-quant TTT] epoch 3/11 loss 2.71 lr 1e-4\n")},
        ),
        "prequant_log_that_denies_something_else": Case(
            "training-text",
            "refused",
            files={"train.log": log(BPB, more="pre-quant TTT: 10 epochs over val tokens, no clipping\n")},
        ),
        "prequant_log_that_denies_it": Case(
            "training-text",
            "accepted",
            files={"train.log": log(BPB, more="10 epochs, no pre-quant TTT on any of them, clipping 1.0\n")},
        ),
        "prequant_log_in_words": Case(
            "training-text",
            "refused",
            files={"train.log": log(BPB, more="fine-tuning on validation tokens before quantization, 10 epochs\n")},
        ),
        "trained_on_validation_files": Case(
            "training-text", "flagged", "TRAIN_FILES = './data/fineweb_val_*.bin'\n" + MAIN
        ),
        "prequant_switch": Case("training-text", "flagged", "import torch\nPREQUANT_TTT = True\n" + MAIN),
        "prequant_switch_in_environment": Case(
            "training-text",
            "flagged",
            "import os\nuse = PREQUANT_TTT_ENABLED = bool(int(os.environ.get('PREQUANT_TTT_ENABLED', '1')))\n" + MAIN,
        ),
        "prequant_order": Case(
            "training-text", "flagged", TTT + "\ndef main(model, val_tokens):\n    adapt(model, val_tokens)\n" + save
        ),
        "prequant_loop": Case(
            "training-text",
            "flagged",
            "import torch\n\ndef main(model, val_loader, quantize):\n    for x, y in val_loader:\n"
            "        loss = model(x, y)\n        loss.backward()\n    quantize(model)\n",
        ),
        "prequant_switch_off": Case(
            "training-text", "accepted", "import os\nPREQUANT_TTT = int(os.environ.get('PREQUANT_TTT', '0'))\n" + MAIN
        ),
        "prequant_log_says_off": Case(
            "training-text",
            "accepted",
            "PREQUANT_TTT = True\n" + MAIN,
            files={"train.log": log(BPB, more="prequant_ttt_enabled: False\n")},
        ),
        "legal_ttt_after_packing": Case(
            "training-text",
            "accepted",
            TTT + "\ndef main(model, val_tokens):\n" + save + "    adapt(model, val_tokens)\n",
        ),
        "training_then_evaluation": Case(
            "training-text",
            "accepted",
            "import torch\n"
            + train
            + "\ndef evaluate(model, tokens):\n    return model(tokens)\n\n"
            + ours
            + "    evaluate(model, val_tokens)\n"
            + save,
        ),
        "validation_inside_training": Case(
            "training-text",
            "accepted",
            "import torch\n\ndef main(model, loader, val_tokens, evaluate):\n    for x in loader:\n"
            "        loss = model(x)\n        loss.backward()\n        val_loss = evaluate(model, val_tokens)\n"
            + save,
        ),
        "calibrated_on_validation": Case(
            "calibration",
            "refused",
            "def collect_hessians(m, x):\n    pass\n\nval_tokens = 0\ncollect_hessians(1, val_tokens)\n",
        ),
    }


def weighed() -> dict[str, Case]:
    large = noise(16_100_000)
    names = (
        "weights.bin",
        "model.npz",
        "final",
        "model.dat",
        "ckpt.pt",
        "model.safetensors",
        "tokenizer.model",
        "plot.png",
    )
    found = {
        f"large_{name.replace('.', '_')}": Case(
            "cap", "refused", files={name: (b"PK\x03\x04" if name.endswith("npz") else b"") + large}
        )
        for name in names
    }
    half = 8_100_000
    return found | {
        "large_base64_text": Case("cap", "refused", files={"weights.txt": base64.b64encode(large[:12_200_000])}),
        "large_noise_called_a_log": Case("cap", "refused", files={"weights.log": large}),
        "large_base64_called_a_log": Case(
            "cap", "refused", files={"train_table.txt": base64.b64encode(large[:12_200_000])}
        ),
        "large_base64_in_lines_called_notes": Case(
            "cap", "refused", files={"NOTES.md": base64.encodebytes(large[:12_200_000])}
        ),
        "a_log_in_latin_1": Case(
            "log-loss", "accepted", files={"train.log": ("GPU at 61 °C\n" * 40 + log(BPB)).encode("latin-1")}
        ),
        "large_in_two_parts": Case(
            "cap", "refused", files={"w.part1.bin": noise(half), "w.part2.bin": noise(half + 1)}
        ),
        "large_log": Case("cap", "accepted", files={"train.log": log(BPB) + "step\n" * 300_000}),
        "an_image": Case("cap", "accepted", files={"plot.png": b"\x89PNG\r\n\x1a\n" + noise(300_000)}),
        "a_tokenizer": Case("cap", "accepted", files={"fineweb.model": noise(366_510)}),
        "small_weights_of_their_own": Case(
            "decodes",
            "warned",
            files={
                "weights.bin": noise(200_000),
                "train.log": log(BPB).replace("15880000", "200000").replace("15900000", "200080"),
            },
        ),
        "json_diagnostic_int8": Case(
            "json-bytes",
            "accepted",
            claims={
                "bytes_model_int6_zlib": 14_784_469,
                "bytes_model_int8_zlib": 18_612_195,
                "bytes_total": 14_900_000,
            },
        ),
        "json_diagnostics_alone": Case(
            "json-bytes",
            "accepted",
            claims={"bytes_model_int6_zlib": 14_784_469, "bytes_model_int8_zlib": 18_612_195},
        ),
        "json_total_over": Case("json-bytes", "refused", claims={"bytes_total": 16_000_001}),
        "json_only_model_over": Case("json-bytes", "refused", claims={"bytes_model_int8_zlib": 16_100_000}),
        "log_diagnostic_total": Case(
            "log-bytes",
            "warned",
            claims={"bytes_total": 15_900_000},
            files={"train.log": log(BPB) + "Total submission size int8+zlib: 18612195 bytes\n"},
        ),
    }
