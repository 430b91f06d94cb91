from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from isoneph.core.errors import LeaseTaken
from isoneph.core.locks import NameLocks
from isoneph.core.testing import FakeClock, make_environment
from isoneph.plugins.stores.memory import MemoryStore


class SharedStore(MemoryStore):
    shared = True


def make_locks(store: MemoryStore, clock: FakeClock, owner: str = "one") -> NameLocks:
    return NameLocks(store, clock, prefix="lock/app/", owner=owner, timeout=5.0)


async def test_a_name_is_held_by_one_task_at_a_time() -> None:
    clock = FakeClock()
    locks = make_locks(MemoryStore({}, make_environment(clock=clock)), clock)
    inside = 0
    most = 0

    async def work() -> None:
        nonlocal inside, most
        async with locks.held("name"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    for _ in range(3):
        await asyncio.gather(*(work() for _ in range(10)), _begin_late(work))
    assert most == 1
    assert len(locks) == 0


async def _begin_late(work: Callable[[], Awaitable[None]]) -> None:
    """Come while a waiter has been woken but does not yet hold the lock."""
    for _ in range(12):
        await asyncio.sleep(0)
        await work()


async def test_a_name_is_held_by_one_process_at_a_time_where_the_store_is_shared() -> None:
    clock = FakeClock()
    store = SharedStore({}, make_environment(clock=clock))
    one, two = make_locks(store, clock), make_locks(store, clock, "two")
    async with one.held("name"):
        async with two.held("another"):
            pass
        with pytest.raises(LeaseTaken, match=r"lock/app/name.*one"):
            async with two.held("name"):
                pass
    async with two.held("name"):
        assert (len(one), len(two)) == (0, 1)
