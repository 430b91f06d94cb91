r"""Placing VMs: decide, ask the cloud, and on a refusal decide again without it.

The life of one placement::

    DECIDE --no candidate--> PlacementFailed
      |  ^
      |  | typed refusal (quota, capacity, throttled, ...): kept as a reason,
      |  | the cloud is out of this placement
      v  |
    CREATE --answer--> CREATED
      |  ^
      |  \---- found nowhere: the attempt stays in doubt, the cloud is out
      v
    LOOK UP --found by its tag--> CREATED      (the answer was lost, the VM was not)

A decision is one step in the ledger, so that many at once come out as one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from isoneph.core import identity
from isoneph.core.errors import (
    BootFailed,
    BrokeDown,
    CloudError,
    NoCapacity,
    OutcomeUnknown,
    PlacementFailed,
    QuotaExceeded,
    StoreError,
)
from isoneph.core.fleet import Fleet
from isoneph.core.gateway import CloudGateway
from isoneph.core.ledger import (
    DOUBT_FOR,
    LEAVING,
    SETTLED_FOR,
    UNWANTED,
    Book,
    Entry,
    Ledger,
    Phase,
)
from isoneph.core.model import (
    HEALTH,
    REQUEST,
    Candidate,
    CloudUse,
    Placed,
    PlacementRequest,
    Ranking,
    Reason,
    Refusal,
    Vm,
    VmRequest,
    VmState,
)
from isoneph.core.plugin import Clock, Metrics
from isoneph.core.ranking import WeightedPolicy, rank_clouds
from isoneph.core.settings import ApplicationSettings

LOG = logging.getLogger(__name__)

#: Pauses in seconds between looks for a VM whose create was not answered.
LOOK_UP_PAUSES = (0.0, 0.2, 1.0)
#: What a failed boot says of its cloud, by the fault's code, where it is more than that it failed.
BOOT_FAULTS: Mapping[str | None, type[CloudError]] = {
    kind.code: kind for kind in (NoCapacity, QuotaExceeded)
}
#: VMs whose story is kept, and the refusals that are kept of each.
MOST_STORIES = 10_000
MOST_REFUSALS = 50
#: What the ledger may say of an earlier VM of an id, and that a create there does not undo.
UNSETTLED = UNWANTED | {Phase.DOUBTFUL}


@dataclass(slots=True)
class Plan:
    """One VM to be placed, and what was learned on the way."""

    id: str
    type: str
    tags: Mapping[str, str]
    request_digest: str
    near: str | None = None
    cloud: str | None = None
    attempt: int = 1
    #: Whether the VM may be there already: under an idempotency key, or when placed again.
    may_exist: bool = False
    #: Whether somebody knows the id, whatever comes of this: the VM is placed again.
    has_owner: bool = False
    #: What the ledger said of the VM on the cloud where it is being created.
    before: Entry | None = None
    found: Vm | None = None
    #: On the monotonic clock: after it no further cloud is tried.
    deadline: float = float("inf")
    refusals: list[Refusal] = field(default_factory=list)
    ranking: Ranking = field(default_factory=lambda: Ranking(verdicts=[]))
    retry_after: float | None = None

    def tried(self) -> dict[str, str]:
        """Why clouds are out of this placement, by cloud."""
        return {
            refusal.cloud: f"tried: {refusal.code}: {refusal.text}" for refusal in self.refusals
        }


@dataclass(slots=True)
class Story:
    """How a VM came to be where it is: the ranking that chose, and every refusal on the way;
    ``failed`` are the cloud's ids of the copies that did not boot."""

    ranking: Ranking | None = None
    refusals: list[Refusal] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)


class Placer:
    """Places the VMs of one application. For the tasks of one event loop."""

    def __init__(
        self,
        settings: ApplicationSettings,
        gateways: Mapping[str, CloudGateway],
        fleet: Fleet,
        ledger: Ledger,
        policies: Sequence[WeightedPolicy],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._gateways = gateways
        self._fleet = fleet
        self._ledger = ledger
        self._policies = policies
        self._clock = clock
        self._metrics = metrics
        self._last_placed_at = 0.0
        self._stories: dict[str, Story] = {}

    def story(self, vm_id: str) -> Story:
        """How this process placed a VM; empty when another did, or long ago."""
        return self._stories.get(vm_id) or Story()

    def note_failure(self, vm: Vm) -> None:
        """Remember, once, that a VM ended in ERROR, or never came up, on its cloud."""
        story = self._tell(vm.id)
        if vm.cloud_id in story.failed:
            return
        story.failed.add(vm.cloud_id)
        kind = BrokeDown if self._fleet.booted(vm) else BOOT_FAULTS.get(vm.fault_code, BootFailed)
        error = kind(vm.fault or f"still {vm.state} after {self._age(vm):.0f} s")
        self._gateways[vm.cloud].avoidance.note(error, vm.type)
        self._note_refusal(vm.id, vm.cloud, error)

    def rank(self, plan: Plan, book: Book, unlisted: Mapping[str, CloudError]) -> Ranking:
        """Where the plan's VM should go, as things stand; ``unlisted`` as from Fleet.ensure."""
        use = self._fleet.use(book)
        types = self._settings.types[plan.type]
        names = [name for name in self._settings.clouds if name in types]
        candidates = [
            Candidate(cloud=name, position=position, use=use[name], resources=types[name].resources)
            for position, name in enumerate(names)
        ]
        unavailable = self._unavailable(names, plan, unlisted)
        waits = {name: self._gateways[name].slow() for name in names}
        slow = {name: Reason(HEALTH, text) for name, text in waits.items() if text is not None}
        request = self._request(plan, use)
        ranking = rank_clouds(candidates, request, self._policies, {**slow, **unavailable})
        if slow and ranking.best is None:  # better a slow cloud than none
            ranking = rank_clouds(candidates, request, self._policies, unavailable)
        return ranking

    async def reserve(self, plans: Sequence[Plan]) -> None:
        """Decide for each plan in turn, each seeing those before it; see ``Plan.ranking``."""
        unlisted = await self._fleet.ensure_usable()

        def decide(book: Book) -> None:
            for plan in plans:
                self._decide(plan, book, unlisted)

        await self._ledger.update(decide)

    async def place(self, plan: Plan) -> Placed:
        """Create a VM for a plan that was reserved; fail over until a cloud takes it.

        Raises PlacementFailed when no cloud does, and the CloudError of a cloud that finds
        fault with the request itself. Nothing of ours is left behind then, or only what the
        engine removes.
        """
        while plan.found is None and (best := plan.ranking.best) is not None:
            try:
                vm = await self._create(plan, best.candidate)
            except CloudError as error:
                self._refused(plan, best.candidate, error)
                if not error.failover:
                    await self._give_up(plan, best.candidate, error)
                    raise
                await self._decide_again(plan, best.candidate, error)
                continue
            self._fleet.note_made(vm)
            self._tell(plan.id).ranking = plan.ranking
            await self._settle(plan, best.candidate)
            self._metrics.count("placed", application=self._settings.name, cloud=vm.cloud)
            LOG.info("vm %s (%s) placed on %s: %s", vm.id, vm.type, vm.cloud, _why(plan))
            return Placed(vm=vm, ranking=plan.ranking, refusals=tuple(plan.refusals))
        if plan.found is not None:
            return Placed(vm=plan.found, refusals=tuple(plan.refusals), existed=True)
        await self._give_up(plan, None, None)
        raise PlacementFailed(
            _no_cloud(plan),
            ranking=plan.ranking,
            refusals=plan.refusals,
            retry_after=plan.retry_after,
        )

    async def _create(self, plan: Plan, cloud: str) -> Vm:
        request = self._vm_request(plan, cloud)
        try:
            return await self._gateways[cloud].create_vm(request)
        except OutcomeUnknown as error:
            LOG.warning("vm %s: %s: %s; looking it up", plan.id, cloud, error.message)
            vm = await self._look_up(plan, cloud)
            if vm is None:
                raise
            return vm

    async def _look_up(self, plan: Plan, cloud: str) -> Vm | None:
        """The VM whose create was not answered, if its cloud shows it within moments."""
        for pause in LOOK_UP_PAUSES:
            await self._clock.sleep(pause)
            errors = await self._fleet.ensure(0.0, [cloud])
            if errors:
                return None
            for vm in self._fleet.copies(plan.id):
                if vm.cloud == cloud and vm.attempt == plan.attempt:
                    return vm
        return None

    def _refused(self, plan: Plan, cloud: str, error: CloudError) -> None:
        plan.refusals.append(self._note_refusal(plan.id, cloud, error))
        if error.retry_after is not None:
            plan.retry_after = min(plan.retry_after or error.retry_after, error.retry_after)

    def _note_refusal(self, vm_id: str, cloud: str, error: CloudError) -> Refusal:
        name = self._settings.name
        self._metrics.count("refused", application=name, cloud=cloud, code=error.code)
        LOG.warning("vm %s: %s refused: %s: %s", vm_id, cloud, error.code, error.message)
        refusal = Refusal(cloud=cloud, code=error.code, text=error.message, at=self._clock.time())
        refusals = self._tell(vm_id).refusals
        refusals.append(refusal)
        del refusals[:-MOST_REFUSALS]
        return refusal

    def _tell(self, vm_id: str) -> Story:
        """The story of a VM, to be gone on with; the oldest is forgotten when there are many."""
        story = self._stories.pop(vm_id, None) or Story()
        self._stories[vm_id] = story
        if len(self._stories) > MOST_STORIES:
            del self._stories[next(iter(self._stories))]
        return story

    def _age(self, vm: Vm) -> float:
        return self._clock.time() - vm.placed_at

    async def _decide_again(self, plan: Plan, cloud: str, error: CloudError) -> None:
        unlisted = await self._fleet.ensure_usable()

        def decide(book: Book) -> None:
            self._release(book, plan, cloud, error)
            self._decide(plan, book, unlisted)

        await self._ledger.update(decide)

    def _decide(self, plan: Plan, book: Book, unlisted: Mapping[str, CloudError]) -> None:
        """Choose a cloud and count the VM there, unless it turns out to be there already."""
        plan.found = self._present(plan, book) if plan.may_exist else None
        if plan.found is not None:
            book.drop(plan.id, plan.found.cloud)  # given up before, it is wanted after all
        plan.ranking = self.rank(plan, book, unlisted)
        best = plan.ranking.best
        if best is not None and plan.found is None:
            plan.before = book.get(plan.id, best.candidate)
            book.set(self._creating(plan, best.candidate))

    def _present(self, plan: Plan, book: Book) -> Vm | None:
        """The VM, when a cloud that could not be asked before shows it by now."""
        for vm in self._fleet.copies(plan.id):
            entry = book.get(vm.id, vm.cloud)
            leaving = entry is not None and entry.phase in LEAVING
            failed = vm.state in (VmState.ERROR, VmState.DELETING)
            if vm.attempt >= plan.attempt and not failed and not leaving:
                return vm
        return None

    def _release(self, book: Book, plan: Plan, cloud: str, error: CloudError) -> None:
        """Take back the count of a create that failed; one in doubt is remembered as such."""
        if isinstance(error, OutcomeUnknown):
            entry = self._ledger.entry(plan.id, cloud, plan.type, Phase.DOUBTFUL, DOUBT_FOR)
            book.set(entry)
        elif plan.before is not None and plan.before.phase in UNSETTLED:
            book.set(plan.before)  # an earlier one may still appear, or is still on its way out
        else:
            book.drop(plan.id, cloud)

    async def _settle(self, plan: Plan, cloud: str) -> None:
        def settle(book: Book) -> None:
            entry = book.get(plan.id, cloud)
            if entry is None or entry.phase not in LEAVING | UNWANTED:
                book.set(self._ledger.entry(plan.id, cloud, plan.type, Phase.CREATED, SETTLED_FOR))

        try:
            await self._ledger.update(settle)
        except StoreError as error:
            # The VM is there and its reservation counts it until a listing shows it.
            LOG.warning("vm %s: not settled in the ledger: %s", plan.id, error.message)

    async def _give_up(self, plan: Plan, cloud: str | None, error: CloudError | None) -> None:
        """The caller gets an error: what may still appear of this VM has no owner any more."""

        def abandon(book: Book) -> None:
            if cloud is not None and error is not None:
                self._release(book, plan, cloud, error)
            for entry in () if plan.has_owner else book.of_vm(plan.id):
                if entry.phase is Phase.DOUBTFUL:
                    book.set(self._ledger.abandoned(entry.id, entry.cloud, entry.type))

        await self._ledger.update(abandon)

    def _creating(self, plan: Plan, cloud: str) -> Entry:
        lasts = self._settings.deadline + SETTLED_FOR
        return self._ledger.entry(plan.id, cloud, plan.type, Phase.CREATING, lasts)

    def _vm_request(self, plan: Plan, cloud: str) -> VmRequest:
        # Later attempts must be told from earlier ones by their time, even in one microsecond.
        placed_at = max(self._clock.time(), self._last_placed_at + 1e-6)
        self._last_placed_at = placed_at
        application = self._settings.name
        tags = {
            **plan.tags,
            identity.TAG_APPLICATION: application,
            identity.TAG_ID: plan.id,
            identity.TAG_TYPE: plan.type,
            identity.TAG_REQUEST: plan.request_digest,
            identity.TAG_ATTEMPT: str(plan.attempt),
            identity.TAG_PLACED_AT: identity.format_time(placed_at),
        }
        if plan.near is not None:
            tags[identity.TAG_NEAR] = plan.near
        if plan.cloud is not None:
            tags[identity.TAG_PINNED_TO] = plan.cloud
        return VmRequest(
            id=plan.id,
            application=application,
            type=self._settings.types[plan.type][cloud],
            name=identity.name_of(application, plan.type, plan.id),
            tags=tags,
        )

    def _request(self, plan: Plan, use: Mapping[str, CloudUse]) -> PlacementRequest:
        near = plan.near
        if near is not None and identity.is_id(near):
            copies = self._fleet.copies(near)
            near = copies[0].cloud if copies else None
        return PlacementRequest(
            application=self._settings.name,
            type=plan.type,
            near=near,
            fleet=use,
        )

    def _unavailable(
        self, names: Sequence[str], plan: Plan, unlisted: Mapping[str, CloudError]
    ) -> dict[str, Reason]:
        unavailable: dict[str, Reason] = {}
        tried = plan.tried()
        for name in names:
            if self._clock.monotonic() > plan.deadline:
                unavailable[name] = Reason(REQUEST, "the deadline of the request has passed")
            elif plan.cloud is not None and name != plan.cloud:
                unavailable[name] = Reason(REQUEST, f"the request asks for {plan.cloud}")
            elif (text := tried.get(name) or self._unwell(name, plan.type, unlisted)) is not None:
                unavailable[name] = Reason(HEALTH, text)
        return unavailable

    def _unwell(self, name: str, type_name: str, unlisted: Mapping[str, CloudError]) -> str | None:
        """Why a cloud should not be asked for such a VM now, or None."""
        gateway = self._gateways[name]
        if not gateway.breaker.available:
            return gateway.left_alone()
        if name in unlisted:
            return f"{unlisted[name].code}: {unlisted[name].message}"
        return gateway.avoidance.reason(type_name)


def _why(plan: Plan) -> str:
    """What spoke for the cloud, and what kept others out; who refused was said before."""
    best, tried = plan.ranking.best, plan.tried()
    texts = [reason.text for reason in best.reasons] if best is not None else []
    texts += [
        f"{verdict.candidate} left out: {reason.text}"
        for verdict in plan.ranking.verdicts
        for reason in verdict.reasons
        if reason.policy == HEALTH and verdict.candidate not in tried
    ]
    return "; ".join(texts)


def _no_cloud(plan: Plan) -> str:
    verdicts = plan.ranking.verdicts
    reasons = [f"{v.candidate}: {'; '.join(r.text for r in v.reasons)}" for v in verdicts]
    return f"no cloud can take a VM of type {plan.type}: {' | '.join(reasons)}"
