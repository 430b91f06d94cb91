"""A store for one process: nothing to install, nothing survives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from isoneph.core.errors import VersionConflict
from isoneph.core.plugin import Environment, Store, Versioned

#: So few entries are not worth looking through for expired ones.
_FEW = 1024


class _Entry(NamedTuple):
    held: Versioned
    expires: float


class MemoryStore(Store):
    """In this process's memory: for a single replica, and for tests.

    It always answers, also before ``start``; ``close`` forgets everything. Expiry is judged by
    the environment's monotonic clock.
    """

    shared = False

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self._now = environment.clock.monotonic
        self._entries: dict[str, _Entry] = {}
        #: Of all keys together, so that a key that comes back never repeats a version.
        self._last_version = 0
        #: How many entries there may be before the expired ones are dropped.
        self._room = _FEW

    async def close(self) -> None:
        """Forget everything except which versions were given out."""
        self._entries.clear()

    async def get(self, key: str) -> Versioned | None:
        """The value under ``key``."""
        return self._find(key)

    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, ttl: float | None = None
    ) -> int:
        """Write ``value``."""
        self._check(key, expect)
        self._last_version += 1
        expires = math.inf if ttl is None else self._now() + ttl
        self._entries[key] = _Entry(Versioned(value, self._last_version), expires)
        if len(self._entries) > self._room:
            self._sweep()
        return self._last_version

    async def delete(self, key: str, *, expect: int | None = None) -> None:
        """Remove ``key``."""
        self._check(key, expect)
        self._entries.pop(key, None)

    async def scan(self, prefix: str) -> Sequence[str]:
        """The keys that begin with ``prefix``."""
        now = self._now()
        return [
            key
            for key, entry in self._entries.items()
            if entry.expires > now and key.startswith(prefix)
        ]

    def _find(self, key: str) -> Versioned | None:
        entry = self._entries.get(key)
        return entry.held if entry is not None and entry.expires > self._now() else None

    def _check(self, key: str, expect: int | None) -> None:
        if expect is None:
            return
        held = self._find(key)
        version = held.version if held else 0
        if version != expect:
            raise VersionConflict(f"expected version {expect} of {key!r}, found {version}")

    def _sweep(self) -> None:
        """Drop what has expired; next when twice of what is left is there, so that it costs a
        write next to nothing on average."""
        now = self._now()
        self._entries = {k: entry for k, entry in self._entries.items() if entry.expires > now}
        self._room = max(_FEW, 2 * len(self._entries))
