"""Two userland transports, of which one listens and one connects."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from free_ports import free_udp_ports
from isoneph.plugins.transports.userland import UserlandTransport
from userland_pieces import Figures, make


@pytest.fixture
def figures() -> Figures:
    return Figures()


@pytest.fixture
def ports() -> list[int]:
    """The UDP ports of the transport that listens and of the one that connects."""
    return free_udp_ports(2)


@pytest.fixture
async def server(ports: list[int], figures: Figures) -> AsyncIterator[UserlandTransport]:
    server = make(ports[0], ports[1], figures, max_message=1000, receive_buffer=16384)
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def client(ports: list[int], figures: Figures) -> AsyncIterator[UserlandTransport]:
    client = make(ports[1], ports[0], figures, close_timeout=0.1, send_queue=262144)
    await client.start()
    yield client
    await client.close()
