"""The engine's part with a relay: it brings every VM that is up, and takes those away that have
drained.

A round follows from what the clouds, the ledger and the relay say now and from nothing else, so
the engine, and the relay's process, may be killed at any moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from isoneph.core.balancer import Balancer
from isoneph.core.errors import IsonephError
from isoneph.core.ledger import UNWANTED, Entry, Phase
from isoneph.core.model import Vm, VmState
from isoneph.core.plugin import Clock, Metrics
from isoneph.core.relayed import SERVING_STATES, Relayed
from isoneph.core.relaying import Member
from isoneph.core.sightings import Sightings

LOG = logging.getLogger(__name__)

#: VMs that are removed at once after they have drained.
REMOVALS = 20
#: The states of the relay's that are counted, from a relay's view of a VM.
RELAY_STATES = (VmState.ACTIVE, VmState.READY, VmState.SERVING, VmState.DRAINING)


class Carrier:
    """Keeps one application's relay at what the clouds hold. For the tasks of one event loop."""

    def __init__(
        self, balancer: Balancer, relayed: Relayed, clock: Clock, metrics: Metrics
    ) -> None:
        self.balancer = balancer
        self.way = relayed.way
        self._relayed = relayed
        self._clock = clock
        self._metrics = metrics
        self._absent: Sightings[str] = Sightings(clock)
        #: The clouds that have yet to be listed before a relay without memory is told of any VM.
        self._awaited: Sequence[str] = ()

    async def carry(self) -> None:
        """One round; this replica leads from now on."""
        self._relayed.lead(leading=True)
        await self.balancer.ledger.refresh()
        await self._watch_boots()
        await self._relayed.look(0.0)
        if self._relayed.error is None or (self._relayed.is_blank and self._all_listed()):
            await self._tell()
        await self._finish_drains()
        await self._relayed.publish()
        self._report()

    async def retire(self) -> None:
        """Another replica may lead; a relay without a process of its own moves there."""
        self._relayed.lead(leading=False)
        if not self.way.remote:
            await self._relayed.close()  # a look that is under way would open it again
            await self.way.close()

    async def _watch_boots(self) -> None:
        """See soon when a VM is up: its traffic waits."""
        fleet, settings = self.balancer.fleet, self.balancer.settings
        if any(vm.state is VmState.BUILDING and self._relayed.carries(vm) for vm in fleet.vms()):
            await fleet.ensure(settings.freshness, patience=settings.patience)
        else:
            await fleet.ensure_usable()

    async def _tell(self) -> None:
        """Bring the relay's backends and drains to what they should be."""
        relayed, standing = self._relayed, self._relayed.standing
        wanted = self._wanted(standing.members)
        drains = {
            entry.id: entry.at
            for entry in self._drains()
            if entry.id in wanted and wanted[entry.id].cloud == entry.cloud
        }
        is_done = wanted == standing.members and drains.keys() <= standing.draining.keys()
        if not (is_done and standing.settled):
            await relayed.ask("update", self.way.update(list(wanted.values()), drains))

    def _wanted(self, known: Mapping[str, Member]) -> Mapping[str, Member]:
        """The VMs that should be backends, by id; those that are ``known`` first, as they are
        there, so that equal mappings are equal lists."""
        wanted: dict[str, Member] = {}
        vms = {vm.id: vm for vm in self.balancer.fleet.vms() if self._relayed.carries(vm)}
        for vm in vms.values():
            member = self._wanted_member(vm, known.get(vm.id))
            if member is not None:
                wanted[vm.id] = member
        absent = {key: member for key, member in known.items() if key not in vms}
        return {**wanted, **self._not_surely_gone(absent)}

    def _wanted_member(self, vm: Vm, known: Member | None) -> Member | None:
        entry = self.balancer.ledger.book.get(vm.id, vm.cloud)
        is_unwanted = entry is not None and entry.phase in UNWANTED
        if is_unwanted or vm.state not in SERVING_STATES:
            return None
        is_up = vm.state is VmState.ACTIVE
        if self._relayed.is_blank:
            is_up = is_up or self.balancer.fleet.booted(vm)
        return (self._relayed.member(vm) if is_up else None) or known

    def _not_surely_gone(self, absent: Mapping[str, Member]) -> Mapping[str, Member]:
        """Backends that no listing shows: they go when we have removed them, or when they have
        been missing for a while in listings that came about."""
        book = self.balancer.ledger.book
        missing: set[str] = set()
        removed: set[str] = set()
        for key, member in absent.items():
            entry = book.get(key, member.cloud)
            is_deleted = entry is not None and entry.phase is Phase.DELETED
            if is_deleted or member.placement in self._relayed.removed:
                removed.add(key)
            elif member.cloud not in self.balancer.gateways or self._is_listed(member.cloud):
                missing.add(key)
        gone = removed | self._absent.ripe(missing, self.balancer.settings.healing.grace)
        for key in gone - removed:
            LOG.warning("vm %s is gone from %s: no backend any more", key, absent[key].cloud)
        return {key: member for key, member in absent.items() if key not in gone}

    def _all_listed(self) -> bool:
        """Whether each cloud has been listed, so that nothing is missing from what a relay is told
        that remembers nothing."""
        fleet = self.balancer.fleet
        missing = [each for each in self.balancer.gateways if fleet.listed_at(each) is None]
        if missing != self._awaited:
            self._awaited = missing
            if missing:
                name, clouds = self.balancer.settings.name, ", ".join(missing)
                LOG.warning(
                    "%s: the relay is told nothing until each cloud has been listed: %s",
                    name,
                    clouds,
                )
        return not missing

    def _is_listed(self, cloud: str) -> bool:
        fleet = self.balancer.fleet
        return fleet.error(cloud) is None and fleet.listed_at(cloud) is not None

    def _drains(self) -> Sequence[Entry]:
        return [entry for entry in self.balancer.ledger.book if entry.phase is Phase.DRAINING]

    async def _finish_drains(self) -> None:
        """Remove what has drained; what is gone already is forgotten."""
        copies = {
            entry: next(
                (vm for vm in self.balancer.fleet.copies(entry.id) if vm.cloud == entry.cloud), None
            )
            for entry in self._drains()
        }
        gone = [
            entry
            for entry, vm in copies.items()
            if vm is None
            and (entry.cloud not in self.balancer.gateways or self._is_listed(entry.cloud))
        ]
        if gone:
            await self.balancer.ledger.update(lambda book: book.forget(gone))
        over = [
            (entry, why)
            for entry, vm in copies.items()
            if vm is not None and (why := self._why_over(entry, vm)) is not None
        ]
        await asyncio.gather(*(self._remove(entry, why) for entry, why in over[:REMOVALS]))

    def _why_over(self, entry: Entry, vm: Vm) -> str | None:
        """Why a VM need not be waited for any more: a word; None when it must be."""
        relayed = self._relayed
        if vm.state not in SERVING_STATES:
            return "down"
        if self._clock.time() >= entry.at + relayed.settings.drain:
            return "deadline"
        if relayed.error is not None:
            return None
        standing = relayed.standing
        if vm.id not in standing.members:
            return "empty"
        is_told = vm.id in standing.draining
        return "empty" if is_told and relayed.sessions(vm) == 0 else None

    async def _remove(self, entry: Entry, why: str) -> None:
        try:
            await self.balancer.end_drain(entry)
        except IsonephError as error:
            LOG.warning("vm %s: drained, not removed yet: %s", entry.id, error.message)
            return
        took = self._clock.time() - entry.at
        name = self.balancer.settings.name
        self._metrics.observe("relay_drain_seconds", took, application=name, outcome=why)
        LOG.info(
            "vm %s on %s drained for %.0f s and is removed: %s", entry.id, entry.cloud, took, why
        )

    def _report(self) -> None:
        name = self.balancer.settings.name
        shown = self._relayed.show_all(self.balancer.fleet.vms())
        states = [vm.state for vm in shown if vm.relay is not None]
        for state in RELAY_STATES:
            count = states.count(state)
            self._metrics.gauge("relay_vms", count, application=name, state=state.value)
        self._metrics.gauge("relay_drains", len(self._drains()), application=name)
        answers = float(self._relayed.error is None)
        self._metrics.gauge("relay_up", answers, application=name)
