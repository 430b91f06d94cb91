"""Removing VMs: a chosen one, or the one that the victim policies pick.

One that its application's relay brings traffic to drains first: it is marked in the ledger and at
the relay, and removed at once only if it has no session then. Otherwise the engine removes it
later, and tries until its cloud has taken the delete.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial

from isoneph.core.errors import CloudError, UnknownVm
from isoneph.core.fleet import Fleet
from isoneph.core.gateway import CloudGateway
from isoneph.core.ledger import DOUBT_FOR, LEAVING, Book, Entry, Ledger, Phase
from isoneph.core.model import (
    Deletion,
    Ranking,
    VictimCandidate,
    VictimRequest,
    Vm,
    VmState,
)
from isoneph.core.plugin import Store
from isoneph.core.ranking import WeightedPolicy, rank_victims
from isoneph.core.relayed import Relayed
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
        relayed: Relayed | None,
    ) -> None:
        self._settings = settings
        self._gateways = gateways
        self._fleet = fleet
        self._ledger = ledger
        self._policies = policies
        self._store = store
        self._relayed = relayed

    async def delete(self, vm_id: str, *, drain: bool = True) -> Deletion:
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
        left = False
        for copy in copies:
            drains = drain and copy is copies[0] and self._drains(copy)
            promised = await self._ledger.update(partial(self._mark, vm=copy, drains=drains))
            left = await self._let_go(copy, drains=drains, promised=promised) or left
        await self._disown(vm_id)
        return self._deletion(copies[0], None, draining=left)

    async def remove(self, vm: Vm, *, failed: bool = False) -> None:
        """Remove one copy of a VM, of which another may live on; ``failed`` when its cloud could
        not run it. Raises CloudError."""
        await self._gateways[vm.cloud].delete_vm(vm, makes_room=not failed)
        self._fleet.note_gone(vm)
        if self._relayed is not None:
            self._relayed.note_removed(vm)
        LOG.info("vm %s (%s) removed from %s", vm.id, vm.type, vm.cloud)

    async def _let_go(self, vm: Vm, *, drains: bool, promised: bool = False) -> bool:
        """Remove a VM that is marked, or have the engine do it when it has drained; whether that
        is so. Raises CloudError; the VM counts again then, unless it drains: that was ``promised``
        to somebody before, or can be promised now because it will be remembered."""
        relayed = self._relayed
        if drains and relayed is not None and await relayed.begin(vm):
            LOG.info("vm %s (%s) on %s drains", vm.id, vm.type, vm.cloud)
            return True
        try:
            await self.remove(vm)
        except CloudError as error:
            if not promised and not (drains and relayed is not None and relayed.remembers(vm)):
                await self._ledger.update(lambda book: book.drop(vm.id, vm.cloud))
            elif drains:
                LOG.warning("vm %s: drained, not removed yet: %s", vm.id, error.message)
                return True
            raise
        if self._is_draining(
            self._ledger.book, vm
        ):  # it was, until now, so that nothing could be lost
            await self._ledger.update(lambda book: book.set(self._deleted(vm)))
        return False

    async def delete_any(
        self, type_name: str | None, cloud: str | None, key: str | None, *, drain: bool = True
    ) -> Deletion:
        """Pick a VM and remove it; when its cloud does not answer, pick one elsewhere."""
        choice = f"choice/{self._settings.name}/{_key_digest(key)}" if key is not None else None
        if choice is not None and (stored := await self._store.get(choice)) is not None:
            return await self.delete(stored.value.decode(), drain=drain)
        avoid: dict[str, CloudError] = dict(await self._fleet.ensure_usable())
        await self._fleet.catch_up(await self._ledger.refresh())
        if self._relayed is not None:
            await self._relayed.look(0.0)
        while True:
            victim, ranking, drains = await self._choose(type_name, cloud, avoid, drain=drain)
            if choice is not None:
                await self._store.put(choice, victim.id.encode(), ttl=CHOICE_FOR)
            try:
                left = await self._let_go(victim, drains=drains)
            except CloudError as error:
                if not error.failover:
                    raise
                avoid[victim.cloud] = error
                continue
            await self._disown(victim.id)
            return self._deletion(victim, ranking, draining=left)

    async def _choose(
        self,
        type_name: str | None,
        cloud: str | None,
        avoid: Mapping[str, CloudError],
        *,
        drain: bool,
    ) -> tuple[Vm, Ranking, bool]:
        """The best victim, counted as gone from now on, so that others at the same time pick
        others; and whether it drains first."""

        def choose(book: Book) -> tuple[Vm, Ranking, bool]:
            use = self._fleet.use(book)
            positions = {name: place for place, name in enumerate(self._settings.clouds)}
            vms = {
                vm.id: vm
                for vm in self._fleet.vms()
                if vm.cloud not in avoid
                and vm.state is not VmState.DELETING
                and type_name in (None, vm.type)
                and cloud in (None, vm.cloud)
                and not self.leaving(book, vm)
            }
            candidates = [
                VictimCandidate(
                    vm=vm,
                    position=positions[vm.cloud],
                    use=use[vm.cloud],
                    sessions=None if self._relayed is None else self._relayed.sessions(vm),
                )
                for vm in vms.values()
            ]
            request = VictimRequest(application=self._settings.name, fleet=use)
            ranking = rank_victims(candidates, request, self._policies)
            if ranking.best is None:
                raise self._nothing(type_name, cloud, avoid)
            victim = vms[ranking.best.candidate]
            drains = drain and self._drains(victim)
            self._mark(book, victim, drains=drains)
            return victim, ranking, drains

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

    def leaving(self, book: Book, vm: Vm) -> bool:
        """Whether a VM is being removed, or drains to be."""
        entry = book.get(vm.id, vm.cloud)
        if entry is not None and entry.phase in LEAVING:
            return True
        return self._relayed is not None and self._relayed.draining_since(vm) is not None

    def _drains(self, vm: Vm) -> bool:
        """Whether a VM must drain before it goes. Raises RelayUnreachable where it cannot."""
        if self._relayed is None or not self._relayed.may_have_sessions(vm):
            return False
        self._relayed.check()
        return True

    def _deletion(self, vm: Vm, ranking: Ranking | None, *, draining: bool) -> Deletion:
        shown = self._relayed.show(vm) if draining and self._relayed is not None else vm
        return Deletion(vm=shown, ranking=ranking, draining=draining)

    def _mark(self, book: Book, vm: Vm, *, drains: bool) -> bool:
        """Count a VM as gone; whether it drained already, as it then does until it is gone."""
        relayed = self._relayed
        promised = self._is_draining(book, vm)
        if relayed is not None:
            promised = promised or relayed.draining_since(vm) is not None
        if relayed is not None and (drains or promised):
            book.set(relayed.draining(vm))
        elif not promised:
            book.set(self._deleted(vm))
        return promised

    def _deleted(self, vm: Vm) -> Entry:
        return self._ledger.entry(vm.id, vm.cloud, vm.type, Phase.DELETED, DOUBT_FOR)

    def _is_draining(self, book: Book, vm: Vm) -> bool:
        entry = book.get(vm.id, vm.cloud)
        return entry is not None and entry.phase is Phase.DRAINING

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


def _key_digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
