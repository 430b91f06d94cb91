"""Workers behind ``isoneph relay``: what is in the workers' hands survives them.

Each key of each client is a conversation, whose count of messages and checksum travel in its
state. Each answer has both, so a message that is lost, doubled or out of turn shows at once.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import time
import zlib
from collections import deque
from typing import Any

from isoneph.core.traffic import Ending, Message
from relay_processes import Client, Stage, wait_until

OPEN: dict[str, Any] = {"router": "keyed", "workers": {"open": True}}


class KeyedClient:
    """Sends numbered messages under several keys, some of each at a time, and checks the answers.

    ``wrong`` holds whatever was not the one answer that was due; ``slowest`` is in seconds.
    """

    def __init__(self, client: Client, keys: int, at_once: int = 3) -> None:
        self.client = client
        self.at_once = at_once
        self.keys = [b"key%05d" % number for number in range(keys)]
        self.numbers = dict.fromkeys(self.keys, 0)
        self.checksums = dict.fromkeys(self.keys, 0)
        self.due: dict[bytes, deque[tuple[bytes, float]]] = {key: deque() for key in self.keys}
        self.answered = 0
        self.wanted = 0
        self.wrong: list[str] = []
        self.by_worker: dict[bytes, int] = {}
        self.slowest = 0.0
        client.on_message = self._check

    def ask_for(self, total: int) -> None:
        """Begin to send, ``total`` messages in all."""
        self.wanted += total
        for key in itertools.islice(itertools.cycle(self.keys), len(self.keys) * self.at_once):
            self._send(key)

    @property
    def sent(self) -> int:
        return sum(self.numbers.values())

    @property
    def done(self) -> bool:
        return self.answered == self.wanted or bool(self.wrong)

    def _send(self, key: bytes) -> None:
        if self.sent < self.wanted:
            self.numbers[key] += 1
            number = self.numbers[key]
            data = b"message %d" % number
            self.checksums[key] = zlib.crc32(data, self.checksums[key])
            self.due[key].append((b"%d %08x" % (number, self.checksums[key]), time.monotonic()))
            stream = zlib.crc32(key) % 16
            self.client.association.send(Message(key + data, stream, 18))

    def _check(self, message: Message) -> None:
        key, answer = message.data[:8], message.data[8:]
        counted, _, worker = answer.rpartition(b" ")
        expected, since = self.due[key].popleft() if self.due[key] else (b"nothing", 0.0)
        if counted != expected or (message.stream, message.ppid) != (zlib.crc32(key) % 16, 18):
            self.wrong.append(f"{key!r}: {message}, expected {expected!r}")
        self.slowest = max(self.slowest, time.monotonic() - since)
        self.by_worker[worker] = self.by_worker.get(worker, 0) + 1
        self.answered += 1
        self._send(key)


async def test_killed_workers_lose_double_and_reorder_nothing() -> None:
    async with Stage(**OPEN) as stage:
        for name in ("vm-1", "vm-2", "vm-3"):
            await stage.start_worker(name)
        clients = [KeyedClient(await stage.client(), keys=20) for _ in range(3)]
        for client in clients:
            client.ask_for(6000)
        dice = random.Random(1)
        kills = 0
        async with asyncio.timeout(60):
            while not all(client.done for client in clients):
                await asyncio.sleep(0.3)
                name = dice.choice(("vm-1", "vm-2", "vm-3"))
                await stage.kill(name)
                kills += 1
                await stage.start_worker(name)
        for client in clients:
            assert client.wrong == []
            assert client.client.ending is None
        assert kills >= 2
        # A worker may have been killed before it was let in.
        assert set(await stage.refused()) <= {"worker_broken"}


async def test_a_silent_worker_is_lost_and_clients_hardly_notice() -> None:
    async with Stage(**OPEN) as stage:
        for name in ("vm-1", "vm-2"):
            await stage.start_worker(name)
            await stage.await_link(name)
        client = KeyedClient(await stage.client(), keys=20)
        client.ask_for(500)
        await wait_until(lambda: client.done, "the first answers")
        stage.processes["vm-1"].send_signal(signal.SIGSTOP)
        client.ask_for(2000)
        await wait_until(lambda: client.done, "the answers")
        assert client.wrong == []
        assert 0.2 < client.slowest < 2.0
        assert "the worker of vm-1 is gone: lost" in stage.log("relay")


async def test_a_drained_worker_is_without_sessions_at_once() -> None:
    async with Stage(router="keyed", workers={}) as stage:
        for name in ("vm-1", "vm-2"):
            await stage.start_worker(name)
        await stage.name("vm-1", "vm-2")
        await stage.await_ready("vm-1", "vm-2")
        client = KeyedClient(await stage.client(), keys=20)
        client.ask_for(3000)
        await wait_until(lambda: client.answered > 300, "some answers")
        standing = await stage.remote.drain({"vm-1": 1.0})
        began = time.monotonic()
        while standing.status["vm-1"].sessions:
            assert time.monotonic() - began < 2
            standing = await stage.remote.status()
        await stage.name("vm-2")
        await wait_until(lambda: client.done, "the answers")
        assert client.wrong == []
        assert client.slowest < 1.0
        assert len(client.by_worker) == 2
        assert await stage.refused() == {}


async def test_a_worker_that_stops_hands_everything_over() -> None:
    async with Stage(**OPEN) as stage:
        await stage.start_worker("vm-1", "--pause", "0.005")
        client = KeyedClient(await stage.client(), keys=10)
        client.ask_for(400)
        await wait_until(lambda: client.answered > 50, "some answers")
        await stage.start_worker("vm-2", "--pause", "0.005")
        assert await stage.kill("vm-1", signal.SIGTERM) == 0
        await wait_until(lambda: client.done, "the answers")
        assert client.wrong == []
        report = await stage.report()
        assert sum(row[-1] for row in report.tables[0].rows) == 0


async def test_workers_come_back_to_a_relay_that_is_started_anew() -> None:
    async with Stage(router="keyed", workers={}) as stage:
        await stage.start_worker("vm-1")
        await stage.name("vm-1")
        await stage.await_ready("vm-1")
        client = await stage.client()
        await stage.kill("relay")
        await stage.start_relay()
        await stage.await_ready("vm-1")
        await wait_until(lambda: client.ending is not None, "the client to notice")
        again = KeyedClient(await stage.client(), keys=3)
        again.ask_for(100)
        await wait_until(lambda: again.done, "answers")
        assert again.wrong == []


async def test_a_finished_key_begins_anew() -> None:
    async with Stage(**OPEN) as stage:
        await stage.start_worker("vm-1")
        client = await stage.client()
        for data in (b"one", b"bye", b"two"):
            client.send(b"the key " + data, ppid=18)
            await wait_until(lambda: client.got, "an answer")
            count = client.got.pop().data[8:].split()[0]
            assert count == {b"one": b"1", b"bye": b"2", b"two": b"1"}[data]
        assert client.ending is not Ending.LOST
