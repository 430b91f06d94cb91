from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from isoneph.core.link import Dispatch, Reply
from isoneph.core.plugin import Relay
from isoneph.core.testing import RelayConformance
from isoneph.core.traffic import Backend
from memory_transport import MemoryNetwork
from relay_site import PORT, EchoServer, Site, Yard, running, until

EndSession = Callable[[], Awaitable[None]]


class TestPlain(RelayConformance):
    @pytest.fixture(autouse=True)
    def _network(self) -> None:
        self.network = MemoryNetwork()

    def make_relay(self, tmp_path: Path) -> Relay:
        plain = {"port": PORT, "health_interval": 0.05, "connect_timeout": 0.5}
        self.site = Site(network=self.network, plain=plain)
        return self.site.relay

    async def start_backend(self, number: int) -> Backend:
        server = EchoServer(self.network, f"127.0.0.{number + 2}")
        await server.start()
        return Backend(id=f"vm-{number}", addresses=[server.host])

    async def make_dead_backend(self) -> Backend:
        return Backend(id="dead", addresses=["127.0.0.99"])

    async def open_session(self, relay: Relay) -> EndSession:
        client = await self.site.client()
        client.send(b"x")
        await until(lambda: client.got)

        async def end() -> None:
            client.association.close()
            await until(lambda: client.ending)

        return end


class TestWorkers(RelayConformance):
    """A session of a worker is a conversation that it has not answered, or could go on with."""

    @pytest.fixture(autouse=True)
    async def _workers(self, tmp_path: Path) -> AsyncIterator[None]:
        self.path = tmp_path
        self.may_answer = asyncio.Event()
        async with AsyncExitStack() as self.stack:
            yield
            self.may_answer.set()

    def make_relay(self, tmp_path: Path) -> Relay:
        self.yard = Yard(self.path)
        return self.yard.relay

    async def _answer(self, dispatch: Dispatch) -> Reply:
        await self.may_answer.wait()
        return dispatch.reply([dispatch.message])

    async def start_backend(self, number: int) -> Backend:
        worker = Yard.make_worker(self.path, f"vm-{number}", self._answer)
        await self.stack.enter_async_context(running(worker))
        return Backend(id=f"vm-{number}", addresses=[f"127.0.0.{number + 2}"])

    async def make_dead_backend(self) -> Backend:
        return Backend(id="dead", addresses=["127.0.0.99"])

    async def open_session(self, relay: Relay) -> EndSession:
        client = await self.yard.asking(b"x")

        async def end() -> None:
            self.may_answer.set()
            async with asyncio.timeout(2):
                while not client.got:  # noqa: ASYNC110 (nobody tells of it)
                    await asyncio.sleep(0.001)
            client.association.close()
            await until(lambda: client.ending)

        return end
