"""Multiple choice of one's own, described in a ``task.yaml``: MMLU's layout, or any table whose columns are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from evalkit.protocol import Protocol
from evalkit.reading import Columns, Entry, read_entries, sha256_of_files
from evalkit.tasks.mmlu import HENDRYCKS
from evalkit.types import LETTERS, ChoiceTask, Question
from evalkit.validation import Finding, check_shots, checked
from modelkit.errors import DataError, UserError

_FILES = (".csv", ".jsonl", ".json", ".parquet")


class ColumnsSpec(BaseModel):
    """Which columns hold what; ``options`` is a list of columns, or one that holds a list."""

    model_config = ConfigDict(extra="forbid")
    question: str
    options: str | list[str]
    gold: str
    passage: str = ""
    subject: str = ""

    def named(self) -> Columns:
        """The columns as readers take them."""
        options = self.options if isinstance(self.options, str) else tuple(self.options)
        return Columns(self.question, options, self.gold, self.passage, subject=self.subject)


class ChoiceSpec(BaseModel):
    """Multiple choice. Without ``columns``, ``data`` is a folder in MMLU's layout, ``test/<subject>_test.csv``.

    With them it is a file, or a folder with a file per subject, and ``dev`` the same for the shots, of which there are none without.

    :ivar header: stands above the shots; ``{subject}`` is the subject's name, with blanks for underscores.
    :ivar prompt: a question up to its answer, made of ``{question}``, ``{options}``, ``{passage}`` and ``{subject}``.
    :ivar letters: what the options are called.
    :ivar lead: what comes between prompt and letter.
    :ivar language: the category of subjects that have none.
    """

    model_config = ConfigDict(extra="forbid")
    kind: Literal["choice"]
    data: str
    dev: str | None = None
    columns: ColumnsSpec | None = None
    shots: int = Field(default=0, ge=0)
    methods: list[Literal["letters", "perplexity", "generate"]] = ["letters"]
    header: str | None = None
    prompt: str | None = None
    letters: str = Field(default=LETTERS, min_length=2, max_length=len(LETTERS))
    lead: str = " "
    language: str = ""
    categories: dict[str, str] = {}

    @model_validator(mode="after")
    def _asks_all_there_is(self) -> ChoiceSpec:
        if self.prompt is not None and "{question}" not in self.prompt:
            raise ValueError("prompt has no {question}, so nothing would be asked")
        if self.columns and self.columns.passage and "{passage}" not in (self.prompt or ""):
            raise ValueError("columns names a passage, which is asked only where prompt has {passage}")
        if len(set(self.letters)) < len(self.letters):
            raise ValueError("letters must differ from each other")
        return self


@dataclass(frozen=True)
class Template(Protocol):
    """A prompt of one's own."""

    prompt: str = "{question}\n{options}\nAnswer:"

    def block(self, question: Question, method: str = "letters") -> str:
        """The prompt, filled in: each option on a line behind its letter."""
        options = "\n".join(f"{letter}. {option}" for letter, option in zip(self.symbols, question.options, strict=False))
        parts = {
            "{question}": question.text,
            "{options}": options,
            "{passage}": question.passage,
            "{subject}": self.title(question.subject),
        }
        ends = {name: self.prompt.index(name) for name in parts if name in self.prompt}
        block, rest = "", self.prompt
        for name in sorted(ends, key=ends.__getitem__):
            before, _, rest = rest.partition(name)
            block += before + parts[name]
        return block + rest


def load_choice(folder: Path, name: str, spec: ChoiceSpec, shots: int | None, methods: Sequence[str] | None) -> ChoiceTask:
    """The task *name* that *folder*'s ``task.yaml`` describes.

    :raises UserError: for data that is missing or malformed, or not what the file says.
    """
    count = spec.shots if shots is None else shots
    tables = _tables(folder, spec.data, spec, "test")
    examples = _examples(folder, spec, count) if count else {}
    items: list[Question] = []
    findings: list[Finding] = []
    for subject, entries in tables.items():
        found, spoken = checked(entries, subject, _categories(spec, subject))
        items += found
        findings += spoken
    if unknown := sorted(set(spec.categories) - set(tables)):
        raise UserError(
            f"{folder / 'task.yaml'} gives {unknown[0]!r} a category, but there is no such subject: there is {', '.join(tables)}."
        )
    dev = {subject: _shots(folder, examples.get(subject, []), subject, count) for subject in tables} if count else {}
    files = sorted({entry.file for table in (tables, examples) for entries in table.values() for entry in entries})
    sha256 = sha256_of_files(files, folder)
    return ChoiceTask(name, sha256, items, _protocol(spec), dev, count, methods or spec.methods, findings, tuple(tables))


def _protocol(spec: ChoiceSpec) -> Protocol:
    asked: dict[str, Any] = {"shots": spec.shots, "methods": tuple(spec.methods)}
    if spec.header is None and spec.prompt is None and spec.letters == LETTERS:
        return replace(HENDRYCKS, **asked)
    own = Template(
        "own prompt" if spec.prompt else "own header",
        "micro",
        header=HENDRYCKS.header if spec.header is None and spec.prompt is None else spec.header or "",
        letter_lead=spec.lead,
        symbols=spec.letters,
        **asked,
    )
    if spec.letters != LETTERS:
        own = replace(own, allows=("letters", "perplexity"))
    return replace(own, prompt=spec.prompt) if spec.prompt else own


def _examples(folder: Path, spec: ChoiceSpec, count: int) -> dict[str, list[Entry]]:
    """The rows that shots are taken from.

    :raises UserError: when they would be the questions themselves, which then stood among their own examples with their answers.
    """
    if spec.columns and (spec.dev is None or (folder / spec.dev).resolve() == (folder / spec.data).resolve()):
        raise UserError(
            f"{count} shots were asked for, but {folder / 'task.yaml'} names no file for them but that of the questions: "
            "name another as `dev`, or use --shots 0."
        )
    return _tables(folder, spec.dev or spec.data, spec, "dev")


def _tables(folder: Path, data: str, spec: ChoiceSpec, split: str) -> dict[str, list[Entry]]:
    """The rows of each subject."""
    place = folder / data
    if spec.columns is None:
        ending = f"_{split}.csv"
        if not (place / split).is_dir():
            raise DataError(f"{place} has no folder {split}: without `columns`, data keeps MMLU's layout, {split}/<subject>{ending}.")
        files = {file.name.removesuffix(ending): file for file in sorted((place / split).glob(f"*{ending}"))}
    elif place.is_dir():
        files = {file.stem: file for file in sorted(place.iterdir()) if file.suffix in _FILES}
    else:
        files = {"all": place}
    if not files:
        raise DataError(f"{place} holds no data file.")
    columns = spec.columns.named() if spec.columns else None
    tables: dict[str, list[Entry]] = {}
    before = 0  # rows of the files read so far, where one subject may stand in several of them and ids must differ
    for subject, file in files.items():
        entries = read_entries(file, columns)
        for entry in entries:
            if len(entry.options) > len(spec.letters):
                raise DataError(
                    f"{file}:{entry.line} has {len(entry.options)} options, and {spec.letters} are letters for {len(spec.letters)}: "
                    f"name more as `letters` ({len(LETTERS)} at most), or leave the question out."
                )
            named = replace(entry, row=before + entry.row, gold=_letter(entry.gold, spec.letters))
            tables.setdefault(entry.subject or subject, []).append(named)
        before += len(entries) if columns and columns.subject else 0
    return tables


def _letter(gold: object, symbols: str) -> object:
    """The letter that stands for one of the task's own symbols."""
    return LETTERS[symbols.index(gold)] if symbols != LETTERS and isinstance(gold, str) and len(gold) == 1 and gold in symbols else gold


def _shots(folder: Path, entries: Sequence[Entry], subject: str, count: int) -> list[Question]:
    """:raises UserError: when there are fewer than *count*, or one of them has a fault."""
    if len(entries) < count:
        raise UserError(
            f"{count} shots were asked for, but {folder / 'task.yaml'} has only {len(entries)} for {subject}: use --shots {len(entries)}."
        )
    shots = checked(entries, subject, ())[0][:count]
    check_shots(shots)
    return shots


def _categories(spec: ChoiceSpec, subject: str) -> tuple[str, ...]:
    category = spec.categories.get(subject, spec.language)
    return (category,) if category else ()
