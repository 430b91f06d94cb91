from __future__ import annotations

import io
import json
import time
from collections.abc import Callable

import pytest

from cli_runs import ID, FakeService, Isoneph, placed, vm
from isoneph.core.cli import progress
from isoneph.core.cli.client import Client


def test_lists_with_filters(isoneph: Isoneph, service: FakeService) -> None:
    service.answer({"vms": [vm()], "total": 1, "incomplete": []})
    line = "vm list --type web --cloud paris --state error --tag role=front --limit 5 -f json"
    result = isoneph(*line.split(), "--application", "shop")
    assert service.lines == [
        "GET /v1/shop/vm?type=web&cloud=paris&state=ERROR&tag.role=front&limit=5"
    ]
    (shown,) = json.loads(result.out)
    assert shown == {name: vm()[name] for name in ("id", "type", "cloud", "state", "addresses")}


def test_the_table_reads_well(
    isoneph: Isoneph, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answer({"vms": [vm()], "total": 1, "incomplete": []})
    out = isoneph("vm", "list", "--long").out
    for text in ("net=10.0.0.1, 10.0.0.2", "role=front", "tier=1", "2023-11-1"):
        assert text in out
    assert "None" not in out


def test_warns_of_clouds_that_are_silent(isoneph: Isoneph, service: FakeService) -> None:
    silence = {"cloud": "oslo", "code": "unreachable", "detail": "connection refused"}
    for _ in range(2):
        service.answer({"vms": [], "total": 0, "incomplete": [silence]})
    result = isoneph("vm", "list")
    assert (result.code, result.err) == (
        0,
        "isoneph: cloud oslo cannot be asked, its VMs are shown as last seen: connection refused\n",
    )
    assert isoneph("-q", "vm", "list").err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("list --tag role", "'role' is not of the form NAME=VALUE"),
        ("list --tag =x", "'=x' is not of the form NAME=VALUE"),
        ("list --state GONE", "invalid choice: 'GONE'"),
        ("list --limit 0", "'0' is not a whole number from 1 on"),
        ("create web --count x", "'x' is not a whole number from 1 on"),
        ("create web --wait --timeout nan", "'nan' is not a number of seconds"),
        ("create web --wait --timeout -1", "'-1' is not a number of seconds"),
        ("create web --timeout 5", "--timeout is for --wait only"),
        ("delete", "name the VMs to delete, or say --any"),
        ("delete v --any", "name the VMs to delete, or say --any"),
        ("delete v --type web", "--type, --cloud and --key are for --any only"),
    ],
)
def test_a_wrong_command_line(
    isoneph: Isoneph, service: FakeService, arguments: str, message: str
) -> None:
    result = isoneph("vm", *arguments.split())
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert service.requests == []


def test_shows_one_with_its_placement(isoneph: Isoneph, service: FakeService) -> None:
    for _ in range(2):
        service.answer(placed())
    out = isoneph("vm", "show", ID).out
    for text in (
        "paris: 1.000",
        "  count: no VMs here (+1.000)",
        "rome: rejected",
        "  quota: full",
        "refused by oslo: no_capacity: no room",
    ):
        assert text in out
    assert json.loads(isoneph("vm", "show", ID, "-f", "json").out) == placed()


def test_creates_what_was_asked_for(isoneph: Isoneph, service: FakeService) -> None:
    service.answer(placed(), 201)
    line = "vm create web --min-count 1 --cloud paris --near rome --tag role=front --tag a=b=c"
    result = isoneph(*line.split(), "-f", "value", "-c", "id", "-c", "existed")
    assert (result.code, result.out, result.err) == (0, f"{ID} False\n", "")
    (request,) = service.requests
    assert json.loads(request.content) == {
        "type": "web",
        "count": 1,
        "min_count": 1,
        "cloud": "paris",
        "near": "rome",
        "tags": {"role": "front", "a": "b=c"},
    }
    assert len(request.headers["idempotency-key"]) == 32


def test_tells_why_there_are_fewer(isoneph: Isoneph, service: FakeService) -> None:
    service.answer({"vms": [placed()], "failures": ["no cloud is left"]}, 201)
    result = isoneph("vm", "create", "web", "--count", "2", "--min-count", "1", "--key", "k")
    assert (result.code, result.err) == (0, "isoneph: not all could be created: no cloud is left\n")
    assert service.requests[0].headers["idempotency-key"] == "k"


def test_those_that_are_not_ready_in_time_are_shown_all_the_same(
    isoneph: Isoneph, service: FakeService
) -> None:
    service.answer({"vms": [placed("a"), placed("b"), placed("c")], "failures": []}, 201)
    service.answer(placed("a", state="ACTIVE"))
    service.problem(504, "wait_timeout", "VM b is BUILDING")
    service.answer(placed("c", state="ACTIVE"))
    line = "vm create web --count 3 --wait --timeout 0 -f value -c id -c state"
    result = isoneph(*line.split())
    assert result.out == "a ACTIVE\nb BUILDING\nc ACTIVE\n"
    assert (result.code, result.err) == (1, "isoneph: VM b is BUILDING\n")


@pytest.mark.parametrize("state", ["ACTIVE", "READY"])
def test_a_create_says_what_it_will_wait_for(
    isoneph: Isoneph, service: FakeService, state: str
) -> None:
    service.answer(placed("a"), 201)
    service.answer(placed("a", state=state))
    result = isoneph("vm", "create", "web", "--wait", state, "-f", "value", "-c", "state")
    assert (result.code, result.out) == (0, f"{state}\n")
    assert service.lines[0] == f"POST /vm?expect={state}"
    assert service.lines[1].startswith(f"GET /vm/a?wait={state}&timeout=")


def test_an_interrupted_create_tells_its_key(
    isoneph: Isoneph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "create_vms", interrupt)
    result = isoneph("vm", "create", "web", "--key", "k")
    assert (result.code, result.err) == (
        130,
        "isoneph: interrupted; to have the same VMs: --key k\n",
    )


def test_an_interrupted_wait_tells_what_is_there(
    isoneph: Isoneph, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "wait", interrupt)
    service.answer({"vms": [placed("a"), placed("b")], "failures": []}, 201)
    result = isoneph("vm", "create", "web", "--count", "2", "--wait", "--key", "k")
    assert (result.code, result.out, result.err) == (
        130,
        "",
        "isoneph: interrupted; to have the same VMs (a, b): --key k\n",
    )


def test_deletes_all_that_can_be(isoneph: Isoneph, service: FakeService) -> None:
    service.answer(None, 204)
    service.problem(503, "unreachable", "oslo does not answer")
    service.answer(None, 204)
    result = isoneph("vm", "delete", "a", "b", "c", "a")
    assert (result.code, result.out, result.err) == (1, "a\nc\n", "isoneph: oslo does not answer\n")
    assert service.lines == ["DELETE /vm/a", "DELETE /vm/b", "DELETE /vm/c"]


def test_deletes_one_that_can_be_spared(isoneph: Isoneph, service: FakeService) -> None:
    reasons = [{"policy": "oldest", "text": "placed first", "value": 1.0, "share": 1.0}]
    verdict = {"candidate": ID, "score": 1.0, "reasons": reasons}
    service.answer({"vm": vm(), "ranking": [verdict]})
    result = isoneph("vm", "delete", "--any", "--type", "web", "--cloud", "paris")
    assert (result.out, result.err) == (
        f"{ID}\n",
        "isoneph: deleted a web on paris: placed first\n",
    )
    assert service.lines == ["DELETE /vm?type=web&cloud=paris"]
    assert service.requests[0].headers["idempotency-key"]


def test_a_repeated_delete_of_any_deletes_no_second(isoneph: Isoneph, service: FakeService) -> None:
    service.answer({"vm": None, "ranking": None})
    result = isoneph("vm", "delete", "--any", "--key", "k")
    assert (result.code, result.out) == (0, "")
    assert result.err == "isoneph: what this key deleted is gone already\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.001)


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)


@pytest.mark.usefixtures("quick")
def test_progress_is_one_line_that_goes_away() -> None:
    terminal = Terminal()
    with progress.progress(terminal, lambda: "waiting"):
        wait_until(lambda: "waiting: " in terminal.getvalue())
    assert terminal.getvalue().endswith("\r\x1b[K")


@pytest.mark.usefixtures("quick")
def test_progress_is_for_terminals_and_can_be_silenced() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream, enabled in ((terminal, False), (file, True)):
        with progress.progress(stream, lambda: "waiting", enabled=enabled):
            pass
        assert stream.getvalue() == ""
