"""Memory: what keys and values may take, what waits for it, and who pays when it runs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from modelkit.errors import UserError
from modelkit.generation import engine as engines
from modelkit.generation import loop
from modelkit.generation.batch import Batch
from modelkit.generation.engine import Engine, Limits
from modelkit.generation.memory import cache_budget, free_on_host, out_of_memory
from modelkit.generation.prefixes import PrefixStore
from modelkit.generation.requests import Reply, Request
from modelkit.generation.sampling import Sampling
from modelkit.generation.slots import SlotCache

GREEDY = Sampling(max_tokens=20, temperature=0)
PROMPTS = [[5, 6, 7], [40, 41], [9] * 30, [100, 101, 102, 103]]


@pytest.fixture
def engine(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Engine:
    return Engine(model, tokenizer)


def full() -> RuntimeError:
    return RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")


def test_out_of_memory_costs_the_newest_request_and_nobody_else(engine: Engine, model: PreTrainedModel) -> None:
    expected = [row[0].ids for row in loop.generate(model, PROMPTS[:3], GREEDY, stop=[])]
    replies = [engine.submit(Request(prompt, GREEDY)) for prompt in PROMPTS[:3]]
    for _ in range(5):
        engine.step()

    def wide(_: object, args: Any, named: Any) -> None:
        if len(named["input_ids"]) > 3:
            raise torch.OutOfMemoryError("out of memory: tried to allocate 3 GiB")

    hook = model.register_forward_pre_hook(wide, with_kwargs=True)
    late = engine.submit(Request(PROMPTS[3], GREEDY))
    found = [reply.samples()[0].ids for reply in replies]
    [failed] = late.samples()
    hook.remove()
    assert found == expected
    assert failed.finish == "error"
    assert failed.error == f"there was not enough memory for this request beside the others: ask for less, or later (request {late.id})"
    assert engine.submit(Request(PROMPTS[3], GREEDY)).samples()[0].finish == "length"


def test_out_of_memory_while_making_room_costs_the_one_that_wanted_in(
    engine: Engine, model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine.submit(Request(PROMPTS[0], GREEDY))
    engine.step()
    fit = engine._batch._cache.fit

    def narrow(rows: int, columns: int) -> None:
        if columns > 60:
            raise full()
        fit(rows, columns)

    monkeypatch.setattr(engine._batch._cache, "fit", narrow)
    second = engine.submit(Request(PROMPTS[1], Sampling(max_tokens=100)))
    third = engine.submit(Request(PROMPTS[2], GREEDY))
    assert [one.samples()[0].finish for one in (first, second, third)] == ["length", "error", "length"]


def test_what_counts_as_out_of_memory() -> None:
    assert out_of_memory(torch.OutOfMemoryError("x"))
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    assert not out_of_memory(RuntimeError("shape mismatch"))


def test_prompts_that_wait_for_a_shared_beginning_outlive_one_that_finds_no_memory(
    engine: Engine, model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = [9, 8, 7] * 20
    first = engine.submit(Request(shared, GREEDY))
    monkeypatch.setattr(engine._batch, "_burst", 8)
    engine.step()
    fit = engine._batch._cache.fit

    def narrow(rows: int, columns: int) -> None:
        if columns > 90:
            raise full()
        fit(rows, columns)

    monkeypatch.setattr(engine._batch._cache, "fit", narrow)
    held = engine.submit(Request([*shared, 5], GREEDY))
    failing = engine.submit(Request([40, 41], Sampling(max_tokens=100)))
    for _ in range(100):
        engine.step()
    assert not engine.busy
    assert [one.samples()[0].finish for one in (first, held, failing)] == ["length", "length", "error"]
    assert held.reused > 0


def test_kept_prefixes_go_before_any_request_does(engine: Engine, model: PreTrainedModel) -> None:
    engine.submit(Request(PROMPTS[2], GREEDY)).samples()
    store = engine._batch._prefixes
    assert store

    def tight(*_: object) -> None:
        if store:
            raise full()

    hook = model.register_forward_pre_hook(tight)
    [sample] = engine.submit(Request(PROMPTS[0], Sampling(max_tokens=8, temperature=0))).samples()
    hook.remove()
    assert sample.finish == "length"


def test_nothing_is_kept_of_a_request_that_found_no_memory(engine: Engine, model: PreTrainedModel) -> None:
    reply = engine.submit(Request(PROMPTS[2], GREEDY))
    for _ in range(3):
        engine.step()

    def refuse(*_: object) -> None:
        raise full()

    hook = model.register_forward_pre_hook(refuse)
    [sample] = reply.samples()
    hook.remove()
    assert sample.finish == "error"
    assert not engine._batch._prefixes
    assert engine._batch._cache.bytes == 0


def limited(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, rows: int, columns: int) -> Engine:
    """An engine whose keys and values may take so many rows and columns."""
    return Engine(model, tokenizer, Limits(cache_bytes=rows * columns * SlotCache(model).token_bytes, prefix_bytes=0))


def test_the_last_to_leave_is_kept_without_ever_lying_there_twice(model: PreTrainedModel) -> None:
    store = PrefixStore(1 << 30)
    batch, seen = Batch(model, prefixes=store), []
    batch.add([9] * 30, GREEDY, stop=[])
    batch.add([40, 41] * 15, GREEDY, stop=[])
    release = SlotCache.release

    def watched(cache: SlotCache) -> None:
        seen.append(cache.bytes)
        release(cache)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SlotCache, "release", watched)
        while batch.busy:
            batch.step()
    assert seen == [0]  # every layer's memory was given back before the next one's was copied
    assert batch.bytes == store.bytes > 0
    assert len(store) == 2


def test_what_memory_can_never_hold_is_refused_and_a_reply_ends_where_it_is_full(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    engine = limited(model, tokenizer, 1, 68)
    assert engine.context == 65
    with pytest.raises(UserError, match="the prompt has 65 tokens, but it must leave room for an answer in the 65 that memory holds"):
        engine.submit(Request([5] * 65))
    with pytest.raises(UserError, match="the 1 that memory holds of each of 2 samples"):
        engine.submit(Request([5], n=2))
    [sample] = engine.submit(Request([5] * 60, Sampling(max_tokens=100, temperature=0))).samples()
    assert (sample.finish, len(sample.ids)) == ("length", 5)


def test_rows_that_have_left_make_room_for_a_longer_one(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    engine = limited(model, tokenizer, 5, 68)
    cache, most = engine._batch._cache, 0
    short = [engine.submit(Request([5 + i], Sampling(max_tokens=4 + 20 * (i == 0), temperature=0))) for i in range(4)]
    asked = [5, 6, 7]
    long: Reply | None = None
    while engine.step() or long is None:
        most = max(most, cache.rows * cache.columns)
        if long is None and engine.load == (1, 0):
            long = engine.submit(Request(asked, Sampling(max_tokens=100, temperature=0)))
    assert most <= 5 * 68
    assert cache.token_bytes == SlotCache(model).token_bytes
    [expected] = loop.generate(model, [asked], Sampling(max_tokens=100, temperature=0), stop=[])
    assert long.samples()[0].ids == expected[0].ids
    [alone] = loop.generate(model, [[5]], Sampling(max_tokens=24, temperature=0), stop=[])
    assert short[0].samples()[0].ids == alone[0].ids


def test_by_default_an_engine_takes_a_quarter_of_what_is_free(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "cache_budget", lambda device: 68 * SlotCache(model).token_bytes)
    assert Engine(model, tokenizer).context == 65
    monkeypatch.setattr("modelkit.generation.memory.free_on_host", lambda: 4000)
    assert cache_budget(torch.device("cpu")) == 1000


def test_free_memory_is_what_the_system_has_or_the_container_leaves(tmp_path: Path) -> None:
    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert free_on_host(tmp_path) > 0
    write("proc/meminfo", "MemTotal:       16000 kB\nMemFree:          100 kB\nMemAvailable:    8000 kB\n")
    assert free_on_host(tmp_path) == 8000 << 10
    write("sys/fs/cgroup/memory.current", f"{3000 << 10}\n")
    write("sys/fs/cgroup/memory.stat", f"anon 5\ninactive_file {1000 << 10}\nactive_file 7\n")
    for limit, left in (("max", 8000), (str(6000 << 10), 4000), (str(1000 << 10), 0), (str(90_000 << 10), 8000)):
        write("sys/fs/cgroup/memory.max", f"{limit}\n")
        assert free_on_host(tmp_path) == left << 10
