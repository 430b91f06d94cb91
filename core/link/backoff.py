"""How long to wait before the next attempt."""

from __future__ import annotations

from random import Random


class Backoff:
    """Doubles from ``first`` to ``most`` seconds, and takes a random part of that away, up to
    half of it: the workers of a relay that has started anew do not come back all at once."""

    def __init__(self, first: float = 0.1, most: float = 5.0, random: Random | None = None) -> None:
        self.most = most
        self._first = first
        self._random = random or Random()
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        delay = min(self.most, self._first * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return delay * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start over: it worked."""
        self._failures = 0
