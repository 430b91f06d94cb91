"""The control channel: who may speak, what is answered, and what is turned away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from isoneph.core.errors import RelayRefused, RelayUnreachable
from isoneph.core.metrics import PrometheusMetrics
from isoneph.core.relaying import Member, RelayHost, RemoteRelay
from isoneph.core.relaying import server as serving
from isoneph.core.relaying.control import MAX_FRAME, Channel, Status, encode, read_secret
from isoneph.core.relaying.exposition import Exposition
from isoneph.core.relaying.server import ControlServer
from isoneph.core.testing import make_environment
from scripted_relay import ScriptedRelay

ONE = Member(id="a", placement="uniform/1", addresses=("10.0.0.1",))
SECRET = "correct horse battery staple"


class Relays:
    """A relay's control server and clients of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.relay = ScriptedRelay({}, make_environment("mme"))
        self.metrics = PrometheusMetrics()
        self.control = str(path / "mme.sock")
        self._ends: list[Callable[[], Awaitable[None]]] = []

    def secret(self, text: str = SECRET, mode: int = 0o600) -> str:
        file = self.path / f"secret{len(list(self.path.iterdir()))}"
        file.write_text(text)
        file.chmod(mode)
        return str(file)

    async def serve(self, secret_file: str | None = None) -> ControlServer:
        server = self.server(secret_file)
        await server.start()
        return server

    def server(self, secret_file: str | None = None) -> ControlServer:
        server = ControlServer(
            RelayHost(self.relay), "mme", self.control, secret_file, self.metrics
        )
        self._ends.append(server.close)
        return server

    def client(self, secret_file: str | None = None, application: str = "mme") -> RemoteRelay:
        client = RemoteRelay(application, self.control, secret_file)
        self._ends.append(client.close)
        return client

    async def close(self) -> None:
        for end in reversed(self._ends):
            await end()

    def refused(self, reason: str) -> bool:
        text = f'isoneph_relay_control_refused_total{{reason="{reason}"}} 1.0'
        return text in self.metrics.exposition().decode()


@pytest.fixture
async def relays(tmp_path: Path) -> AsyncIterator[Relays]:
    made = Relays(tmp_path)
    yield made
    await made.close()


@pytest.fixture
def port(unused_tcp_port: int) -> int:
    return unused_tcp_port


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


async def test_who_does_not_know_the_secret_is_turned_away(relays: Relays, port: int) -> None:
    relays.control = f"127.0.0.1:{port}"
    await relays.serve(relays.secret())
    with pytest.raises(RelayRefused, match="it does not take our secret"):
        await relays.client(relays.secret("another secret, a wrong one")).status()
    assert relays.refused("wrong_secret")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_frame(b'{"type":"status"}'))
    await reader.read()
    writer.close()
    assert relays.refused("malformed")


async def test_a_relay_that_does_not_know_the_secret_is_not_trusted(
    relays: Relays, port: int
) -> None:
    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = {"type": "hello", "version": 1, "application": "mme", "nonce": "AAAA"}
        writer.write(_frame(json.dumps(hello).encode()))
        await Channel(reader, writer).receive()
        writer.write(_frame(b'{"type":"welcome","proof":"AAAA"}'))
        await reader.read()
        writer.close()

    fake = await asyncio.start_server(impostor, "127.0.0.1", port)
    relays.control = f"127.0.0.1:{port}"
    async with fake:
        with pytest.raises(RelayRefused, match="does not prove to know the secret"):
            await relays.client(relays.secret()).status()


async def test_a_frame_that_was_changed_or_repeated_on_the_way_is_noticed(
    relays: Relays, port: int
) -> None:
    """Somebody between the two who sends the client's frames twice."""
    taps: list[asyncio.Task[None]] = []

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", port)
        taps.append(asyncio.create_task(_copy(theirs, writer)))
        proof = await _read_frame(reader)
        ours.write(proof)
        request = await _read_frame(reader)
        ours.write(request + request)
        await reader.read()
        ours.close()
        writer.close()

    relays.control, secret = f"127.0.0.1:{port}", relays.secret()
    await relays.serve(secret)
    async with await asyncio.start_unix_server(between, str(relays.path / "tap")) as tap:
        relays.control = str(relays.path / "tap")
        client = relays.client(secret)
        await client.status()
        await asyncio.sleep(0.05)
        assert relays.refused("forged")
        await client.close()
        tap.close()
    for task in taps:
        await task


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "too_large"),
        (b"\x00\x00\x00\x00", "too_large"),
        ((MAX_FRAME + 1).to_bytes(4), "too_large"),
        (b"\x00\x00\x00\x05{half", "malformed"),
        (b"\x00\x00\x00\x02\xff\xff", "malformed"),
        (b"\x00\x00\x00\x12" + b'{"type":"nothing"}', "malformed"),
        (b"\x00\x00\x00\xff{", "cut_off"),
    ],
)
async def test_garbage_is_turned_away_and_counted(relays: Relays, sent: bytes, reason: str) -> None:
    await relays.serve()
    reader, writer = await asyncio.open_unix_connection(relays.control)
    await _read_frame(reader)
    writer.write(sent)
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    assert relays.refused(reason)
    await relays.client().status()


async def test_who_sends_half_a_frame_is_not_waited_for(
    relays: Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isoneph.core.relaying.control.FRAME_TIMEOUT", 0.05)
    await relays.serve()
    reader, writer = await asyncio.open_unix_connection(relays.control)
    await _read_frame(reader)
    writer.write(b"\x00\x00")
    assert await reader.read() == b""
    writer.close()
    assert relays.refused("slow")


async def test_clients_are_limited(relays: Relays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MAX_CLIENTS", 2)
    await relays.serve()
    clients = [relays.client() for _ in range(3)]
    await clients[0].status()
    await clients[1].status()
    with pytest.raises(RelayUnreachable):
        await clients[2].status()
    assert relays.refused("too_many")
    await clients[0].close()
    await asyncio.sleep(0.02)
    await clients[2].status()


async def test_strangers_do_not_fill_the_log(
    relays: Relays, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serving, "QUIET", 0.2)
    await relays.serve()

    async def intrude(times: int, sent: bytes) -> None:
        for _ in range(times):
            reader, writer = await asyncio.open_unix_connection(relays.control)
            await _read_frame(reader)
            writer.write(sent)
            assert await reader.read() == b""
            writer.close()

    await intrude(5, b"\x00\x00\x00\x05{half")
    await intrude(1, b"GET / HTTP/1.1\r\n\r\n")
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2
    assert all("control channel: a client is turned away: " in text for text in warnings)
    await asyncio.sleep(0.3)
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings[2:] == ["control channel: 4 more clients were turned away: malformed"]
    await intrude(1, b"\x00\x00\x00\x05{half")
    assert len(caplog.records) == 4


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


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK"),
        (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"\r\n\r\n", b"404 Not Found"),
    ],
)
async def test_figures_are_shown(port: int, request_text: bytes, status: bytes) -> None:
    async def figures() -> bytes:
        return b"isoneph_x 1\n"

    exposition = Exposition(f"127.0.0.1:{port}", figures)
    await exposition.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_text)
    answer = await reader.read()
    writer.close()
    await exposition.close()
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert answer.endswith(b"\r\n\r\nisoneph_x 1\n") is (status == b"200 OK")


async def test_what_is_no_request_for_figures_is_cut_off(port: int) -> None:
    exposition = Exposition(f"127.0.0.1:{port}", lambda: asyncio.sleep(0, b""))
    await exposition.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x" * 100_000)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    await exposition.close()


def _mode_of(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def _leave_over(path: str) -> None:
    """A socket that nobody listens on."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)


def _frame(content: bytes) -> bytes:
    return len(content).to_bytes(4) + content


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    length = await reader.readexactly(4)
    return length + await reader.readexactly(int.from_bytes(length))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)


def test_what_json_has_no_form_for_becomes_text() -> None:
    table: Any = {"path": Path("/x"), "request": Status()}
    assert json.loads(encode(table)) == {"path": "/x", "request": {"type": "status"}}
