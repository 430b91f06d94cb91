"""``isoneph relay``, and what a relay adds to the commands of VMs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cli_runs import ID, FakeService, Isoneph, placed, vm
from isoneph.core.cli import relays
from isoneph.core.cli.relays import Look
from isoneph.core.errors import RelayUnreachable
from isoneph.core.plugin import Plugin
from isoneph.core.registry import Registry
from isoneph.core.relaying import Member, Standing, client, process
from isoneph.core.relaying.process import Run
from isoneph.core.traffic import BackendStatus, RelayReport, Table
from scripted_relay import ScriptedRegistry

RELAY = {
    "ready": True,
    "sessions": 3,
    "text": "",
    "draining_since": None,
    "drain_deadline": None,
    "stale": False,
}
DRAINING = {**RELAY, "draining_since": 1_700_000_000.0, "drain_deadline": 1_700_000_300.0}
MEMBERS = {
    "a": Member(id="a", placement="paris/1", addresses=("10.0.0.1",), cloud="paris"),
    "b": Member(id="b", placement="oslo/1", addresses=("10.0.0.2", "10.1.0.2"), cloud="oslo"),
}


def standing(**changes: Any) -> Standing:
    status = {"a": BackendStatus(ready=True, sessions=4), "b": BackendStatus(ready=False, text="x")}
    return Standing(**{"members": MEMBERS, "status": status, "draining": {}, **changes})


def report(messages: int) -> RelayReport:
    table = Table(
        name="clients",
        columns=["client", "messages", "rtt"],
        rows=[["enb-1", messages, 0.00123], ["enb\x1b2", 0, 0.0]],
        counters=["messages"],
    )
    return RelayReport(listening=["127.0.0.1:36412"], facts={"transport": "kernel"}, tables=[table])


@pytest.fixture
def relay_config(config: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of applications with a relay, with one in the engine, and without."""
    load, scripted = Registry.load, ScriptedRegistry.scripted

    def with_scripted(self: Registry, kind: str, name: str) -> type[Plugin]:
        return scripted.get((kind, name)) or load(self, kind, name)

    monkeypatch.setattr(Registry, "load", with_scripted)
    for name, relay in (("shop", ""), ("mme", "relay: {driver: scripted, drain: 7}\n"),
                        ("dns", "relay: hosted\n")):  # fmt: skip
        (config / "applications" / f"{name}.yaml").write_text("types: {web: {}}\n" + relay)
    return config


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lays out what the relay says, look after look."""

    def lay_out(*answers: tuple[Standing, RelayReport] | BaseException) -> None:
        left = list(answers)

        async def watch(_self: object) -> tuple[Standing, RelayReport]:
            answer = left.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        monkeypatch.setattr(client.RemoteRelay, "watch", watch)

    return lay_out


def test_runs_the_relay_of_an_application(
    isoneph: Isoneph, relay_config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs: list[Run] = []

    def run_relay(run: Run) -> int:
        runs.append(run)
        return 0

    monkeypatch.setattr(process, "run_relay", run_relay)
    monkeypatch.setattr("isoneph.core.service.logs.configure_logging", lambda *_: None)
    assert isoneph("relay", "mme").code == 0
    assert isoneph("relay", "mme", "--state", str(tmp_path), "--drain", "3").code == 0
    assert [(run.application.name, run.relay.driver) for run in runs] == [("mme", "scripted")] * 2
    assert [(run.state, run.drain) for run in runs] == [(None, 7.0), (tmp_path, 3.0)]


@pytest.mark.parametrize("command", [("relay",), ("relay", "status")])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mne", "there is no application 'mne'; configured: dns, mme, shop"),
        ("shop", "application shop has no relay"),
        ("dns", "has no process of its own: it runs in the engine"),
    ],
)
def test_tells_what_has_no_relay_to_run(
    isoneph: Isoneph, relay_config: Path, command: Sequence[str], name: str, text: str
) -> None:
    result = isoneph(*command, name)
    assert result.code == 2
    assert text in result.err


def test_shows_a_relay_once(
    isoneph: Isoneph, relay_config: Path, watched: Callable[..., None]
) -> None:
    watched((standing(draining={"a": 0.0}), report(7)))
    lines = isoneph("relay", "status", "mme").out.splitlines()
    assert lines[0].startswith("relay of mme, ")
    assert lines[1:4] == ["listening: 127.0.0.1:36412", "transport: kernel", ""]
    assert lines[4] == "backends"
    assert lines[6].split()[:5] == ["a", "paris", "10.0.0.1", "draining", "4"]
    assert lines[7].split() == ["b", "oslo", "10.0.0.2,", "10.1.0.2", "not", "ready", "0", "x"]
    assert lines[9] == "clients"
    assert lines[10].split() == ["client", "messages", "messages/s", "rtt"]
    assert lines[11].split() == ["enb-1", "7", "0.00123"]
    assert lines[12].startswith("enb?2")


def test_shows_backends_that_nobody_named() -> None:
    status = {"w": BackendStatus(ready=True, sessions=9)}
    lines = list(Look("mme", 0.0, Standing(status=status), report(7)).lines(None))
    assert lines[6].split() == ["w", "ready", "9"]


def test_shows_a_relay_as_json(
    isoneph: Isoneph, relay_config: Path, watched: Callable[..., None]
) -> None:
    watched((standing(), report(7)))
    shown = json.loads(isoneph("relay", "status", "mme", "-f", "json").out)
    assert [(one["id"], one["state"], one["sessions"]) for one in shown["backends"]] == [
        ("a", "ready", 4),
        ("b", "not ready", 0),
    ]
    assert shown["tables"]["clients"][0] == {"client": "enb-1", "messages": 7, "rtt": 0.00123}


def test_rates_are_since_the_last_look() -> None:
    first = Look("mme", 10.0, standing(), report(100))
    later = Look("mme", 12.0, standing(), report(350))
    assert "125" in next(line for line in later.lines(first) if line.startswith("enb-1")).split()
    restarted = Look("mme", 14.0, standing(), report(0))
    row = next(line for line in restarted.lines(later) if line.startswith("enb-1"))
    assert row.split() == ["enb-1", "0", "0.00123"]


def test_the_live_table_outlives_a_relay_that_is_started_anew(
    isoneph: Isoneph,
    relay_config: Path,
    watched: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched((standing(), report(1)), RelayUnreachable("gone"), (standing(), report(2)),
            KeyboardInterrupt())  # fmt: skip
    monkeypatch.setattr(relays, "INTERVAL", 0.0)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    result = isoneph("relay", "status", "mme")
    assert result.code == 130
    assert result.out.count("\x1b[H\x1b[J") == 3
    assert "gone" in result.out


def test_tells_how_to_start_a_relay_that_does_not_answer(
    isoneph: Isoneph, relay_config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    result = isoneph("relay", "status", "mme")
    assert result.code == 1
    assert f"{tmp_path}/isoneph/mme.sock: no such file or directory" in result.err
    assert "start it with 'isoneph relay mme'" in result.err


def test_lists_sessions_where_there_is_a_relay(isoneph: Isoneph, service: FakeService) -> None:
    vms = [vm(state="SERVING", relay=RELAY), vm("other", state="BUILDING")]
    service.answer({"vms": vms, "total": 2, "incomplete": []})
    listed = json.loads(isoneph("vm", "list", "--long", "-f", "json").out)
    assert [(one["sessions"], one["drain_deadline"]) for one in listed] == [(3, None), (None, None)]
    assert list(listed[0])[:7] == ["id", "type", "cloud", "state", "addresses", "sessions",
                                   "drain_deadline"]  # fmt: skip


def test_shows_how_the_relay_sees_a_vm(isoneph: Isoneph, service: FakeService) -> None:
    service.answer(placed(relay={**DRAINING, "stale": True, "text": "it coughs"}))
    out = isoneph("vm", "show", ID).out
    for text in ("ready=true", "sessions=3", "drain_deadline=2023-11-1", "it coughs",
                 "the relay does not answer"):  # fmt: skip
        assert text in out


def test_waits_for_ready(isoneph: Isoneph, service: FakeService) -> None:
    service.answer(placed(), 201)
    service.answer(placed(state="READY", relay=RELAY))
    result = isoneph("vm", "create", "web", "--wait", "ready", "-f", "value", "-c", "state")
    assert result.out.split() == ["READY"]
    assert service.lines[1].startswith(f"GET /vm/{ID}?wait=READY&timeout=")


def test_tells_that_a_vm_drains(isoneph: Isoneph, service: FakeService) -> None:
    service.answer(vm(state="DRAINING", relay=DRAINING), 202)
    result = isoneph("vm", "delete", ID)
    assert (result.code, result.out.split()) == (0, [ID])
    assert f"{ID} drains, 3 sessions, until 2023-11-1" in result.err
    service.answer({"vm": vm(state="DRAINING", relay=DRAINING), "ranking": None}, 202)
    assert "drains, 3 sessions" in isoneph("vm", "delete", "--any").err


def test_deletes_at_once_when_told(isoneph: Isoneph, service: FakeService) -> None:
    service.answer(None, 204)
    service.answer({"vm": vm(), "ranking": None})
    assert isoneph("vm", "delete", "--now", ID).err == ""
    isoneph("vm", "delete", "--now", "--any", "--cloud", "paris")
    assert service.lines == [
        f"DELETE /vm/{ID}?drain=false",
        "DELETE /vm?cloud=paris&drain=false",
    ]
