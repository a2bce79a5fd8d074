"""What each rule looks for, what fails it and what passes it: `pgpack verify --explain RULE`."""

from __future__ import annotations

from typing import NamedTuple

from .table import rule_of


class Explanation(NamedTuple):
    """`looks_for` in words, with the limits of what can be seen; an example that `fails`, one that `passes`."""

    looks_for: str
    fails: str
    passes: str


def explained(name: str) -> str:
    """A rule in a few lines. Raises SettingError for an id that no rule has."""
    rule = rule_of(name)
    head = f"{rule.id}: {rule.sentence} ({rule.source})\n"
    if rule.id not in EXPLANATIONS:
        return f"{head}\nIt is another package's, which explains it."
    found = EXPLANATIONS[rule.id]
    return f"{head}\n{found.looks_for}\n\nfails:   {found.fails}\npasses:  {found.passes}"


EXPLANATIONS: dict[str, Explanation] = {
    "files": Explanation(
        "Links, pipes, sockets and names that cannot be printed. They are never opened.",
        "model.ptz -> /home/me/model.ptz, a link",
        "model.ptz, a file",
    ),
    "required": Explanation(
        "README.md, submission.json, train_gpt.py and a log: *.log, or any text that prints a loss, whatever "
        "its name; where there is none, a table or notebook with one.",
        "a folder without a log",
        "README.md, submission.json, train_gpt.py, 0f0e0d0c-1111.txt with val_bpb in it",
    ),
    "compiles": Explanation(
        "Every Python file of the counted code, and every layer that it extracts, parses.",
        "def main(:",
        "def main():",
    ),
    "extracts": Explanation(
        "exec, eval, compile, runpy, import by name, interpreters and written files, however packed: the code "
        "that they start is read and judged. Refused: a file outside the folder. What neither its text nor a "
        "fenced run shows is 'not decided', a warning; so is compiled code without a source.",
        "runpy.run_path(Path(__file__).parents[3] / 'records/other/train_gpt.py')",
        'exec(lzma.decompress(base64.b85decode("...")))',
    ),
    "counted": Explanation(
        "Files that the code imports (by statement or by name), opens or executes count; a tokenizer is only "
        "warned of, and so is what it reads from elsewhere: a prior beside the data, a file that the environment "
        "alone names, memory of another process, a package from an address.",
        '"counted_files": ["train_gpt.py"] beside import helpers',
        '"counted_files": ["train_gpt.py", "helpers.py"]',
    ),
    "code-size": Explanation(
        "A script that measures its own bytes through a minifier counts others where that is missing.",
        "len(python_minifier.minify(open(__file__).read()))",
        "os.path.getsize(__file__)",
    ),
    "cap": Explanation(
        "The largest artifact (the parts of one together) and the counted code as shipped, in decimal bytes. "
        "Weights are what is large, under any name: .bin, .npz, .pt, a text of base 64, many small files or "
        "pictures together, a file in __pycache__, packed text in logs, notes and code that nothing imports.",
        "weights.bin of 17,000,000 bytes",
        "model.pgpack 15,900,000 + code 20,000",
    ),
    "margin": Explanation(
        "Bytes that are spare against what seeds differ by, 8 kB where only one is known.",
        "warns: 500 bytes spare, seeds spread over 5,000",
        "20,000 bytes spare",
    ),
    "log-bytes": Explanation(
        "The total of the claimed runs' logs: within the cap, and that of the files. Totals of other codecs and"
        " logs of other runs do not count.",
        "Total submission size quantized+brotli: 16071321 bytes",
        "Total submission size quantized+brotli: 15900000 bytes",
    ),
    "json-bytes": Explanation(
        "bytes_total, bytes_code, bytes_model and each seed's artifact_bytes against the files and the cap. "
        "bytes_model_int8_zlib and its kin are diagnostics as long as there is a total.",
        '"bytes_total": 16000001',
        '"bytes_total": 14900000, "bytes_model_int8_zlib": 18612195',
    ),
    "readme-bytes": Explanation(
        "A README that prints the weights' bytes prints the total as well.",
        "artifact: 15,880,000 bytes (and nowhere the code)",
        "15,880,000 + 20,000 = 15,900,000 bytes",
    ),
    "unpickling": Explanation(
        "pickle and its kin, torch.load(weights_only=False), np.load(allow_pickle=True), under any alias and in"
        " every layer. A bare torch.load is warned of.",
        "from pickle import load as l; l(f)",
        "torch.load(f, weights_only=True)",
    ),
    "strict-load": Explanation(
        "load_state_dict(strict=False) hides missing and unexpected tensors.",
        "model.load_state_dict(state, strict=False)",
        "model.load_state_dict(state)",
    ),
    "dependencies": Explanation(
        "Imports, by statement or by name, of what is neither the standard library, the target's, the folder's,"
        " made by the code itself, nor in requirements.txt. An import that may fail (try, suppress, find_spec) "
        "needs none; code that makes modules and had no time to end while it was unwrapped is 'not decided'.",
        'importlib.import_module("brotli") without a requirements.txt',
        "import brotli, and brotli in requirements.txt",
    ),
    "programs": Explanation(
        "Compressors outside Python that are started or looked for: the target must have them.",
        "warns: subprocess.run(['lrzip', ...])",
        "import lzma",
    ),
    "network": Explanation(
        "Modules made for fetching that are used, hubs, sockets that connect, programs that download or "
        "install or are given an address, in f-strings, lists, variables and shell scripts that are started. "
        "Parsing a URL, the host's name, a free port and pip freeze are none. A program or a model whose name is "
        "not written down is 'not decided'.",
        'os.system(f"wget {url}")',
        "socket.gethostname()",
    ),
    "calibration": Explanation(
        "Calls that speak of calibration, Hessians, GPTQ or AWQ with the validation text, and logs that say so.",
        "collect_hessians(model, val_tokens)",
        "collect_hessians(model, train_loader)",
    ),
    "training-text": Explanation(
        "Updates on validation text before the weights are packed. A log that says so fails; a switch of that "
        "name that is on, or a gradient of validation text that comes before torch.save or the first quantizer, "
        "is warned of; so is a schedule or an end of training that a loss of it decides. Order is that in which the "
        "script runs, text is followed through calls, objects and what a shell script sets; a script that hides it "
        "is not seen.",
        "prequant_ttt_enabled: True in the log",
        "adapt(model, val_tokens) after the weights were packed, scored first",
    ),
    "time": Explanation(
        "Of the ten-minute track: training with its Hessians, and evaluation, by the claimed runs' logs. Where no "
        "track is named, what would be too long for it is warned of. Parts of an evaluation are added up. "
        "More or faster GPUs than 8 H100s are warned of, and training that is not timed: a long warm-up, or a "
        "loop before the clock starts, that puts nothing back, a run that goes on where an earlier one has ended.",
        "train_time: 599592ms and Hessians in 4.7s",
        "train_time: 592054ms and Hessians in 4.7s",
    ),
    "artifact": Explanation(
        "Whether there is anything to weigh and decode.",
        "warns: a folder of words alone",
        "model.pgpack",
    ),
    "codec": Explanation(
        "The first bytes against the codec in the file's name and in its log.",
        "model.zst that is zlib",
        "model.zst",
    ),
    "no-code": Explanation(
        "Functions that a pickled artifact names.",
        "a torch stream that names os.system",
        "a torch stream of tensors",
    ),
    "decodes": Explanation(
        "A fenced process without torch and network decodes it. A format that is not known here is 'not decided'.",
        "a truncated model.pgpack",
        "model.pgpack",
    ),
    "bit-exact": Explanation(
        "Our decode, the packer's digest and one more decode, the folder's own where there is one.",
        "decode.py that gives other bits",
        "decode.py that gives the same",
    ),
    "decoder": Explanation(
        "decode.py runs alone behind the fence with what is declared.",
        "decode.py that opens a socket",
        "decode.py",
    ),
    "keys": Explanation(
        "Names and shapes among seeds, and against --checkpoint.",
        "one seed without a tensor",
        "all seeds alike",
    ),
    "finite": Explanation(
        "NaN and infinity among decoded weights.",
        "a NaN in blocks.0.w",
        "finite weights",
    ),
    "fp16": Explanation(
        "fp16 values and scales at 65,504 or beyond.",
        "a scale of inf",
        "scales below 65,504",
    ),
    "scale-floor": Explanation(
        "Rows whose scale is a clamp's constant and whose weights are about that small.",
        "warns: scales of exactly 1/31 under weights of 0.03",
        "scales of the rows' own size",
    ),
    "unquantized": Explanation(
        "Matrices above 65,536 values that are stored as floats.",
        "warns: tok_emb in fp16",
        "tok_emb in 8 bits",
    ),
    "trained": Explanation(
        "Tensors that are one value throughout.",
        "warns: a gate of ones",
        "a gate that training has moved",
    ),
    "json": Explanation(
        "submission.json is an object with val_bpb; author, github_id, name and date are not blank. Marks of "
        "order are skipped.",
        "{",
        '{"author": "A", "github_id": "a", "name": "n", "date": "2026-01-01", "val_bpb": 1.0812}',
    ),
    "log-loss": Explanation(
        "Each claimed loss is one that a log measured after quantization, with more or fewer digits, or the "
        "mean of several logs; a copy of a log counts once. What no grammar reads, and an evaluation at a step of "
        "which nothing says that the weights were packed, is 'not measured'. A script that scores other weights than "
        "those that it reads back from the packed file is warned of.",
        "val_bpb 1.0712 beside a log that ends with 1.0812",
        "val_bpb 1.25798 beside a log that ends with 1.2580",
    ),
    "seeds": Explanation(
        "Mean and standard deviation of the table of seeds; without one, of what words call a mean. Logs of several "
        "seeds that are of one run, in whatever order, or that print other settings are warned of.",
        "the best seed as val_bpb",
        "the mean as val_bpb",
    ),
    "one-mode": Explanation(
        "Losses in one table are measured alike: plain, sliding, or with test-time training.",
        "one seed sliding, two plain",
        "all sliding",
    ),
    "readme": Explanation(
        "README.md states val_bpb, with three digits or more, and the rows of the seeds.",
        "val_bpb 1.0712 where submission.json says 1.0812",
        "val_bpb 1.08119835 where it says 1.0812",
    ),
    "bytes-per-token": Explanation(
        "val_loss / (ln 2 val_bpb) is one number; times the tokens of the log it is 151,080,891 bytes "
        "(151,074,309 with CaseOps), at any vocabulary, as far as the printed digits and a last window leave it "
        "open. Fewer bytes are warned of as a part, as is a script that scores a part, or another text; without a "
        "number of tokens it is 'not decided'.",
        "45,508,608 tokens of 3.8178 bytes",
        "45,508,608 tokens of 3.3198 bytes",
    ),
    "loss": Explanation(
        "With --eval: the loss measured here.",
        "off by 0.01",
        "within 0.0005",
    ),
    "text-bytes": Explanation(
        "With --eval: bytes by the tables against those of the decoded text.",
        "a space counted twice",
        "equal counts",
    ),
    "causal": Explanation(
        "With --eval: the future is changed, one token or all of it, as far ahead as the text and time allow, and "
        "right behind as many targets as the time allows; no earlier loss may move. It says how far it looked. "
        "Without it the script is read: attention that is causal only while the model trains, layers that take from "
        "later positions, attention without a mask, and targets that are given to the model, are warned of.",
        "is_causal=self.training",
        "a causal model",
    ),
    "normalized": Explanation(
        "With --eval: the probabilities of every token of the vocabulary sum to 1. Without it the script is read: "
        "the better of two losses, also of windows that overlap, a loss that is made less, a mixture beyond one "
        "and a cache read at a hash of the target are warned of.",
        "losses times 0.9",
        "a softmax",
    ),
    "score-first": Explanation(
        "With --scorer: the future is permuted up to 32,768 tokens ahead and more, and probabilities are summed"
        " over the vocabulary at many positions of a warm text. It says how far it looked and at how many. Without"
        " one, the script is read: a gradient of validation text, or counts of it that are looked up, before anything"
        " in their outermost loop was scored is warned of, and so is a score of what was learned before.",
        "a cache that is learned before its chunk is scored; adapt(model, val_tokens), then evaluate",
        "a chunk that is scored, then learned",
    ),
    "calibration-text": Explanation(
        "With --calib: it is not the evaluated text.",
        "--calib of the validation shards",
        "--calib of training shards",
    ),
    "documents": Explanation(
        "With --documents: a document is changed; no loss of the next may move.",
        "a smear across the boundary",
        "a context that starts anew",
    ),
}
