"""Blocking calls from asyncio: in a bounded number of threads, each call with a deadline.

Plugins may block, and a hung one cannot be interrupted. So the waiting side gives up at the
deadline, the thread stays occupied until the call ends by itself, and when all threads of a
pool are occupied further calls end at their deadline without having been started. The threads
are daemons: a hung call never keeps the process from ending, as an executor of the standard
library would.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class CallNotStarted(TimeoutError):
    """The deadline passed while every thread was busy: nothing was done."""


class CallUnfinished(TimeoutError):
    """The deadline passed while the call was running: it may still do something."""


class _Call(Generic[T]):
    """One call on its way through a pool; ``started`` and ``abandoned`` under the pool's lock."""

    def __init__(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[tuple[T | None, BaseException | None]] = (
            self.loop.create_future()
        )
        self.started = False
        self.abandoned = False

    def answer(self, value: T | None, error: BaseException | None) -> None:
        """Hand the outcome to the waiting task, from the thread."""
        if self.loop.is_closed():
            return
        try:
            self.loop.call_soon_threadsafe(self._settle, value, error)
        except RuntimeError:
            return  # the loop closed in between: nobody waits any more

    def _settle(self, value: T | None, error: BaseException | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result((value, error))


class CallPool:
    """At most ``size`` calls at once. Safe for tasks of several event loops."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._queue: queue.SimpleQueue[_Call[Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._spare = 0  # threads that wait, less calls that wait

    async def run(self, timeout: float, function: Callable[..., T], *arguments: Any) -> T:  # noqa: ASYNC109 (the thread goes on after it: not what asyncio.timeout means)
        """Call ``function`` in a thread and return what it returns, or raise what it raises.

        Raises CallNotStarted or CallUnfinished after ``timeout`` seconds. Cancelling the
        waiting task does not stop a call that has begun.
        """
        call = _Call(function, arguments)
        self._enqueue(call)
        try:
            await asyncio.wait((call.outcome,), timeout=timeout)
        finally:
            with self._lock:
                call.abandoned = not call.started
        if not call.outcome.done():
            raise CallUnfinished if call.started else CallNotStarted
        value, error = call.outcome.result()
        if error is not None:
            raise error
        return cast("T", value)

    def close(self) -> None:
        """Let idle threads end; busy ones end after their call."""
        with self._lock:
            for _ in range(self._threads):
                self._queue.put(None)

    def _enqueue(self, call: _Call[Any]) -> None:
        with self._lock:
            self._spare -= 1
            grow = self._spare < 0 and self._threads < self._size
            if grow:
                self._threads += 1
                self._spare += 1
        self._queue.put(call)
        if grow:
            name = f"isoneph-{self._name}-{self._threads}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while (call := self._queue.get()) is not None:
            with self._lock:
                call.started = not call.abandoned
            outcome = _outcome(call) if call.started else None
            with self._lock:
                self._spare += 1  # before the answer: the next call may follow on its heels
            if outcome is not None:
                call.answer(*outcome)
            del call, outcome
        with self._lock:
            self._threads -= 1


def _outcome(call: _Call[Any]) -> tuple[Any, BaseException | None]:
    try:
        return call.function(*call.arguments), None
    except BaseException as error:  # noqa: BLE001 (it is raised again in the waiting task)
        return None, error
