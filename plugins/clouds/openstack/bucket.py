"""How often one cloud is called: a token bucket that all callers in all threads share.

Use::

    bucket = Bucket(clock, rate=20.0, burst=40)
    bucket.take(deadline)      # waits for its turn, or raises Throttled at once
    bucket.hold(retry_after)   # after a 429: nobody calls before that
"""

from __future__ import annotations

import threading

from isoneph.core.errors import Throttled
from isoneph.core.plugin import Clock
from isoneph.plugins.clouds.openstack.deadline import Deadline

#: What a cloud may be asked a second when the options do not say, and at once after a rest.
CALLS_PER_SECOND = 20.0
BURST = 40
#: No cloud closes the bucket for longer, whatever its Retry-After says.
LONGEST_HOLD = 3600.0


class Bucket:
    """At most ``burst`` calls at once and ``rate`` a second in the long run. Safe for threads.

    Callers are given their moments in the order in which they ask, so that none waits for ever;
    one whose moment would come after its deadline takes none and is told so at once. However
    long it rests, the bucket never holds more than ``burst``.
    """

    def __init__(self, clock: Clock, *, rate: float = CALLS_PER_SECOND, burst: int = BURST) -> None:
        self._clock = clock
        self._interval = 1.0 / rate
        self._saved = (burst - 1) * self._interval
        self._lock = threading.Lock()
        self._full_at = 0.0  # when it holds a whole burst again
        self._held_until = 0.0
        self._holds = 0

    def take(self, deadline: Deadline) -> None:
        """Wait for the right to make one call.

        Raises Throttled, with ``retry_after``, when it would come after ``deadline``.
        """
        while True:
            moment, holds = self._reserve(deadline)
            pause = moment - self._clock.monotonic()
            if pause > 0:
                self._clock.pause(pause)
            with self._lock:
                if holds == self._holds:
                    return

    def hold(self, seconds: float) -> None:
        """Let nobody call for ``seconds`` (at most an hour), and no burst follow; callers that
        wait already are given new moments."""
        with self._lock:
            until = self._clock.monotonic() + min(max(seconds, 0.0), LONGEST_HOLD)
            if until > self._held_until:
                self._held_until = until
                self._full_at = until + self._saved
                self._holds += 1

    def _reserve(self, deadline: Deadline) -> tuple[float, int]:
        with self._lock:
            now = self._clock.monotonic()
            moment = max(now, self._full_at - self._saved)
            if moment > max(deadline.at, now):
                raise Throttled(
                    "the calls to this cloud are bounded (calls_per_second, or the cloud's own "
                    f"Retry-After), and the next may be made in {moment - now:.1f} s",
                    retry_after=moment - now,
                )
            self._full_at = max(self._full_at, moment) + self._interval
            return moment, self._holds
