"""From questions to verdicts: what was asked before is looked up, the rest is asked, and what can't be read is asked once more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from evalkit.judge.cache import Table, key_of
from evalkit.judge.judges import Reply, TextJudge
from evalkit.judge.verdicts import Verdict
from evalkit.judge.wording import Question
from modelkit.chat import Message

REMINDER = (
    "Your reply ends without a verdict in the form that was asked for. Give the verdict again, in exactly that form. "
    "上一条回复的结尾没有按要求给出结论，请严格按格式重新给出结论。"
)
Progress = Callable[[int], None]


def ask(
    judge: TextJudge, questions: Sequence[Question], table: Table, say: Callable[[str], None], progress: Progress = lambda done: None
) -> list[Verdict]:
    """The verdict on each question, in their order.

    The judge's words are kept, not our reading of them. A reply without a verdict is answered with a reminder, once; what is
    still unreadable then is unscored, with the reason.

    :param say: told what asking would take, before anything is asked.
    :param progress: told how many replies came since it was told last.
    :raises UserError: when no more can be asked; what was answered is in *table*.
    """
    said = _replies(judge, questions, table, say, progress)
    verdicts = [_verdict(question, reply) for question, reply in zip(questions, said, strict=True)]
    unread = [i for i, verdict in enumerate(verdicts) if verdict.unscored and said[i].reason is None]
    again = [replace(questions[i], messages=[*questions[i].messages, *_reminder(said[i].text)]) for i in unread]
    if again:
        for i, reply, question in zip(unread, _replies(judge, again, table, say, progress), again, strict=True):
            second = _verdict(question, reply)
            verdicts[i] = verdicts[i] if second.unscored else second
    return verdicts


def unasked(judge: TextJudge, questions: Sequence[Question], table: Table) -> list[Question]:
    """Those of *questions* whose replies aren't in *table*, each once."""
    missing = {_key(judge, question): question for question in questions}
    return [question for key, question in missing.items() if table.get(key) is None]


def _replies(judge: TextJudge, questions: Sequence[Question], table: Table, say: Callable[[str], None], progress: Progress) -> list[Reply]:
    """The reply to each question. Those given up have a reason and are not kept: they are asked again next time."""
    missing = unasked(judge, questions, table)
    given_up: dict[str, Reply] = {}

    def keep(places: list[int], replies: list[Reply]) -> None:
        found = {_key(judge, missing[place]): reply for place, reply in zip(places, replies, strict=True)}
        table.put({key: {"text": reply.text, "cut": reply.cut} for key, reply in found.items() if reply.reason is None})
        given_up.update({key: reply for key, reply in found.items() if reply.reason is not None})
        progress(len(places))

    if missing:
        say(judge.estimate(missing))
        judge.ask(missing, keep)
    rows = [(key, table.get(key)) for key in (_key(judge, question) for question in questions)]
    return [given_up[key] if row is None else Reply(row["text"], row["cut"]) for key, row in rows]


def _verdict(question: Question, reply: Reply) -> Verdict:
    if reply.reason is not None:
        return Verdict(unscored=reply.reason)
    if reply.cut:  # what looks like a verdict before the end may be quoted from an answer
        return Verdict(reason=reply.text, unscored="the judge's reply was cut off before its end")
    return question.read(reply.text)


def _reminder(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text or "…"}, {"role": "user", "content": REMINDER}]


def _key(judge: TextJudge, question: Question) -> str:
    return key_of(judge.identity, question.messages, question.schema)
