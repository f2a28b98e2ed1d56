"""The door and the login before the page, with a page of three lines behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from playground.guard.credentials import Credentials
from playground.texts import t
from playground.ui.door import Door
from playground.ui.login import COOKIE, Login

USERS = Credentials((("ann", "secret"), ("安", "密码")))


def page(*middleware: Middleware) -> ASGIApp:
    """Answers everything with the number of bytes it was sent; a queue that is always full; a page beside."""

    async def weigh(request: Request) -> Response:
        return JSONResponse({"bytes": len(await request.body())})

    async def full(request: Request) -> Response:
        return JSONResponse({"detail": "Queue is full. Max size is 1 and size is 1."}, 503)

    routes = [Route("/gradio_api/queue/join", full, methods=["POST"]), Route("/{path:path}", weigh, methods=["GET", "POST"])]
    return Starlette(routes=routes, middleware=list(middleware))


def asked(app: ASGIApp, *requests: tuple[str, str, dict[str, Any]], client: str = "198.51.100.7") -> list[httpx.Response]:
    """The answers to requests (method, path, options), one after the other."""

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="https://test") as browser:
            return [await browser.request(method, path, **options) for method, path, options in requests]

    return asyncio.run(ask())


def door() -> ASGIApp:
    return page(Middleware(Door, upload_bytes=1000, beside=("/ranks/",)))


def test_only_the_routes_that_the_page_uses_are_open() -> None:
    for path in ("/", "/config", "/assets/index.js", "/gradio_api/heartbeat/x", "/gradio_api/file=/tmp/a", "/ranks/data"):
        assert asked(door(), ("GET", path, {}))[0].status_code == 200, path
    for path in (
        "/gradio_api/proxy=http://10.0.0.1/",
        "/gradio_api/process_recording",
        "/gradio_api/vibe-edit/",
        "/gradio_api/component_server",
        "/gradio_api/deep_link",
        "/gradio_api/stream/x",
        "/gradio_api/openapi.json",
        "/openapi.json",
        "/docs",
        "/monitoring",
        "/gradio_api/run",
        "//config/x",
        "/api/predict",
        "/ranks",
        "/gradio_api/file=http://192.0.2.1/a.html",
        "/file=https://192.0.2.1/a.html",
        "/gradio_api/heartbeat/" + "x" * 65,
    ):
        refused = asked(door(), ("GET", path, {}))[0]
        assert (refused.status_code, refused.json()) == (404, {"detail": "There is nothing here."}), path


def test_a_body_may_be_so_large_and_no_larger_however_it_comes() -> None:
    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * (1 << 18)

    fits, large, streamed, chunked, upload, big_upload = asked(
        door(),
        ("POST", "/gradio_api/run/x", {"content": b"x" * (1 << 20)}),
        ("POST", "/gradio_api/run/x", {"content": b"x" * ((1 << 20) + 1)}),
        ("POST", "/gradio_api/run/x", {"content": pieces(4)}),
        ("POST", "/gradio_api/run/x", {"content": pieces(40)}),
        ("POST", "/gradio_api/upload", {"content": b"x" * ((1 << 20) + 1000)}),
        ("POST", "/gradio_api/upload", {"content": b"x" * ((1 << 20) + 1001)}),
    )
    assert fits.json() == streamed.json() == {"bytes": 1 << 20}
    assert upload.status_code == 200
    for refused in (large, chunked, big_upload):
        assert (refused.status_code, refused.json()) == (413, {"detail": t("en", "door.large")})
    odd = asked(door(), ("POST", "/gradio_api/run/x", {"content": b"", "headers": {"content-length": "-1"}}))[0]
    assert odd.status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": [{"path": "http://192.0.2.1/a.csv", "meta": {"_type": "gradio.FileData"}}]}',
        b'{"data": [[{"content": {"path": "\\u0068ttps://192.0.2.1/a"}}]]}',
        b'{"data": [{"path": " HTTP://192.0.2.1"}]}',
        b'{"data": [{"path": "file:///etc/passwd"}]}',
        b"[" * 100_000,
    ],
)
def test_nothing_is_fetched_from_an_address_that_somebody_sends(body: bytes) -> None:
    for headers in ({"content-type": "application/json"}, {"content-type": "Application/JSON"}, {}):
        refused = asked(door(), ("POST", "/gradio_api/run/x", {"content": body, "headers": headers}))[0]
        assert (refused.status_code, refused.json()) == (400, {"detail": t("en", "door.address")})


def test_a_sessions_name_may_be_so_long() -> None:
    for length, status in ((64, 200), (65, 400)):
        body = {"data": [], "session_hash": "x" * length}
        assert asked(door(), ("POST", "/gradio_api/run/x", {"json": body}))[0].status_code == status


def test_files_are_taken_where_something_can_be_trained_and_not_too_many_of_them() -> None:
    upload = ("POST", "/gradio_api/upload", {"content": b"x"})
    assert asked(page(Middleware(Door, upload_bytes=0)), upload)[0].status_code == 404
    codes = [answer.status_code for answer in asked(door(), *[upload] * 30)]
    assert 200 in codes
    assert codes.count(200) <= 11
    assert codes[-1] == 429


def test_what_is_said_about_addresses_and_files_that_were_uploaded_go_through() -> None:
    for body in (
        b'{"data": ["see http://192.0.2.1/", {"path": "/tmp/gradio/a.csv", "url": "http://127.0.0.1/gradio_api/file=/tmp/gradio/a.csv"}]}',
        b'{"data": [{"path": null}, {"path": {"a": 1}}]}',
        b"{not json",
        b"",
    ):
        passed = asked(door(), ("POST", "/gradio_api/run/x", {"content": body, "headers": {"content-type": "application/json"}}))[0]
        assert passed.json() == {"bytes": len(body)}


def test_whoever_knocks_too_often_waits_while_others_come_in() -> None:
    behind = door()
    answers = asked(behind, *[("POST", "/gradio_api/run/x", {"headers": {"accept-language": "zh"}})] * 400)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) > 100
    assert refused[0].json()["detail"].startswith("操作太频繁")
    assert int(refused[0].headers["retry-after"]) >= 1
    assert asked(behind, ("POST", "/gradio_api/run/x", {}), client="198.51.100.8")[0].status_code == 200
    assert asked(behind, ("GET", "/", {}))[0].status_code == 200


def test_an_address_may_hold_so_many_streams_open() -> None:
    async def ask() -> list[int]:
        ended = asyncio.Event()

        async def endless(request: Request) -> Response:
            await ended.wait()
            return Response()

        behind = Starlette(routes=[Route("/{path:path}", endless)], middleware=[Middleware(Door, upload_bytes=0)])
        transport = httpx.ASGITransport(behind, client=("198.51.100.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="https://test") as browser:
            held = [asyncio.create_task(browser.get(f"/gradio_api/heartbeat/{number}")) for number in range(201)]
            done, _ = await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)
            assert [task.result().status_code for task in done] == [429]
            ended.set()
            await asyncio.gather(*held)
            return [(await browser.get("/gradio_api/queue/data")).status_code for _ in range(2)]

    assert asyncio.run(ask()) == [200, 200]


def test_a_full_queue_is_told_in_the_visitors_language() -> None:
    english, chinese = asked(
        door(),
        ("POST", "/gradio_api/queue/join", {}),
        ("POST", "/gradio_api/queue/join", {"headers": {"cookie": "pg-language=zh"}}),
    )
    assert (english.status_code, english.json()) == (429, {"detail": t("en", "door.busy")})
    assert chinese.json() == {"detail": t("zh", "door.busy")}
    assert "retry-after" in english.headers


def guarded() -> ASGIApp:
    return page(Middleware(Door, upload_bytes=0), Middleware(Login, credentials=USERS))


def cookie_of(name: str, password: str, **headers: str) -> str | None:
    answer = asked(guarded(), ("POST", "/login", {"data": {"username": name, "password": password}, "headers": headers}))[0]
    return answer.cookies.get(COOKIE)


def carrying(cookie: str | None) -> dict[str, Any]:
    """The options of a request with this cookie."""
    return {"headers": {"cookie": f"{COOKIE}={cookie}".encode()}}


def test_nobody_sees_anything_without_logging_in() -> None:
    browser = {"headers": {"accept": "text/html", "accept-language": "zh"}}
    form, told, posted, theme = asked(
        guarded(), ("GET", "/", browser), ("GET", "/config", {}), ("POST", "/gradio_api/run/x", {}), ("GET", "/theme.css", {})
    )
    assert form.status_code == told.status_code == posted.status_code == 401
    assert t("zh", "login.password") in form.text
    assert 'lang="zh-CN"' in form.text
    assert told.json() == {"detail": t("en", "login.first")}
    assert theme.status_code == 200


def test_a_name_and_its_password_open_the_page_until_one_logs_out() -> None:
    for name, password in USERS.users:
        cookie = cookie_of(name, password)
        inside, out = asked(guarded(), ("GET", "/config", carrying(cookie)), ("GET", "/logout", carrying(cookie)))
        assert inside.status_code == 200
        assert out.status_code == 303
        assert 'pg-login=""' in out.headers["set-cookie"]
    assert cookie_of("ann", "wrong") is None
    assert cookie_of("", "") is None
    form = {"data": {"username": "ann", "password": "secret"}, "headers": {"accept": "text/html"}}
    sent_back = asked(guarded(), ("POST", "/login", form))[0]
    assert (sent_back.status_code, sent_back.headers["location"]) == (303, "./")
    assert all(word in sent_back.headers["set-cookie"] for word in ("HttpOnly", "Secure", "SameSite=lax"))


def test_no_other_site_speaks_for_who_has_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = ("same-origin", "none", "same-site", "cross-site")
    answers = asked(door(), *[("POST", "/gradio_api/run/x", {"headers": {"sec-fetch-site": site}}) for site in sites])
    assert [answer.status_code for answer in answers] == [200, 200, 403, 403]
    assert answers[-1].json() == {"detail": t("en", "door.elsewhere")}
    link = ("GET", "/", {"headers": {"sec-fetch-site": "cross-site"}})
    assert asked(door(), link)[0].status_code == 200
    monkeypatch.setenv("SPACE_ID", "somebody/playground")
    form = {"data": {"username": "ann", "password": "secret"}}
    for answer in asked(guarded(), ("POST", "/login", form), ("GET", "/logout", {})):
        assert all(word in answer.headers["set-cookie"] for word in ("Secure", "SameSite=none", "Partitioned"))


def test_a_cookie_is_believed_by_servers_with_the_same_passwords_only_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = cookie_of("ann", "secret")
    assert cookie is not None
    name, until, signature = cookie.split(".")
    forged = [f"{name}.{int(until) + 1}.{signature}", f"Ym9i.{until}.{signature}", f"{name}.²2.{signature}", f"{name}.{until}"]
    for value in (*forged, "a.b.c", "é.1.x", ""):
        assert asked(guarded(), ("GET", "/config", carrying(value)))[0].status_code == 401, value
    other = page(Middleware(Login, credentials=Credentials((("ann", "changed"),))))
    assert asked(other, ("GET", "/config", carrying(cookie)))[0].status_code == 401
    monkeypatch.setattr("playground.ui.login.time.time", lambda: int(until) + 1.0)
    assert asked(guarded(), ("GET", "/config", carrying(cookie)))[0].status_code == 401


def test_passwords_cannot_be_tried_out_at_leisure() -> None:
    attempts = [("POST", "/login", {"data": {"username": "ann", "password": str(i)}}) for i in range(30)]
    codes = [answer.status_code for answer in asked(guarded(), *attempts)]
    assert codes.count(401) <= 11
    assert codes[-1] == 429


def test_a_form_that_is_longer_than_any_form_is_not_read() -> None:
    long = {"username": "ann", "password": "secret", "more": "x" * 5000}
    assert asked(guarded(), ("POST", "/login", {"data": long}))[0].status_code == 401
