from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from inside.testbed_api import Faults, Front, Tokens

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

WATCHER = "openstack-testbed"


class Api:
    """An API behind its front, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.faults = directory / "faults.json"
        self.calls = directory / "calls.jsonl"
        self.revoked = directory / "revoked"
        self.handled: list[str] = []
        self.cuts = 0
        self.front = Front(
            self._service,
            Faults(str(self.faults)),
            Tokens(str(self.revoked)),
            calls=str(self.calls),
            agent=WATCHER,
            cut=self._cut,
        )

    def set(self, *rules: dict[str, Any]) -> None:
        part = self.faults.with_suffix(".part")
        part.write_text(json.dumps(rules))
        part.replace(self.faults)

    def ask(
        self, method: str, path: str, agent: str = "sdk/1"
    ) -> tuple[str, dict[str, str], bytes]:
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "limit=1",
            "HTTP_USER_AGENT": agent,
        }
        seen: list[Any] = ["", []]

        def start_response(status: str, headers: Any, error: Any = None) -> Any:
            seen[:] = [status, headers]

        body = b"".join(self.front(environ, start_response))
        return seen[0], dict(seen[1]), body

    def recorded(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.calls.read_text().splitlines()]

    def _service(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.handled.append(environ["PATH_INFO"])
        environ["HTTP_X_USER_NAME"] = "isoneph"
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = environ["PATH_INFO"], ""
        start_response("202 Accepted", [])
        return [b"done"]

    def _cut(self) -> None:
        self.cuts += 1


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


def test_each_call_is_written_down(api: Api) -> None:
    assert api.ask("POST", "/servers") == ("202 Accepted", {}, b"done")
    (call,) = api.recorded()
    assert abs(call.pop("at") - time.time()) < 5
    assert 0 <= call.pop("seconds") < 5
    assert call == {
        "method": "POST",
        "path": "/servers",
        "query": "limit=1",
        "agent": "sdk/1",
        "lost": "",
        "status": 202,
        "user": "isoneph",
        "through": "",
    }


def test_the_testbeds_own_calls_are_let_through_unseen(api: Api) -> None:
    api.set({"status": 500})
    assert api.ask("GET", "/", WATCHER)[0] == "202 Accepted"
    assert api.recorded() == []


def test_the_first_rule_that_fits_answers(api: Api) -> None:
    api.set(
        {"method": "POST", "path": "/servers$", "status": 429, "retry_after": 3, "message": "slow"},
        {"status": 503},
    )
    status, headers, body = api.ask("POST", "/servers")
    assert status.startswith("429 ")
    assert headers["Retry-After"] == "3"
    assert json.loads(body)["error"]["message"] == "slow"
    assert api.ask("POST", "/servers/1/action")[0].startswith("503 ")
    assert api.ask("GET", "/servers")[0].startswith("503 ")
    assert api.handled == []
    assert [call["status"] for call in api.recorded()] == [429, 503, 503]


def test_a_rule_can_be_about_some_clients_and_some_times(api: Api) -> None:
    api.set({"agent": "^isoneph", "times": 2, "status": 503})
    asked = [api.ask("GET", "/", agent)[0][:3] for agent in ["sdk"] + 3 * ["isoneph/1"]]
    assert asked == ["202", "503", "503", "202"]
    api.set({"agent": "^isoneph", "times": 1, "status": 500})
    assert [api.ask("GET", "/", "isoneph/1")[0][:3] for _ in range(2)] == ["500", "202"]


def test_a_delay_comes_before_the_work(api: Api) -> None:
    api.set({"delay": 0.05})
    began = time.monotonic()
    api.ask("GET", "/")
    assert time.monotonic() - began >= 0.05
    assert api.handled == ["/"]


@pytest.mark.parametrize(("lose", "handled"), [("request", []), ("answer", ["/servers"])])
def test_a_lost_connection_is_cut_before_or_after_the_work(
    api: Api, lose: str, handled: list[str]
) -> None:
    api.set({"lose": lose})
    api.ask("POST", "/servers")
    assert api.cuts == 1
    assert api.handled == handled
    assert [call["lost"] for call in api.recorded()] == [lose]


def test_no_rules_or_damaged_ones_disturb_nothing(api: Api) -> None:
    api.faults.write_text("[{")
    assert api.ask("GET", "/")[0] == "202 Accepted"


def test_tokens_are_forgotten_when_some_are_revoked(tmp_path: Path) -> None:
    revoked = tmp_path / "revoked"
    tokens = Tokens(str(revoked))
    tokens.forget_revoked().set("token", "valid", time=300)
    assert tokens.forget_revoked().get("token") == "valid"
    revoked.write_text("1")
    assert tokens.forget_revoked().get("token") is None
    tokens.set("token", "valid")
    assert tokens.forget_revoked().get("token") == "valid"
    os.utime(revoked, (1, 1))
    assert tokens.forget_revoked().get("token") is None
