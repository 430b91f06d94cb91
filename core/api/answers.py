"""What the API answers: the structures that are encoded, and that the OpenAPI document shows.

Times are seconds since the epoch. They are made from the model here and nowhere else, so that
the model may change without the API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from isoneph.core import model
from isoneph.core.errors import CloudError
from isoneph.core.model import VmState

_ENCODER = msgspec.json.Encoder()
#: Any of the structures below as JSON.
encode = _ENCODER.encode

Seconds = Annotated[float, Meta(description="Seconds since the epoch.")]
Resources = Annotated[
    Mapping[str, float],
    Meta(description="What one VM takes of the cloud's limits; `ram` is in MiB."),
]


class Relay(Struct, frozen=True):
    """How the application's relay sees a VM."""

    ready: Annotated[bool, Meta(description="Whether it may get sessions.")]
    sessions: Annotated[int | None, Meta(description="Those that it has; null when not known.")]
    text: Annotated[str, Meta(description="Why it is not ready, in words.")]
    draining_since: Annotated[Seconds | None, Meta(description="Null while it does not drain.")]
    drain_deadline: Annotated[
        Seconds | None, Meta(description="When it is removed, whatever sessions it still has.")
    ]
    stale: Annotated[
        bool, Meta(description="Whether the relay does not answer: so it was when it last did.")
    ]


class Vm(Struct, frozen=True):
    """A virtual machine."""

    id: Annotated[str, Meta(description="isoneph's own: it stays when the VM is placed again.")]
    application: str
    type: str
    cloud: str
    cloud_id: Annotated[str, Meta(description="The cloud's own id of it.")]
    name: Annotated[str, Meta(description="Its name in the cloud.")]
    state: Annotated[
        VmState,
        Meta(
            description="UNKNOWN while its cloud cannot be asked. Of an ACTIVE one that a relay "
            "brings traffic to, READY, SERVING or DRAINING."
        ),
    ]
    attempt: Annotated[int, Meta(description="How often it was placed, the first being 1.")]
    placed_at: Seconds
    addresses: Annotated[Mapping[str, Sequence[str]], Meta(description="Its addresses by network.")]
    tags: Annotated[Mapping[str, str], Meta(description="Those that it was created with.")]
    fault: Annotated[str | None, Meta(description="Why it is in ERROR.")]
    fault_code: Annotated[str | None, Meta(description="The kind of fault, as in problems.")]
    near: Annotated[str | None, Meta(description="What it was wanted near to.")]
    relay: Annotated[
        Relay | UnsetType, Meta(description="Absent where no relay brings traffic to it.")
    ] = UNSET


class Reason(Struct, frozen=True):
    """What one policy said of one candidate."""

    policy: str
    text: str
    value: Annotated[float | None, Meta(description="The policy's own figure.")]
    share: Annotated[float | None, Meta(description="What it added to the score.")]


class Verdict(Struct, frozen=True):
    """What all policies together said of one candidate."""

    candidate: Annotated[str, Meta(description="A cloud; or a VM's id, where a VM was chosen.")]
    score: Annotated[float | None, Meta(description="Null when it was rejected.")]
    reasons: Sequence[Reason]


class Refusal(Struct, frozen=True):
    """A cloud that was tried and did not take the VM."""

    cloud: str
    code: Annotated[str, Meta(description="As in problems.")]
    text: str
    at: Seconds


class Placement(Struct, frozen=True):
    """How a VM came, or would come, to be where it is."""

    ranking: Annotated[
        Sequence[Verdict],
        Meta(description="The clouds, the best first, the rejected last; empty when not known."),
    ]
    refusals: Annotated[Sequence[Refusal], Meta(description="Those on the way, in order.")] = ()


class PlacedVm(Vm, frozen=True, kw_only=True):
    """A VM with its placement, as far as this replica knows it."""

    placement: Placement
    existed: Annotated[
        bool | UnsetType,
        Meta(description="Of a create: whether the idempotency key had made it before."),
    ] = UNSET


class PlacedVms(Struct, frozen=True):
    """The VMs that were created together."""

    vms: Sequence[PlacedVm]
    failures: Annotated[
        Sequence[str], Meta(description="Why as many as are missing could not be placed.")
    ]


class Silence(Struct, frozen=True):
    """A cloud that could not be asked; its VMs are shown as they were last seen."""

    cloud: str
    code: Annotated[str, Meta(description="As in problems.")]
    detail: str


class VmList(Struct, frozen=True):
    """One page of VMs, in order of placement."""

    vms: Sequence[Vm]
    total: Annotated[int, Meta(description="How many match, on all pages.")]
    incomplete: Sequence[Silence]
    next: Annotated[
        str | UnsetType, Meta(description="Where the next page is; absent on the last one.")
    ] = UNSET


class Removal(Struct, frozen=True):
    """The VM that was taken away, and why this one."""

    vm: Annotated[
        Vm | None,
        Meta(
            description="Null when a retry finds that it is gone already. DRAINING when it goes "
            "as soon as its sessions are over."
        ),
    ]
    ranking: Annotated[
        Sequence[Verdict] | None,
        Meta(description="The best candidates; null when a retry repeats an earlier choice."),
    ]


class Offer(Struct, frozen=True):
    """A VM type on one cloud."""

    cloud: str
    resources: Resources


class VmType(Struct, frozen=True):
    """A kind of VM that the application can ask for."""

    name: str
    clouds: Annotated[Sequence[Offer], Meta(description="In the application's order.")]


class VmTypeList(Struct, frozen=True):
    """The application's VM types."""

    types: Sequence[VmType]


class Limit(Struct, frozen=True):
    """One limit of a cloud project."""

    limit: Annotated[float | None, Meta(description="Null when there is none.")]
    used: Annotated[float, Meta(description="By everybody.")]


class Cloud(Struct, frozen=True):
    """A cloud as the application sees it."""

    name: str
    driver: str
    healthy: Annotated[bool, Meta(description="Whether it answers and is given VMs.")]
    breaker: Annotated[str, Meta(description="`closed`, `open` or `half_open`.")]
    retry_at: Annotated[Seconds | None, Meta(description="When an open breaker is probed.")]
    last_error: str | None
    listed_at: Annotated[Seconds | None, Meta(description="When its VMs were last counted.")]
    vms: Annotated[int, Meta(description="That serve or soon will, creates under way included.")]
    in_flight: Annotated[int, Meta(description="Creates under way.")]
    by_type: Mapping[str, int]
    by_state: Mapping[str, int]
    limits: Annotated[
        Mapping[str, Limit] | None, Meta(description="By resource; null when not known.")
    ]


class CloudList(Struct, frozen=True):
    """The application's clouds, in its order of preference."""

    clouds: Sequence[Cloud]


class Application(Struct, frozen=True):
    """An application that the service runs."""

    name: str
    url: Annotated[str, Meta(description="Its base URL.")]
    default: Annotated[bool, Meta(description="Whether the base URL `/` means it too.")]


class ApplicationList(Struct, frozen=True):
    """The applications that the token may see."""

    applications: Sequence[Application]


class Index(Struct, frozen=True):
    """What the service is, and where to go on."""

    name: str
    version: str
    links: Mapping[str, str]


class Health(Struct, frozen=True):
    """That all is well."""

    status: str


def vm_of(vm: model.Vm) -> Vm:
    """A VM as the API shows it."""
    # By position, which is quickest: lists of many are made of them.
    return Vm(
        vm.id,
        vm.application,
        vm.type,
        vm.cloud,
        vm.cloud_id,
        vm.name,
        vm.state,
        vm.attempt,
        vm.placed_at,
        vm.addresses,
        vm.tags,
        vm.fault,
        vm.fault_code,
        vm.near,
        UNSET if vm.relay is None else relay_of(vm.relay),
    )


def relay_of(view: model.RelayView) -> Relay:
    """A relay's view of a VM as the API shows it."""
    return Relay(
        view.ready,
        view.sessions,
        view.text,
        view.draining_since,
        view.drain_deadline,
        view.stale,
    )


def placed_vm_of(vm: model.Vm, placement: Placement, existed: bool | UnsetType = UNSET) -> PlacedVm:
    """A VM with its placement."""
    fields = msgspec.structs.astuple(vm_of(vm))
    return PlacedVm(*fields, placement=placement, existed=existed)


def ranking_of(ranking: model.Ranking) -> Sequence[Verdict]:
    """A ranking as the API shows it."""
    return [
        Verdict(
            verdict.candidate,
            verdict.score,
            [Reason(r.policy, r.text, r.value, r.share) for r in verdict.reasons],
        )
        for verdict in ranking.verdicts
    ]


def refusals_of(refusals: Sequence[model.Refusal]) -> Sequence[Refusal]:
    """Refusals as the API shows them."""
    return [Refusal(one.cloud, one.code, one.text, one.at) for one in refusals]


def placement_of(
    ranking: model.Ranking | None, refusals: Sequence[model.Refusal] = ()
) -> Placement:
    """How a VM was placed; ``ranking`` None when that is not known."""
    return Placement(ranking_of(ranking) if ranking is not None else [], refusals_of(refusals))


def silence_of(cloud: str, error: CloudError) -> Silence:
    """Why a cloud is missing."""
    return Silence(cloud, error.code, error.message)


def type_of(name: str, types: Mapping[str, model.VmType]) -> VmType:
    """A VM type; ``types`` by cloud. A driver's own options stay inside: they may be secret."""
    return VmType(name, [Offer(cloud, one.resources) for cloud, one in types.items()])


def cloud_of(status: model.CloudStatus) -> Cloud:
    """A cloud's status as the API shows it."""
    limits = status.limits
    return Cloud(
        name=status.cloud,
        driver=status.driver,
        healthy=status.healthy,
        breaker=status.breaker,
        retry_at=status.retry_at,
        last_error=status.last_error,
        listed_at=status.listed_at,
        vms=status.vms,
        in_flight=status.in_flight,
        by_type=status.by_type,
        by_state=status.by_state,
        limits=None
        if limits is None
        else {name: Limit(quota.limit, quota.used) for name, quota in limits.items()},
    )
