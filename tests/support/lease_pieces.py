"""What the tests of leases are made of: a clock to step, a store that fails when told so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from isoneph.core.errors import StoreUnavailable
from isoneph.core.lease import Lease
from isoneph.core.plugin import Versioned
from isoneph.core.testing import FakeClock
from isoneph.plugins.stores.memory import MemoryStore

TTL = 9.0


class SteppedClock(FakeClock):
    """Sleeps last until the test lets that much time pass."""

    async def sleep(self, seconds: float) -> None:
        end = self.time() + seconds
        while self.time() < end:  # noqa: ASYNC110 (the test has no event to set)
            await asyncio.sleep(0)


class FlakyStore(MemoryStore):
    """Fails, loses answers or hangs when told so."""

    down = False
    loses_answers = False
    hangs = False
    writes = 0

    async def get(self, key: str) -> Versioned | None:
        self._fail(self.down)
        return await super().get(key)

    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, ttl: float | None = None
    ) -> int:
        if self.hangs:
            await asyncio.Event().wait()
        self._fail(self.down)
        version = await super().put(key, value, expect=expect, ttl=ttl)
        self.writes += 1
        self._fail(self.loses_answers)
        return version

    async def delete(self, key: str, *, expect: int | None = None) -> None:
        self._fail(self.down)
        await super().delete(key, expect=expect)

    def _fail(self, whether: bool) -> None:
        if whether:
            raise StoreUnavailable("no answer")


MakeLease = Callable[[str], Lease]


async def settle() -> None:
    """Let the other tasks do all that they can."""
    for _ in range(50):
        await asyncio.sleep(0)
