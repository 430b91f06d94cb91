"""Peers of the userland transport that are killed, and started again with the same ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from free_ports import free_udp_ports
from isoneph.core.errors import ConnectFailed
from isoneph.core.plugin import Transport
from isoneph.core.testing import Door, EchoHandler, RecordingHandler
from isoneph.core.traffic import Address, Ending, Message, Notice
from userland_peer import HOST, make_transport, running

PORT, OWN_PORT = 36412, 50001
SECONDS = 10.0


@pytest.fixture
def ports() -> list[int]:
    """Our UDP port and the peer's."""
    return free_udp_ports(2)


@pytest.fixture
async def transport(ports: list[int]) -> AsyncIterator[Transport]:
    """It notices soon that a peer is dead."""
    async with started(make_transport("hasty", *ports)) as transport:
        yield transport


@pytest.fixture
async def patient(ports: list[int]) -> AsyncIterator[Transport]:
    """It takes a peer that is away for a while to be alive."""
    async with started(make_transport("patient", *ports)) as transport:
        yield transport


@asynccontextmanager
async def started(transport: Transport) -> AsyncIterator[Transport]:
    await transport.start()
    yield transport
    await transport.close()


async def joined(transport: Transport) -> RecordingHandler:
    client = RecordingHandler()
    await transport.connect([Address(HOST, PORT)], client)
    return client


async def echoes(client: RecordingHandler) -> None:
    count = len(client.messages) + 1
    client.up.send(Message(b"ping", 1, 18))
    await client.until(lambda: len(client.messages) == count, SECONDS, "the echo is here")


async def test_a_killed_peer_is_lost(transport: Transport, ports: list[int]) -> None:
    with running("listen", "hasty", *ports[::-1], PORT) as process:
        client = await joined(transport)
        await echoes(client)
        process.kill()
        await client.until(lambda: client.endings, SECONDS, "the peer is lost")
        assert client.endings == [Ending.LOST]
        assert Notice.ADDRESS_CHANGED in [told.notice for told in client.notifications]
        with pytest.raises(ConnectFailed, match="answer"):
            await joined(transport)


async def test_a_server_that_starts_anew_takes_a_new_association(
    transport: Transport, ports: list[int]
) -> None:
    with running("listen", "hasty", *ports[::-1], PORT) as process:
        first = await joined(transport)
        await echoes(first)
        process.kill()
        process.wait()
        with running("listen", "hasty", *ports[::-1], PORT):
            await first.until(lambda: first.endings, SECONDS, "it knows nothing of the old one")
            assert first.endings[0] in (Ending.ABORTED, Ending.LOST)
            second = await joined(transport)
            await echoes(second)
            assert second.endings == []


async def test_a_client_that_starts_anew_is_told_as_a_restart(
    patient: Transport, ports: list[int]
) -> None:
    await patient.listen([Address(HOST, PORT)], door := Door(EchoHandler))
    with running("connect", "patient", *ports[::-1], PORT, OWN_PORT) as process:
        await door.until(1, SECONDS)
        server = door.handlers[0]
        await server.until(lambda: len(server.messages) == 1, SECONDS, "the greeting is here")
        process.kill()
        process.wait()
        with running("connect", "patient", *ports[::-1], PORT, OWN_PORT):
            await server.until(
                lambda: Notice.RESTARTED in [told.notice for told in server.notifications],
                SECONDS,
                "the restart is told",
            )
            assert server.endings == []
            assert len(door.handlers) == 1
            await asyncio.sleep(0.5)  # heartbeats of the new one are answered
            assert server.endings == []
