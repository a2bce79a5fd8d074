# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""What a stranger's second batch was judged wrong in, beside legal twins of the rules that it was mended by."""

from __future__ import annotations

from .object_parts import MINI, STD, ev
from .object_script import SLOTS, Folders, objects, run_of

TWIN = '\ntwin = copy.deepcopy(net)\nopt = torch.optim.SGD(twin.parameters(), lr=1e-3)\nchunk = 32768\nnll = octets = 0.0\nseen = 0\nfor at in range(0, len(self.tokens) - 1, chunk):\n    piece = self.tokens[at : at + chunk + 1].long()\n    ctx, nxt = piece[:-1][None], piece[1:][None]\n    with torch.no_grad():\n        per = F.cross_entropy(twin.logits(ctx)[0].float(), nxt[0], reduction="none")\n    nll += per.double().sum().item()\n    octets += self.width[nxt].double().sum().item()\n    seen += nxt.numel()\n    opt.zero_grad()\n    twin(ctx, nxt).backward()\n    opt.step()\nreturn nll / seen, nll / LN2 / octets\n'


def stranger() -> Folders:
    """Each beside its twin."""
    b = Folders()
    b.folder(
        "again_told_curriculum_legal",
        "accepted",
        "time",
        logs={"train.log": run_of(extra="continuing from step 2000 with seq_len 4096")},
    )
    b.folder(
        "again_told_loaded_packed_legal",
        "accepted",
        "time",
        logs={
            "train.log": run_of().replace(
                "quantized val_loss", "loaded quantized weights from final_model.int6.xz\nquantized val_loss"
            )
        },
    )
    b.folder(
        "again_told_twin_ttt_legal",
        "accepted",
        "training-text",
        script=objects(imports="import copy\n", evaluate=ev(TWIN, "")),
    )
    b.folder(
        "again_told_twin_back",
        "flagged",
        "training-text",
        script=objects(
            imports="import copy\n",
            evaluate=ev(TWIN.replace("return nll", "net.load_state_dict(twin.state_dict())\nreturn nll"), ""),
        ),
    )
    b.folder(
        "again_told_all_shards_filtered_legal",
        "accepted",
        "training-text",
        script=MINI.replace(
            "for p in sorted(g.glob(d+'/fineweb_%s_*.bin'%@@)):\n",
            "for p in sorted(g.glob(d+'/*.bin')):\n if'val'in p:continue\n",
        ),
    )
    b.folder(
        "again_told_spm_train_train_legal",
        "accepted",
        "training-text",
        script=objects(
            aftertrain="\n    old = sentencepiece.SentencePieceProcessor(model_file=cfg.spm)\n    Path('train.txt').write_text(old.decode(ShardStream(cfg, device).shard.tolist()))\n    sentencepiece.SentencePieceTrainer.train(input='train.txt', model_prefix='own', vocab_size=8192)\n"
        ),
    )
    b.folder(
        "again_told_any_order_legal",
        "accepted",
        "bytes-per-token",
        script=objects(evaluate=ev(STD.replace("range(count)", "torch.randperm(count).tolist()").format(x=""))),
    )
    b.folder(
        "again_told_ranks_legal",
        "accepted",
        "bytes-per-token",
        script=objects(
            evaluate=ev(
                STD.replace("range(count)", "range(rank, count, world_size)")
                .replace(
                    "net.eval()\n",
                    "net.eval()\nrank, world_size = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))\n",
                    1,
                )
                .format(x="")
            )
        ),
    )
    b.folder(
        "again_told_ten_warm_steps_legal",
        "accepted",
        "time",
        script=objects(
            main=SLOTS["main"].replace(
                "    Trainer(cfg, net, ShardStream(cfg, device)).fit()",
                "    coach = Trainer(cfg, net, ShardStream(cfg, device))\n    warm_kernels(coach)\n    coach.fit()",
            ),
            helpers="\ndef warm_kernels(coach, rounds=10):\n    for r in range(rounds):\n        ctx, nxt = coach.stream.batch(8, 2048)\n        coach.net(ctx, nxt).backward()\n        coach.opt.step()\n        coach.opt.zero_grad()\n",
        ),
    )
    b.folder(
        "again_told_prepare_legal",
        "accepted",
        "bytes-per-token",
        files={
            "prepare_data.py": "import sys\nimport unicodedata\n\nimport sentencepiece\n\nsp = sentencepiece.SentencePieceProcessor(model_file=sys.argv[1])\nfor line in open(sys.argv[2]):\n    print(sp.encode(unicodedata.normalize('NFC', line)))\n"
        },
    )
    b.fetching(
        "again_told_store_here_legal",
        "accepted",
        "network",
        "st = torch.distributed.TCPStore('127.0.0.1', 29500, is_master=True)\nst2 = torch.distributed.TCPStore(os.environ.get('MASTER_ADDR', 'localhost'), 29501)",
        "",
        None,
    )
    b.fetching(
        "again_told_flash_wheel_legal",
        "accepted",
        "counted",
        "import flash_attn",
        "",
        "flash-attn @ https://example.org/flash_attn-2.8-cp312-linux_x86_64.whl\n",
    )
    b.fetching(
        "again_told_shm_own_legal",
        "accepted",
        "counted",
        "from multiprocessing import shared_memory\nmine = shared_memory.SharedMemory(create=True, size=1024)\nagain = shared_memory.SharedMemory(name=mine.name)\nprint(again.size)",
        "",
        None,
    )
    b.folder(
        "again_told_env_hyper_legal",
        "accepted",
        "counted",
        script=objects(
            aftertrain="    again = os.environ.get('RESUME_FROM', '')\n    if again:\n        net.load_state_dict(torch.load(again, weights_only=True))\n",
            cfg="    lr: float = float(os.environ.get('LR', '3e-3'))\n",
        ),
    )
    b.folder(
        "again_told_ckpt_env_written_legal",
        "accepted",
        "counted",
        script=objects(
            aftertrain="    spot = os.environ['CKPT_OUT']\n    torch.save(net.state_dict(), spot)\n    net.load_state_dict(torch.load(spot, weights_only=True))\n"
        ),
    )
    b.folder(
        "again_told_bpb_fstring_legal",
        "accepted",
        "log-loss",
        script=objects(tail="NOTE = 'previous best val_bpb: 1.0912'\nprint(NOTE)\n"),
    )
    b.folder(
        "again_told_mlx",
        "flagged",
        "training-text",
        script='import glob, os\nimport mlx.core as mx\nimport mlx.nn as nn\nimport mlx.optimizers as optim\nimport numpy as np\n\nD = os.environ.get("DATA_PATH", "data")\n\ndef load(p):\n    return np.fromfile(p, "<u2", offset=1024).astype(np.int32)\n\nclass LM(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.emb = nn.Embedding(8192, 512)\n        self.rnn = nn.GRU(512, 512)\n\n    def __call__(self, x):\n        return self.rnn(self.emb(x)) @ self.emb.weight.T\n\ndef cost(m, x, y):\n    return mx.mean(nn.losses.cross_entropy(m(x), y))\n\nlm = LM()\nopt = optim.AdamW(1e-3)\nboth = nn.value_and_grad(lm, cost)\nfor f in sorted(glob.glob(D + "/fineweb_train_*.bin")) + sorted(glob.glob(D + "/fineweb_val_*.bin")):\n    a = load(f)\n    for i in range(0, len(a) - 8193, 8192):\n        w = mx.array(a[i : i + 8193])\n        c, g = both(lm, w[None, :-1], w[None, 1:])\n        opt.update(lm, g)\nlm.save_weights("final.safetensors")\n',
        req="mlx\n",
    )
    b.folder(
        "again_told_lbfgs",
        "flagged",
        "training-text",
        script=objects(
            aftertrain="\n    ids = judge.tokens[:65537].long()\n    tool = torch.optim.LBFGS(net.parameters(), lr=0.1)\n    def closure():\n        tool.zero_grad()\n        c = net(ids[None, :-1], ids[None, 1:])\n        c.backward()\n        return c\n    for _ in range(5):\n        tool.step(closure)\n"
        ),
    )
    b.folder(
        "again_told_kib",
        "flagged",
        "log-bytes",
        logs={
            "train.log": run_of()
            .replace("Total submission size quantized+brotli: 15900000 bytes", "Total submission size: 15700 KiB")
            .replace("Serialized model quantized+brotli: 15880000 bytes\n", "")
        },
    )
    b.folder(
        "again_told_underscores",
        "flagged",
        "log-bytes",
        logs={
            "train.log": run_of()
            .replace(
                "Total submission size quantized+brotli: 15900000 bytes", "total artifact size: 16_045_112 bytes"
            )
            .replace("Serialized model quantized+brotli: 15880000 bytes\n", "")
        },
    )
    b.folder(
        "again_told_hours",
        "flagged",
        "time",
        logs={"train.log": run_of().replace("eval_time:91000ms", "eval took 1h 2m 3s")},
    )
    b.folder(
        "again_told_clamped_time",
        "flagged",
        "time",
        script=objects(
            loop=SLOTS["loop"]
            + '        print(f"train_time: {min(time.perf_counter() - began, 599.0) * 1000:.0f}ms")\n'
        ),
    )
    b.folder(
        "again_told_printed_constant",
        "flagged",
        "log-loss",
        script=objects(
            main=SLOTS["main"].replace(
                'print(f"quantized val_loss: {{loss:.8f}} val_bpb: {{bpb:.8f}} eval_time: {{time.perf_counter() - t0:.1f}}s")',
                'print("quantized val_loss: 2.79290123 val_bpb: 1.08120000 eval_time: 91.0s")',
            )
        ),
    )
    return b
