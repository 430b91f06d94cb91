"""Looking for the next message instead of sleeping until it comes.

To put a core to sleep and wake it up again takes longer than to carry a message, on virtual
machines most of all. So while messages come close together, the event loop is kept going for a
moment after each::

    asleep --- two messages within the window ---> looking --- none within the window ---> asleep

Messages that are further apart than the window, and those that are answered later than that,
cost no more than without. The idea is that of ``busy-polling`` in HAProxy and, with the window,
of halt polling in KVM.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf


class BusyPoll:
    """Keeps the running event loop awake for ``window`` seconds after a message; 0 for never.

    ``now`` is a monotonic clock of real time: that is what a core sleeps for. For the callbacks
    of one event loop.
    """

    __slots__ = ("_came", "_last", "_now", "_until", "_window", "awake")

    def __init__(self, window: float, now: Callable[[], float] = time.monotonic) -> None:
        #: Whether the loop is being kept awake.
        self.awake = False
        self._window = window
        self._now = now
        #: When the last message came that found the loop asleep.
        self._last = -inf
        #: Whether a message has come since the last look.
        self._came = False
        self._until = 0.0

    def note(self) -> None:
        """A message comes or goes."""
        self._came = True
        if self.awake or not self._window:
            return
        now = self._now()
        if now - self._last <= self._window:
            self.awake = True
            self._look()
        self._last = now

    def _look(self) -> None:
        now = self._now()
        if self._came:
            self._came = False
            self._until = now + self._window
        if now < self._until:
            # A loop that has something to do asks the kernel for news without waiting.
            asyncio.get_running_loop().call_soon(self._look)
        else:
            self.awake = False
            self._last = self._until - self._window
