"""Train a sentencepiece tokenizer and give it to transformers, token for token the same."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from modelkit.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = {"unk": "<unk>", "bos": "<s>", "eos": "</s>", "pad": "<pad>"}
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train(texts: Iterable[str], vocab_size: int, context: int) -> tuple[PreTrainedTokenizerFast, bytes]:
    """Train a BPE model with byte fallback on *texts*.

    :returns: the tokenizer, and the sentencepiece model (``tokenizer.model``) it equals.
    :raises UserError: when the texts are too few for the vocabulary.
    """
    import sentencepiece

    file = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=file,
            model_type="bpe",
            vocab_size=vocab_size,
            character_coverage=1.0,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            split_digits=True,
            user_defined_symbols=["\n"],
            control_symbols=list(ROLES.values()),
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=3,
            unk_piece=SPECIAL["unk"],
            bos_piece=SPECIAL["bos"],
            eos_piece=SPECIAL["eos"],
            pad_piece=SPECIAL["pad"],
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(
            f"a tokenizer of {vocab_size} tokens can't be trained on this text ({str(error).strip().splitlines()[-1]}): change vocab_size."
        ) from None
    model = file.getvalue()
    return from_sentencepiece(model, context), model


def from_sentencepiece(model: bytes, context: int) -> PreTrainedTokenizerFast:
    """The transformers tokenizer that gives the same ids as a sentencepiece BPE model with a dummy prefix."""
    import sentencepiece
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    vocabulary = {processor.id_to_piece(i): i for i in range(processor.get_piece_size())}
    tokenizer = Tokenizer(models.BPE(vocabulary, _merges(vocabulary), unk_token=SPECIAL["unk"], byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (*SPECIAL.values(), *ROLES.values())])
    bos = SPECIAL["bos"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, processor.bos_id())]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
        **{f"{name}_token": token for name, token in SPECIAL.items()},
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _merges(vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """The merges of a sentencepiece BPE vocabulary, whose ids are in merge order: every split of a piece into two others."""
    merges = []
    for piece, rank in vocabulary.items():
        splits = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocabulary and piece[i:] in vocabulary]
        merges += [(rank, vocabulary[left], vocabulary[right], left, right) for left, right in splits]
    return [(left, right) for *_, left, right in sorted(merges)]
