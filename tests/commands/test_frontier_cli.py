"""Laws of `pgpack frontier`: it says what the library measures, writes what was asked for, refuses in a sentence."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from pgpack_cli.pgpack_app import app

from pgpack.errors import StudyError
from pgpack.sizes import parse_size
from pgpack.study.comparison import half_width, paired_difference
from pgpack.study.frontier import bd_rate, hypervolume, pareto, points_of
from pgpack.study.study import Study
from tests.fronts import best_under
from tests.synthetic_study import write_study

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("studies")
    write_study(directory / "A", seed=0)
    write_study(directory / "B", seed=1, scale=0.9)
    return directory


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, ["frontier", *map(str, words)])


def invoke_ok(*words: object) -> Result:
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    return result


def test_json_holds_the_merged_frontier_the_best_point_and_hypervolumes(home: Path) -> None:
    document = json.loads(invoke_ok(home / "A", home / "B", "--json").stdout)
    a, b = Study.load(home / "A"), Study.load(home / "B")
    merged = [*a.trials, *b.trials]
    assert [row["n_bytes"] for row in document["frontier"]] == [t.n_bytes for t in pareto(merged)]
    assert {row["study"] for row in document["frontier"]} == {"A", "B"}
    assert document["budget"] == 16_000_000
    best = best_under(merged, 16_000_000)
    assert best is not None
    for field in ("n_bytes", "bpb", "nats", "kl", "label", "recipe", "recipe_digest"):
        assert document["best"][field] == getattr(best, field)
    corner = (document["reference"]["n_bytes"], document["reference"]["loss"])
    for row, study in zip(document["studies"], (a, b), strict=True):
        assert (row["n_trials"], row["n_failed"]) == (64, 2)
        assert row["hypervolume"] == hypervolume(points_of(study.trials), corner)
    assert document["hypervolume"] >= max(row["hypervolume"] for row in document["studies"])
    assert document["bd_rate"] is None


@pytest.mark.parametrize("metric", ["bpb", "kl"])
def test_bd_rate_takes_the_first_study_as_anchor(home: Path, metric: str) -> None:
    document = json.loads(invoke_ok(home / "A", home / "B", "--bd-rate", "--metric", metric, "--json").stdout)
    a, b = (points_of(Study.load(home / name).trials, metric) for name in "AB")  # type: ignore[arg-type]
    expected = dataclasses.asdict(bd_rate(a, b, metric))  # type: ignore[arg-type]
    assert document["bd_rate"] == {"anchor": "A", "test": "B", **expected}
    assert document["bd_rate"]["percent"] == pytest.approx(-9, abs=2)
    text = invoke_ok(home / "A", home / "B", "--bd-rate", "--metric", metric).stdout
    assert f"BD-rate of B to A: {expected['percent']:+.2f} % bytes at equal {metric}" in text


def test_the_table_has_a_row_for_each_frontier_point_and_marks_the_best(home: Path) -> None:
    study = Study.load(home / "A")
    lines = invoke_ok(home / "A", "--budget", "20MB").stdout.splitlines()
    best = best_under(study.trials, 20_000_000)
    assert best is not None
    rows = lines[1 : 1 + len(pareto(study.trials))]
    for trial, row, own in zip(
        pareto(study.trials), rows, study.frontier("kl", 20_000_000).table().splitlines()[1:], strict=True
    ):
        assert f"{trial.n_bytes:,}" in row
        assert row.split()[:-1][:4] == own.split()[:-1][:4]  # the view's own line, and what is more
    (marked,) = [row for row in rows if row.startswith("*")]
    assert f"{best.n_bytes:,}" in marked
    assert any(line.startswith("* best kl within 20,000,000 B: ") for line in lines)


def test_points_tell_how_sure_they_are_and_how_far_above_the_best(home: Path) -> None:
    study = Study.load(home / "A")
    document = json.loads(invoke_ok(home / "A", "--budget", "16MB", "--json").stdout)
    best = best_under(study.trials, 16_000_000)
    assert best is not None
    for row, trial in zip(document["frontier"], pareto(study.trials), strict=True):
        difference = paired_difference(trial, best, study.meta.block_bytes)
        assert difference is not None
        assert row["bpb_half_width"] == half_width(trial, "bpb")
        assert row["kl_half_width"] == half_width(trial, "kl")
        assert row["above_best"] == {"value": difference.value, "half_width": difference.half_width()}
    assert document["best"]["above_best"] == {"value": 0.0, "half_width": 0.0}
    heading, *lines = invoke_ok(home / "A", "--budget", "16MB").stdout.splitlines()
    assert re.split("  +", heading.strip()) == [
        "bytes", "KL", "+-", "bits/byte", "bits/byte above best", "on the frontier",
    ]  # fmt: skip
    (marked,) = [line for line in lines if re.match(r"\* +[\d,]+ ", line)]
    assert f"{best.n_bytes:,}" in marked
    assert re.search(rf"{best.bpb:.4f} +\+0.0000 ", marked)
    assert "+0.0000 +-0.0000" in marked
    assert sum(line.startswith("+-: 95 % interval") for line in lines) == 1
    by_bpb = invoke_ok(home / "A", "--metric", "bpb").stdout
    assert by_bpb.splitlines()[0].count("+-") == 1


def test_points_without_blocks_or_of_another_text_have_no_interval(home: Path, tmp_path: Path) -> None:
    study = Study.load(home / "A")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "study.json").write_text(dataclasses.replace(study.meta, block_bytes=()).to_json())
    rows = [dataclasses.replace(t, bpb_se=None, kl_se=None, block_excess=None) for t in study.trials]
    (tmp_path / "old" / "trials.jsonl").write_text("".join(row.to_json() + "\n" for row in rows))
    lines = invoke_ok(tmp_path / "old").stdout.splitlines()
    n_points = len(pareto(study.trials))
    assert "above best" not in lines[0]
    assert all(re.search(r"[\d,]+  [\d.e-]+  +-  +\d\.\d{4}  ", line) for line in lines[1 : 1 + n_points])
    assert not any(line.startswith("+-:") for line in lines)
    document = json.loads(invoke_ok(tmp_path / "old", "--json").stdout)
    assert {row["above_best"] for row in document["frontier"]} == {None}
    other = [
        dataclasses.replace(t, evaluator_digest="f" * 64, bpb=(t.bpb or 0) - 1e-4, kl=(t.kl or 0) - 1e-6)
        for t in study.trials
        if t.ok
    ]
    (tmp_path / "other").mkdir()
    meta = dataclasses.replace(study.meta, evaluator_digest="f" * 64)
    (tmp_path / "other" / "study.json").write_text(meta.to_json())
    (tmp_path / "other" / "trials.jsonl").write_text("".join(row.to_json() + "\n" for row in other[1::2]))
    both = json.loads(invoke_ok(home / "A", tmp_path / "other", "--json", "-q").stdout)
    assert {row["study"] for row in both["frontier"]} == {"A", "other"}
    assert all((row["above_best"] is not None) == (row["study"] == "other") for row in both["frontier"])


def test_a_budget_below_every_artifact_says_by_how_much(home: Path) -> None:
    smallest = pareto(Study.load(home / "A").trials)[0].n_bytes
    assert smallest is not None
    result = invoke(home / "A", "--budget", "1MB")
    assert f"the smallest artifact is {smallest - 1_000_000:,} B too large" in result.stdout
    assert json.loads(invoke(home / "A", "--budget", "1MB", "--json").stdout)["best"] is None
    assert result.exit_code == 3


def test_hypervolume_under_a_given_corner(home: Path) -> None:
    document = json.loads(
        invoke_ok(home / "A", "--json", "--reference-bytes", "30MB", "--reference-loss", "2").stdout
    )
    assert document["reference"] == {"n_bytes": 30e6, "loss": 2.0}
    assert document["hypervolume"] == hypervolume(points_of(Study.load(home / "A").trials), (30e6, 2.0))


def test_output_files_are_written_by_suffix_and_never_replaced_unasked(home: Path, tmp_path: Path) -> None:
    svg, page, table = tmp_path / "f.svg", tmp_path / "f.html", tmp_path / "f.csv"
    result = invoke_ok(home / "A", home / "B", "-o", svg)
    assert f"wrote {svg}" in result.stderr
    assert ">B<" in svg.read_text(encoding="utf-8")
    invoke_ok(home / "A", "-o", page, "--budget", "12MB", "-q")
    assert "12,000,000 B" in page.read_text(encoding="utf-8")
    invoke_ok(home / "A", home / "B", "-o", table)
    merged = [t for name in "AB" for t in Study.load(home / name).trials]
    with table.open(newline="", encoding="utf-8") as file:
        assert [row["recipe_digest"] for row in csv.DictReader(file)] == [t.recipe_digest for t in pareto(merged)]
    assert "--force to replace it" in invoke(home / "A", "-o", table).output
    invoke_ok(home / "A", "-o", table, "--force")


def test_every_trial_is_exported_and_the_file_is_never_replaced_unasked(home: Path, tmp_path: Path) -> None:
    table = tmp_path / "trials.csv"
    assert f"wrote 128 trials to {table}" in invoke_ok(home / "A", home / "B", "--export", table).stderr
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    trials = [(name, trial) for name in "AB" for trial in Study.load(home / name).trials]
    assert [(row["study"], row["key"]) for row in rows] == [(name, trial.key) for name, trial in trials]
    frontier = {trial.key for trial in pareto([trial for _, trial in trials])}
    assert {row["key"] for row in rows if row["on_frontier"] == "True"} == frontier
    assert "--force to replace it" in invoke(home / "A", "--export", table).output
    assert "both name" in invoke(home / "A", "--export", table, "-o", table, "--force").output
    invoke_ok(home / "A", "--export", table, "--force")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["A", "--bd-rate"], "exactly two studies; 1 given"),
        (["A", "-o", "f.pdf"], "expected a name that ends in .svg, .png, .csv, .html"),
        (["A", "--export", "f.xls"], "expected a name that ends in .csv, .parquet"),
        (["A", "B", "-o", "f.html"], "a report page shows one study; 2 given"),
        (["A", "--budget", "16 parsecs"], "'16 parsecs' is not a size"),
        (["A", "--reference-loss", "nan"], "'nan' is not a number"),
        (["A", "--metric", "loss"], "'loss' is not one of 'kl', 'bpb', 'nats', 'error'"),
        ([], "Missing argument 'DIR...'"),
    ],
)
def test_usage_errors_exit_with_2_and_say_why(home: Path, words: list[str], said: str) -> None:
    result = invoke(*(home / word if word in {"A", "B"} else word for word in words))
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_what_is_no_study_or_has_nothing_measured_is_refused(home: Path, tmp_path: Path) -> None:
    result = invoke(tmp_path / "nowhere")
    assert isinstance(result.exception, StudyError)
    assert "holds no study.json" in str(result.exception)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "study.json").write_bytes((home / "A" / "study.json").read_bytes())
    result = invoke(empty)
    assert isinstance(result.exception, StudyError)
    assert "has a measured bpb" in str(result.exception)


def test_studies_of_other_texts_are_compared_with_a_note(home: Path, tmp_path: Path) -> None:
    other = write_study(tmp_path / "C", seed=2)
    meta = dataclasses.replace(other.meta, evaluator_digest="f" * 64, budget=1)
    (tmp_path / "C" / "study.json").write_text(meta.to_json())
    result = invoke_ok(home / "A", tmp_path / "C", "--json")
    assert "losses do not compare" in result.stderr
    assert json.loads(result.stdout)["budget"] is None
    assert invoke_ok(home / "A", tmp_path / "C", "-q").stderr == ""


def test_studies_with_one_directory_name_keep_their_paths(home: Path, tmp_path: Path) -> None:
    write_study(tmp_path / "A", seed=2)
    document = json.loads(invoke_ok(home / "A", tmp_path / "A", "--json").stdout)
    assert [study["name"] for study in document["studies"]] == [str(home / "A"), str(tmp_path / "A")]


def test_the_help_has_an_example_and_loads_neither_torch_nor_matplotlib() -> None:
    program = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from pgpack_cli.verbs.frontier import command\n"
        "print(CliRunner().invoke(command, ['--help']).output)\n"
        "assert not {'torch', 'matplotlib', 'numpy', 'scipy'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert "pgpack frontier A B --bd-rate --metric kl --json" in done.stdout


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("16MB", 16_000_000), ("400kB", 400_000), ("1MiB", 2**20), ("123456", 123_456), ("1.5 mb", 1_500_000),
        ("16_000_000", 16_000_000), ("16,000,000 B", 16_000_000), ("0.5KiB", 512), ("2GB", 2 * 10**9),
        ("16M", 16_000_000), ("16e6", 16_000_000), ("15.9MiB", 16_672_358), ("1.6e7 B", 16_000_000),
        ("400 k", 400_000), ("2Gi", 2 * 2**30), ("1e3", 1000), ("16 M", 16_000_000), ("1.0000001MB", 1_000_000),
    ],
)  # fmt: skip
def test_sizes_as_people_write_them(text: str, n_bytes: int) -> None:
    assert parse_size(text) == n_bytes


@given(st.integers(1, 10**15), st.sampled_from(["", "B", "kB", "MB", "GB", "KiB", "MiB", "GiB"]))
def test_a_whole_number_of_units_is_that_many_bytes(number: int, unit: str) -> None:
    power = "kmg".find(unit[:1].lower() or " ") + 1
    assert parse_size(f"{number}{unit}") == number * (1024 if "i" in unit else 1000) ** power


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1e", "MB", "1 TB", "16 mm", "1.5B", "0.5", "0.0001kB", "0%", "١", "inf", "%", "90%"]
)
def test_what_is_not_a_size_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_size(text)
    assert repr(text) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("text", "n_bytes"), [("90%", 900), ("100 %", 1000), ("0.1%", 1), ("150%", 1500)])
def test_a_share_is_of_the_whole(text: str, n_bytes: int) -> None:
    assert parse_size(text, whole=1000) == n_bytes
