"""The page on a ZeroGPU Space, whose GPU calls run in forks, pickled in and out; ``spaces`` is a stand-in that does just that."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelkit.chat import Message
from modelkit.errors import UserError
from playground.chat.replies import Reply, stream_reply
from playground.chat.settings import ChatSettings
from playground.hosting import zero_gpu
from playground.microscope import reading as microscope
from playground.models import Models
from playground.reward_bar import signed
from tests.playground.started import SETTINGS, battle, chat, look, started, visitor

SPACES = """
import inspect, multiprocessing, os, pickle

def GPU(function=None, duration=60):
    if function is None:
        return lambda wrapped: GPU(wrapped, duration)
    context = multiprocessing.get_context("fork")

    def forked(told):
        receiving, sending = context.Pipe(False)

        def child():
            with open(os.environ["FORKS"], "a") as file:
                print(os.getpid(), file=file)
            arguments = pickle.loads(told)
            try:
                found = function(*arguments)
                for value in found if inspect.isgeneratorfunction(function) else [found]:
                    sending.send_bytes(pickle.dumps(("value", value)))
            except Exception as error:
                sending.send_bytes(pickle.dumps(("failed", repr(error))))
            sending.send_bytes(pickle.dumps(("end", None)))
            os._exit(0)

        process = context.Process(target=child)
        process.start()
        while (said := pickle.loads(receiving.recv_bytes()))[0] != "end":
            if said[0] == "failed":
                raise RuntimeError(said[1])
            yield said[1]
        process.join()

    def stream(*arguments):
        yield from forked(pickle.dumps(arguments))

    def call(*arguments):
        return next(iter([*forked(pickle.dumps(arguments))]))

    return stream if inspect.isgeneratorfunction(function) else call

def gradio_auto_wrap(task):
    return task
"""
ASK = [Message(role="user", content="What is 1 plus 2?")]
BRIEF = ChatSettings(max_tokens=16)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked on this system")
def test_a_whole_visit_computes_in_forks_and_says_what_it_says_elsewhere(
    finished_run: Path, models: Models, free_port: int, tmp_path: Path
) -> None:
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "spaces.py").write_text(SPACES, encoding="utf-8")
    runs, forks = tmp_path / "runs", tmp_path / "forks.txt"
    shutil.copytree(finished_run.parent, runs)
    space = {"SPACES_ZERO_GPU": "true", "SPACE_ID": "somebody/playground", "ACCELERATOR": "zerogpu", "FORKS": str(forks)}
    with started(runs, free_port, before=tmp_path / "before", **space) as address:
        client = visitor(address)
        said = chat(client, ASK[0]["content"], "pocket/sft", "pocket/rm", "pocket/rl")
        battle(client, "What is 2 plus 2?")
        card = look(client, "What is 1?", "One.")
        client.close()
    *_, elsewhere = stream_reply(models, "pocket/rl", ASK, ChatSettings(max_tokens=SETTINGS[2]), lambda: False)
    assert elsewhere.reward is not None
    assert f"{elsewhere.tokens} tokens" in said[2]
    assert signed(elsewhere.reward) in said[2]
    assert "pg-reward" in said[1]
    assert "pg-" in card
    assert len(set(forks.read_text(encoding="utf-8").split())) == 3 + 2 + 1


@pytest.fixture
def inline(finished_run: Path) -> Iterator[Models]:
    models = Models([finished_run.parent], 1 << 30, inline=True)
    yield models
    models.close()


def test_models_without_threads_say_and_score_the_same(inline: Models, models: Models) -> None:
    for name in ("pocket/sft", "pocket/rm", "pocket/rl"):
        *_, ours = stream_reply(inline, name, ASK, BRIEF, lambda: False)
        *_, theirs = stream_reply(models, name, ASK, BRIEF, lambda: False)
        assert (ours.text, ours.finish, ours.candidates == theirs.candidates) == (theirs.text, theirs.finish, True)
        assert ours.reward == pytest.approx(theirs.reward, abs=1e-5)
    looked = [microscope.examine(of, "pocket/sft", "pocket/rl", "What is 1?", "One.") for of in (inline, models)]
    assert [token.id for token in looked[0].tokens] == [token.id for token in looked[1].tokens]
    assert all(loaded.worker._thread is None for loaded in inline.loaded().values())


def test_a_stop_is_heard_between_two_snapshots(inline: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object) -> Iterator[Reply]:
        while True:
            yield Reply("pocket/sft", phase="writing", text="a")

    gpu = zero_gpu.ZeroGpu(inline)
    monkeypatch.setattr(zero_gpu, "_stream", endless)
    asked = iter([False, False, True])
    snapshots = list(gpu.stream(inline, "pocket/sft", ASK, BRIEF, lambda: next(asked)))
    assert [snapshot.phase for snapshot in snapshots] == ["loading", "writing", "writing", "done"]
    assert snapshots[-1].finish == "cancelled"
    assert snapshots[-1].text == "a"


def test_a_sentence_for_the_visitor_gets_across(inline: Models) -> None:
    gpu = zero_gpu.ZeroGpu(inline)
    with pytest.raises(UserError, match="there is no reply to look at"):
        gpu.call(microscope.examine, "pocket/sft", "pocket/rl", "What is 1?", "")
    *_, last = gpu.stream(inline, "pocket/none", ASK, BRIEF, lambda: False)
    assert "not in the list" in (last.error or "")


def test_without_the_library_functions_run_where_they_are_called() -> None:
    assert not zero_gpu.HERE
