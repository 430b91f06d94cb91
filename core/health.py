"""Whether a cloud should be asked at all: a circuit breaker, and a memory of refusals.

The breaker's states::

               failures in a row reach the threshold
        CLOSED ------------------------------------> OPEN
          ^                                          |  ^
          | the probe succeeds        the pause ends |  | the probe fails:
          |                                          v  | twice the pause
          +--------------------------------------- HALF_OPEN

In HALF_OPEN exactly one call, the probe, goes through; the others are turned away as in OPEN.

Creates that are not answered are special: a cloud whose API answers questions while what is
behind it hangs would look well again with each listing. They count until a create is answered,
and when they opened the breaker it turns away creates alone, and a create is the probe.
"""

from __future__ import annotations

from enum import StrEnum

from isoneph.core.errors import CloudError, OutcomeUnknown
from isoneph.core.plugin import Clock

#: The pause between probes doubles up to this many times the configured one.
LONGEST_PAUSE = 10
#: Seconds after which a probe that never reported back no longer holds the others off.
PROBE_PATIENCE = 120.0


class BreakerState(StrEnum):
    """See the module's drawing."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Leaves a failing cloud alone. For the tasks of one event loop."""

    def __init__(self, clock: Clock, failures: int, pause: float) -> None:
        self._clock = clock
        self._threshold = failures
        self._pause = pause
        self._next_pause = pause
        self._failures = 0
        self._opened_at: float | None = None
        self._probe_since: float | None = None
        self._retry_at = 0.0
        self._creates_alone = False
        self.last_error: CloudError | None = None

    @property
    def state(self) -> BreakerState:
        """The state at this moment."""
        if self._opened_at is None:
            return BreakerState.CLOSED
        if self._clock.monotonic() < self._retry_at:
            return BreakerState.OPEN
        return BreakerState.HALF_OPEN

    @property
    def retry_in(self) -> float:
        """Seconds until a probe is let through; 0 when one may go now."""
        if self._opened_at is None:
            return 0.0
        return max(0.0, self._retry_at - self._clock.monotonic())

    def allow(self, *, create: bool = False) -> bool:
        """Whether a call may go through now; in HALF_OPEN a yes makes that call the probe."""
        if self._creates_alone and not create:
            return True
        if not self.available:
            return False
        if self.state is BreakerState.HALF_OPEN:
            self._probe_since = self._clock.monotonic()
        return True

    @property
    def available(self) -> bool:
        """Whether :meth:`allow` would say yes to a create; asking changes nothing."""
        state = self.state
        if state is BreakerState.HALF_OPEN:
            since = self._probe_since
            return since is None or self._clock.monotonic() - since > PROBE_PATIENCE
        return state is BreakerState.CLOSED

    def success(self, *, create: bool = False) -> bool:
        """The cloud answered, be it with a refusal. Returns whether that closed the breaker."""
        if self._creates_alone and not create:
            return False
        closes = self._opened_at is not None
        self._creates_alone = False
        self._failures = 0
        self._opened_at = None
        self._probe_since = None
        self._next_pause = self._pause
        return closes

    def failure(self, error: CloudError, *, create: bool = False) -> bool:
        """The cloud failed to answer, or does not take our credentials. Returns whether that
        opened the breaker; a probe that fails keeps it open."""
        opens = self._opened_at is None
        self._creates_alone = create and isinstance(error, OutcomeUnknown)
        self.last_error = error
        self._failures += 1
        if self._probe_since is not None:
            self._next_pause = min(self._next_pause * 2, self._pause * LONGEST_PAUSE)
        elif self._failures < self._threshold or self._opened_at is not None:
            return False
        self._probe_since = None
        self._opened_at = self._clock.monotonic()
        self._retry_at = self._opened_at + self._next_pause
        return opens


class Avoidance:
    """What a cloud refused lately, so that it is not asked again at once.

    A refusal is remembered for ``seconds``, or as long as the cloud asked for.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._until: dict[str | None, tuple[float, CloudError]] = {}

    def note(self, error: CloudError, type_name: str | None) -> None:
        """Remember ``error``, as far as its class says that it blocks anything."""
        if error.blocks is None:
            return
        seconds = self._seconds if error.retry_after is None else error.retry_after
        key = type_name if error.blocks == "type" else None
        self._until[key] = (self._clock.monotonic() + seconds, error)

    def forget(self, type_name: str | None = None) -> None:
        """Room was made, or a create went through: drop what is known of a type, or of all."""
        if type_name is None:
            self._until.clear()
        else:
            self._until.pop(type_name, None)

    def reason(self, type_name: str) -> str | None:
        """Why this type should not be tried now, or None."""
        for key in (None, type_name):
            until, error = self._until.get(key, (0.0, None))
            left = until - self._clock.monotonic()
            if error is not None and left > 0:
                return f"left alone for {left:.0f} s more: {error.code}: {error.message}"
        return None
