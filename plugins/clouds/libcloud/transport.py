"""The way to a provider: node drivers of libcloud, one for each call that is under way.

Libcloud's objects are for one thread at a time, so they are kept in a pool. Each request goes
through :class:`Transport`, which gives it the time that its call has left, keeps to the pace of
the cloud, and is never sent twice.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from libcloud.http import LibcloudConnection

from isoneph.core.errors import Throttled, Unreachable
from isoneph.core.plugin import Clock

#: Of the time that a call has left, what connecting may take.
CONNECT_SHARE = 0.5
#: Seconds below which no request is begun.
SHORTEST = 0.05


class Pace:
    """A token bucket: at most ``burst`` requests at once and ``rate`` a second in the long run.
    Safe for threads."""

    def __init__(self, clock: Clock, rate: float, burst: int) -> None:
        self._clock = clock
        self._interval = 1.0 / rate
        self._saved = (burst - 1) * self._interval
        self._lock = threading.Lock()
        self._full_at = 0.0  # when it holds a whole burst again

    def wait(self, deadline: float) -> None:
        """Wait for the right to send one request.

        Raises Throttled at once when it would come after ``deadline`` (monotonic).
        """
        with self._lock:
            now = self._clock.monotonic()
            moment = max(now, self._full_at - self._saved)
            if moment > max(deadline, now):
                raise Throttled(
                    "more requests are to be sent than calls_per_second allows; the next may be "
                    f"sent in {moment - now:.1f} s",
                    retry_after=moment - now,
                )
            self._full_at = max(self._full_at, moment) + self._interval
        if moment > now:
            self._clock.pause(moment - now)


class Line:
    """A node driver of libcloud in the hands of one call; ``sent`` counts its requests, and
    ``accepted`` those to which the provider said yes and that may have changed something."""

    def __init__(self, clock: Clock, pace: Pace) -> None:
        self._clock = clock
        self._pace = pace
        self.driver: Any = None
        self.deadline = 0.0
        self.sent = 0
        self.accepted = 0

    def begin(self, deadline: float) -> None:
        """A new call uses it, until ``deadline`` (monotonic)."""
        self.deadline, self.sent, self.accepted = deadline, 0, 0

    def clear(self) -> tuple[float, float]:
        """Wait for the right to send a request; the seconds for connecting and for each part of
        the answer. Raises Throttled, or Unreachable when there is no time left."""
        self._pace.wait(self.deadline)
        left = self.deadline - self._clock.monotonic()
        if left < SHORTEST:
            raise Unreachable("there was no time left for another request")
        self.sent += 1
        return left * CONNECT_SHARE, left

    def note(self, method: str, status: int) -> None:
        """A request was answered."""
        if method.upper() != "GET" and status < 400:  # noqa: PLR2004 (where HTTP's refusals begin)
            self.accepted += 1

    def close(self) -> None:
        """Let the connection go."""
        session = getattr(self.driver.connection.connection, "session", None)
        if session is not None:
            session.close()


class Transport(LibcloudConnection):
    """What libcloud sends its requests through, in place of its own class.

    Nothing is taken from the environment: no proxies, no certificates, no ``.netrc``.
    """

    def __init__(self, line: Line, ca_file: str | None, **arguments: Any) -> None:
        super().__init__(**arguments)  # type: ignore[no-untyped-call]  # libcloud has few types
        self._line = line
        self.session: Any
        self.session.trust_env = False
        self.ca_cert: Any = ca_file

    def request(self, *arguments: Any, **named: Any) -> None:
        """One request, in the time and at the pace of the line's call."""
        self.session.timeout = self._line.clear()
        send: Any = super().request
        send(*arguments, **named)
        response: Any = self.response
        self._line.note(named["method"], response.status_code)


def _once(**_: Any) -> Callable[[Any], Any]:
    """Stands in for libcloud's retries, whoever switches them on."""
    return lambda send: send


def wired(driver: type[Any], line: Line, ca_file: str | None) -> type[Any]:
    """A class of libcloud's whose requests go through :class:`Transport`."""

    def connect(**arguments: Any) -> Transport:
        return Transport(line, ca_file, **arguments)

    connection = type(
        driver.connectionCls.__name__,
        (driver.connectionCls,),
        {"conn_class": staticmethod(connect), "retryCls": staticmethod(_once)},
    )
    return type(driver.__name__, (driver,), {"connectionCls": connection})


class Lines:
    """A pool of lines to one cloud. Safe for threads."""

    def __init__(
        self,
        driver: type[Any],
        arguments: Mapping[str, Any],
        *,
        clock: Clock,
        pace: Pace,
        ca_file: str | None = None,
    ) -> None:
        self._driver = driver
        self._arguments = arguments
        self._clock = clock
        self._pace = pace
        self._ca_file = ca_file
        self._idle: list[Line] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def borrow(self, deadline: float) -> Iterator[Line]:
        """A line for one call that ends at ``deadline`` (monotonic)."""
        with self._lock:
            line = self._idle.pop() if self._idle else None
        line = line or Line(self._clock, self._pace)
        line.begin(deadline)
        if line.driver is None:
            driver = wired(self._driver, line, self._ca_file)
            line.driver = driver(**self._arguments)
        try:
            yield line
        finally:
            with self._lock:
                self._idle.append(line)

    def close(self) -> None:
        """Let all connections go that no call uses; later calls make new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()
