"""Command lines run in this process, and a service that answers as a test lays out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import httpx

ID = "2b7c3f6e-9b7e-4c39-9d0a-6f0e4a7b1c55"


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


def vm(vm_id: str = ID, **changes: Any) -> dict[str, Any]:
    """A VM as the service shows it."""
    return {
        "id": vm_id,
        "application": "shop",
        "type": "web",
        "cloud": "paris",
        "cloud_id": "i-1",
        "name": "shop-web-2b7c3f6e",
        "state": "BUILDING",
        "attempt": 1,
        "placed_at": 1_700_000_000.0,
        "addresses": {"net": ["10.0.0.1", "10.0.0.2"]},
        "tags": {"role": "front", "tier": "1"},
        "fault": None,
        "fault_code": None,
        "near": None,
        **changes,
    }


def placed(vm_id: str = ID, **changes: Any) -> dict[str, Any]:
    """The same with how it was placed."""
    ranking = [
        {
            "candidate": "paris",
            "score": 1.0,
            "reasons": [{"policy": "count", "text": "no VMs here", "value": 0.0, "share": 1.0}],
        },
        {
            "candidate": "rome",
            "score": None,
            "reasons": [{"policy": "quota", "text": "full", "value": None, "share": None}],
        },
    ]
    refusal = {"cloud": "oslo", "code": "no_capacity", "text": "no room", "at": 1.0}
    placement = {"ranking": ranking, "refusals": [refusal]}
    return vm(vm_id, placement=placement, existed=False, **changes)
