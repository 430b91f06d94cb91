from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from isoneph.core.clock import SystemClock
from isoneph.core.errors import Unreachable
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.shared import Shared

PATIENCE = 5.0


class Reading:
    """A reading that waits until it may go on; returns how many there were when it began."""

    def __init__(self) -> None:
        self.begun = 0
        self.asked = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def __call__(self, deadline: Deadline) -> int:
        self.begun += 1
        mine = self.begun
        self.asked.release()
        assert self.may_end.acquire(timeout=PATIENCE)
        return mine


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def soon() -> Deadline:
    return Deadline.after(SystemClock(), PATIENCE)


def wait_for_a_next(shared: Shared[int]) -> None:
    deadline = soon()
    while shared._next is None:
        assert deadline.remaining() > 0, "nobody asked for another reading"
        time.sleep(0.001)


def test_who_comes_during_a_reading_shares_the_next(threads: ThreadPoolExecutor) -> None:
    reading = Reading()
    shared = Shared(reading, SystemClock())
    first = threads.submit(shared.read, soon())
    assert reading.asked.acquire(timeout=PATIENCE)
    others = [threads.submit(shared.read, soon()) for _ in range(5)]
    wait_for_a_next(shared)
    reading.may_end.release(10)
    assert first.result() == 1
    assert {other.result() for other in others} <= {2, 3}
    assert reading.begun <= 3


def test_who_takes_an_older_one_joins_it(threads: ThreadPoolExecutor) -> None:
    reading = Reading()
    shared = Shared(reading, SystemClock())
    first = threads.submit(shared.read, soon())
    assert reading.asked.acquire(timeout=PATIENCE)
    second = threads.submit(shared.read, soon(), 60.0)
    reading.may_end.release()
    assert (first.result(), second.result()) == (1, 1)
    assert shared.read(soon(), 60.0) == 1


def test_age_counts_from_the_beginning() -> None:
    clock = FakeClock()
    calls = iter(range(10))

    def fetch(deadline: Deadline) -> int:
        clock.advance(3.0)
        return next(calls)

    shared = Shared(fetch, clock)
    deadline = Deadline.after(clock, 1000.0)
    assert shared.read(deadline) == 0
    assert shared.read(deadline, 3.0) == 0
    assert shared.read(deadline, 2.9) == 1
    shared.forget()
    assert shared.read(deadline, 60.0) == 2


def test_what_is_read_while_it_is_forgotten_is_forgotten_too(threads: ThreadPoolExecutor) -> None:
    reading = Reading()
    shared = Shared(reading, SystemClock())
    first = threads.submit(shared.read, soon())
    assert reading.asked.acquire(timeout=PATIENCE)
    shared.forget()
    second = threads.submit(shared.read, soon(), 60.0)
    reading.may_end.release(2)
    assert (first.result(), second.result()) == (1, 2)


def test_an_error_is_raised_for_all_and_then_forgotten() -> None:
    outcomes: list[int | Exception] = [Unreachable("down"), 7]

    def fetch(deadline: Deadline) -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    shared = Shared(fetch, FakeClock())
    with pytest.raises(Unreachable):
        shared.read(soon(), 60.0)
    assert shared.read(soon(), 60.0) == 7


def test_nobody_waits_beyond_the_deadline(threads: ThreadPoolExecutor) -> None:
    reading = Reading()
    shared = Shared(reading, SystemClock())
    first = threads.submit(shared.read, soon())
    assert reading.asked.acquire(timeout=PATIENCE)
    hurried = Deadline.after(SystemClock(), 0.02)
    leading = threads.submit(shared.read, hurried)
    wait_for_a_next(shared)
    with pytest.raises(Unreachable):
        shared.read(hurried)
    with pytest.raises(Unreachable):
        leading.result()
    with pytest.raises(Unreachable):
        shared.read(hurried, 60.0)
    reading.may_end.release(2)
    assert first.result() == 1
    assert shared.read(soon()) == 2, "it goes on as if nothing had been"
