"""What kind of file a path names, by content and never by name; and an artifact as a thing to ask.

path --open_either--> ArtifactFile | Checkpoint        ArtifactFile --> sizes, tensors, checks, files
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pgpack.checkpoint.adapter import open_merged
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.checkpoint.files import is_no_artifact
from pgpack.checkpoint.folders import CONFIG
from pgpack.errors import DataError, FormatError, NoArtifact
from pgpack.files import READ, alone, contents, refuse_special
from pgpack.formats.field.compressed import codec_of
from pgpack.formats.own.layout import MAGIC
from pgpack.formats.sniff import open_field, read_identified
from pgpack.inspect import ArtifactView, inspect_artifact
from pgpack.sizes import Size, bytes_of
from pgpack.unpack import Unpacked, check_digest, unpack
from pgpack.verify import Verification, verify

from .unpacking import FOLDER, form_of, refuse_folder, write_unpacked


@dataclass(frozen=True, eq=False, repr=False)
class ArtifactFile:
    """An artifact of any known format: `data` are the bytes of `path`; it is decoded once, when first asked for,
    within `max_bytes`."""

    path: Path
    data: bytes
    decode: Callable[[], Unpacked]
    max_bytes: int | None = None

    def __repr__(self) -> str:
        return f"<ArtifactFile {self.path}: {self.n_bytes:,} bytes>"

    @property
    def n_bytes(self) -> int:
        """Size of the file, which is what a budget counts."""
        return len(self.data)

    @cached_property
    def digest(self) -> str:
        """sha256 hex over the decoded weights. Raises: CorruptArtifact when it is not what the packer recorded."""
        return check_digest(self.unpacked)

    @cached_property
    def unpacked(self) -> Unpacked:
        """The decoded records. Raises: FormatError when the file is damaged."""
        return self.decode()

    @property
    def companions(self) -> Mapping[str, bytes]:
        """File name -> contents of what lies beside the weights: config, tokenizer, licence. Raises as `unpacked`.

        >>> dict(pgpack.open_artifact("model.pgpack").companions)
        {}
        """
        return self.unpacked.companions

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The decoded weights by name, tied names included: what runs. float32, integers and bools as they were.

        Raises: FormatError when the file is damaged, CorruptArtifact when the weights are not those that were packed.

        >>> pgpack.open_artifact("model.pgpack").tensors()["tok_emb.weight"].shape
        (310, 16)
        """
        _ = self.digest
        return self.unpacked.tensors()

    def model(self) -> Any:
        """The transformers model with the decoded weights, in eval mode.

        Raises: DataError when the artifact was packed without a config.json; ToolMissing without transformers; as
        `tensors`.

        >>> model = pgpack.open_artifact("tiny-llama.pgpack").model()
        >>> type(model).__name__, model.training
        ('LlamaForCausalLM', False)
        """
        import torch

        from pgpack.models.huggingface import build_transformers

        if CONFIG not in self.companions:
            raise DataError(
                f"{self.path} holds weights alone; only what was packed from a model folder builds a model"
            )
        state = {name: torch.tensor(array) for name, array in self.tensors().items()}
        return build_transformers(self.companions[CONFIG], state)

    def tokenizer(self) -> Any:
        """The tokenizer that was packed beside the weights, as transformers loads it.

        Raises: DataError when the artifact was packed without one; ToolMissing without transformers.

        >>> pgpack.open_artifact("tiny-llama.pgpack").tokenizer()("the fox")["input_ids"] != []
        True
        """
        from pgpack.models.huggingface import load_tokenizer

        return load_tokenizer(self.companions, str(self.path))

    def inspect(self) -> ArtifactView:
        """Where the bytes are: by tensor and by coding stage; they sum to the file. Raises as `tensors`.

        >>> view = pgpack.open_artifact("model.pgpack").inspect()
        >>> sum(tensor.n_bytes for tensor in view.tensors) + sum(view.overhead.values()) == view.n_bytes
        True
        """
        _ = self.digest
        return inspect_artifact(self.data, self.unpacked)

    def verify(self, budget: Size | None = None, checkpoint: Checkpoint | None = None) -> Verification:
        """Every check that the arguments allow, decoded in a clean process. Units: `budget` bytes, or "16MB".

        Raises: OSError when the file is gone; FormatError when it is no longer the one that was opened.

        >>> pgpack.open_artifact("model.pgpack").verify(budget="16MB").ok
        True
        """
        if hashlib.sha256(self.path.read_bytes()).digest() != hashlib.sha256(self.data).digest():
            raise FormatError(f"{self.path} has changed since it was opened; open it again")
        most = None if budget is None else bytes_of(budget, None if checkpoint is None else checkpoint.fp32_bytes)
        return verify(self.path, checkpoint=checkpoint, budget=most, max_bytes=self.max_bytes)

    def unpack(
        self, to: Path | str, form: str | None = None, banked: bool = False, dtype: str = "f32", force: bool = False
    ) -> Mapping[str, NDArray[Any]]:
        """Write the weights, a file or a model folder, and return them; nothing where they fail their digest.

        `form`: "safetensors", "npz", "pt", "gguf" or "folder"; None: as the name of `to` says, NAME/ is a folder.
        A folder is what transformers' `from_pretrained` loads. `dtype`: "f32", "f16" or "bf16", as floats are stored;
        in a GGUF, which llama.cpp loads, also "q8_0".
        `banked`: matrices in banks, as banked scripts load them. A file that exists is replaced whole, a folder only
        with `force`. What comes back is decoded when it is asked for.
        Raises: FormatError as `tensors`; SettingError for a name or type that cannot be; OSError when `to` cannot be
        written; BlockingIOError while another process makes it, before anything is decoded.

        >>> "tok_emb.weight" in pgpack.open_artifact("model.pgpack").unpack("back.safetensors")
        True
        """
        with alone(Path(to)):
            form = form or form_of(to, self.companions)
            if form == FOLDER:
                refuse_folder(Path(to), force)
            metadata = {"weights_digest": self.digest}
            return write_unpacked(Path(to), self.unpacked, form, metadata, dtype, banked, force)


def open_artifact(path: Path | str, max_bytes: int | None = None) -> ArtifactFile:
    """The artifact in a file: ours, or in one of the field's formats (told apart by content, never by name).

    `max_bytes`: the most that decoding it may give and hold. None: it gives at most 400 times the file, or 64 MiB,
    and holds 4 GiB.

    Raises: OSError when it cannot be read; FormatError or one of its kinds when it holds no artifact.

    >>> pgpack.open_artifact("model.pgpack").n_bytes < 20_000
    True
    """
    path = Path(path)
    found = read_artifact_file(path, max_bytes)
    if found is None and is_no_artifact(path):
        raise NoArtifact(f"{path} is a checkpoint, not an artifact of any known format")
    if found is None:
        with naming(path):
            read_identified(contents(path))
        raise NoArtifact(f"{path} is not an artifact of any known format")
    return found


def read_artifact_file(path: Path, max_bytes: int | None = None) -> ArtifactFile | None:
    """The artifact in a file, decoded within `max_bytes` as `unpack` says; None when the file is something else.

    Raises NoArtifact for a folder, OSError when it cannot be read.
    """
    if path.is_dir():
        raise NoArtifact(f"{path} is a folder, not an artifact; name the file that `pgpack pack` wrote")
    refuse_special(path)
    if is_no_artifact(path):
        return None
    data = contents(path, max(READ, max_bytes or 0))
    if data[:4] == MAGIC[: len(data)]:
        return ArtifactFile(path, data, _decoder(path, lambda: unpack(data, max_bytes)), max_bytes)
    field = open_field(data)
    if field is None:
        return None
    return ArtifactFile(path, data, _decoder(path, lambda: Unpacked(field.kind, tuple(field.read()), {}, "")))


def _decoder(path: Path, decode: Callable[[], Unpacked]) -> Callable[[], Unpacked]:
    def named() -> Unpacked:
        with naming(path):
            return decode()

    return named


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What is wrong with the bytes of a file, with its name before it. Raises: FormatError, as it comes."""
    try:
        yield
    except FormatError as error:
        raise type(error)(f"{path}: {error}") from None


def open_either(
    path: Path, base: str | None = None, max_bytes: int | None = None, key: str | None = None
) -> ArtifactFile | Checkpoint:
    """An artifact or a checkpoint, which may be an adapter of the model in `base`.

    `key`: which of several state dicts.
    Raises CheckpointError when the file is neither, FormatError when it is a compressed file that holds no artifact.
    """
    artifact = read_artifact_file(path, max_bytes) if path.is_file() else None
    if artifact is not None:
        return artifact
    if path.is_file() and not is_no_artifact(path):
        with path.open("rb") as file:
            head = file.read(8)
        if codec_of(head) != "brotli":  # which has no mark
            read_identified(contents(path))
    return open_merged(path, base, key)
