"""Strangers at the control channel: without the secret, with garbage, or too many."""

from __future__ import annotations

import asyncio
import json

import pytest

from control_channel import Relays
from isoneph.core.errors import RelayRefused, RelayUnreachable
from isoneph.core.relaying import server as serving
from isoneph.core.relaying.control import MAX_FRAME, Channel


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


def _frame(content: bytes) -> bytes:
    return len(content).to_bytes(4) + content


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    length = await reader.readexactly(4)
    return length + await reader.readexactly(int.from_bytes(length))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)
