"""The ``dns`` relay."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import dns.name
import dns.rrset
import dns.tsig

from isoneph.core.errors import ConfigInvalid, RelayError, RelayRefused
from isoneph.core.plugin import Environment, OptionSchema, Relay
from isoneph.core.traffic import Backend, BackendStatus, RelayReport, Table
from isoneph.plugins.relays.dns import options as its_options
from isoneph.plugins.relays.dns.checks import Checks
from isoneph.plugins.relays.dns.keys import KeyUnfit, load_key
from isoneph.plugins.relays.dns.leases import Leases
from isoneph.plugins.relays.dns.records import Layout, Place, unfit
from isoneph.plugins.relays.dns.servers import Conversation, NameServer

#: Seconds between attempts, after one that failed.
_PERIOD = 2.0
#: Seconds for all that is asked of one server.
_LONGEST_TIMEOUT = 5.0
_SHARE = 0.8


class DnsRelay(Relay):
    """A domain name that points at the ready backends, by dynamic updates (RFC 2136).

    The relay owns the address records of its name, and with ``srv`` the SRV records and what
    they point at: whatever else is found there is taken away, unless they are ``shared``. Its
    records stay when it ends: who comes next finds them.

    DNS knows no sessions. A backend counts as having one while its address is published, and
    when it is taken away until no cache may answer with it any more: for the TTL and ``grace``
    from when a server accepted that.
    """

    schema: ClassVar[OptionSchema] = its_options.OPTIONS
    process = False
    #: All that run: the engine has those of all applications in one process.
    _running: ClassVar[set[DnsRelay]] = set()

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self._layout = Layout(options)
        self._checks = Checks(options.get("check"))
        self._key: dns.tsig.Key | None = None
        self._servers: Sequence[NameServer] = ()
        self._backends: Sequence[Backend] = ()
        self._leases = Leases(options["ttl"], options["grace"])
        #: Those that may have records, as they were: what is theirs is ours to take away.
        self._ours: dict[tuple[str, ...], Backend] = {}
        self._lock = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._updated = False
        self._looked_at = -math.inf
        self._trouble = ""
        self._answering = ""

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Sequence[str]:
        """The name is in the zone, and there is one key at most."""
        return [*its_options.problems(options)]

    async def start(self) -> None:
        """Read the key. Raises ConfigInvalid when there is none where it should be, or when the
        name is another application's. Whether the servers answer shows with the first update."""
        try:
            self._key = load_key(self.options)
        except KeyUnfit as error:
            raise self._invalid(str(error)) from error
        if (rival := next(filter(self._is_rival, self._running), None)) is not None:
            raise self._invalid(
                f"the name {self._layout.name} is that of the application "
                f"{rival.environment.name}; with shared: true, in both, they share it"
            )
        servers = its_options.servers_of(self.options)
        seconds = min(self.environment.timeout * _SHARE / len(servers), _LONGEST_TIMEOUT)
        self._servers = [NameServer(each, self._key, seconds) for each in servers]
        self._keeper = asyncio.create_task(self._keep())
        self._running.add(self)

    async def close(self) -> None:
        """Look after the records no more; they stay."""
        self._running.discard(self)
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper

    async def update(self, backends: Sequence[Backend]) -> None:
        """Have the name point at those of the backends that are ready."""
        self._backends = tuple(backends)
        self._updated = True
        self._looked_at = -math.inf
        self._checks.keep(backends)
        await self._checks.run(
            each for each in backends if not self._checks.is_known(each) and unfit(each) is None
        )
        await self._publish()

    async def status(self) -> Mapping[str, BackendStatus]:
        """What was last accepted by a server; asks none."""
        return {backend.id: self._status_of(backend) for backend in self._backends}

    async def report(self) -> RelayReport:
        """Where the name points."""
        now = self.environment.clock.monotonic()
        key = self._key.name.to_text(omit_final_dot=True) if self._key is not None else "none"
        facts = {
            "name": self._layout.name,
            "ttl": f"{self.options['ttl']} s",
            "key": key,
            "name server": self._answering or "none has answered yet",
        }
        if self._trouble:
            facts["trouble"] = self._trouble
        rows = [
            (
                backend.name or backend.id,
                self._state_of(backend),
                " ".join(backend.addresses),
                math.ceil(self._leases.left(backend.id, now)),
            )
            for backend in self._backends
        ]
        columns = ("backend", "record", "addresses", "seconds_left")
        return RelayReport(facts=facts, tables=[Table(name="records", columns=columns, rows=rows)])

    def _is_rival(self, other: DnsRelay) -> bool:
        """Whether another application's relay and this one would undo each other's work."""
        ours, theirs = self.options, other.options
        return (
            other.environment.name != self.environment.name
            and its_options.name_of(ours) == its_options.name_of(theirs)
            and not set(its_options.servers_of(ours)).isdisjoint(its_options.servers_of(theirs))
            and not (ours["shared"] and theirs["shared"])
        )

    def _invalid(self, problem: str) -> ConfigInvalid:
        return ConfigInvalid([f"relay '{self.environment.name}': {problem}"])

    def _is_wanted(self, backend: Backend) -> bool:
        return not backend.draining and unfit(backend) is None and self._checks.is_good(backend)

    def _state_of(self, backend: Backend) -> str:
        if self._leases.is_published(backend.id):
            return "published"
        return self._reason(backend) or "waiting"

    def _reason(self, backend: Backend) -> str:
        """Why it is not, or will not be, published."""
        reason = unfit(backend) or ("draining" if backend.draining else "")
        return reason or self._checks.problem(backend)

    def _status_of(self, backend: Backend) -> BackendStatus:
        now = self.environment.clock.monotonic()
        published = self._leases.is_published(backend.id)
        ready = published and self._is_wanted(backend)
        sessions = int(unfit(backend) is None and self._leases.may_be_found(backend.id, now))
        text = "" if ready else self._reason(backend) or self._trouble or "not published yet"
        return BackendStatus(ready=ready, sessions=sessions, text=text)

    async def _publish(self) -> None:
        """Bring the records to where they should be, on the first server that can."""
        async with self._lock:
            if self._keeper is None:
                raise RelayRefused("the relay does not run")
            errors = []
            for server in self._servers:
                try:
                    async with server.conversation() as conversation:
                        await self._publish_by(conversation)
                except RelayError as error:
                    errors.append(error)
                else:
                    self._answering = str(server.address)
                    self._looked_at = self.environment.clock.monotonic()
                    self._trouble = ""
                    return
            self._looked_at = -math.inf
            self._trouble = "; ".join(str(error) for error in errors)
            # That it was refused says more than that others did not answer.
            kinds = [type(error) for error in errors if isinstance(error, RelayRefused)]
            raise (kinds[0] if kinds else type(errors[0]))(self._trouble)

    async def _publish_by(self, conversation: Conversation) -> None:
        backends = self._backends
        wanted_ones = [backend for backend in backends if self._is_wanted(backend)]
        wanted = self._layout.records(wanted_ones)
        found = await self._found(conversation, backends)
        fit = {(each.id, *each.addresses): each for each in backends if unfit(each) is None}
        if self.options["shared"]:
            changes = self._layout.merging(wanted, found, [*(self._ours | fit).values()])
        else:
            changes = self._layout.replacing(wanted, found)
        self._leases.seen(_longest_ttl(found.values()), self.environment.clock.monotonic())
        ids = {backend.id for backend in wanted_ones}
        if changes is not None:
            # What is on its way may be done although we never hear of it.
            self._leases.may_be_published(ids)
            self._ours |= fit
            await conversation.update(changes)
            self.environment.metrics.count("updates")
        now = self.environment.clock.monotonic()
        self._leases.are_published(ids, {backend.id for backend in backends}, now)
        self._ours = fit

    async def _found(
        self, conversation: Conversation, backends: Sequence[Backend]
    ) -> Mapping[Place, dns.rrset.RRset | None]:
        """What the server has in all places that may have to change."""
        found: dict[Place, dns.rrset.RRset | None] = {}
        hosts: set[dns.name.Name] = set()
        service = self._layout.service
        if service is not None:
            found |= await conversation.look_up([service])
            hosts |= self._layout.hosts_of(found[service] or ())
            hosts |= {self._layout.host(each.id) for each in backends if unfit(each) is None}
        places = self._layout.places(sorted(hosts))
        found |= await conversation.look_up(each for each in places if each not in found)
        return found

    async def _keep(self) -> None:
        """Check the backends, and look after the records, for as long as we live."""
        check = self.options.get("check")
        period = check["interval"] if check is not None else _PERIOD
        while True:
            await self.environment.clock.sleep(period)
            if not self._updated:
                continue
            before = [self._checks.is_good(each) for each in self._backends]
            await self._checks.run(each for each in self._backends if unfit(each) is None)
            changed = before != [self._checks.is_good(each) for each in self._backends]
            due = self._looked_at + self.options["interval"]
            if not changed and self.environment.clock.monotonic() < due:
                continue
            trouble = self._trouble
            try:
                await self._publish()
            except RelayError as error:
                if str(error) != trouble:  # once, not every time
                    self.environment.logger.warning("%s", error)


def _longest_ttl(found: Iterable[dns.rrset.RRset | None]) -> int:
    return max((rrset.ttl for rrset in found if rrset is not None), default=0)
