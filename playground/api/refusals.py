"""What the server says when it doesn't do what is asked: OpenAI's shape of an error, with one sentence in it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from modelkit.errors import UserError
from playground.fitting import TooLong


class Refused(HTTPException):
    """A request that is answered by a status and a sentence.

    :param code: what a program may go by, such as ``model_not_found``.
    :param param: the field that is at fault.
    :param retry_after: seconds after which it is worth asking again.
    """

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None, retry_after: float | None = None):
        headers = {} if retry_after is None else {"Retry-After": str(max(1, round(retry_after + 0.5)))}
        super().__init__(status, message, headers)
        self.code, self.param = code, param

    def response(self) -> JSONResponse:
        """The error as it goes over the wire."""
        return JSONResponse(error(self.status_code, self.detail, self.code, self.param), self.status_code, self.headers)


def error(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """``{"error": …}`` as OpenAI words it."""
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal(failure: UserError) -> Refused:
    """A sentence of the lower floors as a refusal of the request."""
    if isinstance(failure, TooLong):
        return Refused(400, str(failure), "context_length_exceeded")
    return Refused(400, str(failure))


def install(app: FastAPI) -> None:
    """Let every refusal of *app* leave in this shape."""

    @app.exception_handler(HTTPException)
    async def http(request: Request, failure: HTTPException) -> JSONResponse:
        if isinstance(failure, Refused):
            return failure.response()
        detail = {404: f"there is nothing at {request.url.path}", 405: f"{request.method} is not for {request.url.path}"}
        return Refused(failure.status_code, detail.get(failure.status_code, str(failure.detail))).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, failure: RequestValidationError) -> JSONResponse:
        first = failure.errors()[0]
        if first["type"] == "json_invalid":
            return Refused(400, "the body is not valid JSON", "invalid_json").response()
        field = ".".join(str(part) for part in first["loc"] if part != "body")
        said = str(first["msg"]).removeprefix("Value error, ")
        return Refused(422, f"{field}: {said}" if field else said, "invalid_value", field or None).response()

    @app.exception_handler(UserError)
    async def sentence(request: Request, failure: UserError) -> JSONResponse:
        return refusal(failure).response()
