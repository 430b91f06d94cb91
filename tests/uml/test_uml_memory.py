"""What carrying messages and associations leaves behind in memory: nothing."""

from __future__ import annotations

import gc
import os
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

from isoneph.core.plugin import Transport
from isoneph.core.testing.associations import Door, RecordingHandler
from isoneph.core.traffic import Address, Message
from two_hosts import SOON

MESSAGES = 5_000
ASSOCIATIONS = 150
ROUNDS = 4


class Counting(RecordingHandler):
    """Forgets messages, but for their number."""

    count = 0

    def received(self, message: Message) -> None:
        self.count += 1
        if self.count % 100 == 0:
            self.news.set()

    async def reach(self, count: int) -> None:
        await self.until(lambda: self.count == count, SOON, f"message {count}")


class Leaving(RecordingHandler):
    async def leave(self) -> None:
        self.up.close()
        await self.until(lambda: self.endings, SOON, "closed")


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def growth(act: Callable[[], Awaitable[None]]) -> int:
    """By how many bytes the process grows at least each time that it does something."""
    sizes = []
    for _ in range(ROUNDS):
        await act()
        sizes.append(resident())
    return min(after - before for before, after in pairwise(sizes))


async def test_messages_leave_nothing_behind(transport: Transport) -> None:
    listener = await transport.listen([Address("127.0.0.1", 0)], door := Door(Counting))
    client = RecordingHandler()
    await transport.connect(listener.addresses, client)
    await door.until(1, SOON)
    server = door.handlers[0]
    assert isinstance(server, Counting)

    async def exchange() -> None:
        target = server.count + MESSAGES
        for number in range(MESSAGES):
            client.up.send(Message(b"x" * 150, number % 16, number))
            if number % 100 == 99:
                await server.reach(target - MESSAGES + number + 1)
        client.up.statistics()

    assert await growth(exchange) < 2 * MESSAGES


async def test_associations_leave_nothing_behind(transport: Transport) -> None:
    listener = await transport.listen([Address("127.0.0.1", 0)], door := Door())

    async def come_and_go() -> None:
        for _ in range(ASSOCIATIONS):
            client = Leaving()
            await transport.connect(listener.addresses, client)
            await client.leave()
        await door.handlers[-1].until(lambda: door.handlers[-1].endings, SOON, "closed there")
        door.accepted.clear()
        door.handlers.clear()

    assert await growth(come_and_go) < 30 * ASSOCIATIONS
