"""Blocking calls in threads: results, errors, deadlines and bounds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from isoneph.core.calls import CallNotStarted, CallPool, CallUnfinished


@pytest.fixture
def pool() -> Iterator[CallPool]:
    made = CallPool("test", 2)
    yield made
    made.close()


def names() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("isoneph-test")]


async def test_results_and_errors_come_through(pool: CallPool) -> None:
    assert await pool.run(5, pow, 2, 10) == 1024
    with pytest.raises(ValueError, match="invalid literal"):
        await pool.run(5, int, "x")


async def test_no_more_threads_than_its_size_and_no_more_than_needed(pool: CallPool) -> None:
    for _ in range(5):
        await pool.run(5, time.sleep, 0)
    assert len(names()) == 1
    await asyncio.gather(*(pool.run(5, time.sleep, 0.01) for _ in range(8)))
    assert len(names()) == 2


async def test_a_hung_call_is_given_up_and_what_waits_behind_it_was_never_begun(
    pool: CallPool,
) -> None:
    release = threading.Event()
    ran: list[int] = []
    hung = [asyncio.create_task(pool.run(0.05, release.wait, 10)) for _ in range(2)]
    behind = asyncio.create_task(pool.run(0.02, ran.append, 1))
    for task in hung:
        with pytest.raises(CallUnfinished):
            await task
    with pytest.raises(CallNotStarted):
        await behind
    release.set()
    assert await pool.run(5, len, "abc") == 3
    assert ran == []


async def test_cancelling_the_waiting_task_leaves_the_pool_usable(pool: CallPool) -> None:
    release = threading.Event()
    task = asyncio.create_task(pool.run(5, release.wait, 10))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    assert await pool.run(5, len, "ab") == 2


async def test_closed_pools_let_their_threads_end() -> None:
    pool = CallPool("test-closing", 3)
    await asyncio.gather(*(pool.run(5, time.sleep, 0.01) for _ in range(3)))
    pool.close()
    for _ in range(100):
        if not [name for name in names() if "closing" in name]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(names())
