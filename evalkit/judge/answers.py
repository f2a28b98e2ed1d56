"""What is judged: the answer of one contestant to one turn of a prompt, with the conversation that it ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from evalkit.extraction import same_language
from evalkit.judge.formats import objects, text_of
from evalkit.judge.prompt_set import Language, Prompt, PromptSet
from modelkit.chat import Message
from modelkit.errors import DataError
from modelkit.fingerprint import sha256_of_messages, sha256_of_text
from modelkit.records import Answered

Key = tuple[str, str, str, int]
"""Model, language, prompt's id, turn."""


class Answer(BaseModel):
    """A line of ``answers.jsonl``. ``messages`` end with the answer; ``unanswered`` says why there is none.

    :param tokens: the answer's, as its model counts them; 0 where nobody did.
    :param finish: ``stop``, or ``length`` when it was cut off; ``None`` where nobody knows.
    """

    model: str
    fingerprint: str
    prompt: str
    language: Language
    category: str
    turn: int = 1
    messages: list[Message]
    tokens: int = 0
    finish: str | None = None
    unanswered: str | None = None

    @property
    def key(self) -> Key:
        """What tells it from every other answer."""
        return self.model, self.language, self.prompt, self.turn

    @property
    def text(self) -> str:
        """The answer itself."""
        return self.messages[-1]["content"]

    @property
    def in_language(self) -> bool:
        """Whether it is in its prompt's language; one without letters is in every language, an empty one in none."""
        return bool(self.text.strip()) and same_language("文" if self.language == "zh" else "text", self.text)

    @property
    def answered(self) -> Answered:
        """Its part of a judgment."""
        return Answered(model=self.model, fingerprint=self.fingerprint, characters=len(self.text), sha256=sha256_of_messages(self.messages))


def conversation(prompt: Prompt, turn: int, earlier: Sequence[str]) -> list[Message]:
    """What a model is shown before it answers *turn* (from 1), given its answers to the *earlier* ones."""
    messages: list[Message] = [{"role": "system", "content": prompt.system}] if prompt.system else []
    for asked, answered in zip(prompt.turns, earlier[: turn - 1], strict=False):
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return [*messages, {"role": "user", "content": prompt.turns[turn - 1]}]


def made(
    model: str, fingerprint: str, prompt: Prompt, turn: int, asked: Sequence[Message], text: str | None, reason: str | None = None
) -> Answer:
    """The answer *text* to what was *asked*; ``None`` with a *reason* where there is none."""
    return Answer(
        model=model,
        fingerprint=fingerprint,
        prompt=prompt.id,
        language=prompt.language,
        category=prompt.category,
        turn=turn,
        messages=[*asked, {"role": "assistant", "content": text or ""}],
        unanswered=reason if text is None else None,
    )


def read(path: Path, prompts: PromptSet) -> dict[str, list[Answer]]:
    """The answers to *prompts* in a file, by model: ours, AlpacaEval's outputs, or FastChat's ``model_answer``.

    A prompt that a model has no answer to is there all the same, as unanswered.

    :raises DataError: for a file that is none of these, or has no answer to any of the prompts.
    """
    found: dict[str, dict[tuple[str, str], list[str]]] = {}
    name = path.stem
    for place, entry in objects(text_of(path), str(path)):
        try:
            model, places, texts = _entry(entry, name, prompts)
        except (KeyError, IndexError, TypeError, ValidationError):
            raise DataError(
                f"{place} is no answer: it needs prompt and messages, or instruction and output, or question_id and choices."
            ) from None
        for key in places:
            found.setdefault(model, {}).setdefault(key, []).extend(texts)
    answers = {model: _all(model, given, prompts) for model, given in found.items()}
    if not any(answer.unanswered is None for given in answers.values() for answer in given):
        raise DataError(f"{path} answers none of the prompts of {prompts.name}: name the prompts it belongs to with --prompts.")
    return answers


def _entry(entry: dict, name: str, prompts: PromptSet) -> tuple[str, list[tuple[str, str]], list[str]]:
    """Whose answer it is, to which prompts (language, id), and the texts of its turns."""
    if "choices" in entry:
        identity = str(entry["question_id"])
        places = [prompt.key for prompt in prompts.prompts if prompt.id == identity]
        return str(entry.get("model_id", name)), list(places), list(entry["choices"][0]["turns"])
    if "output" in entry:
        asked = "\n\n".join(filter(None, (entry["instruction"], entry.get("input"))))
        places = [prompt.key for prompt in prompts.prompts if prompt.turns[0] == asked]
        return str(entry.get("generator", name)), list(places), [entry["output"]]
    answer = Answer.model_validate({"fingerprint": "", "language": "en", "category": "", **entry})
    return answer.model, [(answer.language, answer.prompt)], [] if answer.unanswered else [answer.text]


def _all(model: str, given: dict[tuple[str, str], list[str]], prompts: PromptSet) -> list[Answer]:
    """An answer to every turn of every prompt; the fingerprint is over what was said."""
    mark = sha256_of_text(json.dumps([[list(key), texts] for key, texts in sorted(given.items())], ensure_ascii=False))
    answers = []
    for prompt in prompts.prompts:
        texts = given.get(prompt.key, [])
        for turn in range(1, len(prompt.turns) + 1):
            text = texts[turn - 1] if turn <= len(texts) else None
            answers.append(made(model, f"answers:{mark}", prompt, turn, conversation(prompt, turn, texts), text, "the file has no answer"))
    return answers
