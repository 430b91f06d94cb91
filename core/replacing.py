"""Placing VMs again whose boot failed, or that broke down: same id, another attempt."""

from __future__ import annotations

from collections.abc import Mapping

from isoneph.core.errors import CloudError
from isoneph.core.fleet import Fleet
from isoneph.core.gateway import CloudGateway
from isoneph.core.ledger import LEAVING, UNWANTED, Ledger
from isoneph.core.locks import NameLocks
from isoneph.core.model import Placed, Vm, VmState
from isoneph.core.placing import Placer, Plan
from isoneph.core.plugin import Clock, Metrics
from isoneph.core.relayed import Relayed
from isoneph.core.removing import Remover
from isoneph.core.settings import ApplicationSettings


class Replacer:
    """Replaces the VMs of one application. For the tasks of one event loop."""

    def __init__(
        self,
        settings: ApplicationSettings,
        gateways: Mapping[str, CloudGateway],
        fleet: Fleet,
        ledger: Ledger,
        placer: Placer,
        remover: Remover,
        *,
        relayed: Relayed | None,
        locks: NameLocks,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._gateways = gateways
        self._fleet = fleet
        self._ledger = ledger
        self._placer = placer
        self._remover = remover
        self._relayed = relayed
        self._locks = locks
        self._clock = clock
        self._metrics = metrics

    def failed(self, vm: Vm) -> bool:
        """Whether a VM's boot has failed, or takes longer than it may."""
        age = self._clock.time() - vm.placed_at
        overdue = age > self._settings.healing.boot_timeout
        return vm.state is VmState.ERROR or (vm.state is VmState.BUILDING and overdue)

    def wanted(self, vm: Vm) -> bool:
        """Whether nobody deleted a VM or gave it up, so that it is worth placing again."""
        entry = self._ledger.book.get(vm.id, vm.cloud)
        if entry is not None and entry.phase in UNWANTED | LEAVING:
            return False
        return self._relayed is None or self._relayed.draining_since(vm) is None

    async def replace(self, vm_id: str) -> Placed | None:
        """See :meth:`isoneph.core.balancer.Balancer.replace`; the caller does not hold its lock."""
        async with self._locks.held(vm_id):
            await self._fleet.catch_up(await self._ledger.refresh())
            copies = self._fleet.copies(vm_id)
            if not copies or not self.failed(copies[0]) or not self.wanted(copies[0]):
                return None
            failed = copies[0]
            if not await self._has_failed(failed):
                return None
            self._placer.note_failure(failed)
            age = self._clock.time() - failed.placed_at
            lived = failed.state is VmState.ERROR and age > self._settings.healing.boot_timeout
            plan = Plan(
                id=vm_id,
                type=failed.type,
                tags=failed.tags,
                request_digest=failed.request_digest,
                near=failed.near,
                cloud=failed.pinned_to,
                attempt=1 if lived else failed.attempt + 1,
                may_exist=True,
                has_owner=True,
                deadline=self._clock.monotonic() + self._settings.deadline,
            )
            await self._placer.reserve([plan])
            placed = await self._placer.place(plan)
            self._metrics.count("replaced", application=self._settings.name)
            for copy in copies:
                if copy.cloud_id != placed.vm.cloud_id or copy.cloud != placed.vm.cloud:
                    remember = copy.cloud != placed.vm.cloud  # else the entry is the new one's
                    await self._remover.remove_copy(copy, failed=True, remember=remember)
            return placed

    async def _has_failed(self, vm: Vm) -> bool:
        """Whether the VM's cloud says so now: a listing may be older than its delete."""
        try:
            now = await self._gateways[vm.cloud].get_vm(vm)
        except CloudError:
            return False  # not known now: asked again in the next round
        if now is None:
            self._fleet.note_gone(vm)
            return False
        self._fleet.note_made(now)
        return self.failed(now)
