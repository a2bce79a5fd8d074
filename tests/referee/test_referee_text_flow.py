# ruff: noqa: E501  (scripts stand as they are written)
"""Evaluated text is followed from where it is read to where a gradient is computed, in the order of the run."""

from __future__ import annotations

import pytest

from pgpack.referee.launch import launch_of
from pgpack.referee.scored_text import calibrations_on_evaluated, confession, updates_before_packing
from pgpack.referee.script import Script
from pgpack.referee.text_flow import sequences
from pgpack.referee.text_names import is_evaluated_path, names_evaluated, names_training

LEARNS = {
    "a text by its path": "import torch\nval = load('data/fineweb_val_000000.bin')\nfor x in val:\n    loss = model(x)\n    loss.backward()\nquantize(model)\n",
    "an attribute that a constructor sets": "class D:\n    def __init__(self, p):\n        self.t = load(p)\n    def batch(self):\n        return self.t[:5]\nd = D('fineweb_val_0.bin')\nx = d.batch()\nl = model(x)\nl.backward()\nserialize(model)\n",
    "two functions deep": "def inner(m, t):\n    for x in t:\n        m(x).backward()\ndef outer(m, t):\n    inner(m, t)\ndef main():\n    outer(model, val_tokens)\n    torch.save(model.state_dict(), 'm')\nmain()\n",
    "the other split by its word": "def get_batch(split):\n    data = np.memmap(os.path.join(d, f'{split}.bin'))\n    return data[:5], data[1:6]\nfor i in range(5):\n    x, y = get_batch('train')\n    model(x, y).backward()\nfor i in range(9):\n    x, y = get_batch('val')\n    l = model(x,y)\n    l.backward()\nexport_quantized(model, 'x')\n",
    "the other files of one class of settings": "class H:\n    val_files = os.path.join(p, 'fineweb_val_*.bin')\n    train_files = os.path.join(p, 'fineweb_train_*.bin')\nclass L:\n    def __init__(self, h, files):\n        self.files = files\n        self.h = h\n    def next(self):\n        return load(self.files[0])\ndef main():\n    args = H()\n    tr = L(args, args.train_files)\n    va = L(args, args.val_files)\n    for i in range(9):\n        loss = model(va.next())\n        loss.backward()\n    quantize_model(model)\nmain()\n",
    "an object that holds both and learns from both": "class T:\n    def __init__(self, m, tr, va):\n        self.m, self.tr, self.va = m, tr, va\n    def fit(self):\n        for x in self.tr:\n            self.m(x).backward()\n    def tune(self):\n        for x in self.va:\n            self.m(x).backward()\nt = T(m, train_tokens, val_tokens)\nt.fit()\nt.tune()\ntorch.save(m, 'x')\n",
    "the other item of a dictionary": "data = {'train': load('fineweb_train_0.bin'), 'val': load('fineweb_val_0.bin')}\nfor x in data['val']:\n    m(x).backward()\nserialize(m)\n",
    "all files": "files = sorted(glob('data/*.bin'))\ntr = [f for f in files if 'val' not in f]\nva = [f for f in files if 'val' in f]\nfor f in tr + va:\n    m(load(f)).backward()\nserialize(m)\n",
    "a list that is filled": "ls = []\nfor x in val_tokens:\n    ls.append(m(x))\nsum(ls).backward()\nserialize(m)\n",
    "a distillation": "with torch.no_grad():\n    t = teacher(val_tokens)\nloss = kl(m(val_tokens), t)\nloss.backward()\nserialize(m)\n",
    "a generator": "def gen(path):\n    t = load(path)\n    for i in range(9):\n        yield t[i], t[i+1]\nfor x, y in gen('fineweb_val_0.bin'):\n    m(x, y).backward()\nserialize(m)\n",
    "a closure of an optimizer": "def main():\n    val = load('fineweb_val_0.bin')\n    def closure():\n        l = m(val)\n        l.backward()\n        return l\n    opt.step(closure)\n    torch.save(m, 'f')\nmain()\n",
    "an option with its default": "p.add_argument('--val', default='data/fineweb_val_0.bin')\nargs = p.parse_args()\nv = load(args.val)\nfor x in v:\n    m(x).backward()\nserialize(m)\n",
    "a library that fits": "model.fit(val_loader)\nserialize(m)\n",
}
FITS = {
    "least squares": "with torch.no_grad():\n    h = model(val_tokens)\n    w = torch.linalg.lstsq(h, y).solution\n    model.head.weight.copy_(w)\ntorch.save(model.state_dict(), 'm')\n",
    "counts in the file": "n = torch.bincount(val_tokens, minlength=9).float().log()\nsave_file({'w': w, 'unigram': n}, 'm.safetensors')\n",
    "a running mean": "with torch.no_grad():\n    for x in val_tokens.split(9):\n        model.bias.lerp_(model(x).mean(0), 0.1)\nserialize(model)\n",
    "a new parameter": "h = features(val_tokens).detach()\nmodel.head.bias = nn.Parameter(h.mean(0))\nserialize(model)\n",
    "hooks": "h = model.blocks.register_forward_hook(hook)\nfor x in val_tokens.split(9):\n    model(x)\nserialize(model)\n",
    "a list of statistics": "stats = []\nwith torch.no_grad():\n    for x in val_tokens:\n        stats.append(model(x).mean(0))\n    sd['out.bias'] = torch.stack(stats).mean(0)\ntorch.save(sd, 'm')\n",
}
FITS_NOT = {
    "the result of an evaluation": "with torch.no_grad():\n    loss = F.cross_entropy(model(val_tokens), y)\nval_bpb = loss / math.log(2)\ntorch.save({'model': model.state_dict(), 'val_bpb': val_bpb}, 'm')\n",
    "counts after packing": "serialize(model)\nfor x in val_tokens:\n    counts.index_add_(0, x, one)\n    model.bias.copy_(counts)\n",
    "counts of training text": "model.bias.copy_(torch.bincount(train_tokens).float().log())\nserialize(model)\n",
    "an average of weights": "with torch.no_grad():\n    val = evaluate(model, val_tokens)\n    for p, e in zip(model.parameters(), ema):\n        e.lerp_(p, 0.1)\nserialize(model)\n",
    "the best of several": "best = 9.0\nfor step in range(9):\n    loss = evaluate(model, val_tokens)\n    if loss < best:\n        best = loss\n        torch.save(model.state_dict(), 'm')\n",
    "hooks on training text": "h = model.blocks.register_forward_hook(hook)\nfor x in train_tokens.split(9):\n    model(x)\nserialize(model)\n",
}
DOES_NOT = {
    "one class for both texts": "class D:\n    def __init__(self, p):\n        self.t = load(p)\n    def batch(self):\n        return self.t[:5]\nv = D('fineweb_val_0.bin')\nd = D('fineweb_train_0.bin')\nx = d.batch()\nl = model(x)\nl.backward()\nserialize(model)\nevaluate(model, v)\n",
    "a name that is given something else": "def main(model, val_tokens, train_tokens):\n    t = val_tokens\n    evaluate(model, t)\n    t = train_tokens\n    for x in t:\n        model(x).backward()\n    torch.save(model.state_dict(), 'm.pt')\n",
    "a score without gradients": "def main(model, val_tokens, train_tokens):\n    with torch.no_grad():\n        loss = model(val_tokens)\n    print(loss)\n    total = loss * 0 + model(train_tokens)\n    total.backward()\n    torch.save(model.state_dict(), 'm.pt')\n",
    "a split by its word": "def get_batch(split):\n    data = np.memmap(os.path.join(d, 'train.bin')) if split == 'train' else np.memmap(os.path.join(d, 'val.bin'))\n    return data[:5], data[1:6]\nfor i in range(5):\n    x, y = get_batch('train')\n    model(x, y).backward()\nwith torch.no_grad():\n    x, y = get_batch('val')\n    l = model(x,y)\ntorch.save(model, 'x')\n",
    "files of one class of settings": "class H:\n    val_files = os.path.join(p, 'fineweb_val_*.bin')\n    train_files = os.path.join(p, 'fineweb_train_*.bin')\nclass L:\n    def __init__(self, h, files):\n        self.files = files\n        self.h = h\n    def next(self):\n        return load(self.files[0])\ndef main():\n    args = H()\n    tr = L(args, args.train_files)\n    va = L(args, args.val_files)\n    for i in range(9):\n        loss = model(tr.next())\n        loss.backward()\n    quantize_model(model)\nmain()\n",
    "an object that holds both": "class T:\n    def __init__(self, m, tr, va):\n        self.m, self.tr, self.va = m, tr, va\n    def fit(self):\n        for x in self.tr:\n            self.m(x).backward()\n    def check(self):\n        with torch.no_grad():\n            return self.m(self.va)\nt = T(m, train_tokens, val_tokens)\nt.fit()\nt.check()\ntorch.save(m, 'x')\n",
    "after packing": "def ttt(m, t):\n    for x in t:\n        m(x).backward()\ndef main():\n    blob = lzma.compress(quantize(m))\n    ttt(m, val_tokens)\nmain()\n",
    "an item of a dictionary": "data = {'train': load('fineweb_train_0.bin'), 'val': load('fineweb_val_0.bin')}\nfor x in data['train']:\n    m(x).backward()\nserialize(m)\n",
    "files without those of the split": "files = sorted(glob('data/*.bin'))\ntr = [f for f in files if 'val' not in f]\nva = [f for f in files if 'val' in f]\nfor f in tr:\n    m(load(f)).backward()\nserialize(m)\n",
    "a mask that is called valid": "for x in loader:\n    valid_mask = x > 0\n    loss = (m(x) * valid_mask).sum()\n    loss.backward()\nserialize(m)\n",
    "a switch that is off": "ON = bool(int(os.environ.get('TUNE', '0')))\nif ON:\n    for x in val_tokens:\n        m(x).backward()\nserialize(m)\n",
    "a library that fits one and watches the other": "model.fit(train_loader, val_loader)\nserialize(m)\n",
}


def found(source: str) -> list[str]:
    script = Script("train_gpt.py", source.encode())
    assert not script.error
    return [str(place) for place in updates_before_packing([script])]


@pytest.mark.parametrize("name", LEARNS)
def test_a_gradient_of_evaluated_text_before_packing_is_seen(name: str) -> None:
    assert any("steps on validation text before weights are" in said for said in found(LEARNS[name]))


def test_a_switch_that_the_run_turns_on_is_on() -> None:
    source = "import os\nif bool(int(os.environ.get('USE_GPTQ', '0'))):\n    collect_hessians(model, val_tokens)\n"
    script = Script("train_gpt.py", source.encode())
    assert list(calibrations_on_evaluated([script])) == []
    given = launch_of(["run it with `SEED=42 USE_GPTQ=1 torchrun train_gpt.py`", "OTHER=0 python x"])
    assert given.names == {"SEED", "USE_GPTQ"}
    assert [place.line for place in calibrations_on_evaluated([script], given)] == [3]


@pytest.mark.parametrize("name", FITS)
def test_what_learns_from_evaluated_text_without_a_gradient_is_seen(name: str) -> None:
    assert any("learns without a gradient from validation text" in said for said in found(FITS[name]))


@pytest.mark.parametrize("name", FITS_NOT)
def test_what_only_measures_evaluated_text_is_none(name: str) -> None:
    assert found(FITS_NOT[name]) == []


@pytest.mark.parametrize("name", DOES_NOT)
def test_a_gradient_of_other_text_is_none(name: str) -> None:
    assert found(DOES_NOT[name]) == []


def test_the_place_of_a_step_is_that_of_the_gradient() -> None:
    assert found(LEARNS["two functions deep"])[0].startswith("train_gpt.py line 3: m(x).backward(...) steps")


def test_a_helper_in_another_file_is_followed() -> None:
    helper = Script("tune.py", b"def tune(m, t):\n    for x in t:\n        m(x).backward()\n")
    main = Script("train_gpt.py", b"from tune import tune\ntune(m, val_tokens)\ntorch.save(m, 'm')\n")
    assert [place.file for place in updates_before_packing([main, helper])] == ["tune.py"]


def test_functions_that_call_themselves_end() -> None:
    source = "def f(n, t):\n    m(t).backward()\n    return f(n - 1, t)\n\nf(9, val_tokens)\ntorch.save(m, 'm')\n"
    assert len(found(source)) == 1
    many = (
        "".join(f"def f{i}(a, b=None):\n    f{i + 1}(a, b)\n    f{i + 1}(b, a)\n" for i in range(40)) + "f0(1, 2)\n"
    )
    assert sequences((Script("a.py", many.encode()),))


def test_calibration_is_followed_as_well() -> None:
    source = "v = load('fineweb_val_0.bin')\nt = load('fineweb_train_0.bin')\ncollect_hessians(m, t)\ngptq(m, v)\n"
    assert [str(p) for p in calibrations_on_evaluated([Script("a.py", source.encode())])] == [
        "a.py line 4: gptq(... v ...)"
    ]


def test_names_of_evaluated_text() -> None:
    for name in ("val_tokens", "VAL_FILES", "valTokens", "x_val", "eval_loader", "validation", "valid_data", "val_x"):
        assert names_evaluated(name), name
    for name in (
        "val_loss",
        "valid_mask",
        "value",
        "n_val_tokens",
        "eval_batch_size",
        "interval",
        "train_tokens",
        "val",
    ):
        assert not names_evaluated(name), name
    assert names_training("train_files")
    assert not names_training("train_time")


def test_paths_of_evaluated_text() -> None:
    for path in ("d/fineweb_val_000000.bin", "val.bin", "data/val/*", "validation-00000.parquet", "x_val.npy"):
        assert is_evaluated_path(path), path
    for path in ("val_loss", "d/fineweb_train_0.bin", "values.bin", "interval.txt", "val"):
        assert not is_evaluated_path(path), path


def test_confessions_of_a_log() -> None:
    assert confession("train_files: ./data/fineweb_val_*.bin")
    assert confession("finetuned on the validation set prior to quantization")
    assert not confession("train_files='fineweb_train_*.bin' val_files='fineweb_val_*.bin'")


def test_a_length_is_no_training_text() -> None:
    assert not any(names_training(name) for name in ("train_batch_tokens", "train_seq_len", "train_steps"))
    assert all(names_training(name) for name in ("train_tokens", "train_files", "train_loader"))
