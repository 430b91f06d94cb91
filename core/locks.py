"""Locks by name: one task at a time, over all processes that share a store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from isoneph.core.lease import Lease
from isoneph.core.plugin import Clock, Store

#: Seconds after which a lock lapses when its holder died.
TTL = 15.0


class NameLocks:
    """One lock for each name that is held, and none for those that are not.

    Among the tasks of one event loop it is a lock; where the store is shared it is a lease too.
    ``prefix`` starts the names of the leases, ``owner`` says who holds them, and ``timeout``,
    which may be changed, is how many seconds a task waits for a process that holds one.
    """

    def __init__(
        self, store: Store, clock: Clock, *, prefix: str, owner: str, timeout: float
    ) -> None:
        self._store = store
        self._clock = clock
        self._prefix = prefix
        self._owner = owner
        self.timeout = timeout
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    def __len__(self) -> int:
        """How many names are held or waited for by tasks here."""
        return len(self._locks)

    @asynccontextmanager
    async def held(self, name: str) -> AsyncIterator[None]:
        """Hold a name. Raises LeaseTaken when another process does not let go of it in time,
        StoreError."""
        lock, users = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, users + 1)
        try:
            async with lock, self._leased(name):
                yield
        finally:
            lock, users = self._locks.pop(name)
            if users > 1:
                self._locks[name] = (lock, users - 1)

    @asynccontextmanager
    async def _leased(self, name: str) -> AsyncIterator[None]:
        if not self._store.shared:
            yield
            return
        lease = Lease(self._store, self._clock, f"{self._prefix}{name}", self._owner, TTL)
        async with lease.held(timeout=self.timeout):
            yield
