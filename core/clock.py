"""The real clock; tests hand in :class:`isoneph.core.testing.FakeClock` instead."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """The machine's own time. Safe for threads and tasks."""

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Block the calling thread."""
        time.sleep(seconds)

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling task."""
        await asyncio.sleep(seconds)
