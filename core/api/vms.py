"""``vm``: creating, showing and removing VMs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from msgspec import UNSET, UnsetType

from isoneph.core import identity, model
from isoneph.core.api import examples, waiting
from isoneph.core.api.answers import (
    PlacedVm,
    PlacedVms,
    Removal,
    Vm,
    VmList,
    encode,
    placed_vm_of,
    placement_of,
    ranking_of,
    silence_of,
    vm_of,
)
from isoneph.core.api.operations import Answer, Context, Reply, operation
from isoneph.core.api.problems import NotReady, Refused
from isoneph.core.api.requests import (
    CreateQuery,
    DrainQuery,
    VictimQuery,
    VmCreate,
    VmListQuery,
    WaitQuery,
)
from isoneph.core.api.tracing import Request
from isoneph.core.api.waiting import Awaited, WaitingResource, check_reachable
from isoneph.core.application import Application
from isoneph.core.balancer import Balancer
from isoneph.core.errors import (
    CloudError,
    IsonephError,
    UnknownCloud,
    UnknownType,
    UnknownVm,
)
from isoneph.core.model import Creation, Placed, VmState

#: What can be done with a VM that an answer shows.
LINKS = {"get_vm": ("vm_id", "id"), "remove_vm": ("vm_id", "id")}

#: Problems of whatever has a cloud do something.
CLOUD_PROBLEMS = (
    "cloud_error",
    "unauthorized",
    "throttled",
    "unreachable",
    "outcome_unknown",
)
STORE_PROBLEMS = ("lease_taken", "store_unavailable")
DRAIN_PROBLEMS = ("relay_unreachable",)


@dataclass(frozen=True, slots=True)
class _Page:
    """The last answer to a listing: whoever asks the same while nothing has changed gets it."""

    vms: Sequence[model.Vm]
    query: VmListQuery
    path: str
    body: bytes

    def fits(self, vms: Sequence[model.Vm], query: VmListQuery, path: str) -> bool:
        """Whether it is the answer to this too; the fleet shows the very same list until
        something changes."""
        return self.vms is vms and self.query == query and self.path == path


class VmCollection(WaitingResource):
    """All VMs of an application."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        #: By application.
        self._pages: dict[str, _Page] = {}

    @operation(
        name="create_vm",
        summary="Create VMs",
        text="Without `count` (or with 1) the answer is the VM; otherwise a list.",
        scope="write",
        query=CreateQuery,
        body=VmCreate,
        body_example=examples.CREATE,
        keyed=True,
        answers={
            201: Answer(
                text="The VM is placed, and building unless waited for.",
                types=(PlacedVm, PlacedVms),
                headers={"Location": "Where the VM is; absent for a list."},
                example=examples.PLACED_VM,
                links=LINKS,
            ),
            200: Answer(
                text="The idempotency key made all of this before.",
                types=(PlacedVm, PlacedVms),
                headers={"Location": "Where the VM is; absent for a list."},
                example=examples.EXISTING_VM,
                links=LINKS,
            ),
        },
        problems=(
            "unknown_cloud",
            "unknown_type",
            "idempotency_key_reused",
            "vm_leaving",
            "invalid_request",
            "placement_failed",
            *CLOUD_PROBLEMS,
            *STORE_PROBLEMS,
            *waiting.PROBLEMS,
        ),
    )
    async def on_post(
        self,
        application: Application,
        *,
        req: Request,
        query: CreateQuery,
        body: VmCreate,
        key: str | None,
    ) -> Reply:
        """Create VMs."""
        awaited = self.awaited(query)
        balancer = application.balancer
        check_reachable(balancer, body.type, wait=query.wait, expect=query.expect)
        creation = await balancer.create(body.request(key))
        if awaited is not None:
            creation = await self._ready(balancer, creation, awaited)
        made = [_placed(balancer, one) for one in creation.placed]
        status = 200 if all(one.existed for one in creation.placed) else 201
        if (body.count or 1) > 1:
            return Reply(PlacedVms(made, creation.failures), status)
        return Reply(made[0], status, {"location": f"{req.raw_path}/{made[0].id}"})

    async def _ready(self, balancer: Balancer, creation: Creation, awaited: Awaited) -> Creation:
        ids = [one.vm.id for one in creation.placed]
        try:
            vms = await self.ready(balancer, ids, awaited)
        except (IsonephError, Refused) as error:
            raise NotReady(error, ids) from error
        placed = [
            Placed(vm=vm, ranking=one.ranking, refusals=one.refusals, existed=one.existed)
            for vm, one in zip(vms, creation.placed, strict=True)
        ]
        return Creation(placed=placed, failures=creation.failures)

    @operation(
        name="list_vms",
        summary="List VMs",
        text="In order of placement, page by page.",
        scope="read",
        query=VmListQuery,
        answers={200: Answer(text="One page.", types=(VmList,), example=examples.VM_LIST)},
        problems=("unknown_cloud", "unknown_type"),
    )
    async def on_get(self, application: Application, *, req: Request, query: VmListQuery) -> bytes:
        """List VMs."""
        everything, errors = await application.balancer.list()
        page = self._pages.get(application.settings.name)
        if page is not None and page.fits(everything, query, req.raw_path) and not errors:
            return page.body
        listing = self._listing(application, req, query, everything, errors)
        page = _Page(everything, query, req.raw_path, encode(listing))
        if not errors:
            self._pages[application.settings.name] = page
        return page.body

    def _listing(
        self,
        application: Application,
        req: Request,
        query: VmListQuery,
        vms: Sequence[model.Vm],
        errors: Mapping[str, CloudError],
    ) -> VmList:
        vms = _matching(vms, query, application)
        total = len(vms)
        if query.marker is not UNSET:
            begin = _position(query.marker)
            vms = [vm for vm in vms if (vm.placed_at, vm.id) > begin]
        more = len(vms) > query.limit
        vms = vms[: query.limit]
        return VmList(
            [vm_of(vm) for vm in vms],
            total,
            [silence_of(cloud, error) for cloud, error in errors.items()],
            _link(req, query, vms[-1]) if more else UNSET,
        )

    on_head = on_get

    @operation(
        name="remove_any_vm",
        summary="Remove a VM of the balancer's choice",
        text="The application's victim policies choose. With a relay, one that has sessions "
        "drains first.",
        scope="write",
        query=VictimQuery,
        keyed=True,
        answers={
            200: Answer(text="It is removed.", types=(Removal,), example=examples.REMOVAL),
            202: Answer(
                text="It drains, and is removed as soon as its sessions are over.",
                types=(Removal,),
                example=examples.DRAINING_REMOVAL,
            ),
        },
        problems=(
            "unknown_cloud",
            "unknown_type",
            "unknown_vm",
            *CLOUD_PROBLEMS,
            *STORE_PROBLEMS,
            *DRAIN_PROBLEMS,
        ),
    )
    async def on_delete(
        self, application: Application, *, req: Request, query: VictimQuery, key: str | None
    ) -> Reply:
        """Remove a VM of the balancer's choice."""
        deletion = await application.balancer.delete_any(
            type_name=query.type or None, cloud=query.cloud or None, key=key, drain=query.drain
        )
        removal = Removal(
            None if deletion.vm is None else vm_of(deletion.vm),
            None if deletion.ranking is None else ranking_of(deletion.ranking),
        )
        return Reply(removal, 202 if deletion.draining else 200)


class OneVm(WaitingResource):
    """One VM."""

    @operation(
        name="get_vm",
        summary="Show a VM",
        text="As its cloud tells now, with how it came to be where it is.",
        scope="read",
        query=WaitQuery,
        answers={
            200: Answer(
                text="The VM.",
                types=(PlacedVm,),
                example=examples.SHOWN_VM,
                links={"remove_vm": ("vm_id", "id")},
            )
        },
        problems=("unknown_vm", "placement_failed", *CLOUD_PROBLEMS, *waiting.PROBLEMS),
    )
    async def on_get(
        self, application: Application, *, req: Request, vm_id: str, query: WaitQuery
    ) -> PlacedVm:
        """Show a VM."""
        balancer = application.balancer
        awaited = self.awaited(query)
        if not identity.is_id(vm_id):
            raise UnknownVm(f"'{vm_id}' is not the id of a VM")
        if awaited is None or awaited[0] is VmState.READY:
            vm = await balancer.get(vm_id)
            check_reachable(balancer, vm.type, wait=query.wait)
        if awaited is not None:
            try:
                vm = (await self.ready(balancer, [vm_id], awaited))[0]
            except UnknownVm:
                raise
            except (IsonephError, Refused) as error:
                raise NotReady(error, [vm_id]) from error
        story = balancer.placer.story(vm_id)
        return placed_vm_of(vm, placement_of(story.ranking, story.refusals))

    on_head = on_get

    @operation(
        name="remove_vm",
        summary="Remove a VM",
        text="Removing what is gone succeeds. With a relay, a VM that has sessions drains first.",
        scope="write",
        query=DrainQuery,
        answers={
            204: Answer(text="It is removed, or was gone already.", media_type=None),
            202: Answer(
                text="It drains, and is removed as soon as its sessions are over.",
                types=(Vm,),
                example=examples.DRAINING_VM,
                links={"get_vm": ("vm_id", "id")},
            ),
        },
        problems=("unknown_vm", *CLOUD_PROBLEMS, *STORE_PROBLEMS, *DRAIN_PROBLEMS),
    )
    async def on_delete(
        self, application: Application, *, req: Request, vm_id: str, query: DrainQuery
    ) -> Reply | None:
        """Remove a VM."""
        deletion = await application.balancer.delete(vm_id, drain=query.drain)
        if deletion.vm is None or not deletion.draining:
            return None
        return Reply(vm_of(deletion.vm), 202)


def _placed(balancer: Balancer, one: Placed) -> PlacedVm:
    ranking, refusals = one.ranking, one.refusals
    if one.existed:
        story = balancer.placer.story(one.vm.id)
        ranking, refusals = story.ranking, story.refusals
    return placed_vm_of(one.vm, placement_of(ranking, refusals), one.existed)


def _matching(
    vms: Sequence[model.Vm], query: VmListQuery, application: Application
) -> Sequence[model.Vm]:
    """Those that the query asks for. Raises UnknownType or UnknownCloud for a name that is
    neither configured nor any VM's."""
    if query.type is not UNSET:
        _check_name(query.type, application.settings.types, {vm.type for vm in vms}, UnknownType)
        vms = [vm for vm in vms if vm.type == query.type]
    if query.cloud is not UNSET:
        _check_name(query.cloud, application.settings.clouds, (), UnknownCloud)
        vms = [vm for vm in vms if vm.cloud == query.cloud]
    if query.state is not UNSET:
        vms = [vm for vm in vms if vm.state is query.state]
    if query.tags:
        wanted = query.tags.items()
        vms = [vm for vm in vms if wanted <= vm.tags.items()]
    return vms


def _check_name(
    name: str,
    configured: Iterable[str],
    seen: Iterable[str],
    error: Callable[[str], IsonephError],
) -> None:
    if name not in configured and name not in seen:
        raise error(f"'{name}' is unknown; expected one of {', '.join(configured)}")


def _position(marker: str) -> tuple[float, str]:
    """The place in the order that a marker stands for."""
    placed_at, _, vm_id = marker.partition("_")
    return float(placed_at), vm_id


def _link(req: Request, query: VmListQuery, last: model.Vm) -> str:
    """Where the page after the one that ends with ``last`` is.

    The marker is a place in the order, not a VM, so that it holds when that VM is removed or
    placed again.
    """
    names: dict[str, str | UnsetType] = {
        "type": query.type,
        "cloud": query.cloud,
        "state": query.state,
        **{f"tag.{name}": value for name, value in query.tags.items()},
        "limit": str(query.limit),
        "marker": f"{last.placed_at:.6f}_{last.id}",
    }
    given = {name: value for name, value in names.items() if value is not UNSET}
    return f"{req.raw_path}?{urlencode(given, quote_via=quote)}"
