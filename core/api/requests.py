"""What the API takes: the structures that bodies and queries are read into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from isoneph.core import identity
from isoneph.core.model import CreateRequest, VmState
from isoneph.core.requests import MAX_COUNT, MAX_KEY

#: VMs on one page, at most and by default.
MAX_LIMIT = 1000
#: Seconds that a request waits by default.
DEFAULT_WAIT = 60.0

_NAME = f"^{identity.NAME_PATTERN.pattern}$"
_MARKER = r"^-?[0-9]+\.[0-9]{6}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"

Name = Annotated[str, Meta(pattern=_NAME)]
TagName = Annotated[str, Meta(pattern=f"^(?!{identity.PREFIX}){identity.TAG_PATTERN.pattern}$")]
TagValue = Annotated[str, Meta(max_length=identity.MAX_TAG_VALUE, pattern=_PRINTABLE)]
Tags = Annotated[Mapping[TagName, TagValue], Meta(max_length=identity.MAX_TAGS)]
Wait = Annotated[
    Literal["ACTIVE", "READY"] | UnsetType,
    Meta(
        description="Answer when the VM is in this state, not at once. READY is for applications "
        "with a relay; what is READY or SERVING is ACTIVE too."
    ),
]
Expect = Annotated[
    Literal["ACTIVE", "READY"] | UnsetType,
    Meta(
        description="Create nothing when a VM of this type can never be in this state; for who "
        "waits with requests of its own."
    ),
]
Drain = Annotated[
    bool,
    Meta(
        description="Whether a VM that has sessions keeps them until they are over, at the longest "
        "for the `drain` of the application's relay; false removes it at once."
    ),
]
Timeout = Annotated[
    Annotated[float, Meta(ge=0)] | UnsetType,
    Meta(
        description=f"Seconds to wait at most, {DEFAULT_WAIT:g} by default, bounded by the "
        "service's `max_wait`; 504 then."
    ),
]


class Query(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all queries share: nothing that is not declared is taken."""


class WaitQuery(Query, frozen=True, kw_only=True):
    """For how long to wait for a VM."""

    wait: Wait = UNSET
    timeout: Timeout = UNSET


class CreateQuery(WaitQuery, frozen=True, kw_only=True):
    """For how long to wait for what is created, or what it will be waited for."""

    expect: Expect = UNSET


class VmListQuery(Query, frozen=True, kw_only=True):
    """Which VMs to show. Of VMs with tags, `tag.NAME=VALUE` takes those that have this one."""

    type: Annotated[Name | UnsetType, Meta(description="Only VMs of this type.")] = UNSET
    cloud: Annotated[Name | UnsetType, Meta(description="Only VMs on this cloud.")] = UNSET
    state: Annotated[VmState | UnsetType, Meta(description="Only VMs in this state.")] = UNSET
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="VMs on a page at most.")] = (
        MAX_LIMIT
    )
    marker: Annotated[
        Annotated[str, Meta(pattern=_MARKER)] | UnsetType,
        Meta(description="Where the page begins, as in the `next` link."),
    ] = UNSET
    tags: Annotated[
        Tags,
        Meta(description="Only VMs with these tags, each as `tag.NAME=VALUE`; repeatable."),
    ] = {}


class VictimQuery(Query, frozen=True, kw_only=True):
    """Among which VMs to choose the one to go."""

    type: Annotated[Name | UnsetType, Meta(description="Only VMs of this type.")] = UNSET
    cloud: Annotated[Name | UnsetType, Meta(description="Only VMs on this cloud.")] = UNSET
    drain: Drain = True


class DrainQuery(Query, frozen=True, kw_only=True):
    """What becomes of a VM's sessions."""

    drain: Drain = True


class VmCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What VMs to create."""

    type: Annotated[Name, Meta(description="One of the application's VM types.")]
    count: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_COUNT)] | None,
        Meta(description="How many, placed as if one by one; 1 by default."),
    ] = None
    min_count: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_COUNT)] | None,
        Meta(description="When fewer can be created, none is kept; all of `count` by default."),
    ] = None
    cloud: Annotated[Name | None, Meta(description="The only cloud to use.")] = None
    near: Annotated[
        Annotated[str, Meta(min_length=1, max_length=identity.MAX_TAG_VALUE, pattern=_PRINTABLE)]
        | None,
        Meta(description="A place, a cloud or a VM's id that distances count from."),
    ] = None
    tags: Annotated[Tags, Meta(description="Kept with the VM, for your own use.")] = {}

    def request(self, key: str | None) -> CreateRequest:
        """The same for the balancer."""
        return CreateRequest(
            type=self.type,
            count=1 if self.count is None else self.count,
            min_count=self.min_count,
            cloud=self.cloud,
            near=self.near,
            tags=self.tags,
            key=key,
        )


IdempotencyKey = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_KEY,
        pattern="^[!-~]([ -~]*[!-~])?$",
        description="Makes retries safe: a repeated request with the same key gives the same VMs.",
    ),
]
