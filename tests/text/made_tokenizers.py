"""Small tokenizers of every kind that comes in a tokenizer.json, trained on a few sentences."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import sentencepiece

SENTENCES = ["hello world foo bar naive the cat sat 123 ünïcode 漢字 def f(x):\n    return x"] * 30
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_level(vocab_size: int = 300, normalizer: Any = None, prefix: bool = False, trims: bool = False) -> Any:
    """As GPT-2's and Qwen's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    made.decoder = decoders.ByteLevel()
    if normalizer is not None:
        made.normalizer = normalizer
    if trims:
        made.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    made.train_from_iterator(SENTENCES, trainer)
    return made


def llama() -> Any:
    """SentencePiece's ways with a space put first, bytes for what is unknown, `<s>` before every text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *BYTES]
    made.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    layout = json.loads(made.to_str())  # bytes are pieces like others, no special tokens
    layout["added_tokens"] = [added for added in layout["added_tokens"] if added["content"] not in BYTES]
    made = Tokenizer.from_str(json.dumps(layout))
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    return made


def word_piece() -> Any:
    """As BERT's: lower case, accents dropped, spaces in no piece, `[UNK]` for what is unknown."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    made.train_from_iterator(
        SENTENCES, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return made


def unigram() -> Any:
    """As T5's: NFKC, a space put first, `<unk>` for what is unknown."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.Unigram())
    made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=100, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(SENTENCES, trainer)
    return made


def _folding() -> Any:
    from tokenizers import normalizers

    return normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])


def _stripping() -> Any:
    from tokenizers import normalizers

    return normalizers.Strip()


def _compatible() -> Any:
    from tokenizers import normalizers

    return normalizers.NFKC()


KINDS: dict[str, Callable[[], Any]] = {
    "byte-level": byte_level,
    "byte-level, trimmed offsets": lambda: byte_level(trims=True),
    "byte-level, a space first": lambda: byte_level(prefix=True),
    "byte-level, NFKC": lambda: byte_level(normalizer=_compatible()),
    "byte-level, lower case without accents": lambda: byte_level(normalizer=_folding()),
    "byte-level, stripped": lambda: byte_level(normalizer=_stripping()),
    "llama": llama,
    "word pieces": word_piece,
    "unigram": unigram,
}


def sentence_piece(sentences: list[str], **settings: Any) -> bytes:
    """A SentencePiece model with a begin token, 1."""
    model = io.BytesIO()
    given = {"vocab_size": 400, "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity"}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        **given | settings,
        hard_vocab_limit=False,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
