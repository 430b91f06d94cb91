"""Connections that are idle, stalled or broken, over a socket of this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import falcon.asgi
import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger

from isoneph.core.service import connection
from isoneph.core.service.connection import Connection


class Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        self.asked.set()
        await self.go_on.wait()
        resp.text = "done"

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.text = "done"


class Server:
    """As much of a worker as a connection needs, and its socket."""

    def __init__(self) -> None:
        self.slow = Slow()
        self.asgi = falcon.asgi.App()
        self.asgi.add_route("/", self.slow)
        self.cfg: Any = Config()
        self.log = Logger(self.cfg)
        self.loop = asyncio.get_running_loop()
        self.alive = True
        self.state: dict[str, Any] = {}
        self.nr, self.max_requests, self.nr_conns = 0, 1 << 62, 0
        self.connections: set[Connection] = set()
        self.four = asyncio.Event()
        self.port = 0

    def joined(self, one: Connection) -> None:
        self.connections.add(one)
        if len(self.connections) == 4:
            self.four.set()

    def left(self, one: Connection) -> None:
        self.connections.discard(one)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    def close_idle(self) -> None:
        """As a worker does that stops."""
        self.alive = False
        for one in self.connections:
            one.close_if_idle()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await made.loop.create_server(lambda: Connection(made), "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()
    for one in list(made.connections):
        one.transport.abort()
    await asyncio.sleep(0)


async def test_one_that_says_nothing_is_closed_in_the_end(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FIRST_REQUEST_TIMEOUT", 0.02)
    for said in (b"", b"GET / HTTP/1.1\r\nHos"):
        reader, writer = await server.connect()
        writer.write(said)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_one_that_is_served_is_not_closed_as_if_it_had_said_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FIRST_REQUEST_TIMEOUT", 0.02)
    reader, writer = await server.connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await server.slow.asked.wait()
    await asyncio.sleep(0.05)
    server.slow.go_on.set()
    assert (await reader.readuntil(b"done")).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_only_idle_ones_are_closed_when_the_service_stops(server: Server) -> None:
    silent, used, busy, arriving = [await server.connect() for _ in range(4)]
    server.slow.go_on.set()
    used[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await used[0].readuntil(b"done")
    server.slow.go_on.clear()
    server.slow.asked.clear()
    busy[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    arriving[1].write(b"GET / HTTP/1.1\r\n")
    await server.slow.asked.wait()
    await server.four.wait()
    await asyncio.sleep(0.01)  # until what was written has arrived
    server.close_idle()
    for reader, _ in (silent, used):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    server.slow.go_on.set()
    arriving[1].write(b"Host: x\r\n\r\n")
    for reader, _ in (busy, arriving):
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in answer
    assert not server.connections
    for _, writer in (silent, used, busy, arriving):
        writer.close()


async def test_a_body_that_never_comes_is_the_clients_fault(server: Server) -> None:
    server.cfg = SimpleNamespace(
        **{name: setting.get() for name, setting in server.cfg.settings.items()}
    )
    server.cfg.timeout = 0.02
    server.cfg.is_ssl = False
    server.cfg.forwarded_allow_networks = Config().forwarded_allow_networks
    reader, writer = await server.connect()
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    problem = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert problem["code"] == "body_timeout"
