"""Tiny random models, and the data of a small suite."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from modelkit.chat import PLAIN_TEMPLATE, Message
from tests.tiny_llama import config, language_model

CONTEXT = 192
WORDS = ["Question: What is the capital of France?\nAnswer: Paris", "A. B. C. D. 中国的首都是北京。", "User: hi\nAssistant: yes"]


def tiny_tokenizer(template: str | None = PLAIN_TEMPLATE) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of a few hundred tokens that adds its beginning-of-sequence token by itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        WORDS * 3, trainers.BpeTrainer(vocab_size=320, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = template
    return fast


def tiny_model(seed: int, reward: bool = False, context: int = CONTEXT) -> LlamaForCausalLM | LlamaForSequenceClassification:
    """A random LLaMA of some ten thousand parameters, spread enough to have opinions."""
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    own = {"intermediate_size": 48, "max_position_embeddings": context, "tie_word_embeddings": False, "initializer_range": 0.3}
    if not reward:
        return language_model(len(tiny_tokenizer()), seed, **own, **special)
    torch.manual_seed(seed)
    return LlamaForSequenceClassification(config(len(tiny_tokenizer()), num_labels=1, **own, **special)).eval()


def write_csv(file: Path, rows: list[list[str]]) -> None:
    """A CSV file without a header."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)


def write_jsonl(file: Path, rows: list[dict]) -> None:
    """One JSON object per line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def ask(content: str) -> list[Message]:
    """A conversation of one user turn."""
    return [{"role": "user", "content": content}]


SUITE = """
name: pocket
languages: [en, zh]
tasks:
  choice:
    kind: choice
    data: choice
    methods: [perplexity, letters]
    categories: {capitals: en, 首都: zh}
  answer: {kind: answer, data: answers.jsonl, max_tokens: 8}
  pairs: {kind: pairs, data: pairs.jsonl}
  reward: {kind: reward, data: prompts.jsonl, reward_model: rm, reference: sft, samples: 3, max_tokens: 8}
  text: {kind: text, data: text.jsonl}
"""


def write_suite(folder: Path) -> None:
    """The data of :data:`SUITE`."""
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text(SUITE, encoding="utf-8")
    cities = ["Paris", "Rome", "Oslo", "Bern"]
    test = [[f"What is the capital of land {i}?", *cities, "ABCD"[i % 4]] for i in range(6)]
    write_csv(folder / "choice/test/capitals_test.csv", test)
    write_csv(folder / "choice/dev/capitals_dev.csv", [[f"Capital of {i}?", *cities, "B"] for i in range(3)])
    write_csv(
        folder / "choice/test/首都_test.csv",
        [["中国的首都是", "北京", "东京", "None", "NA", "A"], ["首都在哪里？", "甲", "乙", "丙", "丁", "D"]],
    )
    write_csv(folder / "choice/dev/首都_dev.csv", [["日本的首都", "北京", "东京", "首尔", "河内", "B"]] * 3)
    answers = [{"messages": ask(f"Capital of {i}?"), "reference": "Paris", "alternatives": cities, "subject": "capitals"} for i in range(4)]
    write_jsonl(folder / "answers.jsonl", [{**row, "category": "en"} for row in answers])
    pairs = [{"messages": ask(f"Is {i} even?"), "chosen": "yes it is", "rejected": "no", "subject": "truth"} for i in range(4)]
    write_jsonl(folder / "pairs.jsonl", [*pairs, {"messages": ask("你好"), "chosen": "好", "rejected": "你好！", "subject": "length"}])
    write_jsonl(folder / "prompts.jsonl", [{"messages": ask(f"Say {i}"), "reference": None, "category": "en"} for i in range(5)])
    write_jsonl(
        folder / "text.jsonl",
        [{"text": "The capital of France is Paris. " * 20, "category": "en"}, {"text": "中国的首都是北京。", "category": "zh"}],
    )
