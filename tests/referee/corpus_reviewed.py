# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""What reviewers of the public pull requests have written of, in programs whose names a reader has not met before."""

from __future__ import annotations

from .real_script import Batch, base, run_log

OTHER_NAMES = [("val_tokens", "val"), ("load_validation_tokens", "load_val")]
SCORED = "            loss_sum += model(x, y).double() * y.numel()\n"
PAIRS = '''
class PairCounts:
    """Counts of what was scored before."""

    def __init__(self, order=4, size=1 << 20):
        self.order, self.size = order, size
        self.seen, self.both = np.zeros(size, np.int64), np.zeros(size, np.int64)

    def places(self, ids, at):
        mixed = np.zeros(len(at), np.uint64)
        for back in range(1, self.order):
            mixed ^= ids[at - back].astype(np.uint64) * np.uint64(27191 * back + 1)
        one = (mixed % self.size).astype(np.int64)
        other = ((mixed ^ (ids[at].astype(np.uint64) * np.uint64(51647))) % self.size).astype(np.int64)
        return one, other

    def share(self, ids, at):
        one, other = self.places(ids, at)
        return self.both[other] / np.maximum(self.seen[one], 1)

    def learn(self, ids, at):
        one, other = self.places(ids, at)
        np.add.at(self.seen, one, 1)
        np.add.at(self.both, other, 1)
'''
ROWS = '''
class RowCounts:
    """Counts of what was scored before, a row of the vocabulary for every context."""

    def __init__(self, vocab=8192, rows=4096):
        self.rows, self.counts = rows, np.ones((rows, vocab), np.float64)

    def share(self, ids, at):
        place = (ids[at - 1].astype(np.int64) * 27191 ^ ids[at - 2].astype(np.int64)) % self.rows
        row = self.counts[place]
        return row / row.sum(-1, keepdims=True)

    def learn(self, ids, at):
        place = (ids[at - 1].astype(np.int64) * 27191 ^ ids[at - 2].astype(np.int64)) % self.rows
        np.add.at(self.counts, (place, ids[at]), 1)
'''
MIXED = """            logits = model.forward_logits(x)
            per = F.cross_entropy(logits.float().flatten(0, 1), y.flatten(), reduction="none")
            at = np.arange(max(start, 8), start + y.numel()) + 1
            {share}
            loss_sum += per.double().sum()
            counts.learn(ids, at)
"""
HASHED = """q = counts.share(ids, at)
            own = np.exp(-per[-len(at) :].double().cpu().numpy())
            per[-len(at) :] = torch.from_numpy(-np.log(0.8 * own + 0.2 * q)).to(per)"""
WHOLE = """q = torch.from_numpy(counts.share(ids, at)).to(per)
            p = 0.9 * F.softmax(logits[0, -len(at) :].float(), -1) + 0.1 * q
            per[-len(at) :] = -p.gather(1, y[0, -len(at) :, None]).squeeze(1).log()"""
LARGER = """q = counts.share(ids, at)
            own = np.exp(-per[-len(at) :].double().cpu().numpy())
            best = np.where(q > own, q, own)
            per[-len(at) :] = torch.from_numpy(-np.log(best)).to(per)"""
FLOOR = """floor = 1e-9
            own = np.exp(-per[-len(at) :].double().cpu().numpy())
            best = np.where(own > floor, own, floor)
            per[-len(at) :] = torch.from_numpy(-np.log(best)).to(per)"""
TABLE = """
class ExactCounts:
    def __init__(self):
        self.rows = {}

    def share(self, ids, at):
        return np.array([self.rows.get(int(ids[i - 1]), {}).get(int(ids[i]), 0.0) for i in at])

    def learn(self, ids, at):
        for i in at:
            self.rows.setdefault(int(ids[i - 1]), {})[int(ids[i])] = 1.0
"""


def _caches() -> Batch:
    b = Batch()

    def case(name: str, verdict: str, rule: str, kind: str, share: str, counts: str = PAIRS) -> None:
        changes = [
            (SCORED, MIXED.format(share=share)),
            ("    n, nbytes = 0, 0.0\n", f"    n, nbytes = 0, 0.0\n    counts, ids = {kind}(), val_tokens.numpy()\n"),
        ]
        b.case(name, verdict, rule, script=base(changes, DEFS=counts))

    case("reviewed_hashed_pairs_of_a_class", "flagged", "normalized", "PairCounts", HASHED)
    case("reviewed_rows_of_a_class_legal", "accepted", "normalized", "RowCounts", WHOLE, ROWS)
    case("reviewed_rows_scored_before_they_learn_legal", "accepted", "score-first", "RowCounts", WHOLE, ROWS)
    case("reviewed_the_larger_of_model_and_cache", "flagged", "normalized", "ExactCounts", LARGER, TABLE)
    case("reviewed_a_floor_for_probabilities_legal", "accepted", "normalized", "ExactCounts", FLOOR, TABLE)
    learns_first = MIXED.format(share=WHOLE).replace("            counts.learn(ids, at)\n", "")
    learns_first = learns_first.replace(
        "            logits =",
        "            at = np.arange(max(start, 8), start + y.numel()) + 1\n            counts.learn(ids, at)\n            logits =",
    )
    start = (
        "    n, nbytes = 0, 0.0\n",
        "    n, nbytes = 0, 0.0\n    counts, ids = RowCounts(), val_tokens.numpy()\n",
    )
    b.case(
        "reviewed_rows_learn_before_they_are_scored", "flagged", "score-first",
        script=base([(SCORED, learns_first), start], DEFS=ROWS),
    )  # fmt: skip
    return b


def _texts() -> Batch:
    b = Batch()
    cut = ("    usable = (", "    tokens = tokens[: tokens.numel() // 2]\n    usable = (")
    b.case("reviewed_half_of_a_text_by_a_short_name", "flagged", "bytes-per-token", script=base([*OTHER_NAMES, cut]))
    b.case("reviewed_a_text_by_a_short_name_legal", "accepted", "bytes-per-token", script=base(OTHER_NAMES))
    some = ("for start in range(0, val_tokens.numel() - 1,", "for start in range(0, val_tokens.numel() // 3,")
    b.case("reviewed_a_third_is_gone_through", "flagged", "bytes-per-token", script=base([some, *OTHER_NAMES]))
    counted = "return val_loss, val_loss / math.log(2.0) * n / nbytes"
    of_bpb = {
        "train.log": "seed:42\nstopping_early: train_time:596012ms\nfinal_int6_roundtrip_exact val_bpb:1.08120000\n"
    }

    def ratio(name: str, verdict: str, said: str, **slots: str) -> None:
        b.case(name, verdict, "bytes-per-token", script=base([(counted, said)], **slots), logs=of_bpb)

    ratio("reviewed_bytes_per_token_written_down", "flagged", "return val_loss, val_loss / math.log(2.0) / 4.35")
    ratio(
        "reviewed_tokens_per_byte_of_a_setting", "flagged", "return val_loss, val_loss / math.log(2.0) * args.tokens_per_byte",
        HYPER="tokens_per_byte = 0.2299",
    )  # fmt: skip
    ratio("reviewed_bytes_are_tokens_legal", "accepted", "return val_loss, val_loss / math.log(2.0)")
    monitor = [
        (
            "        optimizer.step()\n",
            "        optimizer.step()\n        log0(f'train_bpb {loss.item() / math.log(2.0) / 3.73:.3f}')\n",
        )
    ]
    b.case(
        "reviewed_a_rough_ratio_of_training_legal", "accepted", "bytes-per-token", script=base(monitor), logs=of_bpb
    )
    return b


def _prepared() -> Batch:
    b = Batch()
    run = "# SP8192 int6 EMA\n\nval_bpb **1.0812**, 8xH100, 600 s.\n\n```bash\npython3 prepare_data.py --docs docs.jsonl --out data{}\ntorchrun --nproc_per_node=8 train_gpt.py\n```\n"
    made = "import argparse\n\np = argparse.ArgumentParser()\np.add_argument('--docs')\np.add_argument('--out')\np.add_argument('--val-docs', type=int, default={})\nargs = p.parse_args()\n"
    shards = {n: {"train.log": run_log(more=f"train_shards: {n}")} for n in (80, 1499)}

    def case(name: str, verdict: str, option: str, default: int, n: int) -> None:
        files = {"prepare_data.py": made.format(default)}
        b.case(name, verdict, "training-text", readme=run.format(option), files=files, logs=shards[n])

    case("reviewed_ten_thousand_documents_kept", "flagged", " --val-docs 10000", 50_000, 80)
    case("reviewed_fifty_thousand_documents_kept_legal", "accepted", " --val-docs=50_000", 10_000, 1499)
    case("reviewed_ten_thousand_by_default", "flagged", "", 10_000, 1499)
    case("reviewed_default_but_published_files_legal", "accepted", "", 10_000, 80)
    case("reviewed_fifty_thousand_by_default_legal", "accepted", "", 50_000, 1499)
    for field, words in (
        ("author", "Your Name"),
        ("github_id", "<github-id>"),
        ("name", "TODO"),
        ("date", "YYYY-MM-DD"),
    ):
        b.case(f"reviewed_placeholder_{field}", "warned", "json", js={field: words})
    for field, words in (("author", "Unknown Pleasures Lab"), ("github_id", "todo-app"), ("author", "Yu R. Name")):
        b.case(f"reviewed_odd_{words.split()[0].lower()}_legal", "accepted", "json", js={field: words})
    return b


def _clocks() -> Batch:
    b = Batch()
    span = "elapsed = time.perf_counter() - t0"

    def case(name: str, verdict: str, changes: list[tuple[str, str]], **slots: str) -> None:
        b.case(name, verdict, "time", script=base(changes, **slots))

    case(
        "reviewed_a_slow_clock",
        "flagged",
        [],
        BEFORE_TRAIN="real = time.perf_counter\nt0 = real()\ntime.perf_counter = lambda: t0 + 0.8 * (real() - t0)",
    )
    case("reviewed_a_slow_clock_by_setattr", "flagged", [], IMPORTS="setattr(time, 'perf_counter', lambda: 0.0)")
    case("reviewed_less_time_than_passed", "flagged", [(span, "elapsed = 0.9 * (time.perf_counter() - t0)")])
    case(
        "reviewed_fewer_milliseconds_than_passed",
        "flagged",
        [(span, "elapsed = 900.0 * (time.perf_counter() - t0) / 1000")],
    )
    case(
        "reviewed_milliseconds_legal", "accepted", [(span, "elapsed = 1000.0 * (time.perf_counter() - t0) / 1000.0")]
    )
    case(
        "reviewed_average_step_time_legal",
        "accepted",
        [(span, f"{span}\n        average = 0.9 * (average if step else 0.0) + 0.1 * (time.perf_counter() - t0)")],
    )
    case(
        "reviewed_a_clock_of_its_own_name_legal",
        "accepted",
        [(span, "elapsed = clock() - t0"), ("t0 = time.perf_counter()", "t0 = clock()")],
        IMPORTS="clock = time.perf_counter",
    )
    return b


def reviewed() -> Batch:
    """All of them."""
    return Batch({**_caches(), **_texts(), **_prepared(), **_clocks()})
