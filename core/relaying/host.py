"""A relay with what must outlive it: the backends, and which of them drain.

The plugin knows nothing of that: it is told the whole again whenever something changes, and when
it starts. A backend's drain ends only with its placement, so that no engine that has forgotten it,
or does not know it yet, gives the backend new sessions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import ClassVar, TypeVar

from isoneph.core.errors import IsonephError, RelayError, RelayRefused, RelayUnreachable
from isoneph.core.plugin import Relay
from isoneph.core.relaying.remembering import Remembered, StateFile
from isoneph.core.relaying.values import Member, Standing
from isoneph.core.traffic import Backend, RelayReport

LOG = logging.getLogger("isoneph.relay")
T = TypeVar("T")


class RelayHost:
    """One application's relay. For the tasks of one event loop; without a ``file`` nothing is
    remembered when the process ends. ``servers`` are addresses that get traffic beside the VMs.
    It starts with the first verb, or :meth:`start`."""

    remote: ClassVar[bool] = False

    def __init__(
        self, relay: Relay, file: StateFile | None = None, servers: Sequence[str] = ()
    ) -> None:
        self.relay = relay
        self._file = file
        self._servers = {
            address: Member(id=address, placement="", addresses=(address,)) for address in servers
        }
        self._members: dict[str, Member] = {}
        self._draining: dict[str, float] = {}
        self._lock = asyncio.Lock()
        self._started = False
        #: Whether the relay may not have been told what we know.
        self._dirty = False

    async def start(self) -> None:
        """Start the relay; the next verb brings it what is remembered. Raises RelayError."""
        async with self._lock:
            await self._start()

    async def close(self) -> None:
        """Close the relay; when it is started again it knows what is in the file."""
        async with self._lock:
            self._started = False
            self._members, self._draining = {}, {}
            try:
                await self._in_time("close", self.relay.close())
            except RelayError as error:
                LOG.warning("the relay did not close: %s", error.message)

    async def status(self) -> Standing:
        """See :class:`~isoneph.core.relaying.values.RelayWay`."""
        async with self._lock:
            await self._be_current()
            return await self._standing()

    async def update(
        self, members: Sequence[Member], since: Mapping[str, float] | None = None
    ) -> Standing:
        """As above."""
        fresh = {member.id: member for member in members}
        async with self._lock:
            await self._be_current()
            draining = {
                key: since
                for key, since in self._draining.items()
                if key in fresh and fresh[key].placement == self._members[key].placement
            }
            await self._become(fresh, _with(draining, since or {}, fresh))
            return await self._standing()

    async def drain(self, since: Mapping[str, float]) -> Standing:
        """As above."""
        async with self._lock:
            await self._be_current()
            await self._become(self._members, _with(self._draining, since, self._members))
            return await self._standing()

    async def drain_all(self) -> None:
        """Have the relay take no new sessions, and return when the last one is over; may be
        cancelled. A relay that fails in this has none that could be waited for."""
        try:
            await self.relay.drain()
        except Exception:
            LOG.exception("the relay failed in drain")

    async def report(self) -> RelayReport:
        """As above."""
        return await self._in_time("report", self.relay.report())

    async def _start(self) -> None:
        if self._started:
            return
        if self._file is not None:
            remembered = await asyncio.to_thread(self._file.read)
            self._members = {member.id: member for member in remembered.members}
            self._draining = {
                key: since for key, since in remembered.draining.items() if key in self._members
            }
        await self._in_time("start", self.relay.start())
        self._started = True
        self._dirty = bool(self._members or self._servers)

    async def _be_current(self) -> None:
        """Have the relay run, and know what we know."""
        await self._start()
        if self._dirty:
            await self._apply(self._members, self._draining)
            self._dirty = False

    async def _become(self, members: Mapping[str, Member], draining: Mapping[str, float]) -> None:
        """Tell the relay, then remember: who is not answered tells it again."""
        if members == self._members and draining == self._draining:
            return
        self._dirty = True
        await self._apply(members, draining)
        if self._file is not None:
            remembered = Remembered(members=tuple(members.values()), draining=dict(draining))
            try:
                await asyncio.to_thread(self._file.write, remembered)
            except OSError as error:
                raise RelayRefused(f"{self._file.path} cannot be written: {error}") from error
        self._members, self._draining = dict(members), dict(draining)
        self._dirty = False

    async def _apply(self, members: Mapping[str, Member], draining: Mapping[str, float]) -> None:
        backends = [
            Backend(
                id=member.id,
                addresses=member.addresses,
                name=member.name,
                cloud=member.cloud,
                weight=member.weight,
                draining=member.id in draining,
            )
            for member in [*self._servers.values(), *members.values()]
        ]
        await self._in_time("update", self.relay.update(backends))

    async def _standing(self) -> Standing:
        status = await self._in_time("status", self.relay.status())
        told = {**self._members, **self._servers}
        known = {key: each for key, each in status.items() if key in told}
        return Standing(
            members=self._members, servers=self._servers, draining=self._draining, status=known
        )

    async def _in_time(self, verb: str, call: Awaitable[T]) -> T:
        """The outcome of one of the plugin's verbs: a value, or an error of our own."""
        timeout = self.relay.environment.timeout
        try:
            async with asyncio.timeout(timeout):
                return await call
        except RelayError:
            raise
        except IsonephError as error:
            raise RelayRefused(error.message) from error
        except TimeoutError:
            raise RelayUnreachable(f"{verb}: no answer within {timeout:g} s") from None
        except Exception as error:
            LOG.exception("the relay failed in %s", verb)
            failure = f"{verb}: the relay failed: {type(error).__name__} (see the log)"
            raise RelayRefused(failure) from error


def _with(
    draining: Mapping[str, float], since: Mapping[str, float], members: Mapping[str, Member]
) -> dict[str, float]:
    """What drains, with the members in ``since``, each from its first time."""
    added = {key: min(at, draining.get(key, at)) for key, at in since.items() if key in members}
    return {**draining, **added}
