"""What a shell script sets and copies, parts of evaluations, and inputs beside their targets."""

from __future__ import annotations

import pytest

from pgpack.referee.launch import copied_to_training, launch_of
from pgpack.referee.reach import given_targets, in_order, rescored
from pgpack.referee.script import Script
from pgpack.referee.spans import length, outside
from pgpack.referee.times import part_of, sum_of_parts

EVALUATION = """
def eval_val(model, val_tokens, seq_len=1024):
    total = 0.0
    for s in range(0, val_tokens.numel() - 1, seq_len):
        c = val_tokens[s : s + seq_len + 1]
        x, y = {pair}
        {before}
        total += F.cross_entropy(model(x), y).item()
        {behind}
    return total
"""
LEARNS = "loss = F.cross_entropy(model(x), y); loss.backward()"


def evaluation(pair: str = "c[:-1], c[1:]", before: str = "pass", behind: str = "pass") -> list[Script]:
    return [Script("train_gpt.py", EVALUATION.format(pair=pair, before=before, behind=behind).encode())]


def test_a_variable_is_put_together_of_those_before_it() -> None:
    found = launch_of(["D=data\nexport SPLIT=val\nexport MORE=$D/fineweb_${SPLIT}_*.bin\nX=${D:-other}\n"])
    assert found.variable("MORE") == "data/fineweb_val_*.bin"
    assert found.variable("X") == "data"
    assert "D" in found
    assert "Y" not in found
    assert found.variable("Y") is None


def test_of_several_values_only_evaluated_text_is_told() -> None:
    found = launch_of(
        ["A=1 python x.py\nA=2 python x.py\nB=train.bin python x.py\nB=d/fineweb_val_0.bin python x.py\n"]
    )
    assert found.variable("A") is None
    assert found.variable("B") == "d/fineweb_val_0.bin"


def test_what_means_off_leaves_a_default() -> None:
    assert launch_of(["A=0 B=false C= D=none E=1 python x.py"]).names == {"E"}


def test_an_option_is_of_a_line_that_starts_python() -> None:
    found = launch_of(["torchrun train_gpt.py \\\n  --more-files 'a b.bin' --seed=42\nrsync --exclude none x y\n"])
    assert (found.option("more_files"), found.option("seed"), found.option("exclude")) == ("a b.bin", "42", None)


@pytest.mark.parametrize(
    ("line", "copies", "to_training"),
    [
        ("ln -sf d/fineweb_val_0.bin d/extra.bin", {"extra.bin"}, False),
        ("cp d/fineweb_val_0.bin d/fineweb_train_9.bin", set(), True),
        ("for f in d/fineweb_val_*.bin; do ln -s $f d/fineweb_train_9.bin; done", set(), True),
        ("cat d/fineweb_val_0.bin >> d/more.bin", {"more.bin"}, False),
        ("cp d/fineweb_val_0.bin /dev/shm/", set(), False),
        ("cp d/fineweb_train_0.bin d/extra.bin", set(), False),
        ("# cp d/fineweb_val_0.bin d/fineweb_train_9.bin", set(), False),
    ],
)
def test_a_copy_of_evaluated_text_is_evaluated_text(line: str, copies: set[str], to_training: bool) -> None:
    assert launch_of([line]).copies == copies
    assert bool([*copied_to_training("run.sh", line)]) is to_training


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("eval part 1/3 took 250s", "1"),
        ("ttt_phase2 eval_time:330000ms", "2"),
        ("eval second half done in 5m40s", "second half"),
        ("rank 1 eval part 1 took 250s", None),
        ("eval took 250s", None),
        ("training part 1/3 took 250s", None),
    ],
)
def test_a_part_of_an_evaluation_by_its_line(line: str, part: str | None) -> None:
    found = part_of(line)
    assert (None if found is None else found[1]) == part


def test_lines_of_one_evaluation_are_of_one_evaluation() -> None:
    names = {part_of(f"eval part {i}/3 took {200 + i}s") for i in (1, 2, 3)}
    assert len({found[0] for found in names if found}) == 1
    assert sum_of_parts({"1": 201.0, "2": 202.0, "3": 203.0}, next(f[0] for f in names if f)) == (606.0, True)


def test_times_that_count_on_are_not_added_up() -> None:
    assert sum_of_parts({"1": 100.0, "2": 200.0, "3": 300.0}, "eval phase #") == (0.0, False)
    assert sum_of_parts({"1": 300.0, "2": 310.0}, "eval phase #") == (610.0, False)


@pytest.mark.parametrize(
    ("pair", "is_given"),
    [("c[:-1], c[1:]", False), ("c[1:], c[1:]", True), ("c[1:], c[:-1]", True), ("c[:-2], c[2:]", False)],
)
def test_a_target_lies_behind_its_input(pair: str, is_given: bool) -> None:
    assert bool([*given_targets(evaluation(pair))]) is is_given


def test_what_is_learned_is_not_scored_again() -> None:
    assert [*rescored(evaluation(before=LEARNS))]
    assert not [*rescored(evaluation(behind=LEARNS))]


def test_only_a_gradient_behind_its_score_is_in_order() -> None:
    assert in_order(evaluation(behind=LEARNS))
    assert not in_order(evaluation(before=LEARNS))


def test_positions_outside_of_others() -> None:
    assert outside([(0, 10), (20, 30)], [(5, 25)]) == 10
    assert length([(0, 10), (5, 12)]) == 12
