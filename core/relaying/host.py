"""A relay with what must outlive it: the backends, and which of them drain.

The plugin knows nothing of that: it is told the whole again whenever something changes, and when
it starts. A backend's drain ends only with its placement, so that no engine that has forgotten it,
or does not know it yet, gives the backend new sessions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import ClassVar, NamedTuple, TypeVar

from isoneph.core.errors import (
    ConfigInvalid,
    IsonephError,
    RelayError,
    RelayRefused,
    RelayUnreachable,
)
from isoneph.core.plugin import Relay
from isoneph.core.relaying.remembering import Memory, Remembered
from isoneph.core.relaying.values import Member, Standing
from isoneph.core.traffic import Backend, RelayReport

LOG = logging.getLogger("isoneph.relay")
T = TypeVar("T")
_Errors = tuple[type[IsonephError], ...]


class _Backends(NamedTuple):
    """Which there are, and since when those drain that do."""

    members: Mapping[str, Member] = {}
    draining: Mapping[str, float] = {}


class RelayHost:
    """One application's relay. For the tasks of one event loop; without a ``memory`` nothing is
    remembered when the host ends. ``servers`` are addresses that get traffic beside the VMs, in
    shares that ``weights`` has by address. It starts with the first verb, or :meth:`start`."""

    remote: ClassVar[bool] = False

    def __init__(
        self,
        relay: Relay,
        memory: Memory | None = None,
        servers: Sequence[str] = (),
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.relay = relay
        self._memory = memory
        self._servers = {
            address: Member(
                id=address,
                placement="",
                addresses=(address,),
                weight=(weights or {}).get(address, 1.0),
            )
            for address in servers
        }
        #: What the relay was told last, None while nobody knows; what of that it has taken, and
        #: what of that is written down.
        self._wanted: _Backends | None = _Backends()
        self._taken = _Backends()
        self._written: _Backends | None = None
        #: Whether it may not do what is wanted.
        self._dirty = False
        self._complaint = ""
        self._lock = asyncio.Lock()
        self._started = False

    async def start(self) -> None:
        """Start the relay; the next verb brings it what is remembered. Raises RelayError, and
        ConfigInvalid when it cannot run as it is configured."""
        async with self._lock:
            await self._start((RelayError, ConfigInvalid))

    async def close(self) -> None:
        """Close the relay; when it is started again it knows what was written down."""
        async with self._lock:
            self._started = False
            self._wanted = self._taken = _Backends()
            self._dirty = False
            try:
                await self._in_time("close", self.relay.close())
            except RelayError as error:
                LOG.warning("the relay did not close: %s", error.message)

    async def status(self) -> Standing:
        """See :class:`~isoneph.core.relaying.values.RelayWay`."""
        async with self._lock:
            await self._start()
            try:
                await self._settle()
            except RelayRefused as error:
                # How it stands all the same is the answer: it tells the engine what is missing.
                if error.message != self._complaint:
                    LOG.warning("not settled yet: %s", error.message)
                self._complaint = error.message
            return await self._standing()

    async def update(
        self, members: Sequence[Member], since: Mapping[str, float] | None = None
    ) -> Standing:
        """As above."""
        fresh = {member.id: member for member in members}
        async with self._lock:
            await self._start()
            before = self._wanted or _Backends()
            draining = {
                key: since
                for key, since in before.draining.items()
                if key in fresh and fresh[key].placement == before.members[key].placement
            }
            await self._become(_Backends(fresh, _with(draining, since or {}, fresh)))
            return await self._standing()

    async def drain(self, since: Mapping[str, float]) -> Standing:
        """As above."""
        async with self._lock:
            await self._start()
            if self._wanted is not None:
                members, draining = self._wanted
                await self._become(_Backends(members, _with(draining, since, members)))
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

    async def _start(self, passing: _Errors = (RelayError,)) -> None:
        if self._started:
            return
        wanted: _Backends | None = _Backends()
        if self._memory is not None:
            wanted = _of(await self._memory.read())
        await self._in_time("start", self.relay.start(), passing)
        self._started = True
        self._wanted, self._taken, self._written = wanted, wanted or _Backends(), wanted
        self._dirty = wanted is not None and bool(wanted.members or self._servers)

    @property
    def _is_written(self) -> bool:
        return self._memory is None or self._taken == self._written

    async def _become(self, wanted: _Backends) -> None:
        """What is wanted from now on. Raises RelayError; the next verb tries again."""
        if wanted != self._wanted:
            self._wanted, self._dirty = wanted, True
        await self._settle()

    async def _settle(self) -> None:
        """Have the relay take what is wanted, and write down what it has taken: who is not
        answered tells it again. What cannot be written is the truth all the same."""
        if self._wanted is None:
            return
        if self._dirty:
            await self._apply(*self._wanted)
            self._taken, self._dirty = self._wanted, False
        if self._memory is not None and not self._is_written:
            members, draining = self._taken
            remembered = Remembered(members=tuple(members.values()), draining=dict(draining))
            await self._memory.write(remembered)
            self._written = self._taken
        if self._complaint:
            LOG.info("settled again")
            self._complaint = ""

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
        members, draining = self._taken
        return Standing(
            members=members,
            servers=self._servers,
            draining=draining,
            status=status,
            settled=self._wanted is not None and not self._dirty and self._is_written,
        )

    async def _in_time(self, verb: str, call: Awaitable[T], passing: _Errors = (RelayError,)) -> T:
        """The outcome of one of the plugin's verbs: a value, or an error, of which only those
        ``passing`` are the plugin's own."""
        timeout = self.relay.environment.timeout
        try:
            async with asyncio.timeout(timeout):
                return await call
        except passing:
            raise
        except IsonephError as error:
            raise RelayRefused(error.message) from error
        except TimeoutError:
            raise RelayUnreachable(f"{verb}: no answer within {timeout:g} s") from None
        except Exception as error:
            LOG.exception("the relay failed in %s", verb)
            failure = f"{verb}: the relay failed: {type(error).__name__} (see the log)"
            raise RelayRefused(failure) from error


def _of(remembered: Remembered | None) -> _Backends | None:
    if remembered is None:
        return None
    members = {member.id: member for member in remembered.members}
    return _Backends(members, _with({}, remembered.draining, members))


def _with(
    draining: Mapping[str, float], since: Mapping[str, float], members: Mapping[str, Member]
) -> dict[str, float]:
    """What drains, with the members in ``since``, each from its first time."""
    added = {key: min(at, draining.get(key, at)) for key, at in since.items() if key in members}
    return {**draining, **added}
