"""A worker that keeps connecting, over a unix socket."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Self

import pytest

from isoneph.core.link import Backoff, LinkAddress, LinkServer, Worker, WorkerConnection
from link_wires import SECRET


class Fleeting:
    """A relay's handler that ends the connection ``after`` so many seconds."""

    def __init__(self, connection: WorkerConnection, after: float) -> None:
        self._connection = connection
        self._after = after

    def opened(self) -> None:
        asyncio.get_running_loop().call_later(self._after, self._connection.close)

    def ignore(self, *what: object) -> None:
        """It hears nothing else that matters."""

    replied = failed = pushed = drain_wanted = writable_changed = closed = ignore


class Site:
    """A relay that ends connections, and a worker that runs."""

    def __init__(self, directory: Path, backoff: Backoff, after: float = 0.0) -> None:
        address = LinkAddress(path=str(directory / "link"))
        self._address = address
        self._server = LinkServer(
            application="mme",
            secret=SECRET,
            accept=lambda connection: Fleeting(connection, after),
            refused=lambda reason, text: None,
        )
        self.worker = Worker(
            address, SECRET, lambda dispatch: None, application="mme", vm_id="vm-1", backoff=backoff
        )

    async def __aenter__(self) -> Self:
        await self._server.listen(self._address)
        self.running = asyncio.create_task(self.worker.run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.worker.stop(0.1)
        await self.running
        self._server.close()

    async def await_connections(self, number: int) -> None:
        async with asyncio.timeout(5):
            while self.worker.counts["connected"] < number:  # noqa: ASYNC110 (nobody tells)
                await asyncio.sleep(0.001)


async def test_connections_that_end_at_once_become_rarer(tmp_path: Path) -> None:
    async with Site(tmp_path, Backoff(0.05, 5.0)) as site:
        await asyncio.sleep(0.5)
        # After pauses of 50, 100, 200, 400 ms at most, and of half of that at least.
        assert 2 <= site.worker.counts["connected"] <= 5


async def test_one_that_has_lasted_is_followed_by_a_short_pause(tmp_path: Path) -> None:
    pauses: list[float] = []

    class Told(Backoff):
        def next(self) -> float:
            pauses.append(super().next())
            return 0.0

    async with Site(tmp_path, Told(0.01, 0.02), after=0.03) as site:
        await site.await_connections(5)
    assert max(pauses) <= 0.01


@pytest.mark.parametrize("way", ["stop", "cancel"])
async def test_it_can_be_stopped_between_two_connections(tmp_path: Path, way: str) -> None:
    async with Site(tmp_path, Backoff(60.0, 60.0)) as site:
        await site.await_connections(1)
        while site.worker.up.is_set():  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.001)
        if way == "stop":
            await site.worker.stop()
            await asyncio.wait_for(site.running, 1)
            return
        site.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(site.running, 1)
        site.running = asyncio.create_task(asyncio.sleep(0))
