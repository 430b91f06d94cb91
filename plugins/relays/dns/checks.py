"""Whether backends accept TCP connections.

::

                good                 `fall` bad ones in a row
    unknown ──────────> good <─────────────────────────────────> bad
       │                       `rise` good ones in a row          ^
       └──────────────────────────────────────────────────────────┘
                bad

The first check decides alone, so that whoever begins to look after backends that have worked all
the time takes none of them out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from isoneph.core.traffic import Address, Backend
from isoneph.plugins.relays.dns.servers import reason_of

#: Connections that are tried at once.
_AT_ONCE = 64


class _Health:
    """What the checks of one backend came to."""

    def __init__(self) -> None:
        self.good: bool | None = None
        self.problem = "not checked yet"
        self._other_way = 0

    def note(self, problem: str | None, rise: int, fall: int) -> None:
        """Take note of a check; ``problem`` is what was wrong."""
        passed = problem is None
        if problem is not None:
            self.problem = problem
        if self.good in (passed, None):
            self.good, self._other_way = passed, 0
            return
        self._other_way += 1
        if self._other_way >= (rise if passed else fall):
            self.good, self._other_way = passed, 0


class Checks:
    """Checks the backends that it is given, by ``options``; without, all of them are good."""

    def __init__(self, options: Mapping[str, Any] | None) -> None:
        self._options = options
        self._health: dict[str, _Health] = {}

    def is_good(self, backend: Backend) -> bool:
        """Whether the backend may be published."""
        return self._options is None or bool(self._known(backend).good)

    def problem(self, backend: Backend) -> str:
        """Why it may not."""
        if self._options is None or self._known(backend).good:
            return ""
        return f"port {self._options['port']}: {self._known(backend).problem}"

    def is_known(self, backend: Backend) -> bool:
        """Whether it has been checked, or need not be."""
        return self._options is None or self._known(backend).good is not None

    def keep(self, backends: Iterable[Backend]) -> None:
        """Forget all others."""
        self._health = {each.id: self._known(each) for each in backends}

    async def run(self, backends: Iterable[Backend]) -> None:
        """Check all of ``backends`` now; takes little longer than one time-out."""
        if self._options is None:
            return
        places = asyncio.Semaphore(_AT_ONCE)
        await asyncio.gather(*(self._check(each, places, self._options) for each in backends))

    async def _check(
        self, backend: Backend, places: asyncio.Semaphore, options: Mapping[str, Any]
    ) -> None:
        health = self._known(backend)
        problem = None
        for host in backend.addresses:
            async with places:
                problem = await _try(Address(host, options["port"]), options["timeout"])
            if problem is not None:
                break
        health.note(problem, options["rise"], options["fall"])

    def _known(self, backend: Backend) -> _Health:
        return self._health.setdefault(backend.id, _Health())


async def _try(address: Address, seconds: float) -> str | None:
    """What is wrong with connecting to ``address``."""
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(*address)
    except TimeoutError:
        return f"no connection within {seconds:g} s"
    except OSError as error:
        return reason_of(error)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return None
