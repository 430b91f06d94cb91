"""Telling what is there for long from what was only seen once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from isoneph.core.plugin import Clock

K = TypeVar("K", bound=Hashable)


class Sightings(Generic[K]):
    """When things were first seen; they count when they still are some time later."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first: dict[K, float] = {}

    def ripe(self, seen: Iterable[K], grace: float) -> set[K]:
        """Note what is seen now, forget what is not; what was seen ``grace`` ago is ripe."""
        now = self._clock.monotonic()
        self._first = {key: self._first.get(key, now) for key in seen}
        return {key for key, first in self._first.items() if now - first >= grace and first < now}
