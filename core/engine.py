"""The reconciling loop: what failed is placed again, what nobody owns is removed.

One replica's engine is at work at a time, the holder of a lease in the store; the others keep
their listings fresh and wait. The engine knows nothing that is not in the clouds, the ledger or
its own two sightings, so it may be killed at any moment.

It removes only what carries isoneph's tags and is provably without an owner:

- a copy of a VM that is not the one its id stands for (see :meth:`Fleet.copies`), while that
  one is confirmed to be there;
- a VM whose create was given up or that was deleted and stays all the same, as the ledger
  remembers;
- leftovers (ports, volumes) that no VM holds, as the driver proves them ours.

And each only when it was seen twice, at least ``grace`` seconds apart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial

import msgspec

from isoneph.core.balancer import Balancer
from isoneph.core.carrying import Carrier
from isoneph.core.errors import CloudError, IsonephError, LeaseTaken
from isoneph.core.lease import Lease
from isoneph.core.ledger import DOUBT_FOR, SETTLED_FOR, UNWANTED, Book, Entry, Phase
from isoneph.core.model import CLOUD_STATES, Leftover, Vm, VmState
from isoneph.core.plugin import Clock, Metrics
from isoneph.core.sightings import Sightings

LOG = logging.getLogger(__name__)

#: Failed boots that are placed again at once, for each application.
REPLACEMENTS = 20
#: Leftovers, and VMs that drained, that are removed at once, for each application.
REMOVALS = 20
#: Seconds between two rounds with a relay, where the engine's own are not more often.
CARRY_INTERVAL = 1.0


class Healer:
    """Keeps one application's VMs whole. For the tasks of one event loop."""

    def __init__(self, balancer: Balancer, clock: Clock, metrics: Metrics) -> None:
        self.balancer = balancer
        self._clock = clock
        self._metrics = metrics
        self._stray: Sightings[tuple[str, str]] = Sightings(clock)
        self._left: Sightings[Leftover] = Sightings(clock)
        self._looked_for_leftovers = float("-inf")
        self._hopeless: set[str] = set()

    async def heal(self, patience: float) -> None:
        """One round, over the clouds that answer within ``patience`` seconds."""
        fleet = self.balancer.fleet
        await self.balancer.ledger.refresh()
        errors = await fleet.ensure(0.0, patience=patience)
        listed = [name for name in self.balancer.settings.clouds if name not in errors]
        self._report()
        await self._remove_drained()
        await self._forget_deleted(listed)
        await self._replace_failed(listed)
        await self._reap_strays(listed)
        await self._reap_leftovers(listed)

    def _report(self) -> None:
        name = self.balancer.settings.name
        for cloud, gateway in self.balancer.gateways.items():
            counts = self.balancer.fleet.by_state(cloud)
            for state in CLOUD_STATES:
                figure = counts.get(state.value, 0)
                self._metrics.gauge("vms", figure, application=name, cloud=cloud, state=state.value)
            is_open = 0.0 if gateway.breaker.available else 1.0
            self._metrics.gauge("breaker_open", is_open, cloud=cloud)

    async def _remove_drained(self) -> None:
        """Remove what drained at a relay that the application has no more: nobody else would."""
        if self.balancer.relayed is not None:
            return
        drains = [entry for entry in self.balancer.ledger.book if entry.phase is Phase.DRAINING]
        await asyncio.gather(*(self._remove(entry) for entry in drains[:REMOVALS]))

    async def _remove(self, entry: Entry) -> None:
        try:
            deletion = await self.balancer.end_drain(entry)
        except IsonephError as error:
            LOG.warning("vm %s: it has no relay, not removed yet: %s", entry.id, error.message)
            return
        if deletion.vm is None:
            await self.balancer.ledger.update(lambda book: book.forget([entry]))
        LOG.info("vm %s on %s drained at a relay that is no more: removed", entry.id, entry.cloud)

    async def _forget_deleted(self, listed: Sequence[str]) -> None:
        """What was deleted is remembered until every replica's listing is without it: it may end
        in ERROR on its way, and must not be placed again."""
        now = self._clock.time()
        gone: list[Entry] = []
        ageing: list[Entry] = []
        for entry in self.balancer.ledger.book:
            if entry.phase is not Phase.DELETED or entry.cloud not in listed:
                continue
            if self._copies(entry):
                if entry.expires < now + DOUBT_FOR / 2:
                    ageing.append(entry)
            elif entry.at < now - SETTLED_FOR:
                gone.append(entry)
        if gone or ageing:
            await self.balancer.ledger.update(partial(_go_on, gone=gone, ageing=ageing))

    async def _replace_failed(self, listed: Sequence[str]) -> None:
        vms = self.balancer.fleet.vms()
        self._hopeless &= {vm.id for vm in vms}
        failed = [
            vm
            for vm in vms
            if vm.cloud in listed
            and self.balancer.replacer.failed(vm)
            and self.balancer.replacer.wanted(vm)
            and not self._given_up(vm)
        ]
        await asyncio.gather(*(self._replace(vm) for vm in failed[:REPLACEMENTS]))

    def _given_up(self, vm: Vm) -> bool:
        """Whether a VM was placed as often as it may be; said once."""
        hopeless = vm.attempt >= self.balancer.settings.healing.attempts
        if hopeless and vm.id not in self._hopeless:
            self._hopeless.add(vm.id)
            LOG.error(
                "vm %s failed to boot %d times and is left in %s on %s: %s",
                vm.id,
                vm.attempt,
                vm.state,
                vm.cloud,
                vm.fault,
            )
        return hopeless

    async def _replace(self, vm: Vm) -> None:
        try:
            await self.balancer.replace(vm.id)
        except IsonephError as error:
            LOG.warning("vm %s: not replaced yet: %s: %s", vm.id, error.code, error.message)

    async def _reap_strays(self, listed: Sequence[str]) -> None:
        strays = {
            (vm.cloud, vm.cloud_id): vm
            for vm in [*self.balancer.fleet.doubles(), *self._unwanted()]
            if vm.cloud in listed and vm.state is not VmState.DELETING
        }
        grace = self.balancer.settings.healing.grace
        for key in self._stray.ripe(strays, grace):
            vm = strays[key]
            try:
                if await self._without_owner(vm, listed):
                    await self.balancer.remover.remove_copy(vm)
                    self._count("vm")
                    LOG.warning("vm %s: stray copy on %s removed", vm.id, vm.cloud)
            except IsonephError as error:
                LOG.warning("vm %s: stray copy not removed yet: %s", vm.id, error.message)

    def _unwanted(self) -> list[Vm]:
        """VMs on clouds where the ledger says that nobody wants them."""
        entries = [entry for entry in self.balancer.ledger.book if entry.phase in UNWANTED]
        return [vm for entry in entries for vm in self._copies(entry)]

    def _copies(self, entry: Entry) -> list[Vm]:
        """What is to be seen of an entry's VM on its cloud."""
        copies = self.balancer.fleet.copies(entry.id)
        return [vm for vm in copies if vm.cloud == entry.cloud]

    async def _without_owner(self, vm: Vm, listed: Sequence[str]) -> bool:
        """The last check before a stray is removed; an unwanted one is claimed for it."""
        if await self.balancer.ledger.update(partial(self._claim, vm=vm)):
            return True
        winner = self.balancer.fleet.copies(vm.id)[0]
        itself = (winner.cloud, winner.cloud_id) == (vm.cloud, vm.cloud_id)
        entry = self.balancer.ledger.book.get(winner.id, winner.cloud)
        unwanted = entry is not None and entry.phase in UNWANTED
        if itself or unwanted or winner.cloud not in listed:
            return False
        now = await self.balancer.gateways[winner.cloud].get_vm(winner)
        return now is not None and now.state not in (VmState.ERROR, VmState.DELETING)

    def _claim(self, book: Book, vm: Vm) -> bool:
        """Whether the ledger says that nobody wants this copy; from now on nobody can."""
        entry = book.get(vm.id, vm.cloud)
        if entry is None or entry.phase not in UNWANTED:
            return False
        ledger = self.balancer.ledger
        book.set(ledger.entry(vm.id, vm.cloud, vm.type, Phase.REAPING, DOUBT_FOR))
        return True

    async def _reap_leftovers(self, listed: Sequence[str]) -> None:
        """Looked for less often than the rest: it takes several calls, and nothing hurries."""
        now, grace = self._clock.monotonic(), self.balancer.settings.healing.grace
        if now - self._looked_for_leftovers < grace / 2:
            return
        self._looked_for_leftovers = now
        ripe = list(self._left.ripe(await self._leftovers(listed), grace))
        await asyncio.gather(*(self._reap_leftover(leftover) for leftover in ripe[:REMOVALS]))

    async def _reap_leftover(self, leftover: Leftover) -> None:
        try:
            await self.balancer.gateways[leftover.cloud].delete_leftover(leftover)
        except CloudError as error:
            LOG.warning("leftover %s not removed yet: %s", leftover.cloud_id, error.message)
            return
        self._count(leftover.kind)
        owner = f"vm {leftover.vm_id}" if leftover.vm_id else "several vms"
        LOG.warning(
            "%s %s left behind by %s on %s removed",
            leftover.kind,
            leftover.cloud_id,
            owner,
            leftover.cloud,
        )

    async def _leftovers(self, listed: Sequence[str]) -> Sequence[Leftover]:
        gateways = [self.balancer.gateways[cloud] for cloud in listed]
        name = self.balancer.settings.name
        found = await asyncio.gather(
            *(gateway.list_leftovers(name) for gateway in gateways), return_exceptions=True
        )
        left: list[Leftover] = []
        for gateway, outcome in zip(gateways, found, strict=True):
            if isinstance(outcome, BaseException):
                LOG.warning("cloud %s: leftovers not listed: %s", gateway.name, outcome)
            else:
                left.extend(one for one in outcome if not self._being_made(one))
        return left

    def _being_made(self, leftover: Leftover) -> bool:
        """Whether a VM is being created there that may be about to take it: the one of that id,
        or any at all when several share it."""
        return any(
            entry.phase is Phase.CREATING
            and entry.cloud == leftover.cloud
            and leftover.vm_id in ("", entry.id)
            for entry in self.balancer.ledger.book
        )

    def _count(self, kind: str) -> None:
        self._metrics.count("reaped", application=self.balancer.settings.name, kind=kind)


def _go_on(book: Book, gone: Sequence[Entry], ageing: Sequence[Entry]) -> None:
    """Forget deletes, and remember others for longer, unless they have changed since."""
    book.forget(gone)
    for entry in ageing:
        if book.get(entry.id, entry.cloud) == entry:
            book.set(msgspec.structs.replace(entry, expires=entry.expires + DOUBT_FOR))


class Engine:
    """Runs a healer for each application, and a carrier for each that has a relay, in one replica
    at a time."""

    def __init__(
        self,
        balancers: Callable[[], Iterable[Balancer]],
        lease: Lease,
        clock: Clock,
        metrics: Metrics,
        interval: float,
    ) -> None:
        self._balancers = balancers
        self._lease = lease
        self._clock = clock
        self._metrics = metrics
        self._interval = interval
        self._healers: dict[str, Healer] = {}
        self._carriers: dict[str, Carrier] = {}
        self._rounds: dict[str, asyncio.Task[None]] = {}
        self._leading = False

    @property
    def leading(self) -> bool:
        """Whether this replica's engine is the one at work."""
        return self._leading

    async def run(self) -> None:
        """Work until cancelled; then give the lead to another replica."""
        while True:
            try:
                async with self._lease.held(timeout=self._interval):
                    await self._lead()
            except LeaseTaken:
                continue  # another replica leads: ask again, for as long as it does
            except IsonephError as error:
                LOG.warning("engine: %s: %s", error.code, error.message)
                await self._clock.sleep(self._interval)

    async def _lead(self) -> None:
        """Heal and carry side by side while the lease is held."""
        self._show(leading=True)
        carrying = asyncio.create_task(self._carry())
        try:
            await self._work()
        finally:
            carrying.cancel()
            with suppress(asyncio.CancelledError):
                await carrying
            for name, carrier in self._carriers.items():
                await self._stop_round(name)
                await carrier.retire()
            self._carriers.clear()
            self._show(leading=False)

    async def _work(self) -> None:
        """Round after round while the lease is held; no error of a round ends the engine."""
        while not self._lease.is_lost():
            self._show(leading=True)
            begun = self._clock.monotonic()
            try:
                await self.cycle()
            except Exception:
                LOG.exception("engine: a round failed")
            self._metrics.observe("engine_cycle_seconds", self._clock.monotonic() - begun)
            await self._clock.sleep(self._interval)

    def _show(self, *, leading: bool) -> None:
        self._leading = leading
        self._metrics.gauge("engine_leader", float(leading))

    async def cycle(self) -> None:
        """Heal every application once, side by side."""
        balancers = list(self._balancers())
        for balancer in balancers:
            known = self._healers.get(balancer.settings.name)
            if known is None or known.balancer is not balancer:
                healer = Healer(balancer, self._clock, self._metrics)
                self._healers[balancer.settings.name] = healer
        names = {balancer.settings.name for balancer in balancers}
        self._healers = {name: h for name, h in self._healers.items() if name in names}
        patience = max(self._interval, 1.0)
        rounds = [_round(name, each.heal(patience)) for name, each in self._healers.items()]
        await asyncio.gather(*rounds)

    async def _carry(self) -> None:
        """Round after round with the relays, more often than the others: sessions wait."""
        while True:
            try:
                await self.carry()
            except Exception:
                LOG.exception("engine: a round with the relays failed")
            await self._clock.sleep(min(self._interval, CARRY_INTERVAL))

    async def carry(self) -> Sequence[asyncio.Task[None]]:
        """Begin to bring every relay up to date, but for those where that is still under way: no
        relay waits for another's, nor for a cloud that removes what has drained at another. The
        rounds that were begun."""
        balancers = {each.settings.name: each for each in self._balancers() if each.relayed}
        for name, carrier in list(self._carriers.items()):
            fresh = balancers.get(name)
            if fresh is carrier.balancer:
                continue
            await self._stop_round(name)
            if fresh is None or fresh.relayed is None or fresh.relayed.way is not carrier.way:
                await carrier.retire()
            del self._carriers[name]
        for name, balancer in balancers.items():
            if name not in self._carriers and balancer.relayed is not None:
                carrier = Carrier(balancer, balancer.relayed, self._clock, self._metrics)
                self._carriers[name] = carrier
        idle = [name for name in self._carriers if name not in self._rounds]
        return [self._begin_round(name) for name in idle]

    def _begin_round(self, name: str) -> asyncio.Task[None]:
        begun = asyncio.create_task(_round(name, self._carriers[name].carry()))
        self._rounds[name] = begun
        begun.add_done_callback(lambda _: self._rounds.pop(name))
        return begun

    async def _stop_round(self, name: str) -> None:
        if name in self._rounds:
            self._rounds[name].cancel()
            await asyncio.gather(self._rounds[name], return_exceptions=True)


async def _round(name: str, work: Awaitable[None]) -> None:
    """A round for one application; what goes wrong in it is no other's."""
    try:
        await work
    except IsonephError as error:
        LOG.warning("engine: %s: %s: %s", name, error.code, error.message)
    except Exception:
        LOG.exception("engine: %s: a round failed", name)
