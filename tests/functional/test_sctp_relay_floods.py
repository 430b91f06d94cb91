"""What the relay does under floods, garbage, slow workers and slow clients: its memory stays
bounded, others are served meanwhile, and whatever it takes is answered."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from typing import Any

from isoneph.core.errors import ConnectFailed
from isoneph.core.traffic import Ending
from relay_processes import HOST, Client, Stage, another_transport, wait_until

OPEN: dict[str, Any] = {"router": {"driver": "sticky", "window": 16}, "workers": {"open": True}}
MEGABYTE = 1 << 20


async def flood(client: Client, seconds: float, size: int = 1000) -> int:
    """Send as much as the relay takes for a while; how many messages that was."""
    sent, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        if client.writable:
            client.send(sent.to_bytes(8) + bytes(size))
            sent += 1
        if sent % 16 == 0 or not client.writable:
            await asyncio.sleep(0)
    return sent


async def time_of_answer(client: Client, data: bytes) -> float:
    """Seconds until a message is answered."""
    began, before = time.monotonic(), len(client.got)
    client.send(data)
    await wait_until(lambda: len(client.got) > before, "an answer")
    return time.monotonic() - began


async def test_a_flood_without_a_worker_is_held_up_and_answered_later() -> None:
    async with Stage(**OPEN, memory=4 * MEGABYTE, client_queue=MEGABYTE) as stage:
        clients = [await stage.client() for _ in range(8)]
        before = stage.memory()
        sent = await asyncio.gather(*(flood(client, 1.0) for client in clients))
        report = await stage.report()
        pending = int(report.facts["pending"].split()[0])
        assert MEGABYTE < pending < 6 * MEGABYTE
        assert stage.memory() - before < 40 * MEGABYTE
        await stage.start_worker("vm-1")
        await wait_until(lambda: [len(client.got) for client in clients] == sent, "all answers", 30)
        assert (await stage.report()).facts["pending"] == "0 bytes"
        assert await stage.refused() == {}
        assert sum(sent) > 8 * 1000


async def test_a_slow_worker_slows_its_own_clients_only() -> None:
    async with Stage(**OPEN, client_queue=50_000) as stage:
        await stage.start_worker("slow", "--pause", "0.5", "--window", "1")
        await stage.await_link("slow")
        first = await stage.client()
        first.send(b"x")
        await asyncio.sleep(0.1)
        await stage.start_worker("quick")
        await stage.await_link("quick")
        second = await stage.client()
        flooding = asyncio.create_task(flood(first, 1.0))
        times = [await time_of_answer(second, b"y") for _ in range(50)]
        await flooding
        assert sorted(times)[25] < 0.1
        assert 1 <= len(first.got) < 10
        report = await stage.report()
        assert int(report.facts["pending"].split()[0]) < 50_000 + 100 * 1300


async def test_a_client_that_does_not_read_is_alone_with_that() -> None:
    async with (
        Stage(**{**OPEN, "router": {"driver": "sticky", "window": 1}}, send_queue=65536) as stage,
        another_transport(stage, receive_buffer=65536) as small,
    ):
        await stage.start_worker("vm-1")
        slow = await stage.client(small)
        quick = await stage.client()
        await time_of_answer(slow, b"x")
        slow.association.pause_reading()
        before = stage.memory()
        flooding = asyncio.create_task(flood(slow, 0.3, size=30))
        times = [await time_of_answer(quick, b"y") for _ in range(50)]
        sent = await flooding
        assert sent > 5000
        assert sorted(times)[25] < 0.1
        assert stage.memory() - before < 40 * MEGABYTE
        slow.association.resume_reading()
        await wait_until(lambda: len(slow.got) == sent + 1, "all answers", 30)
        numbers = [int(data.split()[0]) for data in slow.data]
        assert numbers == list(range(1, sent + 2))
        assert await stage.refused() == {}


async def test_more_clients_than_may_be_are_refused() -> None:
    async with Stage(**OPEN, max_clients=20) as stage:
        await stage.start_worker("vm-1")
        served = await stage.client()

        async def come() -> Client | None:
            with contextlib.suppress(ConnectFailed):
                return await stage.client()
            return None

        clients = [served, *filter(None, await asyncio.gather(*(come() for _ in range(60))))]
        await wait_until(
            lambda: sum(client.ending is None for client in clients) == 20, "the refusals"
        )
        assert await time_of_answer(served, b"x") < 1.0
        assert (await stage.refused())["too_many_clients"] == 41
        for client in clients:
            if client is not served and client.ending is None:
                client.association.abort()
        await asyncio.sleep(0.1)
        again = await stage.client()
        await time_of_answer(again, b"x")


async def test_a_message_that_is_too_large_ends_its_client_only() -> None:
    async with Stage(**OPEN, max_message=1000) as stage:
        await stage.start_worker("vm-1")
        good, bad = await stage.client(), await stage.client()
        bad.send(bytes(1001))
        await wait_until(lambda: bad.ending, "its end")
        assert bad.ending is Ending.ABORTED
        assert await time_of_answer(good, bytes(1000)) < 1.0
        assert await stage.refused() == {"message_too_large": 1}


async def test_what_a_router_does_not_want_is_counted() -> None:
    async with Stage(router="keyed", workers={"open": True}) as stage:
        await stage.start_worker("vm-1")
        client = await stage.client()
        client.send(b"the key wrong", ppid=46)
        client.send(b"short", ppid=18)
        client.send(b"the key good", ppid=18)
        await wait_until(lambda: client.got, "an answer")
        assert client.data[0].startswith(b"the key 1 ")
        assert await stage.refused() == {"wrong_ppid": 1, "malformed": 1}


async def test_garbage_on_the_port_disturbs_nobody() -> None:
    async with Stage(**OPEN) as stage:
        await stage.start_worker("vm-1")
        client = await stage.client()
        await time_of_answer(client, b"x")
        before = stage.memory()
        dice = random.Random(1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for size in range(2000):
                sender.sendto(dice.randbytes(size % 1400), (HOST, stage.udp))
                if size % 20 == 0:
                    await time_of_answer(client, b"x")
        assert stage.memory() - before < 10 * MEGABYTE
        assert client.ending is None


async def test_a_client_beyond_its_rate_is_slowed_down_and_loses_nothing() -> None:
    async with Stage(**OPEN, rate=200, burst=10) as stage:
        await stage.start_worker("vm-1")
        client = await stage.client()
        await time_of_answer(client, b"x")
        began = time.monotonic()
        for number in range(100):
            client.send(b"%d" % number)
        await wait_until(lambda: len(client.got) == 101, "all answers")
        assert 0.3 < time.monotonic() - began < 3.0
        assert await stage.refused() == {}
