"""What every stage is given besides its settings: where its things lie, the tokenizer, the processes it runs on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modelkit import atomic, checkpoint, hub
from modelkit.chat import PLAIN_TEMPLATE, verify_template
from modelkit.checkpoint import StageInfo
from modelkit.errors import UserError
from modelkit.run import Run
from trainers.data import dataset
from trainers.data.cache import TokenCache
from trainers.data.dataset import Counts, Prompt
from trainers.log import Progress
from trainers.loop import Finished, StageLoop, train
from trainers.recipe import Mixture

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from trainers.lora import Trainee
    from trainers.strategies import Strategy


class Placed(Protocol):
    """Something to learn from that knows its file and line."""

    @property
    def place(self) -> str:
        """As in ``chats.jsonl:7``; empty where nobody knows."""


@dataclass(frozen=True)
class Job:
    """One stage's work in a run: its name there, the folder of its data files, its tokenizer, and what tells it from others.

    ``recipe`` is the sha256 of everything that the result depends on but what is in the data files. ``probes`` are prompts to show the
    model's progress on; a stage takes some of its own where none are given. With ``strict`` the first bad row ends the stage.
    """

    run: Run
    name: str
    data: Path
    seed: int
    recipe: str
    tokenizer: PreTrainedTokenizerBase
    strategy: Strategy
    progress: Progress
    probes: Sequence[Prompt] = ()
    strict: bool = False

    @property
    def checkpoint(self) -> Path:
        """Where the stage's checkpoint will be."""
        return self.run.checkpoint(self.name)

    @cached_property
    def tokens(self) -> TokenCache:
        """The run's cache of tokenised rows, which all its stages share."""
        return TokenCache(self.run.state("tokens"))

    def rows(self, mixture: Sequence[Mixture], kind: Any, counts: Counts) -> list[dict[str, Any]]:
        """The rows of the stage's data files; bad ones are put aside in the run's ``bad_rows.jsonl``, each once.

        :raises UserError: when a file isn't what it was when the stage was begun.
        """
        rows = dataset.read(mixture, self.data, kind, counts, self.strict)
        self._note_files({source.path: source.sha256 for source in counts.sources})
        if counts.problems and self.strategy.rank == 0:
            aside = self.run.path / "bad_rows.jsonl"
            earlier = aside.read_text(encoding="utf-8") if aside.exists() else ""
            lines = dict.fromkeys([*earlier.splitlines(keepends=True), *counts.bad_rows().splitlines(keepends=True)])
            atomic.write_text(aside, "".join(lines))
        return rows

    def _note_files(self, files: dict[str, str]) -> None:
        """Keep the files' hashes beside the stage's states, or compare them with those kept when there are states already."""
        folder = self.run.state(self.name)
        note = folder / "data.json"
        if note.exists() and any(folder.glob("step-*")):
            earlier = json.loads(note.read_text(encoding="utf-8"))
            for path, sha256 in files.items():
                if earlier.get(path, sha256) != sha256:
                    raise UserError(
                        f"{path} has changed since {self.checkpoint} was begun: restore it, choose another --out, or delete {folder}."
                    )
        elif self.strategy.rank == 0:
            atomic.write_json(note, files)

    def train(self, stage: StageLoop, rows: Sequence[Placed]) -> Finished:
        """Run the stage's loop, or what is left of it, on the training *rows*."""
        places = [row.place for row in rows]
        return train(stage, self.seed, self.run.log(self.name), self.run.state(self.name), self.progress, places)

    def save(
        self,
        trainee: Trainee,
        parent: Path | None,
        finished: Finished,
        counts: Counts,
        extra: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        """Write the checkpoint (called *name*, by default as the stage) with its ``stage.json``."""
        folder = self.run.checkpoint(name or self.name)
        info = StageInfo(
            stage=name or self.name,
            parent=None if parent is None else hub.name_of(parent) or os.path.relpath(parent.resolve(), folder.resolve()),
            recipe=self.recipe,
            data=counts.sources,
            steps=finished.steps,
            tokens=finished.tokens,
            seconds=round(finished.seconds, 2),
            metrics=finished.metrics,
        )
        trainee.save(self.tokenizer, folder, info, self.strategy, extra)


def tokenizer_for(start: Path, chat: bool = True) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint to train from, with a plain chat template where it has none.

    :raises UserError: when it can't mark where texts end, or (for *chat*) its template leaves nothing to learn from.
    """
    tokenizer = checkpoint.load_tokenizer(start)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return checked(tokenizer, str(start), chat)


def checked(tokenizer: PreTrainedTokenizerBase, where: str, chat: bool = True) -> PreTrainedTokenizerBase:
    """The tokenizer, fit for training: with an end of sequence, another token for padding, and a verified chat template.

    Where padding is missing or is the end of sequence (transformers would take a reward from the token before it), another special
    token pads; a tokenizer that has no other pads with its end of sequence.

    :raises UserError: naming what is missing.
    """
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of {where} has no end-of-sequence token, so a model could not learn to stop: set eos_token in its "
            "tokenizer_config.json."
        )
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        others = [token for token in (tokenizer.unk_token, *tokenizer.all_special_tokens) if token not in (None, tokenizer.eos_token)]
        tokenizer.pad_token = others[0] if others else tokenizer.eos_token
    if chat:
        try:
            verify_template(tokenizer)
        except UserError as error:
            raise UserError(f"the tokenizer of {where} can't be trained with: {error}") from None
    return tokenizer


def same_tokenizer(model: Path, other: Path) -> None:
    """:raises UserError: when two checkpoints that must read the same ids have tokenizers or templates that give other ones."""
    ours, theirs = checkpoint.load_tokenizer(model), checkpoint.load_tokenizer(other)
    words = [(one.get_vocab(), one.bos_token_id, one.eos_token_id) for one in (ours, theirs)]
    if words[0] != words[1]:
        raise UserError(
            f"{model} and {other} have different tokenizers, so one can't judge the other's tokens: train both from the same base."
        )
    if (ours.chat_template or PLAIN_TEMPLATE) != (theirs.chat_template or PLAIN_TEMPLATE):
        raise UserError(
            f"{model} and {other} have different chat templates, so one would judge conversations that it was not trained on: train both "
            "from the same base, or copy chat_template.jinja from one to the other where they mean the same."
        )
