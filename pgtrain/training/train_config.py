"""How a run trains, as plain values. Owns `TrainConfig`; refuses torch, so that a plan prints at once."""

from __future__ import annotations

from dataclasses import dataclass

from pgpack.errors import DataError

ORTHOGONALIZERS = ("newton_schulz", "polar_express")
ROUNDINGS = ("straight_through", "soft")
MAX_VAL_TOKENS = 1 << 20


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation of one run; equal values, data and machine give equal checkpoints.

    Units: learning rates per step at full schedule; `warmup_steps`, `warmdown_steps` in steps;
    `max_seconds` of wall clock (0 = no limit; a run it cuts short is not reproducible). Fields called *_from are
    shares of the run, in steps or in seconds, whichever is further.
    Source: defaults are those of openai/parameter-golf train_gpt.py, except EMA (later submissions use 0.9965);
    "#N" below is pull request N there.
    """

    steps: int = 1000
    batch_tokens: int = 8192
    matrix_lr: float = 0.04
    embed_lr: float = 0.05
    head_lr: float = 0.008
    scalar_lr: float = 0.04
    warmup_steps: int = 20
    warmdown_steps: int = 300
    muon_momentum: float = 0.95
    muon_momentum_start: float = 0.85
    muon_momentum_steps: int = 500
    muon_iterations: int = 5
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    adam_eps: float = 1e-8
    grad_clip: float = 1.0
    ema_decay: float = 0.9965
    seed: int = 1337
    max_seconds: float = 0.0
    val_every: int = 0

    # The warmdown ends at this share of every rate, not at 0: #1787, #1855.
    min_lr: float = 0.0
    # polar_express: Amsel et al. 2025, arXiv:2505.16932, #1787. Rows of unit length before it: MuonEq-R, #1394.
    muon_orthogonalizer: str = "newton_schulz"
    muon_row_norm: bool = False
    # AdamW's decay of embedding tables and an untied head, and of everything small: 0.085 and 0.02 in #1394.
    embed_weight_decay: float = 0.0
    scalar_weight_decay: float = 0.0
    # SWA, the mean of every swa_every-th weights (0 = off) while the rate is below swa_below of full: #212, #433.
    swa_every: int = 0
    swa_below: float = 0.4
    # Sequence curriculum: ((0.0, 256), (0.5, 1024)) trains on 256 tokens per sequence for half of the run. Empty: the
    # model's seq_len throughout. Source: finding 11 of #212.
    seq_curriculum: tuple[tuple[float, int], ...] = ()
    # Sequences begin where documents begin, unless a document is longer than a sequence: #1855.
    document_batches: bool = False
    # A looped model runs its loop from here on: #1394 and #1546 enable it at 0.35.
    loops_from: float = 0.0
    # Quantization-aware training from here on: matrices on the grid of sdclip(qat_bits, qat_clip), tables on that of
    # (qat_embed_bits, qat_embed_clip); clip 0 is the absmax grid of rtn, 0 bits leave the tensors alone. Source:
    # late start #212 and #414; soft rounding #1179.
    qat_bits: int = 0
    qat_clip: float = 12.85
    qat_embed_bits: int = 0
    qat_embed_clip: float = 20.0
    qat_from: float = 0.7
    qat_rounding: str = "straight_through"
    # Training for the packer from here on: a recipe with tcq, or a budget such as 480kB; empty: none. The pressure is
    # what a byte costs, 1 as the packer pays for it; each calibration sees `packer_tokens`; the trellis is walked
    # every `packer_every` steps.
    packer: str = ""
    packer_from: float = 0.7
    packer_pressure: float = 1.0
    packer_tokens: int = 8192
    packer_every: int = 4
    # Tensors that stay as they were drawn: globs, separated by commas. #1546 put embed_proj and head_proj into no
    # optimizer group, so that "embed_proj.weight,head_proj.weight" is what it trained.
    frozen: str = ""
    # A batch is computed in so many equal parts, dealt to the processes of torchrun; their gradients are added.
    micro_batches: int = 1
    # Backend of torch.compile for the forward and backward pass, "inductor" as a rule; empty: none.
    compile_backend: str = ""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise DataError(f"a run of {self.steps} steps trains nothing; give --steps of at least 1")
        if not 0.0 <= self.ema_decay < 1.0:
            raise DataError(f"EMA decay {self.ema_decay} must be in [0, 1); 0 turns averaging off")
        for name in ("matrix_lr", "embed_lr", "head_lr", "scalar_lr", "grad_clip", "warmup_steps",
                     "warmdown_steps", "max_seconds", "val_every", "weight_decay", "embed_weight_decay",
                     "scalar_weight_decay", "swa_every", "qat_clip", "qat_embed_clip",
                     "packer_pressure"):  # fmt: skip
            if getattr(self, name) < 0:
                raise DataError(f"{name} is {getattr(self, name)}, must not be negative")
        for name in ("min_lr", "loops_from", "qat_from", "packer_from", "swa_below"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise DataError(f"{name} is {getattr(self, name)}, must be between 0 and 1")
        for name, known in (("muon_orthogonalizer", ORTHOGONALIZERS), ("qat_rounding", ROUNDINGS)):
            if getattr(self, name) not in known:
                raise DataError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}")
        for problem, sentence in self._contradictions():
            if problem:
                raise DataError(sentence)

    def _contradictions(self) -> tuple[tuple[bool, str], ...]:
        """(is it so, what to say) for settings that cannot be meant."""
        starts = [start for start, _ in self.seq_curriculum]
        return (
            (self.swa_every > 0 and self.ema_decay > 0,
             "a checkpoint holds one average: give --ema 0 with --swa-every, or leave --swa-every out"),
            (any(bits and not 2 <= bits <= 8 for bits in (self.qat_bits, self.qat_embed_bits)),
             f"QAT bits are {self.qat_bits} and {self.qat_embed_bits}, must be 0 (off) or from 2 to 8"),
            (bool(starts) and (starts[0] != 0.0 or starts != sorted(set(starts)) or starts[-1] >= 1.0),
             f"the curriculum starts at {starts}; give growing shares of the run that begin with 0"),
            (bool(self.packer) and bool(self.qat_bits or self.qat_embed_bits),
             "weights are trained for one packer: give --for-packer or --qat-bits, not both"),
            *(
                (getattr(self, name) < 1, f"{name} is {getattr(self, name)}, must be at least 1")
                for name in ("packer_tokens", "packer_every", "micro_batches")
            ),
        )  # fmt: skip
