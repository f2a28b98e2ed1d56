"""Requests in, text out: streams, stop strings, cancelling, deadlines, failures, and the thread around it all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from modelkit.errors import UserError
from modelkit.generation import loop
from modelkit.generation.engine import Engine, Limits
from modelkit.generation.requests import Piece, Reply, Request
from modelkit.generation.sampling import Sampling
from modelkit.generation.stream import TextStream
from modelkit.generation.worker import Worker

GREEDY = Sampling(max_tokens=20, temperature=0)
PROMPTS = [[5, 6, 7], [40, 41], [9] * 30, [100, 101, 102, 103]]


@pytest.fixture
def engine(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Engine:
    return Engine(model, tokenizer)


@pytest.fixture
def worker(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Iterator[Worker]:
    worker = Worker(Engine(model, tokenizer, inline=False))
    yield worker
    worker.abort()


def engine_of(worker: Worker) -> Engine:
    assert worker.engine is not None
    return worker.engine


def passes(model: PreTrainedModel, at: list[int], act: Any = lambda: None) -> Any:
    """Count forward passes into *at*, and act before each."""

    def before(*_: object) -> None:
        at.append(len(at))
        act()

    return model.register_forward_pre_hook(before)


def test_without_a_thread_readers_turn_the_engine_and_share_its_batch(engine: Engine, model: PreTrainedModel) -> None:
    replies = [engine.submit(Request(prompt, GREEDY, stop=[2])) for prompt in PROMPTS]
    expected = loop.generate(model, PROMPTS, GREEDY, stop=[2])
    for reply, [completion] in zip(reversed(replies), reversed(expected), strict=True):
        [sample] = reply.samples()
        assert (sample.ids, sample.finish) == (completion.ids, completion.finish)
        assert sample.logprobs == pytest.approx(completion.logprobs, abs=1e-4)
    assert engine.tally.passes <= 20 + 3


def test_many_threads_read_their_own_texts(worker: Worker, model: PreTrainedModel) -> None:
    expected = {i: loop.generate(model, [[5 + i, 6]], Sampling(max_tokens=15, seed=i), [2])[0][0].ids for i in range(12)}
    found: dict[int, list[int]] = {}

    def visit(i: int) -> None:
        found[i] = engine_of(worker).submit(Request([5 + i, 6], Sampling(max_tokens=15, seed=i), [2])).samples()[0].ids

    visitors = [threading.Thread(target=visit, args=(i,)) for i in range(12)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert found == expected


def test_streamed_text_is_the_decoded_reply_and_pieces_name_their_sample(engine: Engine, tokenizer: PreTrainedTokenizerFast) -> None:
    reply = engine.submit(Request([5, 6], Sampling(max_tokens=30, seed=3), n=3))
    texts, ids = ["", "", ""], [[], [], []]  # type: ignore[var-annotated]
    for piece in reply:
        texts[piece.sample] += piece.text
        ids[piece.sample].append(piece.token)
    for text, tokens in zip(texts, ids, strict=True):
        stream = TextStream(tokenizer)
        assert text == "".join(map(stream.put, tokens)) + stream.flush()
    assert len({tuple(tokens) for tokens in ids}) == 3


def test_a_stop_string_ends_the_sample_before_it_in_the_same_step(
    engine: Engine, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    whole = engine.submit(Request([5, 6], Sampling(max_tokens=40, seed=3))).samples()[0]
    stop = whole.text[12:15]
    count: list[int] = []
    hook = passes(model, count)
    [sample] = engine.submit(Request([5, 6], Sampling(max_tokens=40, seed=3), stop_strings=[stop, "never"])).samples()
    hook.remove()
    assert sample.text == whole.text[: whole.text.index(stop)]
    assert sample.finish == "stop"
    assert len(count) - 1 == len(sample.ids) < 40  # the first pass read the beginning of the prompt


def test_one_samples_stop_string_leaves_the_others_alone(engine: Engine) -> None:
    wanted = Request([5, 6], Sampling(max_tokens=30, seed=3), n=3)
    whole = engine.submit(wanted).samples()
    stop = whole[1].text[5:8]
    cut = engine.submit(Request([5, 6], Sampling(max_tokens=30, seed=3), n=3, stop_strings=[stop])).samples()
    for sample, full in zip(cut, whole, strict=True):
        assert sample.text == (full.text[: full.text.index(stop)] if stop in full.text else full.text)


@pytest.mark.parametrize("way", ["reply", "predicate"])
def test_cancelling_ends_the_work_before_the_next_step(engine: Engine, model: PreTrainedModel, way: str) -> None:
    count: list[int] = []
    hook = passes(model, count)
    reply = engine.submit(Request([5, 6], Sampling(max_tokens=90)), cancelled=lambda: way == "predicate" and len(count) >= 5)
    other = engine.submit(Request([7, 8], Sampling(max_tokens=8, temperature=0)))
    pieces = []
    for piece in reply:
        pieces.append(piece)
        if way == "reply" and len(count) >= 5:
            reply.cancel()
    hook.remove()
    assert (pieces[-1].finish, pieces[-1].token) == ("cancelled", None)
    assert len(pieces) - 1 == 4  # the first of the five passes read the beginning of the prompts
    assert len(other.samples()[0].ids) == 8


def test_a_deadline_ends_the_samples_where_they_are(engine: Engine, model: PreTrainedModel) -> None:
    hook = passes(model, [], lambda: time.sleep(0.02))
    [sample] = engine.submit(Request([5, 6], Sampling(max_tokens=100, temperature=0), seconds=0.1)).samples()
    hook.remove()
    assert sample.finish == "deadline"
    assert 0 < len(sample.ids) < 20


def test_a_model_that_fails_ends_what_it_was_writing_and_the_next_request_works(worker: Worker, model: PreTrainedModel) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("cosmic ray")

    hook = model.register_forward_pre_hook(fail)
    replies = [engine_of(worker).submit(Request(prompt, GREEDY, n=2)) for prompt in PROMPTS]
    samples = [sample for reply in replies for sample in reply.samples()]
    hook.remove()
    assert {sample.finish for sample in samples} == {"error"}
    assert all(
        f"(request {reply.id})" in (reply_error or "") for reply, reply_error in zip(replies, [s.error for s in samples[::2]], strict=True)
    )
    assert engine_of(worker).submit(Request([5, 6], GREEDY)).samples()[0].finish == "length"


def test_jobs_run_on_the_models_thread_between_steps(worker: Worker, model: PreTrainedModel) -> None:
    reply = engine_of(worker).submit(Request([5, 6], Sampling(max_tokens=100, temperature=0)))
    jobs = [worker.run(lambda: (threading.current_thread().name, engine_of(worker).tally.drawn)) for _ in range(3)]
    names, drawn = zip(*(job.result(10) for job in jobs), strict=True)
    assert set(names) == {"model"}
    with pytest.raises(ZeroDivisionError):
        worker.run(lambda: 1 // 0).result(10)
    assert len(reply.samples()[0].ids) == 100
    assert list(drawn) == sorted(drawn)
    assert drawn[-1] < 100


def test_closing_finishes_what_is_under_way_and_refuses_the_rest(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    worker = Worker(Engine(model, tokenizer, inline=False))
    reply = engine_of(worker).submit(Request([5, 6], Sampling(max_tokens=60, temperature=0)))
    worker.close(wait_seconds=30)
    assert len(reply.samples()[0].ids) == 60
    [late] = engine_of(worker).submit(Request([5, 6], GREEDY)).samples()
    assert late.finish == "error"
    with pytest.raises(UserError, match="ask again"):
        worker.run(lambda: 1).result(10)


def test_aborting_ends_everything_within_a_step(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    worker = Worker(Engine(model, tokenizer, inline=False))
    reply = engine_of(worker).submit(Request([5, 6], Sampling(max_tokens=120, temperature=0)))
    next(iter(reply))
    hook = passes(model, [], lambda: time.sleep(0.05))
    worker.abort()
    hook.remove()
    assert reply.samples()[0].finish == "error"
    assert not worker.busy


def test_an_idle_worker_ends_and_the_next_request_starts_it_again(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    rested = threading.Event()
    worker = Worker(Engine(model, tokenizer, inline=False), idle_seconds=0.05, on_idle=rested.set)
    assert engine_of(worker).submit(Request([5], GREEDY)).samples()[0].finish
    assert rested.wait(10)
    assert engine_of(worker)._batch._cache.columns == 0
    assert engine_of(worker).submit(Request([5], GREEDY)).samples()[0].finish
    worker.close(10)


def test_the_queue_has_an_end(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    engine = Engine(model, tokenizer, Limits(queue=3))
    for _ in range(3):
        engine.submit(Request([5], GREEDY))
    with pytest.raises(UserError, match="waiting already"):
        engine.submit(Request([5], GREEDY))


def test_pieces_can_be_delivered_to_a_function_instead(engine: Engine) -> None:
    got: list[Piece] = []
    reply: Reply = engine.submit(Request([5, 6], GREEDY, top=2), deliver=got.append)
    while engine.step():
        pass
    assert len(got) == 20
    assert got[-1].finish == "length"
    assert all(len(piece.top) == 2 and piece.top[0][0] == piece.token for piece in got)
    assert reply.request.top == 2


@pytest.mark.parametrize("wrong", [{"top": 21}, {"stop_strings": [""]}, {"stop_strings": ["x"] * 17}, {"seconds": 0}, {"n": 0}, {"n": 99}])
def test_impossible_requests_are_refused_where_they_are_made(engine: Engine, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        engine.submit(Request([5], **wrong))
    with pytest.raises(UserError, match="leave room"):
        engine.submit(Request([5] * 128))
    with pytest.raises(UserError, match="ids from -1 to 5: tokens of this model are 0 to"):
        engine.submit(Request([5, -1]))


def test_what_was_read_before_is_told_of_a_reply_of_one_token_too(engine: Engine) -> None:
    shared = list(range(5, 45))
    engine.submit(Request(shared, GREEDY)).samples()
    reply = engine.submit(Request([*shared, 50, 51], Sampling(max_tokens=1), n=2))
    reply.samples()
    assert reply.reused == 40
