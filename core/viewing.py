"""VMs as they are shown: the clouds' word, with the ledger's and the relay's over it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from isoneph.core.errors import CloudError, StoreUnavailable, UnknownVm
from isoneph.core.fleet import Fleet
from isoneph.core.gateway import CloudGateway
from isoneph.core.ledger import Book, Ledger
from isoneph.core.model import Vm, VmState
from isoneph.core.relayed import Relayed
from isoneph.core.settings import ApplicationSettings

LOG = logging.getLogger(__name__)


class Viewer:
    """Shows the VMs of one application. For the tasks of one event loop."""

    def __init__(
        self,
        settings: ApplicationSettings,
        gateways: Mapping[str, CloudGateway],
        fleet: Fleet,
        ledger: Ledger,
        relayed: Relayed | None,
    ) -> None:
        self._settings = settings
        self._gateways = gateways
        self._fleet = fleet
        self._ledger = ledger
        self._relayed = relayed

    async def list(self) -> tuple[Sequence[Vm], Mapping[str, CloudError]]:
        """See :meth:`isoneph.core.balancer.Balancer.list`."""
        settings = self._settings
        errors = await self._fleet.ensure(settings.freshness, patience=settings.patience)
        await self._fleet.catch_up(await self.book())
        if self._relayed is None:
            return self._fleet.vms(), errors
        await self._relayed.look(settings.freshness)
        return self._relayed.show_all(self._fleet.vms()), errors

    async def get(self, vm_id: str) -> Vm:
        """See :meth:`isoneph.core.balancer.Balancer.get`."""
        return await self._shown(await self._get(vm_id), 0.0)

    async def recent(self, vm_id: str, max_age: float) -> Vm:
        """A VM as its cloud's last listing has it and, at most ``max_age`` seconds old, its
        relay; for who looks again and again. Raises as :meth:`get`."""
        await self._fleet.ensure(self._settings.freshness / 2, patience=max_age)
        copies = self._fleet.copies(vm_id)
        return await self._shown(copies[0] if copies else await self._get(vm_id), max_age)

    async def book(self) -> Book:
        """The ledger for showing: as last seen while the store does not answer."""
        try:
            return await self._ledger.refresh()
        except StoreUnavailable as error:
            LOG.warning("what other replicas did a moment ago may be missing: %s", error.message)
            return self._ledger.book

    async def _shown(self, vm: Vm, max_age: float) -> Vm:
        if self._relayed is None:
            return vm
        await self.book()
        await self._relayed.look(max_age)
        return self._relayed.show(vm)

    async def _get(self, vm_id: str) -> Vm:
        copies = self._fleet.copies(vm_id)
        if not copies:
            errors = await self._fleet.ensure(0.0)
            copies = self._fleet.copies(vm_id)
            if not copies:
                for error in errors.values():
                    raise error
                raise UnknownVm(f"{self._settings.name} has no VM {vm_id}")
        if copies[0].state is VmState.UNKNOWN:
            return copies[0]
        vm = await self._gateways[copies[0].cloud].get_vm(copies[0])
        if vm is None:
            self._fleet.note_gone(copies[0])
            return await self._get(vm_id)
        self._fleet.note_made(vm)
        return vm
