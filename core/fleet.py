"""What of one application runs where: bulk listings, shared by all who ask at the same time.

A listing that began after the question was asked answers it; callers say how old an answer
they can use. What this process created or deleted since a cloud's listing began is laid over
it, so that it shows at once. For the tasks of one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from isoneph.core.errors import CloudError
from isoneph.core.gateway import CloudGateway
from isoneph.core.ledger import Book, Ledger, Phase
from isoneph.core.listings import Listing, View
from isoneph.core.model import CloudUse, Vm, VmState
from isoneph.core.plugin import Clock
from isoneph.core.settings import ApplicationSettings

LOG = logging.getLogger(__name__)

#: Seconds; decisions wait for a listing that is not older. Well under the ledger's SETTLED_FOR.
OLDEST_FOR_DECISION = 20.0
COUNTED_PHASES = frozenset({Phase.CREATING, Phase.CREATED})
#: What drains neither attracts nor repels new VMs, though it takes its quota until it is gone.
UNCOUNTED_PHASES = frozenset({Phase.CHOSEN, Phase.DELETED, Phase.DRAINING})


class Fleet:
    """One application's VMs over its clouds."""

    def __init__(
        self,
        settings: ApplicationSettings,
        gateways: Mapping[str, CloudGateway],
        ledger: Ledger,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._views = {name: View(gateways[name]) for name in settings.clouds}
        #: The answer of :meth:`vms` until something changes.
        self._winners: Sequence[Vm] | None = None

    async def ensure(
        self, max_age: float, clouds: Iterable[str] | None = None, *, patience: float | None = None
    ) -> Mapping[str, CloudError]:
        """Have a listing of every cloud that is at most ``max_age`` seconds old.

        Returns the errors of the clouds that could not be listed, or whose answer has been owed
        for longer than ``patience`` seconds (None: as long as the call may take); they keep
        their last listing.
        """
        since = self._clock.monotonic() - max_age
        names = list(self._views if clouds is None else clouds)
        stale = [name for name in names if not self._listed_since(name, since)]
        if not stale:
            return {}
        outcomes = await asyncio.gather(
            *(self._renew(self._views[name], since, patience) for name in stale)
        )
        return {name: error for name, error in zip(stale, outcomes, strict=True) if error}

    async def ensure_usable(self) -> Mapping[str, CloudError]:
        """Have listings that decisions can be made by; renew ageing ones in the background.

        A cloud that has owed an answer for longer than the application's patience is among the
        errors at once, however young its last listing: it may hang, and so would what it got.
        """
        now = self._clock.monotonic()
        patience = self._settings.patience
        hanging: dict[str, CloudError] = {}
        for name, view in self._views.items():
            view.gateway.refresh_limits()
            if view.hangs(now, patience):
                hanging[name] = self._missing(view, view.owing(now))
            elif view.task is None and view.begun < now - self._settings.freshness:
                self._begin(view)
        others = [name for name in self._views if name not in hanging]
        errors = await self.ensure(OLDEST_FOR_DECISION, others, patience=patience)
        return {**errors, **hanging}

    async def catch_up(self, book: Book) -> None:
        """See what other replicas made a moment ago: list the clouds again where the shared
        ledger tells of a VM that is not known here."""
        if not self._ledger.shared:
            return
        behind = set()
        for entry in book:
            view = self._views.get(entry.cloud)
            if view is not None and entry.phase is Phase.CREATED and view.misses(entry):
                behind.add(entry.cloud)
        if behind:
            await self.ensure(0.0, behind, patience=self._settings.patience)

    def vms(self) -> Sequence[Vm]:
        """Every VM once, the winner of its copies, in order of placement; see :meth:`copies`."""
        if self._winners is None:
            self._winners = self._choose_winners()
        return self._winners

    def _choose_winners(self) -> Sequence[Vm]:
        winners: dict[str, tuple[tuple[bool, float, int], Vm]] = {}
        for position, view in enumerate(self._views.values()):
            for vm in _as_seen(view, view.vms()):
                key = _precedence(vm, position)
                if vm.id not in winners or key < winners[vm.id][0]:
                    winners[vm.id] = (key, vm)
        vms = [vm for _key, vm in winners.values()]
        return tuple(sorted(vms, key=lambda vm: (vm.placed_at, vm.id)))

    def copies(self, vm_id: str) -> list[Vm]:
        """All that carries this id, over all clouds, the winner first.

        There is one, but for moments: while a failed boot is being replaced, and after a create
        whose lost answer turned out to have been a yes. What runs beats what failed; then the
        one that was placed last wins, for that is where the answer to the caller pointed.
        """
        found = [
            (_precedence(vm, position), vm)
            for position, view in enumerate(self._views.values())
            for vm in _as_seen(view, view.copies(vm_id))
        ]
        return [vm for _key, vm in sorted(found, key=lambda pair: pair[0])]

    def doubles(self) -> list[Vm]:
        """The copies that are not their id's winner."""
        count = Counter(vm.id for view in self._views.values() for vm in view.vms())
        return [vm for vm_id, n in count.items() if n > 1 for vm in self.copies(vm_id)[1:]]

    def use(self, book: Book) -> Mapping[str, CloudUse]:
        """What runs on each cloud, with the ledger's decisions counted in."""
        added: dict[str, list[tuple[str, bool]]] = {name: [] for name in self._views}
        removed: dict[str, list[str]] = {name: [] for name in self._views}
        for entry in book:
            view = self._views.get(entry.cloud)
            if view is None:
                continue
            if entry.phase in COUNTED_PHASES and not view.shows(entry):
                added[entry.cloud].append((entry.type, entry.phase is Phase.CREATING))
            elif entry.phase in UNCOUNTED_PHASES and view.lists_live(entry.id):
                removed[entry.cloud].append(entry.type)
        for name, view in self._views.items():  # entries expire, also while nothing is listed
            made, gone = view.made_since(), view.gone_since()
            added[name] += [(vm.type, False) for vm in made if book.get(vm.id, name) is None]
            removed[name] += [vm.type for vm in gone if book.get(vm.id, name) is None]
        return {
            name: self._use(view, added[name], removed[name], book)
            for name, view in self._views.items()
        }

    def by_state(self, cloud: str) -> Mapping[str, int]:
        """How many VMs of each state a cloud holds."""
        return Counter(
            vm.state.value for vm in _as_seen(self._views[cloud], self._views[cloud].vms())
        )

    def listed_at(self, cloud: str) -> float | None:
        """When the cloud was last listed with success, None if never."""
        listing = self._views[cloud].listing
        return None if listing is None else listing.at

    def error(self, cloud: str) -> CloudError | None:
        """Why the last try to list the cloud failed, None if it did not."""
        return self._views[cloud].error

    def note_made(self, vm: Vm) -> None:
        """The cloud said that this VM is there now, or what it looks like now."""
        self._winners = None
        view = self._views[vm.cloud]
        view.made[vm.cloud_id] = (self._clock.monotonic(), vm)
        view.made_ids.add(vm.id)
        view.gone.pop(vm.cloud_id, None)

    def note_gone(self, vm: Vm) -> None:
        """The cloud said that this VM is gone, or accepted its removal."""
        self._winners = None
        view = self._views[vm.cloud]
        view.gone[vm.cloud_id] = self._clock.monotonic()
        view.made.pop(vm.cloud_id, None)

    def booted(self, vm: Vm) -> bool:
        """Whether this process saw the VM ACTIVE: if it is in ERROR now, it broke down later."""
        return vm.cloud_id in self._views[vm.cloud].booted

    async def close(self) -> None:
        """Stop listings under way."""
        tasks = [view.task for view in self._views.values() if view.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _listed_since(self, cloud: str, since: float) -> bool:
        view = self._views[cloud]
        return view.error is None and view.listing is not None and view.listing.begun >= since

    async def _renew(self, view: View, since: float, patience: float | None) -> CloudError | None:
        """Wait for a listing that began at ``since`` or later, joining one under way."""
        while True:
            task = view.task or self._begin(view)
            begun = view.begun
            left = None
            if patience is not None:
                # What has been hanging for long is not waited for again and again.
                left = max(0.0, patience - (self._clock.monotonic() - begun))
            done, _pending = await asyncio.wait((task,), timeout=left)
            if not done:
                error = view.owing(self._clock.monotonic())
                # That somebody is in a hurry says nothing of the cloud.
                hurried = patience is not None and patience < self._settings.patience
                return error if hurried else self._missing(view, error)
            if begun >= since:
                return view.error

    def _begin(self, view: View) -> asyncio.Task[None]:
        view.begun = self._clock.monotonic()
        view.task = asyncio.create_task(self._list(view, view.begun))
        return view.task

    async def _list(self, view: View, begun: float) -> None:
        try:
            vms = await view.gateway.list_vms(self._settings.name)
        except CloudError as error:
            view.error = self._missing(view, error)
            self._winners = None
            return
        finally:
            view.task = None
        self.take_listing(view.gateway.name, begun, vms)

    def _missing(self, view: View, error: CloudError) -> CloudError:
        """``error``, told to the log when the cloud was listed until now."""
        if not view.missed:
            view.missed = True
            name, cloud = self._settings.name, view.gateway.name
            LOG.warning(
                "%s: cloud %s is not listed: %s: %s", name, cloud, error.code, error.message
            )
        return error

    def take_listing(self, cloud: str, begun: float, vms: Iterable[Vm]) -> None:
        """Take in a cloud's answer to a listing asked for at ``begun`` of the monotonic clock."""
        self._winners = None
        view = self._views[cloud]
        at = self._clock.time() - (self._clock.monotonic() - begun)
        view.listing = listing = Listing.of(begun, at, vms)
        view.error = None
        if view.missed:
            view.missed = False
            LOG.info("%s: cloud %s is listed again", self._settings.name, cloud)
        active = {key for key, vm in listing.vms.items() if vm.state is VmState.ACTIVE}
        view.booted = active | (view.booted & listing.vms.keys())
        view.made = {key: made for key, made in view.made.items() if made[0] >= begun}
        view.made_ids = {vm.id for _at, vm in view.made.values()}
        view.gone = {key: at for key, at in view.gone.items() if at >= begun}
        self._ledger.covered(cloud, at, listing.by_id)

    def _use(
        self, view: View, added: Sequence[tuple[str, bool]], removed: Sequence[str], book: Book
    ) -> CloudUse:
        gateway = view.gateway
        if not (added or removed or gateway.limits or view.listing is None):
            return view.listing.use
        by_type = Counter(view.listing.by_type) if view.listing is not None else Counter()
        by_type.update(type_name for type_name, _in_flight in added)
        by_type.subtract(removed)
        by_type = +by_type
        return CloudUse(
            vms=sum(by_type.values()),
            in_flight=sum(in_flight for _type, in_flight in added),
            by_type=by_type,
            limits=gateway.limits,
            planned=self._planned(view, book) if gateway.limits else {},
        )

    def _planned(self, view: View, book: Book) -> Mapping[str, float]:
        """What was placed since the limits were read, by anybody we know of: their ``used`` does
        not hold it yet."""
        gateway = view.gateway
        planned = Counter(gateway.planned_by_others(self._settings.name))
        planned.update(self._listed_since_limits(view))
        for entry in book:
            counts = entry.cloud == gateway.name and entry.phase in COUNTED_PHASES
            if counts and not view.shows(entry) and entry.at >= gateway.limits_at:
                planned.update(self._resources(entry.type, entry.cloud))
        return planned

    def _listed_since_limits(self, view: View) -> Mapping[str, float]:
        """The resources of listed VMs that are younger than the limits; counted once for each
        listing and reading of the limits."""
        listing, limits_at = view.listing, view.gateway.limits_at
        if listing is None:
            return {}
        if listing.young is None or listing.young[0] != limits_at:
            young: Counter[str] = Counter()
            for vm in listing.vms.values():
                if vm.placed_at >= limits_at:
                    young.update(self._resources(vm.type, vm.cloud))
            listing.young = (limits_at, young)
        return listing.young[1]

    def _resources(self, type_name: str, cloud: str) -> Mapping[str, Any]:
        vm_type = self._settings.types.get(type_name, {}).get(cloud)
        return {"instances": 1} if vm_type is None else vm_type.resources


def _as_seen(view: View, vms: Sequence[Vm]) -> Sequence[Vm]:
    """A cloud's VMs for showing: their state is UNKNOWN while it cannot be listed."""
    if view.error is None:
        return vms
    return [replace(vm, state=VmState.UNKNOWN) for vm in vms]


def _precedence(vm: Vm, position: int) -> tuple[bool, float, int]:
    return (vm.state in (VmState.ERROR, VmState.DELETING), -vm.placed_at, position)
