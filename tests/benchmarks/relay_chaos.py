"""Counting workers behind a relay, which are killed, stopped and drained while it works."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import time

from free_ports import free_udp_ports
from relay_processes import Stage, wait_until

WORKERS = 3
#: What a disturbance may take on the busiest machine.
MOST_SECONDS = 60.0


def keyed_stage() -> tuple[Stage, int]:
    """A relay for workers with the keyed router and the usual timers, not started yet; and its
    UDP port."""
    (udp,) = free_udp_ports(1)
    transport = {"driver": "userland", "udp_port": udp}
    return Stage(transport=transport, router="keyed", workers={}), udp


class Fleet:
    """The workers; ``killed`` (SIGKILL), ``stopped`` (SIGTERM: they hand their work over) and
    ``drained`` (taken away from the relay when it has no session there, and replaced by a new
    one) count what has happened to them."""

    def __init__(self, stage: Stage) -> None:
        self.killed = self.stopped = self.drained = 0
        self._stage = stage
        self._numbers = itertools.count(1)
        self._names: list[str] = []
        #: Of those that are gone.
        self._redispatched: dict[str, int] = {}
        self._dice = random.Random(1)
        self._left = asyncio.Event()

    async def start(self) -> None:
        """Start them, and return when they are ready."""
        for _ in range(WORKERS):
            await self._add()
        await self._stage.await_ready(*self._names)

    async def disturb(self, every: float) -> None:
        """Do something to one of them until :meth:`leave`, with so many seconds between."""
        for verb in itertools.cycle((self._kill, self._stop, self._kill, self._drain)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await self._left.wait()
                return
            async with asyncio.timeout(MOST_SECONDS):
                await verb(self._dice.choice(self._names))

    def leave(self) -> None:
        """Let them be."""
        self._left.set()

    async def redispatched(self) -> int:
        """How many messages were taken back from a worker and given to another."""
        return sum({**self._redispatched, **await self._standing()}.values())

    async def _kill(self, name: str) -> None:
        await self._stage.kill(name)
        self.killed += 1
        await self._return(name)

    async def _stop(self, name: str) -> None:
        await self._stage.kill(name, signal.SIGTERM)
        self.stopped += 1
        await self._return(name)

    async def _drain(self, name: str) -> None:
        await self._add()
        await self._stage.remote.drain({name: time.time()})
        await self._stage.await_sessions(name, 0)
        self._redispatched[name] = (await self._standing())[name]
        self._names.remove(name)
        await self._stage.name(*self._names)
        await self._stage.kill(name)
        self.drained += 1

    async def _add(self) -> None:
        name = f"vm-{next(self._numbers)}"
        self._names.append(name)
        await self._stage.name(*self._names)
        await self._return(name)

    async def _return(self, name: str) -> None:
        """Start the worker of a VM; it has as much time as a busy machine needs."""
        begun = self._stage.log(name).count("linked") if self._knows(name) else 0
        await self._stage.start_worker(name)
        await wait_until(
            lambda: self._stage.log(name).count("linked") > begun,
            f"the link of {name}",
            MOST_SECONDS,
        )

    def _knows(self, name: str) -> bool:
        return (self._stage.directory / f"{name}.log").exists()

    async def _standing(self) -> dict[str, int]:
        report = await self._stage.report()
        table = next(table for table in report.tables if table.name == "traffic")
        column = list(table.columns).index("redispatched")
        return {row[0]: row[column] for row in table.rows}
