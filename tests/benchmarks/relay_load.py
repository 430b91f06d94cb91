"""The client of the relay's benchmarks, as a process of its own: ``python relay_load.py``.

Each line of its standard input is a command, each line of its output the answer, both in JSON:

- ``open`` sets ``count`` associations (or TCP connections) up to ``port``, and names them: how
  many ``seconds`` it took.
- ``load`` keeps ``in_flight`` messages on their way for some ``seconds``, over these associations
  in turn; each is answered, and followed by the next. The ``trips`` there and back, the
  ``seconds`` until the last answer, and the trips' ``p50`` and ``p99`` in seconds.
- ``close`` lets them go.

It ends with its input.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from isoneph.core.plugin import Transport
from isoneph.core.traffic import Address, Ending, Message
from relay_ends import HOST, PATIENCE, PPID, SIZE, End, make_transport, run

DATA = b"x" * SIZE
MESSAGE = Message(DATA, 1, PPID)
#: Associations that are being set up at once.
OPENING = 32


class Lane(ABC):
    """One association or connection; ``since`` has the times of what is on its way."""

    def __init__(self) -> None:
        self.since: deque[float] = deque()
        self.on_answer: Callable[[Lane], None] = _unexpected
        self.over = asyncio.Event()

    @abstractmethod
    def send(self) -> None:
        """Send the next message."""

    @abstractmethod
    async def close(self) -> None:
        """Close it, and wait until it is over."""


def _unexpected(lane: Lane) -> None:
    raise AssertionError("an answer to nothing")


class SctpLane(End, Lane):
    """An SCTP association."""

    def send(self) -> None:
        self.since.append(time.perf_counter())
        self.association.send(MESSAGE)

    def received(self, message: Message) -> None:
        self.on_answer(self)

    async def close(self) -> None:
        self.association.close()
        await self.over.wait()

    def closed(self, ending: Ending, reason: str) -> None:
        self.over.set()


class TcpLane(asyncio.Protocol, Lane):
    """A TCP connection; messages are told apart by their length."""

    def __init__(self) -> None:
        super().__init__()
        self._unread = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self) -> None:
        self.since.append(time.perf_counter())
        self._transport.write(DATA)

    def data_received(self, data: bytes) -> None:
        whole, self._unread = divmod(self._unread + len(data), SIZE)
        for _ in range(whole):
            self.on_answer(self)

    async def close(self) -> None:
        self._transport.close()
        await self.over.wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()


class Load:
    """A closed loop: what is answered is followed by the next."""

    def __init__(self, lanes: Sequence[Lane], in_flight: int, seconds: float) -> None:
        self.trips: list[float] = []
        self._lanes = itertools.cycle(lanes)
        self._left = in_flight
        self._done = asyncio.Event()
        for lane in lanes:
            lane.on_answer = self._answered
        self._began = time.perf_counter()
        self._until = self._began + seconds
        for lane in itertools.islice(self._lanes, in_flight):
            lane.send()

    def _answered(self, lane: Lane) -> None:
        now = time.perf_counter()
        self.trips.append(now - lane.since.popleft())
        if now < self._until:
            next(self._lanes).send()
        else:
            self._left -= 1
            if not self._left:
                self._done.set()

    async def figures(self) -> dict[str, float]:
        """Wait for the last answer."""
        await self._done.wait()
        seconds = time.perf_counter() - self._began
        trips = sorted(self.trips)
        p50, p99 = (trips[int(len(trips) * share)] for share in (0.5, 0.99))
        return {"trips": len(trips), "seconds": seconds, "p50": p50, "p99": p99}


class Client:
    """What it has open, by name."""

    def __init__(self) -> None:
        self._transports: dict[tuple[str, int], Transport] = {}
        self._lanes: dict[str, list[Lane]] = {}

    async def open(
        self, name: str, driver: str, port: int, udp_port: int, count: int
    ) -> dict[str, float]:
        room = asyncio.Semaphore(OPENING)

        async def lane() -> Lane:
            async with room:
                return await self._connect(driver, port, udp_port)

        began = time.perf_counter()
        self._lanes[name] = list(await asyncio.gather(*(lane() for _ in range(count))))
        return {"seconds": time.perf_counter() - began}

    async def _connect(self, driver: str, port: int, udp_port: int) -> Lane:
        if driver == "tcp":
            loop = asyncio.get_running_loop()
            return (await loop.create_connection(TcpLane, HOST, port))[1]
        transport = self._transports.get((driver, udp_port))
        if transport is None:
            options = {"udp_port": 0, "remote_udp_port": udp_port} if udp_port else {}
            transport = self._transports[driver, udp_port] = make_transport(driver, **options)
            await transport.start()
        lane = SctpLane()
        await transport.connect([Address(HOST, port)], lane)
        return lane

    async def load(self, name: str, in_flight: int, seconds: float) -> dict[str, float]:
        async with asyncio.timeout(seconds + PATIENCE):
            return await Load(self._lanes[name], in_flight, seconds).figures()

    async def close(self, name: str) -> dict[str, float]:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(lane.close() for lane in self._lanes.pop(name)))
        return {}


async def main() -> None:
    client = Client()
    while line := await asyncio.to_thread(sys.stdin.readline):
        command: dict[str, Any] = json.loads(line)
        figures = await getattr(client, command.pop("do"))(**command)
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    run(main())
