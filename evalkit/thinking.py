"""Two replies to one question: thoughts, and behind them the answer (Kojima et al. 2022, "Large language models are zero-shot
reasoners")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from evalkit.encoding import Said
from evalkit.fitting import Fitted
from evalkit.models.face import Face, Replies, Reply
from modelkit.generation.sampling import Sampling

_SLICE = 32  # questions whose thoughts wait together for their answers


def think_and_answer(
    face: Face,
    prompts: Sequence[Fitted],
    conclusions: Sequence[str],
    samplings: tuple[Sampling, Sampling],
    stop: Sequence[str],
    on_batch: Replies,
    wanted: set[int],
) -> None:
    """Ask for thoughts after each prompt, and behind prompt, thoughts and conclusion for the answer.

    A slice of questions gets both, and is handed over, before the next is begun. It is asked whole as long as any of it is
    wanted, so that every answer is always written in the same company.

    :param conclusions: what leads from the thoughts to the answer, prompt by prompt.
    :param samplings: of the thoughts, and of the answer.
    """
    for start in range(0, len(prompts), _SLICE):
        part = range(start, min(start + _SLICE, len(prompts)))
        if wanted.isdisjoint(part):
            continue
        thoughts = _replies(face, {k: prompts[k] for k in part}, samplings[0], stop)
        thought = [k for k, reply in thoughts.items() if reply.reason is None]
        said = [_behind(prompts[k].said, f"\n{thoughts[k].text}\n{conclusions[k]}") for k in thought]
        seconds = {k: Fitted(one, "", ids, 0) for k, one, ids in zip(thought, said, face.encoder.encode(said), strict=True)}
        answers = _replies(face, seconds, samplings[1], stop)
        done = {k: _joined(reply, answers[k]) if k in answers else reply for k, reply in thoughts.items()}
        on_batch(list(done), list(done.values()))


def _replies(face: Face, prompts: Mapping[int, Fitted], sampling: Sampling, stop: Sequence[str]) -> dict[int, Reply]:
    """The replies by their prompts' keys. A prompt that fills the context gets a reason for one."""
    able = [k for k, prompt in prompts.items() if face.context is None or len(prompt.ids) < face.context]
    found = dict.fromkeys(prompts.keys() - able, Reply(reason=f"the thoughts leave no room for an answer in {face.context} tokens"))

    def keep(places: list[int], replies: list[Reply]) -> None:
        found.update((able[i], reply) for i, reply in zip(places, replies, strict=True))

    face.complete([prompts[k] for k in able], sampling, stop, keep)
    return {k: found[k] for k in prompts if k in found}


def _joined(thoughts: Reply, answer: Reply) -> Reply:
    """The answer with the thoughts that it follows from."""
    finish: Literal["stop", "length"] = "length" if "length" in (thoughts.finish, answer.finish) else "stop"
    return Reply(answer.text, thoughts.tokens + answer.tokens, finish, answer.reason, thoughts.text)


def _behind(said: Said, more: str) -> Said:
    """A prompt with *more* at its end; of a conversation, at the end of its last turn."""
    if isinstance(said, str):
        return said + more
    *before, last = said
    return [*before, {"role": last["role"], "content": last["content"] + more}]
