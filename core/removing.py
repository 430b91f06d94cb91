"""Removing VMs: a chosen one, or the one that the victim policies pick."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial

from isoneph.core.errors import CloudError, UnknownVm
from isoneph.core.fleet import Fleet
from isoneph.core.gateway import CloudGateway
from isoneph.core.ledger import DOUBT_FOR, SETTLED_FOR, Book, Ledger, Phase
from isoneph.core.model import (
    Deletion,
    Ranking,
    VictimCandidate,
    VictimRequest,
    Vm,
    VmState,
)
from isoneph.core.plugin import Clock, Store
from isoneph.core.ranking import WeightedPolicy, rank_victims
from isoneph.core.settings import ApplicationSettings

LOG = logging.getLogger(__name__)

#: Seconds for which the choice made under an idempotency key is remembered.
CHOICE_FOR = 3600.0


class Remover:
    """Removes the VMs of one application. For the tasks of one event loop."""

    def __init__(
        self,
        settings: ApplicationSettings,
        gateways: Mapping[str, CloudGateway],
        fleet: Fleet,
        ledger: Ledger,
        policies: Sequence[WeightedPolicy],
        store: Store,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._gateways = gateways
        self._fleet = fleet
        self._ledger = ledger
        self._policies = policies
        self._store = store
        self._clock = clock

    async def delete(self, vm_id: str) -> Deletion:
        """Remove every copy of a VM; see :meth:`isoneph.core.balancer.Balancer.delete`."""
        await self._fleet.ensure_usable()
        await self._fleet.catch_up(await self._ledger.refresh())
        copies = self._fleet.copies(vm_id)
        if not copies:
            errors = await self._fleet.ensure(0.0)
            copies = self._fleet.copies(vm_id)
            if not copies:
                await self._disown(vm_id)
                for error in errors.values():
                    raise error
                return Deletion(vm=None)
        for copy in copies:
            await self._ledger.update(partial(self._mark, vm=copy))
            await self._remove_marked(copy)
        await self._disown(vm_id)
        return Deletion(vm=copies[0])

    async def remove(self, vm: Vm, *, failed: bool = False) -> None:
        """Remove one copy of a VM, of which another may live on; ``failed`` when its cloud could
        not run it. Raises CloudError."""
        await self._gateways[vm.cloud].delete_vm(vm, makes_room=not failed)
        self._fleet.note_gone(vm)
        LOG.info("vm %s (%s) removed from %s", vm.id, vm.type, vm.cloud)

    async def _remove_marked(self, vm: Vm) -> None:
        """Remove a VM that the ledger counts as gone; when that fails, it counts again."""
        try:
            await self.remove(vm)
        except CloudError:
            await self._ledger.update(lambda book: book.drop(vm.id, vm.cloud))
            raise

    async def delete_any(
        self, type_name: str | None, cloud: str | None, key: str | None
    ) -> Deletion:
        """Pick a VM and remove it; when its cloud does not answer, pick one elsewhere."""
        choice = f"choice/{self._settings.name}/{_key_digest(key)}" if key is not None else None
        if choice is not None and (stored := await self._store.get(choice)) is not None:
            return await self.delete(stored.value.decode())
        avoid: dict[str, CloudError] = dict(await self._fleet.ensure_usable())
        await self._fleet.catch_up(await self._ledger.refresh())
        while True:
            victim, ranking = await self._choose(type_name, cloud, avoid)
            if choice is not None:
                await self._store.put(choice, victim.id.encode(), ttl=CHOICE_FOR)
            try:
                await self._remove_marked(victim)
            except CloudError as error:
                if not error.failover:
                    raise
                avoid[victim.cloud] = error
                continue
            await self._disown(victim.id)
            return Deletion(vm=victim, ranking=ranking)

    async def _choose(
        self, type_name: str | None, cloud: str | None, avoid: Mapping[str, CloudError]
    ) -> tuple[Vm, Ranking]:
        """The best victim, counted as gone from now on, so that others at the same time pick
        others."""

        def choose(book: Book) -> tuple[Vm, Ranking]:
            use = self._fleet.use(book)
            positions = {name: place for place, name in enumerate(self._settings.clouds)}
            vms = {
                vm.id: vm
                for vm in self._fleet.vms()
                if vm.cloud not in avoid
                and vm.state is not VmState.DELETING
                and type_name in (None, vm.type)
                and cloud in (None, vm.cloud)
                and not _leaving(book, vm)
            }
            candidates = [
                VictimCandidate(vm=vm, position=positions[vm.cloud], use=use[vm.cloud])
                for vm in vms.values()
            ]
            request = VictimRequest(application=self._settings.name, fleet=use)
            ranking = rank_victims(candidates, request, self._policies)
            if ranking.best is None:
                raise self._nothing(type_name, cloud, avoid)
            victim = vms[ranking.best.candidate]
            self._mark(book, victim)
            return victim, ranking

        return await self._ledger.update(choose)

    def _nothing(
        self, type_name: str | None, cloud: str | None, avoid: Mapping[str, CloudError]
    ) -> Exception:
        for name, error in avoid.items():
            if cloud in (None, name):
                return error
        kind = f" of type {type_name}" if type_name is not None else ""
        place = f" on {cloud}" if cloud is not None else ""
        return UnknownVm(f"{self._settings.name} has no VM{kind}{place} to take away")

    def _mark(self, book: Book, vm: Vm) -> None:
        book.set(self._ledger.entry(vm.id, vm.cloud, vm.type, Phase.DELETED, SETTLED_FOR))

    async def _disown(self, vm_id: str) -> None:
        """Whatever may still appear under this id has no owner any more."""

        def disown(book: Book) -> None:
            for entry in book.of_vm(vm_id):
                if entry.phase in (Phase.CREATING, Phase.DOUBTFUL):
                    book.set(
                        self._ledger.entry(
                            vm_id, entry.cloud, entry.type, Phase.ABANDONED, DOUBT_FOR
                        )
                    )

        await self._ledger.update(disown)


def _leaving(book: Book, vm: Vm) -> bool:
    entry = book.get(vm.id, vm.cloud)
    return entry is not None and entry.phase in (Phase.DELETED, Phase.REAPING)


def _key_digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
