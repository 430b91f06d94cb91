"""A VM's life with a relay, in real processes that are killed at the worst moments."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_vms import nothing_left_running
from relayed_service import PATIENCE, RelayedService, free_port
from services import wait_for


@pytest.fixture
def make_relayed() -> Iterator[Callable[..., RelayedService]]:
    """Makes services with a relay, of which nothing is left after the test."""
    made: list[RelayedService] = []
    # Not in pytest's own directory: the path of a socket has at most 107 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="isoneph-relay-") as root,
        nothing_left_running(Path(root)),
    ):

        def make(**relay: Any) -> RelayedService:
            made.append(RelayedService(Path(root, str(len(made))), **relay))
            made[-1].start()
            return made[-1]

        yield make
        for each in made:
            each.close()


@pytest.fixture
def relayed(make_relayed: Callable[..., RelayedService]) -> RelayedService:
    return make_relayed()


def test_a_vm_that_drains_keeps_its_session_and_is_gone_after_it(relayed: RelayedService) -> None:
    vm = relayed.create()
    assert relayed.states() == {vm: "READY"}
    session = relayed.session()
    assert session.vm == vm
    relayed.await_states(**{vm: "SERVING"})
    answer = relayed.delete(vm)
    assert (answer.status_code, answer.json()["state"]) == (202, "DRAINING")
    assert answer.json()["relay"]["sessions"] == 1
    other = relayed.create()
    assert [relayed.session().vm for _ in range(3)] == [other] * 3
    assert session.echo("still here") == "still here"
    relayed.await_states(**{vm: "DRAINING", other: "SERVING"})
    assert len(list(relayed.clouds.glob(f"*/web-{vm}-*"))) == 1
    session.close()
    relayed.await_states(**{other: "SERVING"})
    assert not list(relayed.clouds.glob(f"*/web-{vm}-*"))


def test_a_drain_ends_at_its_deadline(make_relayed: Callable[..., RelayedService]) -> None:
    relayed = make_relayed(drain=1)
    vm = relayed.create()
    session = relayed.session()
    assert relayed.delete(vm).status_code == 202
    assert session.echo("in time") == "in time"
    relayed.await_states()
    assert session.echo("too late") == ""


def test_an_idle_vm_is_removed_at_once(relayed: RelayedService) -> None:
    vm = relayed.create()
    assert relayed.delete(vm).status_code == 204
    relayed.await_states()


def test_a_killed_service_learns_from_the_relay_what_drains(relayed: RelayedService) -> None:
    vm, other = relayed.create(), relayed.create()
    sessions = {session.vm: session for session in (relayed.session(), relayed.session())}
    assert relayed.delete(vm).status_code == 202
    since = relayed.relay_of(vm)["draining_since"]
    relayed.kill("serve")
    assert [session.echo("on") for session in sessions.values()] == ["on", "on"]
    relayed.start("serve")
    relayed.await_states(**{vm: "DRAINING", other: "SERVING"})
    assert relayed.relay_of(vm)["draining_since"] == since
    assert {relayed.session().vm for _ in range(3)} == {other}
    assert [session.echo("on") for session in sessions.values()] == ["on", "on"]
    sessions[vm].close()
    relayed.await_states(**{other: "SERVING"})


def test_a_killed_relay_knows_its_backends_and_what_drains(relayed: RelayedService) -> None:
    vm, other = relayed.create(), relayed.create()
    sessions = [relayed.session(), relayed.session()]
    assert relayed.delete(vm).status_code == 202
    relayed.kill("relay")
    wait_for(lambda: relayed.relay_of(other)["stale"], "the relay's silence is told")
    assert relayed.states()[vm] == "DRAINING"
    assert [session.echo("gone") for session in sessions] == ["", ""]
    relayed.start("relay")
    assert "2 backends as before, 1 draining" in relayed.said("relay")
    relayed.await_states(**{other: "READY"})
    assert relayed.session().vm == other


def test_both_killed_in_the_middle_of_a_drain_finish_it(relayed: RelayedService) -> None:
    vm, other = relayed.create(), relayed.create()
    _sessions = [relayed.session(), relayed.session()]
    assert relayed.delete(vm).status_code == 202
    relayed.kill("serve", "relay")
    relayed.start("serve", "relay")
    relayed.await_states(**{other: "READY"})
    assert relayed.session().vm == other


def test_a_delete_that_the_relay_did_not_hear_of_is_carried_out_when_it_is_back(
    relayed: RelayedService,
) -> None:
    vm = relayed.create()
    relayed.kill("relay")
    assert relayed.delete(vm).status_code == 202
    assert relayed.states() == {vm: "DRAINING"}
    relayed.start("relay")
    relayed.await_states()


def test_a_relay_that_is_stopped_waits_for_its_sessions(relayed: RelayedService) -> None:
    relayed.create()
    session = relayed.session()
    process = relayed.stop("relay")
    wait_for(lambda: "stopping: sessions have 60 s" in relayed.said("relay"), "stopping")
    assert session.echo("still here") == "still here"
    with pytest.raises(OSError, match="refused"):
        relayed.session()
    session.close()
    assert process.wait(PATIENCE) == 0


def test_a_second_relay_of_the_application_does_not_start(relayed: RelayedService) -> None:
    second = relayed.run("relay", "web", "--state", str(relayed.directory / "state"))
    assert second.returncode == 1
    assert "a relay of application web is running already" in second.stderr


def test_the_status_of_a_relay(make_relayed: Callable[..., RelayedService]) -> None:
    relayed = make_relayed(metrics=(metrics := free_port()))
    vm = relayed.create()
    session = relayed.session()
    shown = relayed.run("relay", "status", "web")
    assert shown.returncode == 0, shown.stderr
    assert f"listening: 127.0.0.1:{relayed.port}" in shown.stdout
    row = next(line for line in shown.stdout.splitlines() if line.startswith(vm))
    assert row.split()[3:5] == ["ready", "1"]
    data = json.loads(relayed.run("relay", "status", "web", "-f", "json").stdout)
    assert [(one["id"], one["sessions"]) for one in data["backends"]] == [(vm, 1)]
    figures = httpx.get(f"http://127.0.0.1:{metrics}/metrics").text
    assert 'isoneph_relay_backends{application="web",state="ready"} 1.0' in figures
    assert 'isoneph_relay_sessions{application="web"} 1.0' in figures
    session.close()


def test_the_engine_reaches_a_relay_over_tcp_by_a_shared_secret(
    make_relayed: Callable[..., RelayedService], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("correct horse battery staple")
    secret.chmod(0o600)
    control = f"127.0.0.1:{free_port()}"
    relayed = make_relayed(control=control, control_secret_file=str(secret))
    vm = relayed.create()
    assert relayed.session().vm == vm
    secret.write_text("another secret altogether")
    shown = relayed.run("relay", "status", "web")
    assert shown.returncode == 1
    assert "it does not take our secret" in shown.stderr
    assert "the client does not prove to know the secret" in relayed.said("relay")
