"""Until when something may take: shared by all calls that one verb of the driver makes."""

from __future__ import annotations

from dataclasses import dataclass

from isoneph.core.plugin import Clock


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on ``clock``'s monotonic scale. Safe for threads."""

    clock: Clock
    at: float

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> Deadline:
        """The moment ``seconds`` from now."""
        return cls(clock, clock.monotonic() + seconds)

    def remaining(self) -> float:
        """Seconds left; 0 or less when it has passed."""
        return self.at - self.clock.monotonic()

    def within(self, seconds: float) -> Deadline:
        """This moment, or the one ``seconds`` from now if that comes first."""
        return Deadline(self.clock, min(self.at, self.clock.monotonic() + seconds))
