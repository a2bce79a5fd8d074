"""Folders made to hurt whoever looks at them: refused in bounded memory and time, with a sentence."""

from __future__ import annotations

import os
import re
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from pgpack.referee import folder as folder_module
from pgpack.referee import warm
from pgpack.referee.claims import read_claims
from pgpack.referee.evidence import Options
from pgpack.referee.folder import MAX_ENTRIES, mark_of, read_file, scan
from pgpack.referee.logs import read_log
from pgpack.referee.runs import Limits, declared_distributions, importable, run_probe, run_script
from pgpack.referee.script import Script
from pgpack.referee.source import imports, unsafe_loads
from pgpack.referee.starting import is_stub
from pgpack.referee.verdict import Verdict, checklist, judge
from tests.referee.folder_case import Case
from tests.submission.submission_folder import packed, weights

LIMITS = Limits(timeout_s=20.0, memory=2 << 30)
MODULES = importable({"numpy"})


def refused(path: Path, rule: str, sentence: str, options: Options | None = None) -> Verdict:
    """The verdict over a folder that this rule must refuse."""
    verdict = judge(path, options or Options(limits=LIMITS))
    found = verdict[rule]
    assert found.status == "fail", found
    assert re.search(sentence, found.detail), found.detail
    return verdict


def test_links_pipes_and_names_that_cannot_be_printed_are_never_opened(tmp_path: Path) -> None:
    folder = tmp_path / "submission"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "README.md").symlink_to(tmp_path / "secret.txt")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "submission.json")
    (folder / "a\x1b[2Jb").write_text("")
    started = time.monotonic()
    verdict = refused(folder, "files", "README.md: it is a link to a file outside the folder")
    assert time.monotonic() - started < 5
    faults = dict(verdict.evidence.folder.faults)
    assert "a pipe, socket or device" in faults["submission.json"]
    assert "it is a link" in faults["loop"]
    assert any("cannot be printed" in fault for fault in faults.values())
    assert "secret" not in verdict.evidence.readme
    assert "\x1b" not in checklist(verdict)


def test_unreadable_files_are_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    original = folder_module.read_file

    def denied(path: Path, limit: int) -> bytes:
        if path.name == "README.md":
            raise PermissionError(13, "Permission denied")
        return original(path, limit)

    monkeypatch.setattr(folder_module, "read_file", denied)
    found = scan(tmp_path)
    assert [entry.name for entry in found.entries] == ["notes.txt"]
    assert found.faults == (("README.md", "it cannot be read (Permission denied)"),)


def test_a_file_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match=r"symbolic link|Too many levels"):
        read_file(tmp_path / "link", 1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_file(tmp_path / "pipe", 1)


def test_too_many_and_too_deep_entries_end_the_scan(tmp_path: Path) -> None:
    for i in range(MAX_ENTRIES + 10):
        (tmp_path / f"{i}").touch()
    found = scan(tmp_path)
    assert len(found.entries) + len(found.faults) <= MAX_ENTRIES + 1
    assert "more than 2,000 entries" in found.faults[0][1]
    deep = tmp_path / "deep"
    (deep / "/".join("abcdefghij")).mkdir(parents=True)
    assert "nested more than" in scan(deep).faults[0][1]


def test_a_zip_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(300)), packer.flush()])
    assert len(bomb) < 1 << 20
    (tmp_path / "model.ptz").write_bytes(bomb)
    verdict = refused(tmp_path, "decodes", "more than the limit", Options(decode_bytes=64 << 20, limits=LIMITS))
    assert verdict.evidence.decoded[0].first.peak_bytes < 400 << 20


def test_shapes_that_no_memory_holds_are_refused(tmp_path: Path) -> None:
    import json

    data = packed(weights(0))
    size = int.from_bytes(data[5:9], "little")
    header = zlib.decompress(data[21 : 21 + size], -15).replace(b"24", b"9000000000000")
    assert json.loads(header)
    deflate = zlib.compressobj(9, wbits=-15)
    stored = deflate.compress(header) + deflate.flush()
    prefix = data[:5] + len(stored).to_bytes(4, "little") + data[9:17]
    body = data[21 + size : -4]
    check = zlib.crc32(stored + body).to_bytes(4, "little")
    hostile = prefix + zlib.crc32(prefix).to_bytes(4, "little") + stored + body + check
    (tmp_path / "model.pgpack").write_bytes(hostile)
    refused(tmp_path, "decodes", "(CorruptArtifact|FormatError): ")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("while True: pass", "did not end within"),
        ("x = bytearray(3 << 30)", "MemoryError"),
        ("import os; os.kill(os.getpid(), 9)", "refused by the referee: forbidden: os.kill"),
        ("import os; os._exit(7)", "status 7 and without a report"),
        ("open('/etc/hostname', 'w')", "write outside"),
        ("import os; os.remove(__file__)", "write outside: os.remove"),
        ("import os; os.symlink('/etc', 'here')", "write outside: os.symlink"),
        ("import subprocess; subprocess.run(['curl', 'http://127.0.0.1'])", "program: curl"),
        ("import os; os.fork()", "process: os.fork"),
        ("import os; os.system('true')", "process: os.system"),
        ("import socket; socket.socket()", "network: socket"),
        ("import ctypes; ctypes.CDLL('libm.so.6')", "forbidden: ctypes.dlopen"),
        ("import resource; resource.setrlimit(resource.RLIMIT_CPU, (9, 9))", "forbidden: resource.setrlimit"),
        ("import pgpack", "No module named 'pgpack': it is not declared"),
        ("raise ValueError('x' * 10**7)", "ValueError: xxx"),
        ("import sys; sys.exit('no')", "^no$"),
        ("import sys; print('error: why', file=sys.stderr); sys.exit(4)", "^it ended with status 4: error: why$"),
    ],
)
def test_the_fence_refuses(source: str, error: str, tmp_path: Path) -> None:
    root, scratch = tmp_path / "root", tmp_path / "scratch"
    root.mkdir()
    scratch.mkdir()
    (root / "decode.py").write_text(source)
    limits = Limits(timeout_s=1.0 if "while" in source else 20.0, memory=1 << 30)
    run = run_script(root / "decode.py", [], scratch, MODULES, limits)
    assert re.search(error, run.error), run
    assert len(run.error) < 3000
    assert (root / "decode.py").exists()


def test_the_fence_reads_nothing_of_the_users(tmp_path: Path) -> None:
    root, scratch = tmp_path / "root", tmp_path / "scratch"
    root.mkdir()
    scratch.mkdir()
    (tmp_path / "secret").write_text("x")
    (root / "decode.py").write_text(f"open({str(tmp_path / 'secret')!r}).read()")
    run = run_script(root / "decode.py", [], scratch, MODULES, LIMITS)
    assert "read outside" in run.error
    (root / "decode.py").write_text(
        "import os\nassert not set(os.environ) - {'PATH', 'HOME', 'TMPDIR', 'LC_CTYPE'} - "
        "{'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', "
        "'RANK', 'LOCAL_RANK', 'WORLD_SIZE'}, os.environ"
    )
    assert run_script(root / "decode.py", [], scratch, MODULES, LIMITS).error == ""


def test_no_process_of_the_fence_leaves_anything_to_the_next(tmp_path: Path) -> None:
    (tmp_path / "decode.py").write_text(
        "import builtins, sys\nbuiltins.left = sys.left = 1\nsys.modules['numpy'] = sys"
    )
    assert run_script(tmp_path / "decode.py", [], tmp_path, MODULES, LIMITS).error == ""
    (tmp_path / "decode.py").write_text("import sys\nassert not hasattr(sys, 'left')\nleft")
    assert "left" in run_script(tmp_path / "decode.py", [], tmp_path, MODULES, LIMITS).error
    (tmp_path / "decode.py").write_text("import numpy")
    assert run_script(tmp_path / "decode.py", [], tmp_path, (), LIMITS).missing == ("numpy",)


def test_the_fence_stands_again_after_its_interpreter_was_killed(tmp_path: Path) -> None:
    (tmp_path / "decode.py").write_text("print(1)")
    assert run_script(tmp_path / "decode.py", [], tmp_path, MODULES, LIMITS).error == ""
    interpreter = warm.interpreter((), 0)
    interpreter.process.kill()
    interpreter.process.wait()
    assert run_script(tmp_path / "decode.py", [], tmp_path, MODULES, LIMITS).error == ""
    assert warm.interpreter((), 0) is not interpreter


def test_the_fence_counts_what_is_opened_and_imports_neighbours(tmp_path: Path) -> None:
    root, scratch = tmp_path / "root", tmp_path / "scratch"
    root.mkdir()
    scratch.mkdir()
    (root / "tables.py").write_text("N = 3")
    (root / "data.bin").write_bytes(b"12")
    (root / "unused.bin").write_bytes(b"12")
    code = "import tables, numpy\nn = len(open(__file__[:-9] + 'data.bin', 'rb').read()) * tables.N\n"
    (root / "decode.py").write_text(code + "numpy.save('out.npy', numpy.zeros(n))")
    run = run_script(root / "decode.py", [], scratch, MODULES, LIMITS)
    assert run.error == ""
    assert sorted(run.opened) == ["data.bin", "decode.py", "tables.py"]
    assert run.network in ("namespace", "audit hook")
    assert (scratch / "out.npy").stat().st_size == 128 + 48
    assert not run.torch


def test_a_wrapper_is_unwrapped_without_running_what_it_holds(tmp_path: Path) -> None:
    root, scratch = tmp_path / "root", tmp_path / "scratch"
    root.mkdir()
    scratch.mkdir()
    marker = scratch / "ran"
    inner = f"open({str(marker)!r}, 'w')"
    forms = (
        f"exec({inner!r})",
        f"exec(compile({inner!r}, 'x', 'exec'))",
        f"import zlib\neval(zlib.decompress({zlib.compress(inner.encode())!r}))",
        f"import builtins\nbuiltins.exec({inner!r})",
    )
    for form in forms:
        (root / "train_gpt.py").write_text(form)
        run = run_script(root / "train_gpt.py", [], scratch, MODULES, LIMITS, unwrap=True)
        assert run.layers == (inner.encode(),), form
        assert not marker.exists()


def test_hashing_a_decoders_output_never_unpickles(tmp_path: Path) -> None:
    import numpy as np

    np.savez(tmp_path / "out.npz", a=np.array([{}], dtype=object))
    run = run_probe("hash", [str(tmp_path / "out.npz")], tmp_path, tmp_path, LIMITS)
    assert "no .npz file of plain arrays" in run.error
    (tmp_path / "out.npz").write_bytes(b"nonsense")
    assert "neither" in run_probe("hash", [str(tmp_path / "out.npz")], tmp_path, tmp_path, LIMITS).error


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, "[]", "null", '{"val_bpb": NaN}', '{"val_bpb": 1e999}', '{"seed_results": {"42": 7}}', "\x00",
        '{"seed_results": [{"seed": {}}], "seeds": {"a": 1}}', '{"val_bpb": "about 1"}', '{"bytes_total": 1e308}',
        '{"seeds": [null, [], "x", 1.5], "counted_files": {"a": 1}}', "x" * (2 << 20),
    ],
)  # fmt: skip
def test_claims_of_any_shape_are_read_or_refused(text: str) -> None:
    claims = read_claims(text)
    assert claims.bpb is None
    assert claims.whole("bytes_total") is None
    assert all(isinstance(seed, int) for seed in claims.seeds)


@pytest.mark.parametrize("text", ["(" * 5000, "-" * 100_000 + "1", "x = " + "1+" * 50_000 + "1", "\x00", "a" * 10**6])
def test_scripts_of_any_depth_are_parsed_or_refused(text: str) -> None:
    script = Script("train_gpt.py", text.encode())
    assert isinstance(is_stub(script), bool)
    assert list(imports([script])) == []
    assert list(unsafe_loads([script])) == []


def test_logs_of_any_line_are_read_in_linear_time() -> None:
    started = time.process_time()
    for line in ("val_loss" * 10**5, "a " * 10**6, "val_loss:1.0 " * 10**5, "Total submission size " + "9" * 10**6):
        log = read_log("train.log", line)
        assert log.total_bytes is None or log.total_bytes < 10**13
    assert time.process_time() - started < 5


PIECES = {
    "names": "K{i} = {i}\n",
    "attention": (
        "def attend{i}(self, q, k, v):\n    x{i} = x{j} if self.flag{i} else q\n    c{i} = not self.kind{i}\n"
        "    if c{i}:\n        q = x{i}\n    return F.scaled_dot_product_attention(q, k, v, is_causal=c{i})\n"
    ),
    "evaluations": (
        "def eval_{i}(model, val_tokens):\n    total = 0.0\n    for s in range(0, 4096, 512):\n"
        "        total += model(val_tokens[s : s + 512]).item()\n    return total\n"
    ),
}


@pytest.mark.parametrize(("piece", "times"), [("names", 4_000), ("attention", 300), ("evaluations", 230)])
def test_scripts_of_many_pieces_are_judged_in_time_that_grows_with_them(
    piece: str, times: int, tmp_path: Path
) -> None:
    took = [_seconds_for(piece, n, tmp_path) for n in (times, 3 * times)]
    assert took[0] < 5
    assert took[1] < 6 * took[0]  # three times as much, and room for other work on the machine


def _seconds_for(piece: str, times: int, folder: Path) -> float:
    source = "".join(PIECES[piece].format(i=i, j=i - 1) for i in range(times))
    script = f"import torch.nn.functional as F\n{source}open('log.txt', 'w').write('x')\n"
    case = Case("counted", "accepted", script=script).write(folder / f"{piece}-{times}")
    started = time.process_time()
    judge(case)
    return time.process_time() - started


def test_requirements_name_distributions() -> None:
    text = (
        "# c\nNumPy>=2 ; python_version > '3'\n-r other.txt\ngit+https://x/y\nfoo @ https://x/y\npython_minifier==1\n"
    )
    assert declared_distributions(text) == {"numpy", "foo", "python-minifier"}
    assert importable({"numpy"}) >= {"numpy"}
    assert "torch" not in importable({"numpy"})


@pytest.mark.parametrize(
    ("head", "mark"),
    [(b"\x78\xda\x00", "zlib"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"PGPK", "pgpack"), (b"", ""), (b"\x78", "")],
)
def test_marks_are_first_bytes(head: bytes, mark: str) -> None:
    assert mark_of(head) == mark


def test_no_rule_raises_on_an_empty_or_absurd_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert not judge(tmp_path / "empty").ok
    absurd: dict[str, Any] = {
        "submission.json": b'{"val_bpb": -1, "val_loss": 0, "seeds": [1], "seed_results": '
        b'{"1": {"val_bpb": 0, "val_loss": 0}}}',
        "README.md": b"\xff\xfe",
        "train_seed1.log": b"q val_loss:0.0 val_bpb:0.00000000\n",
        "train_gpt.py": b"\xef\xbb\xbf",
        "model.pgpack": b"",
    }
    folder = tmp_path / "absurd"
    folder.mkdir()
    for name, data in absurd.items():
        (folder / name).write_bytes(data)
    verdict = judge(folder)
    assert not verdict.ok
    assert [rule.id for rule, found in verdict.findings if "could not be judged" in found.detail] == []
