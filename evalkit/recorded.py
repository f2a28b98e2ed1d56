"""A result folder, read back and checked: ``results.json`` and the lines of its samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from evalkit.permutation import shift_of
from modelkit.errors import DataError
from modelkit.records import MethodScore, Result, TaskScore


class Line(BaseModel):
    """What became of one question by one method: a line of ``samples/<task>.jsonl``. Further fields are kept as they are."""

    model_config = ConfigDict(extra="allow")
    id: str
    subject: str
    method: str
    gold: str | None = None
    prediction: str | None = None
    correct: bool | None = None
    scores: dict[str, float] | None = None
    shots_used: int | None = None
    reason: str | None = None
    prompt: str | None = None
    prompt_sha256: str | None = None


@dataclass(frozen=True)
class Recorded:
    """A finished result and the folder it lies in."""

    folder: Path
    result: Result

    @property
    def name(self) -> str:
        """How a person calls the checkpoint: the last part of its path."""
        return Path(self.result.model.path).name or self.result.model.path

    def scores(self) -> Iterator[tuple[str, TaskScore, str, MethodScore]]:
        """Each (task's name, task, method's name, method)."""
        for name, task in self.result.tasks.items():
            for method, score in task.methods.items():
                yield name, task, method, score

    def lines(self, task: str, method: str | None = None, permuted: bool = False) -> list[Line]:
        """The lines of *task*, of one method or of all, in the order of the file.

        :param permuted: also those of questions asked with their options in another order.

        :raises DataError: when the file is missing, or a line of it is damaged.
        """
        file = self.folder / "samples" / f"{task}.jsonl"
        try:
            texts = file.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            raise DataError(f"{file} is missing, so what was answered in {self.folder} is lost: run the evaluation again.") from None
        lines = []
        for number, text in enumerate(texts, start=1):
            if not text:
                continue
            try:
                lines.append(Line.model_validate_json(text))
            except ValidationError as error:
                problem = error.errors()[0]
                raise DataError(f"{file}:{number} is no sample ({problem['msg']}): run the evaluation again.") from None
        return [line for line in lines if method in (None, line.method) and (permuted or shift_of(line.id) == 0)]


def read(path: Path) -> Recorded:
    """The result at *path*, a result folder or its ``results.json``.

    :raises DataError: when there is none.
    """
    folder = path.parent if path.name == "results.json" else path
    if not (folder / "results.json").is_file():
        raise DataError(f"{path} is no result: name the folder that holds a results.json.")
    return Recorded(folder, Result.read(folder / "results.json"))
