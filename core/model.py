"""The values that isoneph thinks in: frozen, without behaviour that could fail or wait.

Times are seconds since the epoch (floats); money is in the currency that a policy states;
resource amounts are in OpenStack's units (``instances``, ``cores``, ``ram`` in MiB).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from isoneph.core import identity


class VmState(StrEnum):
    """What a VM is doing: as its cloud tells it (:data:`CLOUD_STATES`) or, of one that is ACTIVE
    there, as the application's relay does.

    Cloud drivers never return the relay's states, and nothing is decided by them but what is
    shown and waited for; :mod:`isoneph.core.relayed` puts them on.
    """

    BUILDING = "BUILDING"
    ACTIVE = "ACTIVE"
    STOPPED = "STOPPED"
    ERROR = "ERROR"
    DELETING = "DELETING"
    #: The cloud cannot be asked at the moment; this was there when it last could be.
    UNKNOWN = "UNKNOWN"
    #: ACTIVE, and its relay gives it sessions.
    READY = "READY"
    #: READY, and it has sessions.
    SERVING = "SERVING"
    #: It is to be removed, gets no new sessions, and may keep those that it has for a while.
    DRAINING = "DRAINING"


#: The states that clouds know.
CLOUD_STATES = frozenset(
    {
        VmState.BUILDING,
        VmState.ACTIVE,
        VmState.STOPPED,
        VmState.ERROR,
        VmState.DELETING,
        VmState.UNKNOWN,
    }
)
#: States of a VM that serves or soon will: what placement counts.
LIVE_STATES = frozenset({VmState.BUILDING, VmState.ACTIVE, VmState.STOPPED, VmState.UNKNOWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class VmType:
    """A kind of VM that an application asks for by name, as it is on one cloud.

    ``resources`` is what one VM takes of the cloud's limits (``instances`` is always 1);
    ``options`` what the cloud's driver needs to know, validated by its ``type_schema``.
    """

    name: str
    resources: Mapping[str, float] = field(default_factory=lambda: {"instances": 1})
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VmRequest:
    """What a cloud driver is asked to create.

    ``tags`` is complete: the driver stores it with the VM as it is and gives it back with
    every listing (:meth:`Vm.from_tags`); that is all it needs to know of identity.
    """

    id: str
    application: str
    type: VmType
    name: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayView:
    """How its application's relay sees a VM.

    ``sessions`` is None when that is not known; ``text`` says why it is not ``ready``;
    ``drain_deadline`` is when it is removed whatever it still has. ``stale`` says that the
    relay does not answer: this was so when it last did.
    """

    ready: bool = False
    sessions: int | None = None
    text: str = ""
    draining_since: float | None = None
    drain_deadline: float | None = None
    stale: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Vm:
    """A VM that exists on a cloud.

    ``id`` is isoneph's own and survives failover, ``cloud_id`` is the cloud's. ``addresses``
    maps a network's name to the VM's addresses on it. ``fault`` says why, in ERROR;
    ``fault_code`` is the code of the :class:`~isoneph.core.errors.CloudError` that it amounts to.
    ``relay`` is there when the balancer shows a VM that a relay brings traffic to; of a driver
    it is None.
    """

    id: str
    application: str
    type: str
    cloud: str
    cloud_id: str
    name: str
    state: VmState
    attempt: int = 1
    placed_at: float = 0.0
    addresses: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    fault: str | None = None
    fault_code: str | None = None
    request_digest: str = ""
    near: str | None = None
    pinned_to: str | None = None
    relay: RelayView | None = None

    @staticmethod
    def from_tags(
        tags: Mapping[str, str],
        application: str,
        *,
        cloud: str,
        cloud_id: str,
        name: str,
        state: VmState,
        addresses: Mapping[str, Sequence[str]] | None = None,
        fault: str | None = None,
        fault_code: str | None = None,
    ) -> Vm | None:
        """The VM that carries ``tags``, or None when it is not one of ``application``'s."""
        if not identity.is_ours(tags, application):
            return None
        return Vm(
            id=tags[identity.TAG_ID],
            application=application,
            type=tags.get(identity.TAG_TYPE, ""),
            cloud=cloud,
            cloud_id=cloud_id,
            name=name,
            state=state,
            attempt=int(_number(tags, identity.TAG_ATTEMPT, 1)),
            placed_at=_number(tags, identity.TAG_PLACED_AT, 0.0),
            addresses=addresses or {},
            tags={k: v for k, v in tags.items() if not k.startswith(identity.PREFIX)},
            fault=fault,
            fault_code=fault_code,
            request_digest=tags.get(identity.TAG_REQUEST, ""),
            near=tags.get(identity.TAG_NEAR),
            pinned_to=tags.get(identity.TAG_PINNED_TO),
        )


def _number(tags: Mapping[str, str], key: str, default: float) -> float:
    """A tag's number; what somebody mangled by hand counts as the default."""
    try:
        number = float(tags[key])
    except (KeyError, ValueError):
        return default
    return number if math.isfinite(number) else default


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """One limit of a cloud project: ``limit`` None is unlimited; ``used`` counts everybody."""

    limit: float | None
    used: float = 0.0


#: Limits by resource name.
Limits = Mapping[str, Quota]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Something of ours that finished VMs left on a cloud: a port, a volume, an address.

    ``vm_id`` is empty for what several VMs shared, such as a server group.
    """

    cloud: str
    kind: str
    cloud_id: str
    vm_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What is to be there on one cloud before VMs of an application can be made.

    ``options`` describes it, as the driver's ``prepare_schema`` returns it; ``types`` are the
    application's VM types on this cloud, which name what they need. With ``change`` what is
    missing is made and what differs is set right, else it is only told; with ``prune`` what is
    there, is the application's and is described no more is removed.
    """

    application: str
    options: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, VmType] = field(default_factory=dict)
    change: bool = False
    prune: bool = False


class Outcome(StrEnum):
    """What was found, or done, about one thing that a preparation describes."""

    #: There, and as described.
    RIGHT = "right"
    #: Not there; nothing was changed.
    MISSING = "missing"
    #: There, and not as described; nothing was changed.
    DIFFERS = "differs"
    #: There, and described no more; nothing was changed.
    EXTRA = "extra"
    MADE = "made"
    CHANGED = "changed"
    REMOVED = "removed"
    #: Described no more; it stays for other applications and is this one's no longer.
    RELEASED = "released"
    #: Not as described, and the driver could not make it so; the text says why.
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a preparation describes, and how it stands on a cloud.

    ``kind`` is the cloud's own word (``network``, ``security group rule``); ``text`` says what
    differs, from what it is to what it should be, or why it failed.
    """

    cloud: str
    kind: str
    name: str
    outcome: Outcome
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudUse:
    """What one application runs on one cloud, creates in flight included.

    ``planned`` is what was placed since ``limits`` were read and is not yet in their ``used``.
    """

    vms: int = 0
    in_flight: int = 0
    by_type: Mapping[str, int] = field(default_factory=dict)
    limits: Limits | None = None
    planned: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRequest:
    """What a placement policy is asked to judge candidates for.

    ``near`` is the name of a place or a cloud (a VM that the caller named is resolved to its
    cloud beforehand). ``fleet`` is the application's use of every one of its clouds.
    """

    application: str
    type: str
    near: str | None = None
    fleet: Mapping[str, CloudUse] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A cloud that a VM could be placed on.

    ``position`` is its place in the configuration, ``resources`` what the VM takes of its limits:
    clouds may provide one type by flavors that differ.
    """

    cloud: str
    position: int
    use: CloudUse
    resources: Mapping[str, float] = field(default_factory=lambda: {"instances": 1})


@dataclass(frozen=True, slots=True, kw_only=True)
class VictimRequest:
    """What a victim policy is asked to judge VMs for; ``fleet`` as in placement."""

    application: str
    fleet: Mapping[str, CloudUse] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VictimCandidate:
    """A VM that could be taken away; ``position`` is its cloud's place in the configuration,
    ``sessions`` how many its relay says that it has (None: not known, or there is no relay)."""

    vm: Vm
    position: int
    use: CloudUse
    sessions: int | None = None


class Weight(NamedTuple):
    """A policy's opinion of a candidate: the higher ``value`` the better, ``reason`` in words."""

    value: float
    reason: str


#: What the core's own reasons have for a policy: how a cloud is doing; what a request rules out.
HEALTH = "health"
REQUEST = "request"


class Reason(NamedTuple):
    """What one policy, or the core itself, said of one candidate.

    ``value`` is the policy's own figure; ``share`` what it added to the score after the
    core normalised it over all candidates and applied the configured weight.
    """

    policy: str
    text: str
    value: float | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What all policies together said of one candidate; ``score`` is None when rejected."""

    candidate: str
    score: float | None
    reasons: Sequence[Reason]

    @property
    def rejected(self) -> bool:
        """Whether some policy refused this candidate."""
        return self.score is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """All candidates, best first, the rejected last, each with its reasons."""

    verdicts: Sequence[Verdict]

    @property
    def best(self) -> Verdict | None:
        """The candidate to take, or None when every one was rejected."""
        first = self.verdicts[0] if self.verdicts else None
        return None if first is None or first.rejected else first


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A cloud that was tried and did not take the VM: ``code`` is the error's, see errors."""

    cloud: str
    code: str
    text: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """What an application asks for.

    ``count`` VMs of ``type`` are placed as if one by one. When fewer than ``min_count`` (by
    default all) can be created, none is kept. ``cloud`` pins them to one cloud; ``near`` names
    a place, a cloud or a VM id that latency counts towards. ``key`` makes retries safe.
    """

    type: str
    count: int = 1
    min_count: int | None = None
    cloud: str | None = None
    near: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A VM and how it came to be where it is.

    ``ranking`` is None and ``existed`` true when the idempotency key had made it before.
    """

    vm: Vm
    ranking: Ranking | None = None
    refusals: Sequence[Refusal] = ()
    existed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """The answer to a :class:`CreateRequest`: what was placed, and what could not be, and why."""

    placed: Sequence[Placed]
    failures: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What a delete took away: ``vm`` None when it was gone already.

    ``ranking`` says why this one, when the balancer picked. ``draining`` says that it is not
    gone yet: it goes when its sessions are over, at the latest at the drain's deadline.
    """

    vm: Vm | None
    ranking: Ranking | None = None
    draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudStatus:
    """One cloud as an application sees it.

    ``breaker`` is ``closed``, ``open`` or ``half_open``; ``retry_at`` when an open one is
    probed; ``listed_at`` when the VMs counted here were last read (None: never).
    """

    cloud: str
    driver: str
    healthy: bool
    breaker: str
    retry_at: float | None
    last_error: str | None
    listed_at: float | None
    vms: int
    in_flight: int
    by_type: Mapping[str, int]
    by_state: Mapping[str, int]
    limits: Limits | None
