"""Settings for every test: hypothesis without deadlines (machines are slow at times), the same examples each run, and
a cache of the tests' own; and the texts that several rooms' tests share, built once per session."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from pgpack.text.builtin import builtin_corpus
from pgpack.text.corpus import write_text_folder
from pgpack.text.documents import Document
from pgpack.text.sentence_piece import SentencePiece, train_tokenizer
from pgpack.text.text_folder import TextFolder
from pgtrain.model.model_config import GPTConfig

# A shell's background job ignores Ctrl-C, and its children would inherit that: programs that tests start must not.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as `nohup` does

hypothesis.settings.register_profile("house", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("house")


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands keep their results here and not in the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPACK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


TINY = GPTConfig(vocab_size=400, num_layers=3, model_dim=16, num_heads=4, num_kv_heads=2, mlp_mult=1.5, seq_len=32)


@pytest.fixture(scope="session")
def corpus() -> list[Document]:
    """The built-in corpus."""
    return builtin_corpus()


@pytest.fixture(scope="session")
def tokenizer(corpus: list[Document]) -> SentencePiece:
    """1024 pieces trained on a quarter of the built-in corpus."""
    return train_tokenizer((d.text for d in corpus[::4]), 1024)


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory, corpus: list[Document]) -> TextFolder:
    """A small folder of shards with 400 pieces."""
    folder = tmp_path_factory.mktemp("text")
    short = [d for d in corpus if len(d.text) < 1500][:80]
    write_text_folder(short, folder, None, 400, 0.1)
    return TextFolder.open(folder)


@pytest.fixture(scope="session")
def tiny() -> GPTConfig:
    """A model of a few thousand parameters over the 400 pieces."""
    return TINY


@pytest.fixture(scope="session")
def shard_folder(text_folder: TextFolder) -> Path:
    """The folder of `text_folder`."""
    return text_folder.tokenizer_path.parent
