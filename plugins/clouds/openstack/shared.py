"""A reading that all callers who want it at the same time share."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from isoneph.core.errors import Unreachable
from isoneph.core.plugin import Clock
from isoneph.plugins.clouds.openstack.deadline import Deadline

T = TypeVar("T")


@dataclass(eq=False)
class _Round(Generic[T]):
    """One reading; ``began`` is None while it waits for its turn."""

    generation: int
    began: float | None = None
    outcome: concurrent.futures.Future[T] = field(default_factory=concurrent.futures.Future)


class Shared(Generic[T]):
    """What ``fetch`` returns, read by one caller at a time for all who wait. Safe for threads.

    A caller that says nothing of age gets a reading that began after it asked: those who come
    while one is under way share the next one, whoever of them came first makes it.
    """

    def __init__(self, fetch: Callable[[Deadline], T], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._turn = threading.Condition()
        self._running: _Round[T] | None = None
        self._next: _Round[T] | None = None
        self._last: _Round[T] | None = None
        self._generation = 0

    def read(self, deadline: Deadline, age: float = 0.0) -> T:
        """The value, from a reading that began at most ``age`` seconds ago.

        Raises what ``fetch`` raises, for all who share the reading, and Unreachable when it
        takes beyond ``deadline``.
        """
        with self._turn:
            current = self._young_enough(age)
            if current is None:
                leading = self._next is None
                current = self._next = self._next or _Round(self._generation)
            else:
                leading = False
        if leading:
            self._lead(current, deadline)
        try:
            return current.outcome.result(max(deadline.remaining(), 0.0))
        except concurrent.futures.TimeoutError:
            raise Unreachable("no answer in time to what others had asked before") from None

    def forget(self) -> None:
        """Let nobody have again what was read, or is being read, up to now."""
        with self._turn:
            self._generation += 1

    def _young_enough(self, age: float) -> _Round[T] | None:
        now = self._clock.monotonic()
        for known in (self._running, self._last):
            if (
                known is not None
                and known.began is not None
                and known.generation == self._generation
                and age > 0
                and now - known.began <= age
            ):
                return known
        return None

    def _lead(self, mine: _Round[T], deadline: Deadline) -> None:
        """Make the reading, as soon as the one under way is over."""
        with self._turn:
            free = self._turn.wait_for(
                lambda: self._running is None, max(deadline.remaining(), 0.0)
            )
            self._next = None
            if not free:
                mine.outcome.set_exception(Unreachable("a reading before this one takes too long"))
                return
            self._running = mine
            mine.generation = self._generation
            mine.began = self._clock.monotonic()
        try:
            value = self._fetch(deadline)
        except BaseException as error:  # noqa: BLE001 (whoever waits must learn of any error)
            self._finish(None)
            mine.outcome.set_exception(error)
        else:
            self._finish(mine)
            mine.outcome.set_result(value)

    def _finish(self, good: _Round[T] | None) -> None:
        with self._turn:
            self._running = None
            self._last = good or self._last
            self._turn.notify_all()
