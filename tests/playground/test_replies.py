from __future__ import annotations

import dataclasses
import shutil
import threading
from pathlib import Path

import pytest

from modelkit.chat import Message, encode_prompt
from modelkit.errors import UserError
from playground.chat.replies import Reply, stream_reply
from playground.chat.settings import ChatSettings
from playground.fitting import fit
from playground.models import Models
from tests.playground import fake_run
from tests.playground.conftest import wait_until

SHORT = ChatSettings(max_tokens=12, best_of=4)
ASK = [Message(role="user", content="What is 1 plus 2?")]


def final(models: Models, checkpoint: str, messages: list[Message] = ASK, settings: ChatSettings = SHORT) -> Reply:
    return list(stream_reply(models, checkpoint, messages, settings, lambda: False))[-1]


def test_a_finished_reply_has_text_length_and_its_reward(models: Models) -> None:
    reply = final(models, "pocket/sft")
    assert reply.phase == "done"
    assert reply.finish in ("stop", "length")
    assert 0 < reply.tokens <= 12
    judge = models.reward(models.entry("pocket/sft"))
    assert judge is not None
    assert reply.reward == pytest.approx(judge.model.score([[*ASK, Message(role="assistant", content=reply.text)]])[0], abs=1e-5)
    assert judge.reference is not None
    assert reply.reward is not None
    assert reply.percentile == judge.reference.percentile(reply.reward)


def test_the_same_seed_gives_the_same_reply_and_another_gives_another(models: Models) -> None:
    assert final(models, "pocket/sft").text == final(models, "pocket/sft").text
    assert final(models, "pocket/sft").text != final(models, "pocket/sft", settings=dataclasses.replace(SHORT, seed=99)).text


def test_the_reward_model_shows_the_best_of_n_sft_replies_ranked(models: Models) -> None:
    reply = final(models, "pocket/rm")
    assert len(reply.candidates) == 4
    rewards = [candidate.reward for candidate in reply.candidates]
    assert rewards == sorted(rewards, reverse=True)
    assert (reply.text, reply.reward) == (reply.candidates[0].text, rewards[0])
    assert final(models, "pocket/sft").text in [candidate.text for candidate in reply.candidates]


def test_cancelling_ends_the_reply_within_one_step(models: Models) -> None:
    steps = 0
    model = models.language(models.entry("pocket/sft")).model

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    hook = model.register_forward_pre_hook(count)
    replies = list(stream_reply(models, "pocket/sft", ASK, ChatSettings(max_tokens=200), lambda: steps >= 5))
    hook.remove()
    assert steps == 5
    assert (replies[-1].phase, replies[-1].finish, replies[-1].reward) == ("done", "cancelled", None)


def test_closing_the_stream_frees_the_row(models: Models) -> None:
    engine = models.language(models.entry("pocket/sft")).engine
    stream = stream_reply(models, "pocket/sft", ASK, ChatSettings(max_tokens=200), lambda: False)
    for reply in stream:
        if reply.phase == "writing":
            break
    stream.close()  # type: ignore[attr-defined]
    wait_until(lambda: not engine.busy)
    assert engine.tally.drawn < 200


def test_visitors_are_answered_side_by_side_and_each_as_if_alone(models: Models) -> None:
    alone = [final(models, "pocket/sft", settings=dataclasses.replace(SHORT, seed=seed)).text for seed in range(6)]
    streams = [stream_reply(models, "pocket/sft", ASK, dataclasses.replace(SHORT, seed=seed), lambda: False) for seed in range(6)]
    for stream in streams:
        assert [next(stream).phase for _ in range(2)] == ["loading", "waiting"]
    assert [list(stream)[-1].text for stream in streams] == alone


def test_a_reply_that_waits_can_be_cancelled(models: Models) -> None:
    loaded = models.language(models.entry("pocket/sft"))
    held = threading.Event()
    loaded.worker.run(held.wait)
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return True

    stream = stream_reply(models, "pocket/sft", ASK, SHORT, cancelled)
    phases = [next(stream).phase for _ in range(3)]
    held.set()
    last = list(stream)[-1]
    assert phases == ["loading", "waiting", "waiting"]
    assert (last.phase, last.finish, last.tokens) == ("done", "cancelled", 0)


def test_a_failing_model_is_a_sentence_with_an_id_and_the_next_reply_works(models: Models) -> None:
    model = models.language(models.entry("pocket/sft")).model

    def fail(*_: object) -> None:
        raise RuntimeError("cosmic ray")

    hook = model.register_forward_pre_hook(fail)
    reply = final(models, "pocket/sft")
    hook.remove()
    assert (reply.phase, reply.finish) == ("done", "error")
    assert "the model failed while writing (request " in (reply.error or "")
    assert final(models, "pocket/sft").error is None


def test_an_unknown_checkpoint_is_a_sentence_in_the_reply(models: Models) -> None:
    reply = final(models, "pocket/secret")
    assert reply.phase == "done"
    assert "not in the list" in (reply.error or "")


def test_a_reward_model_without_sft_says_so(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "pocket", ignore=shutil.ignore_patterns("sft"))
    assert "none yet" in (final(Models([tmp_path], 1 << 30), "pocket/rm").error or "")


def test_a_run_without_reward_model_gives_replies_without_rewards(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "pocket", ignore=shutil.ignore_patterns("rm"))
    reply = final(Models([tmp_path], 1 << 30), "pocket/rl")
    assert (reply.error, reply.reward) == (None, None)


def test_the_oldest_turns_go_first_when_the_context_is_full(models: Models) -> None:
    tokenizer = fake_run.make_tokenizer()
    turns = [Message(role=role, content=f"{i} and more words") for i in range(6) for role in ("user", "assistant")]
    messages = [*turns, Message(role="user", content="the last")]
    whole = len(encode_prompt(tokenizer, messages))
    ids, kept, dropped = fit(tokenizer, messages, context=whole, max_tokens=30)
    assert 0 < dropped < 6
    assert kept == messages[2 * dropped :]
    assert len(ids) <= whole - min(30, whole // 4)
    assert fit(tokenizer, messages, None, 30)[2] == 0
    reply = final(models, "pocket/sft", [*turns * 8, messages[-1]])
    assert reply.dropped > 0
    assert reply.error is None


def test_a_message_longer_than_the_context_is_refused_in_a_sentence(models: Models) -> None:
    reply = final(models, "pocket/sft", [Message(role="user", content="x" * 2000)])
    assert "shorten it" in (reply.error or "")


def test_a_base_model_without_template_continues_the_plain_message(models: Models) -> None:
    tokenizer = fake_run.make_tokenizer()
    tokenizer.chat_template = None
    ids, kept, _ = fit(tokenizer, [*ASK, Message(role="assistant", content="3"), *ASK], 256, 12)
    assert kept == ASK
    assert ids == list(tokenizer("What is 1 plus 2?")["input_ids"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"max_tokens": 10**6},
        {"n": 0},
        {"best_of": 17},
        {"seed": -1},
        {"system": "x" * 9000},
        {"temperature": -1},
        {"top_p": 0},
    ],
)
def test_settings_out_of_bounds_are_refused(wrong: dict[str, float | str]) -> None:
    with pytest.raises(UserError):
        ChatSettings(**wrong)  # type: ignore[arg-type]
