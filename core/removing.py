"""Removing VMs: a chosen one, or the one that the victim policies pick.

One that its application's relay brings traffic to drains first: it is marked in the ledger and at
the relay, and removed at once only if it has no session then. Otherwise the engine removes it
later, and tries until its cloud has taken the delete.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from isoneph.core.errors import CloudError, OutcomeUnknown, StoreError, UnknownVm
from isoneph.core.fleet import Fleet
from isoneph.core.gateway import CloudGateway
from isoneph.core.ledger import DOUBT_FOR, LEAVING, Book, Entry, Ledger, Phase
from isoneph.core.locks import NameLocks
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
#: Seconds after the request's deadline for which a VM stays chosen by a process that died.
CHOSEN_FOR = 30.0
#: Phases of what may be there though no listing shows it.
UNSEEN = frozenset({Phase.CREATING, Phase.CREATED, Phase.DOUBTFUL})


@dataclass(frozen=True, slots=True)
class Mark:
    """How a VM was marked in the ledger: whether it ``drains`` first, whether that was
    ``promised`` before, and what the ledger said ``before``."""

    drains: bool
    promised: bool
    before: Entry | None


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
        locks: NameLocks,
        relayed: Relayed | None,
    ) -> None:
        self._settings = settings
        self._gateways = gateways
        self._fleet = fleet
        self._ledger = ledger
        self._policies = policies
        self._store = store
        self._locks = locks
        self._relayed = relayed

    async def delete(self, vm_id: str, *, drain: bool = True, cloud: str | None = None) -> Deletion:
        """Remove every copy of a VM, or those on ``cloud``; the caller holds its lock. See
        :meth:`isoneph.core.balancer.Balancer.delete`."""
        await self._fleet.ensure_usable()
        await self._fleet.catch_up(await self._ledger.refresh())
        copies = self._copies(vm_id, cloud)
        if not copies:
            errors = await self._fleet.ensure(0.0)
            copies = self._copies(vm_id, cloud)
            if not copies:
                if cloud is None:
                    await self._disown(vm_id)
                for name, error in errors.items():
                    if cloud in (None, name):
                        raise error
                return Deletion(vm=None)
        left = False
        for copy in copies:
            drains = drain and copy is copies[0] and self._drains(copy)
            mark = await self._ledger.update(partial(self._mark, vm=copy, drains=drains))
            left = await self._let_go(copy, mark) or left
        if cloud is None:
            await self._disown(vm_id)
        return self._deletion(copies[0], None, draining=left)

    async def remove_copy(self, vm: Vm, *, failed: bool = False, remember: bool = True) -> None:
        """Remove a copy that nobody wants while another of its id is, or may be. It is remembered
        until no listing shows it. Raises CloudError, StoreError."""
        before = self._ledger.book.get(vm.id, vm.cloud)
        await self._remove(vm, failed=failed)
        if remember:
            await self._ledger.update(partial(self._remember, vm=vm, before=before))

    async def abandon(self, vm: Vm) -> None:
        """Leave a copy that nobody wants to the engine. Raises StoreError."""

        def give_up(book: Book) -> None:
            entry = book.get(vm.id, vm.cloud)
            if entry is None or entry.phase not in LEAVING - {Phase.CHOSEN}:
                book.set(self._ledger.abandoned(vm.id, vm.cloud, vm.type))

        await self._ledger.update(give_up)

    def _copies(self, vm_id: str, cloud: str | None) -> list[Vm]:
        return [vm for vm in self._fleet.copies(vm_id) if cloud in (None, vm.cloud)]

    async def _remove(self, vm: Vm, *, failed: bool = False) -> None:
        """Have a cloud delete a VM; ``failed`` when it could not run it. Raises CloudError."""
        try:
            await self._gateways[vm.cloud].delete_vm(vm, makes_room=not failed)
        except OutcomeUnknown:
            if not await self._is_going(vm):
                raise
        self._fleet.note_gone(vm)
        if self._relayed is not None:
            self._relayed.note_removed(vm)
        LOG.info("vm %s (%s) removed from %s", vm.id, vm.type, vm.cloud)

    async def _is_going(self, vm: Vm) -> bool:
        """Whether a delete whose answer was lost is known to have been carried out."""
        try:
            now = await self._gateways[vm.cloud].get_vm(vm)
        except CloudError:
            return False
        return now is None or now.state is VmState.DELETING

    async def _let_go(self, vm: Vm, mark: Mark) -> bool:
        """Remove a VM that is marked, or have the engine do it when it has drained; whether that
        is so. Raises CloudError; the VM stands as before then, unless it drains: that was promised
        to somebody before, or can be promised now because it will be remembered."""
        relayed = self._relayed
        if mark.drains and relayed is not None and await relayed.begin(vm):
            LOG.info("vm %s (%s) on %s drains", vm.id, vm.type, vm.cloud)
            return True
        try:
            await self._remove(vm)
        except CloudError as error:
            remembered = relayed is not None and relayed.remembers(vm)
            if mark.drains and (mark.promised or remembered):
                LOG.warning("vm %s: drained, not removed yet: %s", vm.id, error.message)
                return True
            if not mark.promised and not isinstance(error, OutcomeUnknown):
                await self._ledger.update(partial(_unmark, vm=vm, before=mark.before))
            raise
        # One that drained did so until now, so that nothing could be lost.
        if self._is_draining(self._ledger.book, vm):
            await self._ledger.update(lambda book: book.set(self._deleted(vm)))
        return False

    async def delete_any(
        self, type_name: str | None, cloud: str | None, key: str | None, *, drain: bool = True
    ) -> Deletion:
        """Pick a VM and remove it; when its cloud does not answer, pick one elsewhere."""
        if key is None:
            return await self._delete_any(type_name, cloud, None, drain=drain)
        choice = f"choice/{self._settings.name}/{_key_digest(key)}"
        async with self._locks.held(choice):
            stored = await self._store.get(choice)
            if stored is None:
                return await self._delete_any(type_name, cloud, choice, drain=drain)
            vm_id = stored.value.decode()
            async with self._locks.held(vm_id):
                return await self.delete(vm_id, drain=drain)

    async def _delete_any(
        self, type_name: str | None, cloud: str | None, choice: str | None, *, drain: bool
    ) -> Deletion:
        """Pick a VM, remember it as ``choice``, and remove it."""
        avoid: dict[str, CloudError] = dict(await self._fleet.ensure_usable())
        await self._fleet.catch_up(await self._ledger.refresh())
        if self._relayed is not None:
            await self._relayed.look(0.0)
        while True:
            victim, ranking, mark = await self._choose(type_name, cloud, avoid, drain=drain)
            try:
                if choice is not None:
                    await self._store.put(choice, victim.id.encode(), ttl=CHOICE_FOR)
                async with self._locks.held(victim.id):
                    left = await self._delete_victim(victim, mark)
            except (StoreError, CloudError) as error:
                with suppress(StoreError):  # a choice ends by itself
                    await self._ledger.update(partial(_unchoose, vm=victim, before=mark.before))
                if isinstance(error, (StoreError, OutcomeUnknown)) or not error.failover:
                    raise
                avoid[victim.cloud] = error
                continue
            return self._deletion(victim, ranking, draining=left)

    async def _delete_victim(self, victim: Vm, mark: Mark) -> bool:
        """Remove what stands for a marked victim by now; whether it drains first. Copies beside it
        are left to the engine."""
        winner, *others = self._fleet.copies(victim.id) or [victim]
        now = await self._ledger.update(partial(self._mark, vm=winner, drains=mark.drains))
        if now.before is not None and now.before.phase is Phase.CHOSEN:
            now = replace(now, before=mark.before)
        left = await self._let_go(winner, now)
        for copy in others:
            await self.abandon(copy)
        await self._disown(victim.id)
        return left

    async def _choose(
        self,
        type_name: str | None,
        cloud: str | None,
        avoid: Mapping[str, CloudError],
        *,
        drain: bool,
    ) -> tuple[Vm, Ranking, Mark]:
        """The best victim, counted as gone from now on, so that others at the same time pick
        others; it is not an order to remove it yet. The mark is as it stood before."""

        def choose(book: Book) -> tuple[Vm, Ranking, Mark]:
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
            before = book.get(victim.id, victim.cloud)
            lasts = self._settings.deadline + CHOSEN_FOR
            book.set(self._ledger.entry(victim.id, victim.cloud, victim.type, Phase.CHOSEN, lasts))
            return victim, ranking, Mark(drains=drains, promised=False, before=before)

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

    def _mark(self, book: Book, vm: Vm, *, drains: bool) -> Mark:
        """Count a VM as gone; one that drained already does so until it is gone."""
        relayed = self._relayed
        before = book.get(vm.id, vm.cloud)
        promised = self._is_draining(book, vm)
        if relayed is not None:
            promised = promised or relayed.draining_since(vm) is not None
        if relayed is not None and (drains or promised):
            book.set(relayed.draining(vm))
        elif not promised:
            book.set(self._deleted(vm))
        return Mark(drains=drains, promised=promised, before=before)

    def _remember(self, book: Book, vm: Vm, before: Entry | None) -> None:
        """A copy was removed; its entry may be that of another on the same cloud."""
        entry = book.get(vm.id, vm.cloud)
        phase = None if entry is None else entry.phase
        if entry is not None and entry != before and phase is not Phase.CHOSEN:
            return  # it is of what was made here since
        others = phase is Phase.CREATING or self._copies(vm.id, vm.cloud)
        if phase is Phase.REAPING or not others:
            book.set(self._deleted(vm))

    def _deleted(self, vm: Vm) -> Entry:
        return self._ledger.entry(vm.id, vm.cloud, vm.type, Phase.DELETED, DOUBT_FOR)

    def _is_draining(self, book: Book, vm: Vm) -> bool:
        entry = book.get(vm.id, vm.cloud)
        return entry is not None and entry.phase is Phase.DRAINING

    async def _disown(self, vm_id: str) -> None:
        """Whatever may still appear under this id has no owner any more."""

        def disown(book: Book) -> None:
            for entry in book.of_vm(vm_id):
                if entry.phase in UNSEEN:
                    book.set(self._ledger.abandoned(vm_id, entry.cloud, entry.type))

        await self._ledger.update(disown)


def _unmark(book: Book, vm: Vm, before: Entry | None) -> None:
    if before is None:
        book.drop(vm.id, vm.cloud)
    else:
        book.set(before)


def _unchoose(book: Book, vm: Vm, before: Entry | None) -> None:
    entry = book.get(vm.id, vm.cloud)
    if entry is not None and entry.phase is Phase.CHOSEN:
        _unmark(book, vm, before)


def _key_digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
