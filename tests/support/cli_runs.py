"""Command lines run in this process, and a service that answers as a test lays out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import httpx


class Result(NamedTuple):
    code: int
    out: str
    err: str


Isoneph = Callable[..., Result]


class FakeService:
    """Gives the answers in ``answers`` one after the other, and keeps the requests."""

    def __init__(self) -> None:
        self.answers: list[httpx.Response | BaseException] = []
        self.requests: list[httpx.Request] = []

    def answer(self, body: Any = None, status: int = 200, **headers: str) -> None:
        content = {} if body is None else {"json": body}
        self.answers.append(httpx.Response(status, headers=headers, **content))

    def problem(self, status: int, code: str, detail: str, **more: Any) -> None:
        self.answer({"code": code, "detail": detail, **more}, status)

    def fail(self, error: BaseException) -> None:
        self.answers.append(error)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @property
    def lines(self) -> list[str]:
        """The requests as method and URL from the path on."""
        return [f"{one.method} {one.url.raw_path.decode()}" for one in self.requests]
