"""The control channel: who may speak, and what is answered."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from control_channel import ONE, SECRET, Relays
from isoneph.core.errors import RelayRefused, RelayUnreachable
from isoneph.core.relaying import RelayHost
from isoneph.core.relaying.control import Status, encode, read_secret


async def test_the_engine_speaks_to_the_relay_over_a_socket_of_its_own_user(
    relays: Relays,
) -> None:
    await relays.serve()
    assert _mode_of(relays.control) == 0o600
    client = relays.client()
    assert dict((await client.status()).members) == {}
    standing = await client.update([ONE])
    assert dict(standing.members) == {"a": ONE}
    relays.relay.sessions["a"] = 3
    standing = await client.drain({"a": 5.0})
    assert dict(standing.draining) == {"a": 5.0}
    assert (standing.status["a"].ready, standing.status["a"].sessions) == (True, 3)
    report = await client.report()
    assert (report.listening, report.facts) == (["127.0.0.1:5"], {"by": "hand"})
    assert report.tables[0].rows == [["one", 7], ["two", 0]]


async def test_several_clients_are_served_at_once(relays: Relays) -> None:
    await relays.serve()
    clients = [relays.client() for _ in range(8)]
    await clients[0].update([ONE])
    found = await asyncio.gather(*(client.status() for client in clients for _ in range(5)))
    assert all(dict(standing.members) == {"a": ONE} for standing in found)


async def test_a_client_connects_anew_when_the_relay_was_started_anew(relays: Relays) -> None:
    server = await relays.serve()
    client = relays.client()
    await client.status()
    await server.close()
    with pytest.raises(RelayUnreachable, match="no such file"):
        await client.status()
    await relays.serve()
    await client.status()
    await relays.client().status()


async def test_the_relays_errors_are_the_clients(relays: Relays) -> None:
    await relays.serve()
    client = relays.client()
    for error in (RelayRefused("not so"), RelayUnreachable("no answer")):
        relays.relay.fault = error
        with pytest.raises(type(error), match=str(error)):
            await client.status()
    relays.relay.fault = None
    await client.status()


async def test_a_socket_that_is_in_use_is_left_alone(relays: Relays) -> None:
    await relays.serve()
    with pytest.raises(RelayRefused, match="something listens on"):
        await relays.serve()
    await relays.client().status()


async def test_a_socket_that_is_left_over_is_replaced(relays: Relays) -> None:
    _leave_over(relays.control)
    await relays.serve()
    await relays.client().status()


async def test_a_file_where_the_socket_should_be_is_left_alone(relays: Relays) -> None:
    file = relays.path / "mme.sock"
    file.write_text("precious")
    with pytest.raises(RelayRefused, match="something else than a socket is there"):
        await relays.serve()
    assert file.read_text() == "precious"


async def test_a_place_that_is_taken_is_answered_from_later_on(relays: Relays) -> None:
    first, second = relays.server(), relays.server()
    await first.bind()
    waiting = asyncio.create_task(relays.client().status())
    with pytest.raises(RelayRefused, match="something listens on"):
        await second.bind()
    await second.close()
    await first.start()
    assert (await waiting).settled
    await first.close()
    assert not relays.path.joinpath("mme.sock").exists()


async def test_a_relay_that_lets_wait_in_vain_is_not_asked_twice(
    relays: Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isoneph.core.relaying.client.ANSWER_TIMEOUT", 0.05)
    await relays.serve()
    client = relays.client()
    await client.status()
    asked: list[int] = []

    async def hang(_: RelayHost) -> Any:
        asked.append(1)
        await asyncio.Event().wait()

    monkeypatch.setattr(RelayHost, "status", hang)
    with pytest.raises(RelayUnreachable, match=r"nothing came within 0\.05 s"):
        await client.status()
    assert asked == [1]


async def test_the_relay_of_another_application_is_told(relays: Relays) -> None:
    await relays.serve()
    with pytest.raises(RelayRefused, match="it is the relay of application mme"):
        await relays.client(application="web").status()


async def test_over_the_network_both_prove_to_know_the_secret(relays: Relays, port: int) -> None:
    relays.control = f"127.0.0.1:{port}"
    secret = relays.secret()
    await relays.serve(secret)
    client = relays.client(secret)
    await client.update([ONE])
    for _ in range(3):
        assert dict((await client.status()).members) == {"a": ONE}


async def test_an_answer_that_was_not_waited_for_is_not_the_next_ones(relays: Relays) -> None:
    await relays.serve()
    client = relays.client()
    await client.update([ONE])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await client.report()
    assert dict((await client.drain({"a": 1.0})).draining) == {"a": 1.0}


@pytest.mark.parametrize(
    ("text", "mode", "problem"),
    [
        ("short", 0o600, "holds 5 bytes"),
        (SECRET, 0o644, "others can open"),
    ],
)
def test_a_secret_that_is_none_is_refused(
    tmp_path: Path, text: str, mode: int, problem: str
) -> None:
    file = Relays(tmp_path).secret(text, mode)
    with pytest.raises(RelayRefused, match=problem) as caught:
        read_secret(file)
    assert text not in caught.value.message


def test_a_secret_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(RelayRefused, match="No such file"):
        read_secret(str(tmp_path / "none"))


def _mode_of(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def _leave_over(path: str) -> None:
    """A socket that nobody listens on."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)


def test_what_json_has_no_form_for_becomes_text() -> None:
    table: Any = {"path": Path("/x"), "request": Status()}
    assert json.loads(encode(table)) == {"path": "/x", "request": {"type": "status"}}
