"""Create, delete, list, explain: the use cases, and the library's face.

A :class:`Balancer` serves one application. Its methods are for the tasks of one event loop.
What they begin is finished even when the awaiting task is cancelled, so that a caller who
hangs up leaves nothing half done; :meth:`Balancer.drain` waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from isoneph.core import identity
from isoneph.core.errors import (
    BadRequest,
    CloudError,
    IsonephError,
    KeyReused,
    PlacementFailed,
    StoreError,
    UnknownVm,
    VmLeaving,
    WaitTimeout,
)
from isoneph.core.fleet import Fleet
from isoneph.core.gateway import CloudGateway
from isoneph.core.ledger import LEAVING, Book, Entry, Ledger, Phase
from isoneph.core.locks import NameLocks
from isoneph.core.model import (
    CloudStatus,
    CreateRequest,
    Creation,
    Deletion,
    Placed,
    Ranking,
    Vm,
    VmState,
)
from isoneph.core.placing import Placer, Plan
from isoneph.core.plugin import Clock, Metrics, Store
from isoneph.core.ranking import WeightedPolicy
from isoneph.core.relayed import Relayed
from isoneph.core.relaying import RelayWay
from isoneph.core.removing import Remover
from isoneph.core.replacing import Replacer
from isoneph.core.requests import check_names, check_request, digest_of
from isoneph.core.settings import ApplicationSettings
from isoneph.core.viewing import Viewer

LOG = logging.getLogger(__name__)
T = TypeVar("T")

#: By the state that is waited for: those in which a VM has reached it.
REACHED = {
    VmState.ACTIVE: frozenset({VmState.ACTIVE, VmState.READY, VmState.SERVING}),
    VmState.READY: frozenset({VmState.READY, VmState.SERVING}),
}
#: Seconds between looks at a VM that somebody waits for.
WAIT_INTERVAL = 0.25
#: Seconds after the start in which a process cannot know what its predecessor had under way.
SETTLING = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """The policies of one application, in configured order."""

    placement: Sequence[WeightedPolicy]
    victims: Sequence[WeightedPolicy]


class Balancer:
    """Keeps one application's VMs balanced over its clouds."""

    def __init__(
        self,
        settings: ApplicationSettings,
        gateways: Mapping[str, CloudGateway],
        policies: Policies,
        store: Store,
        ledger: Ledger,
        clock: Clock,
        metrics: Metrics,
        locks: NameLocks,
        *,
        way: RelayWay | None = None,
    ) -> None:
        self.settings = settings
        self.gateways = {name: gateways[name] for name in settings.clouds}
        self.fleet = Fleet(settings, self.gateways, ledger, clock)
        self.ledger = ledger
        self.placer = Placer(
            settings, self.gateways, self.fleet, ledger, policies.placement, clock, metrics
        )
        #: How its VMs stand at its relay; None without one.
        self.relayed = (
            Relayed(settings, settings.relay, way, self.fleet, ledger, store, clock)
            if way is not None and settings.relay is not None
            else None
        )
        self.remover = Remover(
            settings,
            self.gateways,
            self.fleet,
            ledger,
            policies.victims,
            store,
            locks,
            self.relayed,
        )
        self.replacer = Replacer(
            settings,
            self.gateways,
            self.fleet,
            ledger,
            self.placer,
            self.remover,
            relayed=self.relayed,
            locks=locks,
            clock=clock,
            metrics=metrics,
        )
        self._viewer = Viewer(settings, self.gateways, self.fleet, ledger, self.relayed)
        self._clock = clock
        self._metrics = metrics
        self._started_at = clock.monotonic()
        self._work: set[asyncio.Task[Any]] = set()
        self._locks = locks

    async def create(self, request: CreateRequest) -> Creation:
        """Place VMs, building when this returns; see :class:`CreateRequest`.

        Raises a RequestError for a request that cannot be right, PlacementFailed when fewer
        than ``min_count`` could be placed, the CloudError of a cloud that finds fault with the
        request itself, StoreError.
        """
        check_request(self.settings, request)
        return await self._finish(self._create(request))

    async def delete(self, vm_id: str, *, drain: bool = True) -> Deletion:
        """Have a VM removed. Deleting what is gone succeeds; ``Deletion.vm`` is None then.

        With a relay a VM that has sessions drains first, unless ``drain`` is false, and the
        engine removes it (``Deletion.draining``). Raises a CloudError when a cloud that has it,
        or may have it, cannot be reached, RelayUnreachable where a drain would be forgotten.
        """
        return await self._finish(self._delete(vm_id, drain=drain))

    async def end_drain(self, entry: Entry) -> Deletion:
        """Have a VM removed that drains no more, from the cloud where it drained alone: under its
        id another may live elsewhere. Raises as :meth:`delete`."""
        return await self._finish(self._delete(entry.id, drain=False, cloud=entry.cloud))

    async def delete_any(
        self,
        *,
        type_name: str | None = None,
        cloud: str | None = None,
        key: str | None = None,
        drain: bool = True,
    ) -> Deletion:
        """Have the VM removed that the victim policies pick; ``key`` makes retries safe. It
        drains first as in :meth:`delete`.

        Raises UnknownVm when there is none to pick, PluginFailed, CloudError, StoreError.
        """
        check_names(self.settings, type_name, cloud)
        return await self._finish(self.remover.delete_any(type_name, cloud, key, drain=drain))

    async def list(self) -> tuple[Sequence[Vm], Mapping[str, CloudError]]:
        """All VMs in order of placement; and the clouds that could not be asked in time, whose
        VMs are shown as they were last seen, in state UNKNOWN."""
        return await self._viewer.list()

    async def get(self, vm_id: str) -> Vm:
        """One VM, as its cloud tells now, and its relay. Raises UnknownVm, or a CloudError when
        a cloud that may have it cannot be asked."""
        return await self._viewer.get(vm_id)

    async def explain(self, request: CreateRequest) -> Ranking:
        """Where the next VM would go and why; nothing is created or reserved."""
        check_request(self.settings, request)
        unlisted = await self.fleet.ensure_usable()
        plan = self._plan(request, identity.new_id())
        return self.placer.rank(plan, await self._viewer.book(), unlisted)

    async def clouds(self) -> Sequence[CloudStatus]:
        """Every cloud of the application: its health, its breaker, what runs there."""
        await self.fleet.ensure(self.settings.freshness, patience=self.settings.patience)
        use = self.fleet.use(await self._viewer.book())
        return [self._status(name, gateway, use[name]) for name, gateway in self.gateways.items()]

    async def wait(self, vm_id: str, state: VmState, timeout: float) -> Vm:  # noqa: ASYNC109 (part of the interface: its end is a typed error)
        """Wait for a VM to reach ``state``; one whose boot fails meanwhile is placed again. A VM
        that is READY or SERVING has reached ACTIVE too.

        Raises WaitTimeout, UnknownVm when it is deleted, VmLeaving when it drains or fails after
        it was deleted, PlacementFailed when it fails to boot and nothing else can take it,
        BadRequest for READY of what no relay brings traffic to.
        """
        deadline = self._clock.monotonic() + timeout
        reached = REACHED.get(state, frozenset({state}))
        while True:
            vm = await self._viewer.recent(vm_id, WAIT_INTERVAL)
            if state is VmState.READY:
                self.check_carried(vm.type)
            if vm.state in reached:
                return vm
            if state in REACHED and self.draining(vm):
                raise VmLeaving(f"VM {vm_id} drains and will be removed")
            if vm.state is VmState.ERROR:
                if not self.replacer.wanted(vm):
                    raise VmLeaving(f"VM {vm_id} is not wanted any more and will be removed")
                if vm.attempt >= self.settings.healing.attempts:
                    raise PlacementFailed(
                        f"VM {vm_id} failed to boot {vm.attempt} times, last: {vm.fault}",
                        ranking=Ranking(verdicts=[]),
                        refusals=self.placer.story(vm_id).refusals,
                    )
                await self.replace(vm_id)
            if self._clock.monotonic() > deadline:
                why = f" ({vm.relay.text})" if vm.relay is not None and vm.relay.text else ""
                raise WaitTimeout(
                    f"VM {vm_id} is {vm.state} on {vm.cloud}, not {state}, after {timeout:g} s{why}"
                )
            await self._clock.sleep(WAIT_INTERVAL)

    def check_carried(self, type_name: str) -> None:
        """That VMs of a type can become READY. Raises BadRequest."""
        relay, name = self.settings.relay, self.settings.name
        if relay is None:
            raise BadRequest(f"a VM of {name} is never READY: {name} has no relay; wait for ACTIVE")
        if relay.types is not None and type_name not in relay.types:
            raise BadRequest(
                f"a VM of type {type_name} is never READY: the relay of {name} brings traffic to "
                f"{', '.join(relay.types)} alone; wait for ACTIVE"
            )

    def draining(self, vm: Vm) -> bool:
        """Whether a VM drains, to be removed."""
        return self.relayed is not None and self.relayed.draining_since(vm) is not None

    async def replace(self, vm_id: str) -> Placed | None:
        """Place a VM again whose boot failed, under the same id, and remove the failed one.

        Returns None when there is nothing to replace (any more). Raises as :meth:`create`.
        """
        return await self._finish(self.replacer.replace(vm_id))

    async def drain(self) -> None:
        """Wait until everything that was begun is finished."""
        while self._work:
            await asyncio.wait(self._work)

    async def close(self) -> None:
        """Finish what was begun, then stop."""
        await self.drain()
        if self.relayed is not None:
            await self.relayed.close()
        await self.fleet.close()

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return await asyncio.shield(task)

    async def _create(self, request: CreateRequest) -> Creation:
        if request.key is None:
            ids = [identity.new_id() for _ in range(request.count)]
            return await self._place(request, ids, [])
        ids = [identity.id_of_key(self.settings.name, request.key, i) for i in range(request.count)]
        async with self._locks.held(ids[0]):
            existing = await self._existing(request, ids)
            missing = [vm_id for vm_id in ids if vm_id not in existing]
            found = [Placed(vm=vm, existed=True) for vm in existing.values()]
            return await self._place(request, missing, found)

    async def _place(
        self, request: CreateRequest, ids: Sequence[str], found: Sequence[Placed]
    ) -> Creation:
        if not ids:
            return Creation(placed=found)
        plans = [self._plan(request, vm_id) for vm_id in ids]
        await self.placer.reserve(plans)
        outcomes = await asyncio.gather(
            *(self.placer.place(plan) for plan in plans), return_exceptions=True
        )
        placed = [outcome for outcome in outcomes if isinstance(outcome, Placed)]
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        least = request.count if request.min_count is None else request.min_count
        if failures and len(placed) + len(found) < max(least, 1):
            await self._take_back(placed)
            raise failures[0]
        reasons = [
            error.message if isinstance(error, IsonephError) else str(error) for error in failures
        ]
        return Creation(placed=[*found, *placed], failures=reasons)

    async def _take_back(self, placed: Sequence[Placed]) -> None:
        """Fewer than asked for could be placed: keep none that was not there before.

        Without their locks: nobody else knows the ids, and a key's own is held already.
        """
        made = [one.vm for one in placed if not one.existed]
        outcomes = await asyncio.gather(
            *(self.remover.delete(vm.id) for vm in made), return_exceptions=True
        )
        for vm, outcome in zip(made, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                LOG.warning("vm %s: not taken back yet: %s", vm.id, outcome)
                with suppress(StoreError):  # the first failure is what the caller must know
                    await self.remover.abandon(vm)

    async def _existing(self, request: CreateRequest, ids: Sequence[str]) -> dict[str, Vm]:
        """The VMs that this idempotency key made before.

        With a shared store the ledger knows what the listings may not show yet; without one,
        soon after the start, and where something is in doubt, only new listings tell.
        """
        book = await self.ledger.refresh()
        entries = [entry for vm_id in ids for entry in book.of_vm(vm_id)]
        unclear = any(entry.phase is not Phase.DELETED for entry in entries)
        young = self._clock.monotonic() - self._started_at < SETTLING
        if unclear or young or not self.ledger.shared:
            await self.fleet.ensure(0.0, patience=self.settings.patience)
        else:
            await self.fleet.ensure_usable()
        wanted = set(ids)
        found = {vm.id: vm for vm in self.fleet.vms() if vm.id in wanted}
        digest = digest_of(request)
        for vm in found.values():
            if vm.request_digest != digest:
                raise KeyReused(
                    f"the idempotency key was used before, for another request (VM {vm.id} of "
                    f"type {vm.type}); use a new key for a new request"
                )
        return await self._claim(found) if found else {}

    async def _claim(self, found: Mapping[str, Vm]) -> dict[str, Vm]:
        """A VM that was given up is wanted after all, unless the engine is at it already."""

        def claim(book: Book) -> dict[str, Vm]:
            claimed = dict(found)
            for vm in found.values():
                entry = book.get(vm.id, vm.cloud)
                if not self._is_claimable(vm, entry):
                    raise VmLeaving(
                        f"VM {vm.id} of this idempotency key drains and will be removed; repeat "
                        "the request when it is gone"
                    )
                if entry is None:
                    continue
                if entry.phase in LEAVING or vm.state is VmState.DELETING:
                    del claimed[vm.id]
                elif entry.phase is Phase.ABANDONED:
                    book.drop(vm.id, vm.cloud)
            return claimed

        return await self.ledger.update(claim)

    def _is_claimable(self, vm: Vm, entry: Entry | None) -> bool:
        """Whether a VM does not drain, at a relay that the application has or had."""
        drains = entry is not None and entry.phase is Phase.DRAINING
        return not drains and not self.draining(vm)

    async def _delete(self, vm_id: str, *, drain: bool, cloud: str | None = None) -> Deletion:
        if not identity.is_id(vm_id):
            raise UnknownVm(f"'{vm_id}' is not the id of a VM")
        async with self._locks.held(vm_id):
            return await self.remover.delete(vm_id, drain=drain, cloud=cloud)

    def _plan(self, request: CreateRequest, vm_id: str) -> Plan:
        return Plan(
            id=vm_id,
            type=request.type,
            tags=request.tags,
            request_digest=digest_of(request),
            near=request.near,
            cloud=request.cloud,
            may_exist=request.key is not None,
            deadline=self._clock.monotonic() + self.settings.deadline,
        )

    def _status(self, name: str, gateway: CloudGateway, use: Any) -> CloudStatus:
        breaker = gateway.breaker
        error = self.fleet.error(name)
        retry_at = None if breaker.available else self._clock.time() + breaker.retry_in
        return CloudStatus(
            cloud=name,
            driver=gateway.settings.driver,
            healthy=breaker.available and error is None,
            breaker=breaker.state.value,
            retry_at=retry_at,
            last_error=None if error is None else f"{error.code}: {error.message}",
            listed_at=self.fleet.listed_at(name),
            vms=use.vms,
            in_flight=use.in_flight,
            by_type=use.by_type,
            by_state=self.fleet.by_state(name),
            limits=use.limits,
        )
