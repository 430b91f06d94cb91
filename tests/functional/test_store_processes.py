"""Stores and leases shared by real processes that die, stall and exit at bad moments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from voluptuous import Schema

from isoneph.core.clock import SystemClock
from isoneph.core.lease import Lease, new_owner
from isoneph.core.plugin import Store
from isoneph.core.testing import make_environment
from isoneph.plugins.stores.redis import RedisStore
from isoneph.plugins.stores.sqlite import SqliteStore

TTL = 0.6

PREAMBLE = """
import asyncio, json, sys, time
from voluptuous import Schema
from isoneph.core.clock import SystemClock
from isoneph.core.errors import VersionConflict
from isoneph.core.lease import Lease, new_owner
from isoneph.core.testing import make_environment
from isoneph.plugins.stores.redis import RedisStore
from isoneph.plugins.stores.sqlite import SqliteStore

def make_store(kind, **options):
    options = Schema(kind.schema)(options)
    return kind(options, make_environment(clock=SystemClock()))
"""

INCREMENT = """
async def main():
    store = make_store({store})
    await store.start()
    for _ in range(50):
        while True:
            value, version = await store.get("counter") or (b"0", 0)
            try:
                await store.put("counter", str(int(value) + 1).encode(), expect=version)
            except VersionConflict:
                continue
            break
    await store.close()
asyncio.run(main())
"""

HOLD = """
async def main():
    store = make_store({store})
    await store.start()
    lease = Lease(store, SystemClock(), "leader", new_owner(), {ttl})
    async with lease.held():
        seen = time.monotonic()
        print("held", lease.fence, flush=True)
        while time.monotonic() - seen < {ttl}:
            seen = time.monotonic()
            await asyncio.sleep(0.01)
        print("lost" if lease.is_lost() else "held", flush=True)
    await store.close()
asyncio.run(main())
"""

PUT = """
async def main():
    store = make_store({store})
    await store.start()
    await store.put("there", b"")
    await store.close()
asyncio.run(main())
"""

EXIT_WHILE_BUSY = """
async def main():
    store = make_store({store})
    await store.start()
    store._worker.submit(lambda database: time.sleep(600))
    print("busy", flush=True)
asyncio.run(main())
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(params=["sqlite", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[type[Store], dict[str, str]]:
    """A kind of store and its options."""
    if request.param == "sqlite":
        return SqliteStore, {"path": str(tmp_path / "store.sqlite")}
    url: str = request.getfixturevalue("redis_server")
    return RedisStore, {"url": url, "prefix": f"{uuid.uuid4()}:"}


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a Python process with a program and the store it uses."""
    processes: list[subprocess.Popen[str]] = []

    def start(program: str, shared: tuple[type[Store], dict[str, str]]) -> subprocess.Popen[str]:
        kind, options = shared
        source = PREAMBLE + program.format(store=f"{kind.__name__}, **{options!r}", ttl=TTL)
        process = subprocess.Popen(
            [sys.executable, "-c", source], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@asynccontextmanager
async def opened(shared: tuple[type[Store], dict[str, str]]) -> AsyncIterator[Store]:
    kind, options = shared
    store = kind(Schema(kind.schema)(options), make_environment(clock=SystemClock()))
    await store.start()
    try:
        yield store
    finally:
        await store.close()


def line(process: subprocess.Popen[str]) -> list[str]:
    """The next line that a process prints, in words."""
    assert process.stdout is not None
    return process.stdout.readline().split()


async def test_processes_that_start_at_once_lose_no_increment(shared: Any, start: Start) -> None:
    processes = [start(INCREMENT, shared) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    async with opened(shared) as store:
        held = await store.get("counter")
        assert held is not None
        assert held.value == b"200"


async def test_the_lease_of_a_killed_process_is_free_after_its_ttl(
    shared: Any, start: Start
) -> None:
    holder = start(HOLD, shared)
    word, fence = line(holder)
    assert word == "held"
    async with opened(shared) as store:
        lease = Lease(store, SystemClock(), "leader", new_owner(), 5.0)
        assert not await lease.wait(2 * TTL), "it is renewed"
        assert lease.holder is not None
        assert str(holder.pid) in lease.holder
        holder.kill()
        killed = time.monotonic()
        assert await lease.wait(10.0)
        assert time.monotonic() - killed < TTL + 2.0
        assert lease.fence > int(fence)


async def test_a_process_that_stalled_sees_that_it_lost_the_lease(
    shared: Any, start: Start
) -> None:
    holder = start(HOLD, shared)
    assert line(holder)[0] == "held"
    os.kill(holder.pid, signal.SIGSTOP)
    async with opened(shared) as store:
        lease = Lease(store, SystemClock(), "leader", new_owner(), 30.0)
        assert await lease.wait(10.0)
        os.kill(holder.pid, signal.SIGCONT)
        assert line(holder) == ["lost"]
        assert holder.wait(10) == 0
        assert await lease.renew(), "what the other released was not this one"


async def test_two_stores_of_one_process_keep_their_locks(start: Start, tmp_path: Path) -> None:
    """Locks belong to the process, and are dropped when it closes the file anywhere."""
    shared = (SqliteStore, {"path": str(tmp_path / "store.sqlite")})
    async with opened(shared) as first:
        await first.put("here", b"")
        async with opened(shared):
            assert start(PUT, shared).wait(10) == 0
            await first.put("here too", b"")
            async with opened(shared) as third:
                assert sorted(await third.scan("")) == ["here", "here too", "there"]


def test_the_interpreter_exits_while_the_disk_hangs(start: Start, tmp_path: Path) -> None:
    process = start(EXIT_WHILE_BUSY, (SqliteStore, {"path": str(tmp_path / "store.sqlite")}))
    assert line(process) == ["busy"]
    assert process.wait(10) == 0
