"""From answers to judgments: one by one on a scale of 1…10, or two by two in both orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from evalkit.judge import asking
from evalkit.judge.answers import Answer
from evalkit.judge.cache import Table, key_of
from evalkit.judge.judges import Judge, RewardJudge, TextJudge
from evalkit.judge.prompt_set import Prompt
from evalkit.judge.verdicts import Verdict, Winner
from evalkit.judge.wording import Question, Wording
from modelkit.records import Judgment

_SWAPPED: dict[Winner | None, Winner | None] = {"a": "b", "b": "a", "tie": "tie", None: None}


@dataclass(frozen=True)
class Bench:
    """What judging needs: who judges, how it is asked, what it said before, and whom to tell.

    :param say: told what asking would take.
    :param progress: told how many replies have come since it was told last.
    """

    judge: Judge
    wording: Wording
    table: Table
    say: Callable[[str], None]
    progress: Callable[[int], None] = lambda done: None

    @property
    def identity(self) -> str:
        """Changes with the judge and with every word it is told."""
        return self.judge.identity if isinstance(self.judge, RewardJudge) else key_of(self.judge.identity, self.wording.identity)


Prompts = Mapping[tuple[str, str], Prompt]
"""By language and id."""


def singles(bench: Bench, answers: Sequence[Answer], prompts: Prompts) -> list[Judgment]:
    """A score for each answer, in their order. An answer that isn't there is unscored."""
    given = [answer for answer in answers if answer.unanswered is None]
    if isinstance(bench.judge, RewardJudge):
        verdicts = [_scored(bench.judge, reward) for reward in _rewards(bench, bench.judge, given)]
    else:
        verdicts = _asked(bench, bench.judge, _single_questions(bench.wording, given, prompts))
    found = {answer.key: verdict for answer, verdict in zip(given, verdicts, strict=True)}
    return [_judgment(bench, "single", [answer], found.get(answer.key) or Verdict(unscored=answer.unanswered)) for answer in answers]


def pairs(bench: Bench, matches: Sequence[tuple[Answer, Answer]], prompts: Prompts) -> list[Judgment]:
    """The better one of each two answers, asked in both orders: a judge that contradicts itself has called a tie.

    Two answers that are the same are a tie that nobody needs to be asked about.
    """
    asked = [match for match in matches if _comparable(match)]
    if isinstance(bench.judge, RewardJudge):
        rewards = _rewards(bench, bench.judge, [answer for match in asked for answer in match])
        both: list[tuple[Verdict, ...]] = [(_preferred(a, b),) for a, b in zip(rewards[::2], rewards[1::2], strict=True)]
    else:
        verdicts = _asked(bench, bench.judge, _pair_questions(bench.wording, asked, prompts))
        both = [
            (first, replace(second, winner=_SWAPPED[second.winner])) for first, second in zip(verdicts[::2], verdicts[1::2], strict=True)
        ]
    found = dict(zip(map(_names, asked), both, strict=True))
    return [_pair_judgment(bench, match, found.get(_names(match))) for match in matches]


def questions(wording: Wording, answers: Sequence[Answer], matches: Sequence[tuple[Answer, Answer]], prompts: Prompts) -> list[Question]:
    """All that judging asks in words: about *matches* where there are any, else about each of *answers*."""
    if matches:
        return _pair_questions(wording, [match for match in matches if _comparable(match)], prompts)
    return _single_questions(wording, [answer for answer in answers if answer.unanswered is None], prompts)


def _single_questions(wording: Wording, answers: Sequence[Answer], prompts: Prompts) -> list[Question]:
    return [wording.single(prompts[answer.language, answer.prompt], answer.turn, answer.messages) for answer in answers]


def _pair_questions(wording: Wording, matches: Sequence[tuple[Answer, Answer]], prompts: Prompts) -> list[Question]:
    """Each match in the one order, then in the other."""
    return [
        wording.pair(prompts[a.language, a.prompt], a.turn, first.messages, second.messages)
        for a, b in matches
        for first, second in ((a, b), (b, a))
    ]


def _asked(bench: Bench, judge: TextJudge, questions: Sequence[Question]) -> list[Verdict]:
    return asking.ask(judge, questions, bench.table, bench.say, bench.progress)


def _rewards(bench: Bench, judge: RewardJudge, answers: Sequence[Answer]) -> list[float | None]:
    """The reward of each answer; every conversation is read once."""
    keys = [key_of(judge.identity, answer.messages) for answer in answers]
    missing = {key: answer for key, answer in zip(keys, answers, strict=True) if bench.table.get(key) is None}
    if missing:
        bench.say(f"{len(missing):,} answers to {judge.name}")
        rewards = judge.rewards([answer.messages for answer in missing.values()])
        bench.table.put({key: {"reward": reward} for key, reward in zip(missing, rewards, strict=True)})
    bench.progress(len(answers))
    return [row["reward"] if (row := bench.table.get(key)) else None for key in keys]


_TOO_LONG = "longer than the reward model's context"


def _scored(judge: RewardJudge, reward: float | None) -> Verdict:
    return Verdict(unscored=_TOO_LONG) if reward is None else Verdict(judge.score(reward), {"reward": reward})


def _preferred(a: float | None, b: float | None) -> Verdict:
    if a is None or b is None:
        return Verdict(unscored=_TOO_LONG)
    return Verdict(winner="a" if a > b else "b" if b > a else "tie", reason=f"reward {max(a, b):.3f} against {min(a, b):.3f}")


def _comparable(match: tuple[Answer, Answer]) -> bool:
    a, b = match
    return a.unanswered is None and b.unanswered is None and a.messages != b.messages


def _names(match: tuple[Answer, Answer]) -> tuple[tuple, tuple]:
    return match[0].key, match[1].key


def _pair_judgment(bench: Bench, match: tuple[Answer, Answer], both: tuple[Verdict, ...] | None) -> Judgment:
    a, b = match
    if both is None:
        missing = a.unanswered or b.unanswered
        verdict = Verdict(unscored=missing) if missing else Verdict(winner="tie", reason="both answers are the same")
        return _judgment(bench, "pairwise", match, verdict)
    said = [verdict.winner for verdict in both]
    unscored = next((verdict.unscored for verdict in both if verdict.unscored), None)
    winner: Winner | None = None if unscored else said[0] if len(set(said)) == 1 else "tie"
    reason = "\n\n".join(dict.fromkeys(verdict.reason for verdict in both if verdict.reason))
    return _judgment(bench, "pairwise", match, Verdict(winner=winner, reason=reason, unscored=unscored), said if len(said) > 1 else [])


def _judgment(bench: Bench, mode: str, answers: Sequence[Answer], verdict: Verdict, orders: Sequence[Winner | None] = ()) -> Judgment:
    one = answers[0]
    shown = [answer.answered for answer in answers]
    identity = key_of(bench.identity, mode, one.language, one.prompt, one.turn, [answer.model_dump() for answer in shown])
    return Judgment(
        id=identity.removeprefix("sha256:")[:16],
        judge=bench.judge.name,
        mode="pairwise" if mode == "pairwise" else "single",
        prompt=one.prompt,
        turn=one.turn,
        category=one.category,
        language=one.language,
        answers=shown,
        score=verdict.score,
        criteria=verdict.criteria,
        winner=verdict.winner,
        orders=list(orders),
        reason=verdict.reason,
        unscored=verdict.unscored,
    )
