"""Visitors who mean no good, against the real page."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from leaderboards.votes.store import Store
from modelkit.run import Run, RunInfo
from playground.endpoints import Served
from playground.guard.admission import Admission
from playground.guard.content_filter import WordFilter
from playground.guard.credentials import OPEN, Credentials
from playground.models import Models
from playground.texts import t
from playground.training.watch import Trainer
from tests.playground.browsing import Visit, ask, shown, tab
from tests.playground.speaker import HOSTILE, speaker
from tests.playground.started import SETTINGS, chat, visitor

Page = Callable[..., str]
SCRIPT = '<script>document.title="owned"</script><img src=x onerror=\'document.title="owned"\'>'


@pytest.fixture
def page(free_port: int, finished_run: Path, models: Models, tmp_path: Path) -> Iterator[Page]:
    """The page with everything that it has in public: ``page(**services) -> address``."""
    from playground.settings import Settings
    from playground.training.watch import Watches
    from playground.ui import app

    pages, store = [], Store(f"sqlite:///{tmp_path / 'votes.sqlite'}")

    def start(models: Models = models, credentials: Credentials = OPEN, **services: Any) -> str:
        settings = Settings(runs=finished_run.parent, port=free_port, recipe=None)
        trainer = Trainer(settings)
        made = app.Services(models, trainer, Watches(models, trainer), store=store, **services)
        pages.append(app.build(settings, made))
        return launch(pages[-1], settings, made, credentials)

    yield start
    for served in pages:
        served.close(verbose=False)
    store.close()


def launch(page: Any, settings: Any, services: Any, credentials: Credentials) -> str:
    from playground.leaderboard import LiveBoard
    from playground.ui import app

    return app.launch(page, settings, LiveBoard(services.models.runs, services.store, settings.runs), credentials=credentials)


def raw(address: str, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
    """Status and text of a request whose path nobody tidies up on its way."""
    host = address.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.putrequest(method, path, skip_host="host" in headers)
    for name, value in {**headers, **({"content-length": str(len(body))} if body and "transfer-encoding" not in headers else {})}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    text = answer.read().decode(errors="replace")
    connection.close()
    return answer.status, text


def events(address: str) -> dict[str, int]:
    """The page's events by name, with their numbers."""
    found = httpx.get(f"{address}config", timeout=60).json()["dependencies"]
    return {one["api_name"]: one["id"] for one in found if one["api_name"]}


def join(address: str, number: int, data: list[Any], session: str, **headers: str) -> tuple[int, str]:
    """Put a request into the page's queue, as its script does."""
    body = json.dumps({"data": data, "fn_index": number, "session_hash": session, "event_data": None, "trigger_id": None}).encode()
    return raw(address, "POST", "/gradio_api/queue/join", body, **{"content-type": "application/json", **headers})


def test_no_path_leads_out_of_the_page(page: Page, finished_run: Path, tmp_path: Path) -> None:
    address = page()
    secret = finished_run / "run.json"
    told = secret.read_text(encoding="utf-8")
    up = "../" * 12
    for path in (
        f"/gradio_api/file={secret}",
        f"/gradio_api/file={up}{str(secret)[1:]}",
        f"/gradio_api/file=%2e%2e/{quote(up)}{str(secret)[1:]}",
        f"/gradio_api/file={str(secret).replace('/', '%2f')}",
        f"/gradio_api/file=//{secret}",
        f"/gradio_api/file={tmp_path / 'votes.sqlite'}",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=app.py",
        "/gradio_api/file=./playground/settings.py",
        "/gradio_api/file=\\..\\app.py",
        "/gradio_api/file=/proc/self/environ",
        "/gradio_api/file=http://127.0.0.1:1/",
        "/gradio_api/file=https://192.0.2.1/",
        "/gradio_api/file=file:///etc/passwd",
        f"/static/{up}etc/passwd",
        f"/assets/..%2f..%2f..%2f{up}etc/passwd",
        f"/svelte/{up}etc/passwd",
        f"/leaderboard/{up}etc/passwd",
        "/gradio_api/proxy=http://127.0.0.1:1/",
        "/gradio_api/heartbeat/../file=/etc/passwd",
        "/../../../../etc/passwd",
        "/gradio_api/custom_component/x/client/component/..%2f..%2fetc/passwd",
    ):
        status, text = raw(address, "GET", path)
        assert status >= 400 or "heartbeat" in path, path
        assert "root:" not in text, path
        assert told not in text, path
        assert "Traceback" not in text, path


def test_a_body_that_is_too_large_or_no_body_at_all_is_refused_in_a_sentence(page: Page) -> None:
    address = page()
    large = json.dumps({"data": ["x" * (2 << 20)], "fn_index": 1, "session_hash": "s"}).encode()
    assert raw(address, "POST", "/gradio_api/queue/join", large, **{"content-type": "application/json"})[0] == 413
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    chunked = {"content-type": "application/json", "transfer-encoding": "chunked"}
    assert raw(address, "POST", "/gradio_api/run/begin", chunk * 40 + b"0\r\n\r\n", **chunked)[0] == 413
    files = {"files": ("a.jsonl", b"x")}
    assert httpx.post(f"{address}gradio_api/upload", files=files, timeout=60).status_code == 404
    nowhere = b'{"data": [], "fn_index": -1, "session_hash": "s"}'
    for body in (b"", b"{", b"[]", b"null", b'{"data": {}}', nowhere, b"\xff\xfe", b"[" * 10**5):
        status, text = raw(address, "POST", "/gradio_api/queue/join", body, **{"content-type": "application/json"})
        assert status >= 400, body[:40]
        assert "Traceback" not in text, body[:40]
    long = "x" * 9000
    with pytest.raises(Exception, match="9,000 characters|too long"):
        chat(visitor(address), long, "pocket/sft")


def test_values_that_no_component_sends_end_in_an_error_without_a_trace(page: Page) -> None:
    address = page()
    client = visitor(address)
    for prompt, *chosen in (
        ({"a": 1}, 1, "pocket/sft", None, None, None),
        (["x"], 1, "pocket/sft", None, None, None),
        ("x", 10**9, "pocket/sft", None, None, None),
        ("x", "1; drop table votes", "pocket/sft", None, None, None),
        ("x", 1, "../../etc/passwd", None, None, None),
        ("x", 1, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, None, None, None),
        ("x", 1, "endpoint/http://127.0.0.1:1/v1", None, None, None),
        ("x", float("nan"), "pocket/sft", None, None, None),
        ("x", 1, "pocket/sft", None, None, "\ud800"),
    ):
        try:
            said = str(client.predict(prompt, *chosen, *SETTINGS, api_name="/begin"))
        except Exception as error:
            said = str(error)
        assert "Traceback" not in said
        assert "root:" not in said
        assert 'File "' not in said
    assert chat(client, "still there?", "pocket/sft")


def test_an_endpoint_is_the_operators_to_name_in_whatever_field_a_visitor_puts_one(page: Page) -> None:
    with speaker() as (server, heard):
        address = page()
        client = visitor(address)
        for place in range(4):
            chosen: list[Any] = [None] * 4
            chosen[place] = f"endpoint/X=model@{server}/v1"
            with pytest.raises(Exception, match="not in the list|choices"):
                client.predict("hello", 4, *chosen, *SETTINGS, api_name="/begin")
        link = json.dumps({"key": "0" * 32, "query": f"?models=endpoint/X=model@{server},{server}&prompt={server}/v1&system={server}"})
        client.predict(link, api_name="/arrive")
        client.predict(f"![a]({server}/v1) <img src={server}>", 1, "pocket/sft", None, None, None, *SETTINGS, api_name="/begin")
        client.submit(api_name="/column_1").result(timeout=120)
        raw(address, "GET", f"/gradio_api/file={server}/v1/models")
        raw(address, "GET", f"/gradio_api/proxy={server}/v1/models")
        raw(address, "GET", "/config", b"", **{"x-forwarded-host": server, "host": server.removeprefix("http://"), "x-direct-url": server})
        file = {"path": f"{server}/a.jsonl", "url": f"{server}/a.jsonl", "meta": {"_type": "gradio.FileData"}}
        for number in events(address).values():
            assert join(address, number, [file] * 8, "visitor")[0] == 400
        assert heard == []


def test_of_a_thousand_requests_at_once_most_are_told_to_wait_and_then_others_are_served(page: Page, models: Models) -> None:
    address = page()
    number, held, going = events(address)["column_1"], threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        going.set()
        held.wait(120)

    models.language(models.entry("pocket/sft")).model.register_forward_pre_hook(hold)
    client = visitor(address)
    client.predict("hello", 1, "pocket/sft", None, None, None, *SETTINGS, api_name="/begin")
    job = client.submit(api_name="/column_1")
    assert going.wait(120)

    def knock(place: int) -> tuple[int, str]:
        told = {"accept-language": "zh", "x-forwarded-for": "198.51.100.7"}
        return join(address, number, [], f"flood{place}", **told)

    with ThreadPoolExecutor(32) as crowd:
        answers = list(crowd.map(knock, range(1000)))
    held.set()
    assert "pg-" in str(job.result(timeout=120))
    assert {status for status, _ in answers} <= {200, 429}
    assert chat(visitor(address, headers={"x-forwarded-for": "198.51.100.8"}), "What is 1 plus 2?", "pocket/sft")


def test_a_full_queue_says_that_many_people_are_here(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    going = threading.Event()
    monkeypatch.setattr("playground.microscope.reading.examine", lambda *_: going.wait(120))
    address = page()
    number = events(address)["microscope_look"]

    def knock(place: int) -> tuple[int, str]:
        told = {"accept-language": "zh", "x-forwarded-for": f"198.51.100.{place % 20}"}
        return join(address, number, [None, None, "What is 1?", "One."], f"look{place}", **told)

    with ThreadPoolExecutor(16) as crowd:
        answers = Counter(crowd.map(knock, range(1000)))
    going.set()
    refused = {json.loads(text)["detail"]: times for (status, text), times in answers.items() if status == 429}
    assert set(refused) == {t("zh", "door.busy")}
    assert sum(refused.values()) > 100
    client = visitor(address)
    assert chat(client, "still there?", "pocket/sft")


def test_a_session_and_an_address_may_ask_so_often(page: Page) -> None:
    address = page(admission=Admission(per_address=3))
    client, other = visitor(address), visitor(address)
    elsewhere = visitor(address, headers={"x-forwarded-for": "198.51.100.8"})
    for _ in range(3):
        chat(client, "hello", "pocket/sft")
    for one in (client, other):
        with pytest.raises(Exception, match="Please wait"):
            chat(one, "hello", "pocket/sft")
        with pytest.raises(Exception, match="Please wait"):
            one.predict("hello", api_name="/arena_ask")
    assert chat(elsewhere, "hello", "pocket/sft")


def test_words_of_the_list_are_neither_taken_nor_said(page: Page) -> None:
    words = WordFilter(["blue moon", "坏话"])
    with speaker("Once in a bl", "ue mo", "on, 说坏", "话 and so on.") as (server, heard):
        address = page(admission=Admission(words=words), served=(Served.parse(f"Other=m@{server}/v1", None),))
        client = visitor(address)
        for prompt in ("a Blue  Moon", "你说坏 话"):
            for refuse in (
                lambda prompt=prompt: chat(client, prompt, "endpoint/Other"),
                lambda prompt=prompt: client.predict(prompt, api_name="/arena_ask"),
                lambda prompt=prompt: client.predict(None, None, prompt, "x", api_name="/microscope_look"),
            ):
                with pytest.raises(Exception, match="operator"):
                    refuse()
        assert heard == []
        client.predict("hello", 1, "endpoint/Other", None, None, None, *SETTINGS, api_name="/begin")
        job = client.submit(api_name="/column_1")
        job.result(timeout=120)
        said = str(job.outputs())
        assert "Once in a ▮▮▮▮ ▮▮▮▮, 说▮▮ and so on." in said
        assert "blue" not in said
        assert "坏" not in said


def test_nobody_gets_at_anything_without_a_password(page: Page) -> None:
    address = page(credentials=Credentials((("ann", "secret"),)))
    for method, path in (
        ("GET", "/"),
        ("GET", "/config"),
        ("GET", "/leaderboard/"),
        ("GET", "/leaderboard/version"),
        ("GET", "/gradio_api/info"),
        ("GET", "/gradio_api/queue/data?session_hash=x"),
        ("GET", "/gradio_api/heartbeat/x"),
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("POST", "/gradio_api/queue/join"),
        ("POST", "/gradio_api/call/begin"),
        ("POST", "/gradio_api/run/stop"),
        ("POST", "/gradio_api/cancel"),
    ):
        assert raw(address, method, path, b"{}" if method == "POST" else b"")[0] == 401, path
    client = visitor(address, auth=("ann", "secret"))
    assert chat(client, "What is 1 plus 2?", "pocket/sft")


def test_a_failure_inside_says_nothing_of_the_inside(page: Page, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret: the path is /home/operator")

    address = page()
    client = visitor(address)
    for method in ("language", "reward", "defaults"):
        monkeypatch.setattr(models, method, fail)
    said = ""
    for call in (
        lambda: chat(client, "What is 1 plus 2?", "pocket/sft"),
        lambda: client.predict(None, None, "", api_name="/microscope_offer"),
        lambda: client.predict("", api_name="/arrive"),
    ):
        try:
            said += str(call())
        except Exception as error:
            said += str(error)
    assert "secret" not in said
    assert "Traceback" not in said
    assert "Something went wrong" in said


@pytest.mark.browser
def test_what_models_runs_and_visitors_say_is_only_text_in_the_browser(
    page: Page, visit: Visit, finished_run: Path, free_port: int, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "evil"
    shutil.copytree(finished_run, run)
    info = Run.open(run).info
    stages = [stage.model_copy(update={"title": {"en": f"{stage.name} {SCRIPT}", "zh": SCRIPT}}) for stage in info.stages]
    (run / "run.json").write_text(RunInfo(**{**info.model_dump(), "name": SCRIPT, "stages": stages}).model_dump_json(), encoding="utf-8")
    models = Models([run.parent], 1 << 30)
    with speaker(*HOSTILE) as (server, _):
        served = (Served.parse(f"{SCRIPT.replace('=', ':')}=m@{server}/v1", None),)
        address = page(models=models, served=served)
        browser = visit(address + f"?models={quote(served[0].id)},evil/sft&prompt={quote(SCRIPT)}")
        ask(browser, f"{SCRIPT} [link](javascript:document.title='owned') ![i](http://192.0.2.1/x.png)")
        shown(browser, "the end of it").wait_for(timeout=60_000)
        browser.locator("#pg-chat-2 .pg-reward").last.wait_for(timeout=60_000)
        for name in ("microscope", "arena", "train", "leaderboard", "chat"):
            tab(browser, name)
            browser.wait_for_timeout(300)
        assert browser.title() != "owned"
        assert browser.locator("#pg-chat-1 img, #pg-chat-1 iframe, #pg-chat-1 script, #pg-chat-1 form, #pg-chat-1 object").count() == 0
        targets = browser.eval_on_selector_all("#pg-columns a", "links => links.map(link => link.href)")
        assert not [target for target in targets if target and not target.startswith(("http://", "https://", "mailto:"))]
    models.close()
