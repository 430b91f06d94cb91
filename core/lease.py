"""Leases: one holder at a time, over all processes that share a store.

A lease is a key with a time to live. Its holder writes it again before it expires; when the
holder dies or stalls, the store drops the key, and somebody else may write it. Whether it is
there is only ever judged by the store. A holder, from the moment before it last wrote, counts
the same time on its own monotonic clock, and so knows no later than the store that it has lost
the lease, without comparing clocks with anybody.

Two things no lease can rule out: between looking at :meth:`Lease.is_lost` and acting on it a
process may stall, and a store may lose the key early (its clock is set forward, or a failover
loses its last writes). The holder then learns it when it next renews. Where that matters, send
:attr:`Lease.fence` along with what is written, and refuse there what carries a lower one than
was seen before.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from isoneph.core.errors import LeaseTaken, StoreUnavailable, VersionConflict
from isoneph.core.plugin import Clock, Store

KEY_PREFIX = "lease/"
MAX_NAME = 200 - len(KEY_PREFIX)

#: Seconds between two tries to get a lease that is taken: at first, and at most.
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0

_logger = logging.getLogger(__name__)


def new_owner() -> str:
    """A name for this process as an owner of leases; take one after the last fork."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class Lease:
    """The right of one holder at a time to do what ``name`` stands for.

    ``owner`` says who holds it, for people to read (:func:`new_owner`); ``ttl`` is the seconds
    after which it is free again when its holder dies. Make one object for each holder: two
    tasks that share an object share the lease. For one event loop.

    All methods raise :class:`~isoneph.core.errors.StoreUnavailable` when the store does not
    answer. The lease may then have been taken all the same: trying again finds out.
    """

    def __init__(self, store: Store, clock: Clock, name: str, owner: str, ttl: float) -> None:
        if not 0 < len(name) <= MAX_NAME:
            raise ValueError(f"a lease's name has 1 to {MAX_NAME} characters: {name!r}")
        if not 0 < ttl < math.inf:
            raise ValueError(f"a lease's ttl is a positive number of seconds, not {ttl}")
        self.name = name
        self.owner = owner
        self.ttl = ttl
        #: Grows with each acquisition, whoever makes it; 0 before the first one here.
        self.fence = 0
        #: Who held the lease when it last could not be acquired.
        self.holder: str | None = None
        self._store = store
        self._clock = clock
        self._key = KEY_PREFIX + name
        # Tells this object's entry from any other's, even one of the same owner.
        self._mark = f"{owner} {secrets.token_hex(8)}".encode()
        self._version = 0
        self._deadline = -math.inf
        self._lost = asyncio.Event()
        self._lost.set()

    def is_lost(self) -> bool:
        """Whether the lease is not, or no longer surely, held.

        Turns true by itself ``ttl`` seconds after the last renewal began. Once seen true, it
        stays so until the lease is acquired again.
        """
        if self._clock.monotonic() >= self._deadline:
            self._lost.set()
        return self._lost.is_set()

    async def wait_lost(self) -> None:
        """Return as soon as :meth:`is_lost` is true."""
        while not self.is_lost():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._left()):
                    await self._lost.wait()

    async def acquire(self) -> bool:
        """Try once to get the lease; whether it is held now. One that is held already is held
        for another ``ttl``, with a new fence."""
        if not (await self._write(0) or await self._write_own()):
            return False
        self.fence = self._version
        self.holder = None
        self._lost.clear()
        return not self.is_lost()

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109 (told by the clock handed in)
        """Try until the lease is held, or ``timeout`` seconds have passed; whether it is."""
        end = self._clock.monotonic() + timeout
        pause = FIRST_PAUSE
        while not await self.acquire():
            left = end - self._clock.monotonic()
            if left <= 0:
                return False
            await self._clock.sleep(min(pause * random.uniform(0.5, 1.0), left))
            pause = min(pause * 2, LONGEST_PAUSE)
        return True

    async def renew(self) -> bool:
        """Hold the lease for another ``ttl``; False when it was lost."""
        if not self.is_lost() and not (await self._write(self._version) or await self._write_own()):
            self._lost.set()
        return not self.is_lost()

    async def release(self) -> None:
        """Let the lease go, if it is still ours. Safe to call at any time."""
        version, self._version = self._version, 0
        self._lost.set()
        if not (version and await self._delete(version)):
            version = await self._own_version()
            if version:
                await self._delete(version)

    @asynccontextmanager
    async def held(self, timeout: float = 0.0) -> AsyncIterator[Lease]:  # noqa: ASYNC109 (as wait)
        """Acquire within ``timeout`` seconds, renew in the background, release at the end.

        Raises :class:`~isoneph.core.errors.LeaseTaken` when somebody else keeps it. What runs
        inside is not stopped when the lease is lost: it looks at :meth:`is_lost`, or waits for it.
        """
        if not await self.wait(timeout):
            raise LeaseTaken(
                f"lease '{self.name}' is held by {self.holder or 'somebody else'} and was not "
                f"let go within {timeout:g} s"
            )
        keeper = asyncio.create_task(self._keep(), name=f"lease {self.name}")
        try:
            yield self
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])
            try:
                await self.release()
            except StoreUnavailable as error:
                _logger.warning(
                    "lease '%s' is not released, it expires in %g s: %s",
                    self.name,
                    self.ttl,
                    error,
                )

    async def _keep(self) -> None:
        """Renew until the lease is lost; whatever ends this, it is no longer sure."""
        failed = False
        try:
            while not self.is_lost():
                pause = self.ttl / 10 if failed else self._left() - self.ttl * 2 / 3
                await self._clock.sleep(max(0.0, min(pause, self._left())))
                try:
                    async with asyncio.timeout(max(0.0, self._left())):
                        await self.renew()
                    failed = False
                except StoreUnavailable as error:
                    failed = True
                    _logger.warning("lease '%s' is not renewed: %s", self.name, error)
            _logger.warning("lease '%s' is lost to %s", self.name, self.holder or "its expiry")
        except TimeoutError:
            _logger.warning("lease '%s' is lost: the store did not answer", self.name)
        except Exception:
            _logger.exception("lease '%s' is given up", self.name)
        finally:
            self._lost.set()

    def _left(self) -> float:
        """Seconds for which the lease is surely held."""
        return self._deadline - self._clock.monotonic()

    async def _write(self, expect: int) -> bool:
        # Counted from before the store was asked, hence never longer than the store counts.
        began = self._clock.monotonic()
        try:
            self._version = await self._store.put(
                self._key, self._mark, expect=expect, ttl=self.ttl
            )
        except VersionConflict:
            return False
        self._deadline = began + self.ttl
        return True

    async def _delete(self, expect: int) -> bool:
        try:
            await self._store.delete(self._key, expect=expect)
        except VersionConflict:
            return False
        return True

    async def _write_own(self) -> bool:
        """Write over an entry that is ours, though its version is not the one we know: the
        answer to an earlier write was lost."""
        version = await self._own_version()
        return version > 0 and await self._write(version)

    async def _own_version(self) -> int:
        """The version of the entry, if it is this object's; else 0."""
        entry = await self._store.get(self._key)
        if entry is not None and entry.value == self._mark:
            return entry.version
        self.holder = entry.value.decode(errors="replace").rpartition(" ")[0] if entry else None
        return 0
