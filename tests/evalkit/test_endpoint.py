"""A model behind an endpoint: the same numbers as on disk, and what a server's moods do to a question, and to a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from evalkit.bench import Bench
from evalkit.fitting import Fitted
from evalkit.methods import Record, answer, letters, perplexity
from evalkit.models import local
from evalkit.models.endpoint import EndpointModel, _spelling, connect
from evalkit.models.face import Reply as Written
from evalkit.models.server import Endpoint
from evalkit.tasks.mmlu import HENDRYCKS, LM_EVAL
from evalkit.types import AnswerRow, AnswerTask, ChoiceTask, Question
from modelkit.errors import EndpointError, UserError
from modelkit.generation.sampling import Sampling
from tests.evalkit.measuring import Measured, measured
from tests.evalkit.served import KEY, Reply, Served, error, letter_checkpoint, serve
from tests.evalkit.tiny import ask as say

CITIES = ("Paris", "Rome", "Oslo", "Bern")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "model"
    letter_checkpoint(path)
    return path


@pytest.fixture
def served(checkpoint: Path) -> Iterator[Served]:
    with serve(Served(checkpoint)) as server:
        yield server


def task(count: int = 6, shots: int = 1) -> ChoiceTask:
    items = [Question(f"law/{i}", "law", (), f"What is the capital of {i * 7}?", CITIES, "ABCD"[i % 4]) for i in range(count)]
    dev = [Question("law/0", "law", (), "Which?", CITIES, "B")]
    return ChoiceTask("mmlu@hendrycks", "sha256:0", items, HENDRYCKS, {"law": dev}, shots, ["letters"])


def ask(served: Served, chat: bool = False, **settings) -> EndpointModel:
    return connect(Endpoint(served.url, served.name, patience=settings.pop("patience", 20.0), **settings), chat)


def asked(module, served: Served, one: ChoiceTask, **settings) -> Measured:
    return measured(module, one, Bench(Path(served.name), "endpoint", ask(served, **settings)))


def on_disk(module, checkpoint: Path, one: ChoiceTask, chat: bool = False) -> Measured:
    model = local.load(checkpoint, "language", torch.float32, torch.device("cpu"))
    return measured(module, one, Bench(checkpoint, "sha256:0", model, chat))


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("echo", [False, True])
def test_letters_are_those_of_the_checkpoint(served: Served, checkpoint: Path, echo: bool, chat: bool) -> None:
    served.echo = echo
    one = task(12)
    here, there = on_disk(letters, checkpoint, one, chat), asked(letters, served, one, chat=chat)
    exact = 0
    for left, right in zip(here.samples, there.samples, strict=True):
        assert left.scores is not None
        if right.scores is None:
            assert right.reason == "none of the letters is among the 20 likeliest tokens that the server tells"
            continue
        bounded = right.extra.get("bounded", [])
        for letter, score in left.scores.items():
            if letter in bounded:
                assert score <= right.scores[letter] + 1e-4
            else:
                assert right.scores[letter] == pytest.approx(score, abs=1e-4)
                exact += 1
        assert right.prediction == left.prediction
        assert right.shots_used == left.shots_used
    assert exact >= (12 * 4 if echo and not chat else 8)


def test_letters_of_two_tokens_need_echo_and_the_tokenizer_tells(run, checkpoint: Path) -> None:
    stage = run.checkpoint("sft")
    with serve(Served(stage)) as served:
        one = task(3)
        here, there = on_disk(letters, stage, one), asked(letters, served, one, tokenizer=stage)
        assert {len(ids) for ids in there.facts["letter_tokens"].values()} == {1, 2}
        for left, right in zip(here.samples, there.samples, strict=True):
            assert right.scores == pytest.approx(left.scores, abs=1e-4)
        served.echo = False
        with pytest.raises(EndpointError, match="a letter takes several tokens.*use --method generate"):
            asked(letters, served, one, tokenizer=stage)


def test_perplexity_by_echo_is_that_of_the_checkpoint(served: Served, checkpoint: Path) -> None:
    one = task(4)
    here, there = on_disk(perplexity, checkpoint, one), asked(perplexity, served, one)
    for left, right in zip(here.samples, there.samples, strict=True):
        assert right.scores == pytest.approx(left.scores, abs=1e-4)
        assert right.prediction == left.prediction


def test_completions_and_chats_are_those_of_the_checkpoint(served: Served, checkpoint: Path) -> None:
    model = local.load(checkpoint, "language", torch.float32, torch.device("cpu"))
    sampling = Sampling(max_tokens=6, temperature=0)
    for chat in (False, True):
        here, there = Bench(checkpoint, "", model, chat).face, ask(served, chat=chat)
        prompts = [Fitted(text, text, ids, 0) for text in ("Who?\nAnswer:", "What is it?") for ids in here.encoder.encode([text])]
        found: list[dict[int, Written]] = []
        for face in (here, there):
            replies: dict[int, Written] = {}

            def keep(batch: list[int], said: list[Written], replies: dict[int, Written] = replies) -> None:
                replies.update(zip(batch, said, strict=True))

            face.complete(prompts, sampling, [], keep)
            found.append(replies)
        assert found[0] == found[1]
        assert found[1][0].tokens == 6


def test_a_stop_string_is_no_part_of_a_reply(served: Served) -> None:
    model, found = ask(served), []
    served.script = lambda number, path, body: Reply(body=b'{"choices": [{"text": "one\\n\\ntwo", "finish_reason": "length"}]}')
    model.complete([Fitted("x", "x", [], 0)], Sampling(max_tokens=8, temperature=0), ["\n\n"], lambda batch, said: found.extend(said))
    assert found == [Written("one", 0, "stop")]


def test_what_the_server_can_do_is_found_out_and_said(checkpoint: Path) -> None:
    everything = "completions with the 20 likeliest tokens' probabilities, with echo; chat with the 20 likeliest tokens' probabilities"
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, everything),
        ({"tops": 5}, everything.replace("20", "5")),
        ({"tops": 0}, "completions with no log-probabilities, without echo; chat with no log-probabilities"),
        ({"completions": False}, "chat with the 20 likeliest tokens' probabilities"),
        ({"chat": False, "echo": False}, "completions with the 20 likeliest tokens' probabilities, without echo"),
        ({"llama_cpp": True}, everything.replace("with echo", "without echo")),
    ]
    for settings, said in cases:
        with serve(Served(checkpoint, **settings)) as served:
            model = ask(served)
            assert str(model.abilities) == said
            assert model.context == 191


def test_what_the_server_cannot_do_is_one_sentence(checkpoint: Path) -> None:
    with serve(Served(checkpoint, tops=0, chat=False)) as served:
        with pytest.raises(EndpointError, match="gives no log-probabilities, so letters can't be scored: use --method generate"):
            asked(letters, served, task())
        with pytest.raises(EndpointError, match="which perplexity needs: use --method letters or --method generate"):
            asked(perplexity, served, task())
        with pytest.raises(EndpointError, match="offers no chat with tiny: leave out --chat"):
            asked(letters, served, task(), chat=True)
    with serve(Served(checkpoint, completions=False)) as served, pytest.raises(EndpointError, match="no plain texts with tiny: add --chat"):
        asked(letters, served, task())
    with serve(Served(checkpoint, name="other")) as served, pytest.raises(EndpointError, match="serves no model 'tiny': it lists other"):
        connect(Endpoint(served.url, "tiny"), False)


@pytest.mark.parametrize("llama_cpp", [False, True])
def test_without_echo_a_letter_out_of_sight_is_bounded_and_cannot_win(checkpoint: Path, llama_cpp: bool) -> None:
    with serve(Served(checkpoint, tops=3, echo=False, llama_cpp=llama_cpp)) as served:
        found = asked(letters, served, task(12))
    bounded = [sample for sample in found.samples if sample.extra.get("bounded")]
    assert bounded
    for sample in bounded:
        assert sample.scores is not None
        assert sample.prediction not in sample.extra["bounded"]
        told = [score for letter, score in sample.scores.items() if letter not in sample.extra["bounded"]]
        assert all(sample.scores[letter] < min(told) for letter in sample.extra["bounded"])


def test_a_server_that_drops_the_blank_is_understood(served: Served) -> None:
    served.echo = False
    served._text = lambda token: str(served._tokenizer.decode([token])).strip()  # type: ignore[method-assign]
    found = asked(letters, served, task())
    assert all(sample.extra["spelled"] == "A" for sample in found.samples if sample.scores)
    assert any(sample.scores for sample in found.samples)


def test_a_refused_key_stops_at_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.key = KEY
    with pytest.raises(EndpointError, match="refuses the key .*Incorrect API key.*environment variable OPENAI_API_KEY") as caught:
        ask(served)
    assert len(served.asked) == 1
    assert caught.value.status == 5
    monkeypatch.setenv("MY_KEY", KEY)
    assert asked(letters, served, task(), key_env="MY_KEY").score.unscored == 0
    served.asked.clear()
    served.script = lambda number, path, body: error(401, "revoked") if number > 10 else None
    with pytest.raises(EndpointError, match="refuses the key"):
        asked(letters, served, task(100), key_env="MY_KEY", concurrency=2)
    assert len(served.asked) < 20


def test_a_rate_limit_is_waited_for(served: Served) -> None:
    limited: list[int] = []

    def script(number: int, path: str, body: dict) -> Reply | None:
        if number % 3 == 2 and len(limited) < 4:
            limited.append(number)
            return error(429, "slow down", Retry_After="0.05")
        return None

    served.script = script
    assert asked(letters, served, task()).score.unscored == 0
    assert len(limited) == 4


def test_a_server_that_asks_to_wait_too_long_is_given_up(served: Served) -> None:
    served.script = lambda number, path, body: error(429, "come back tomorrow", Retry_After="86400") if path != "/v1/models" else None
    with pytest.raises(EndpointError, match=r"rate limit \(429\) \(come back tomorrow; it asks to wait 86400 s\)"):
        ask(served)
    assert len(served.asked) == 2


def test_a_spent_quota_is_not_waited_for(served: Served) -> None:
    served.script = lambda number, path, body: error(429, "You exceeded your quota", "insufficient_quota")
    with pytest.raises(EndpointError, match="the quota of this key is used up"):
        ask(served)
    assert len(served.asked) == 1


@pytest.mark.parametrize(
    "bad",
    [
        Reply(500, b"Internal Server Error"),
        Reply(503, b"<html>", {"Retry-After": "0"}),
        Reply(body=b"<html>gateway</html>"),
        Reply(body=b'{"choices": []}'),
        Reply(body=b'{"choices": [{"text": 7}]}'),
        Reply(body=b'{"choices": [{"text": "x", "logprobs": {"top_logprobs": [{" A": NaN}]}}]}'),
        Reply(body=b'{"choices": [{"text": "cut"}]}', cut=True),
    ],
    ids=["500", "503", "no JSON", "no choices", "wrong type", "NaN", "cut"],
)
def test_a_stumbling_server_is_asked_again(served: Served, bad: Reply) -> None:
    good = asked(letters, served, task(4))
    served.asked.clear()
    failed: set[str] = set()

    def script(number: int, path: str, body: dict) -> Reply | None:
        prompt = body.get("prompt", "")
        if "capital" not in prompt or prompt in failed:
            return None
        failed.add(prompt)
        return bad

    served.script = script
    again = asked(letters, served, task(4))
    assert len(failed) >= 4
    assert [sample.scores for sample in again.samples] == [sample.scores for sample in good.samples]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Reply(500, b"oops"), "the server failed (500)"),
        (Reply(body=b"[]"), "the server's reply makes no sense: no JSON"),
        (Reply(body=b'{"choices": []}'), "the server's reply makes no sense: it has no choices"),
        (error(400, "This model's maximum context length is 10 tokens"), "longer than the server's context (400)"),
        (error(400, "blocked by our content policy", "content_filter"), "the server's content filter (400)"),
        (error(422, "what?"), "the server refused the request (422)"),
    ],
)
def test_one_bad_question_is_unscored_with_its_reason(served: Served, bad: Reply, reason: str) -> None:
    served.script = lambda number, path, body: bad if "capital of 7?" in body.get("prompt", "") else None
    found = asked(letters, served, task(), patience=1.0)
    assert {sample.item.id: sample.reason for sample in found.samples if sample.scores is None} == {"law/1": reason}
    assert (found.score.n, found.score.unscored) == (6, 1)


def test_a_prompt_too_long_is_the_servers_to_refuse_or_ours_to_fit(served: Served, checkpoint: Path) -> None:
    one = task(3)
    long = dataclasses.replace(one.items[0], text="Oh " * 60)
    one = dataclasses.replace(one, items=[long, *one.items[1:]], dev={"law": [dataclasses.replace(one.dev["law"][0], text="Ah " * 20)]})
    blind = asked(letters, served, one)
    assert blind.samples[0].reason == "longer than the server's context (400)"
    assert "maximum context length is 192" in blind.samples[0].extra["server"]
    fitted = asked(letters, served, one, tokenizer=checkpoint)
    here = on_disk(letters, checkpoint, one)
    assert [sample.shots_used for sample in fitted.samples] == [sample.shots_used for sample in here.samples]
    assert [sample.prompt_sha256 for sample in fitted.samples] == [sample.prompt_sha256 for sample in here.samples]


@pytest.mark.parametrize("tops", [20, 2])
def test_a_prompt_cut_on_the_left_is_sent_as_its_last_tokens(checkpoint: Path, tops: int) -> None:
    one = dataclasses.replace(task(4, 0), protocol=dataclasses.replace(LM_EVAL, limit=150))
    long = dataclasses.replace(one.items[0], text="Oh " * 200 + "where?")
    one = dataclasses.replace(one, items=[long, *one.items[1:]])
    with serve(Served(checkpoint, tops=tops)) as served:
        here, there = on_disk(letters, checkpoint, one), asked(letters, served, one, tokenizer=checkpoint)
        chat = asked(letters, served, one, chat=True, tokenizer=checkpoint) if tops == 20 else None
    assert there.samples[0].extra["tokens_cut"] == here.samples[0].extra["tokens_cut"] > 0
    for left, right in zip(here.samples, there.samples, strict=True):
        assert right.scores == pytest.approx(left.scores, abs=1e-4)
    assert any(isinstance(body.get("prompt"), list) for _, body in served.asked)
    if chat is not None:
        assert [sample.reason is None for sample in chat.samples] == [False, True, True, True]
        assert "can't be cut on the left" in str(chat.samples[0].reason)


def test_chat_answers_are_those_of_the_checkpoint(served: Served, checkpoint: Path) -> None:
    rows = [AnswerRow(id=f"a/{i}", subject="a", messages=say(f"Capital of {i}?"), reference="D", alternatives=["C", "D"]) for i in range(4)]
    one = AnswerTask("own.answer", "sha256:0", rows, 6)
    model = local.load(checkpoint, "language", torch.float32, torch.device("cpu"))
    here = measured(answer, one, Bench(checkpoint, "", model))
    there = measured(answer, one, Bench(Path("tiny"), "", ask(served, tokenizer=checkpoint)))
    assert [sample.to_json() for sample in there.samples] == [sample.to_json() for sample in here.samples]
    served.script = lambda number, path, body: (
        error(400, "blocked by our content policy", "content_filter") if "of 2?" in str(body) else None
    )
    found = measured(answer, one, Bench(Path("tiny"), "", ask(served)))
    assert [sample.reason for sample in found.samples] == [None, None, "the server's content filter (400)", None]
    assert (found.score.n, found.score.unscored) == (4, 1)


@pytest.mark.parametrize("tops", [20, 2])
def test_a_prompt_that_fills_the_context_leaves_room_for_what_a_request_writes(checkpoint: Path, tops: int) -> None:
    one = dataclasses.replace(task(1, 0), protocol=LM_EVAL)
    one = dataclasses.replace(one, items=[dataclasses.replace(one.items[0], text="Oh " * 200 + "where?")])
    with serve(Served(checkpoint, tops=tops)) as served:
        (sample,) = asked(letters, served, one, tokenizer=checkpoint).samples
    assert (sample.reason, sample.extra["tokens_cut"] > 0) == (None, True)


def test_a_server_that_dies_half_way_ends_the_run_and_what_it_said_is_kept(served: Served) -> None:
    served.script = lambda number, path, body: error(500, "out of memory") if number > 30 else None
    kept: list[str] = []
    items = task(100).items
    bench = Bench(Path("tiny"), "endpoint", ask(served, patience=1.0, concurrency=4))
    with pytest.raises(EndpointError, match=r"the last \d+ requests failed: the server failed \(500\) .*same command again"):
        letters.measure(task(100), items, bench, Record({item.id for item in items}, lambda batch: kept.extend(s.item.id for s in batch)))
    assert 3 < len(kept) < 40
    assert len(served.asked) < 120


def test_bytes_that_drip_do_not_outlast_the_patience(served: Served) -> None:
    served.script = lambda number, path, body: Reply(body=b" " * 1000, drip=0.05) if "capital of 7?" in body.get("prompt", "") else None
    found = asked(letters, served, task(2), patience=1.0)
    assert [sample.reason for sample in found.samples] == [None, "the server did not answer in time"]


def test_nobody_at_home_is_one_sentence() -> None:
    with pytest.raises(EndpointError, match=r"http://127.0.0.1:9/v1: the connection to the server failed"):
        connect(Endpoint("http://127.0.0.1:9/v1", "tiny", patience=0.5), False)


def test_addresses_that_are_none_and_secrets_in_them_are_refused() -> None:
    for url in ("localhost:8000", "ftp://x/v1", "http://"):
        with pytest.raises(UserError, match="is no endpoint"):
            Endpoint(url, "tiny")
    with pytest.raises(UserError, match="put the key into an environment variable") as caught:
        Endpoint("http://me:secret@host/v1", "tiny")
    assert "secret" not in str(caught.value)
    with pytest.raises(UserError, match="the environment variable NO_SUCH_KEY is empty"):
        Endpoint("http://host/v1", "tiny", key_env="NO_SUCH_KEY")


def test_no_more_requests_are_under_way_than_allowed_and_order_does_not_matter(served: Served, checkpoint: Path) -> None:
    one = task(10)
    alone = asked(letters, served, one, concurrency=1)
    many = asked(letters, served, one, concurrency=7)
    assert [sample.scores for sample in alone.samples] == [sample.scores for sample in many.samples]


def test_the_fingerprint_is_of_address_name_and_what_the_server_says(served: Served, checkpoint: Path) -> None:
    first = ask(served).fingerprint
    assert first.startswith("endpoint:sha256:")
    assert ask(served).fingerprint == first
    served.context = 100
    assert ask(served).fingerprint != first


def test_tokens_are_counted_as_the_server_bills_them(served: Served) -> None:
    model = ask(served)
    before = model.server.tokens_computed
    usage = b'{"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 90}}'
    served.script = lambda number, path, body: Reply(body=b'{"choices": [{"text": "x"}], "usage": ' + usage + b"}")
    model.complete([Fitted("x", "x", [], 0)], Sampling(max_tokens=7, temperature=0), [], lambda batch, said: None)
    assert (model.server.tokens_computed - before, model.server.tokens_reused) == (17, 90)


@pytest.mark.parametrize(
    ("likeliest", "taken"),
    [
        ({"A": -0.5, " B": -0.9}, ("A", "B", "C", "D")),
        ({"D": -5.7, " D": -0.9, " A": -2.7}, (" A", " B", " C", " D")),
        ({"The": -0.1}, None),
    ],
)
def test_letters_are_read_in_the_spelling_that_the_model_answers_in(likeliest: dict[str, float], taken: tuple[str, ...] | None) -> None:
    assert _spelling(tuple("ABCD"), likeliest) == taken
