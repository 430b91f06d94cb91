"""The examples in the OpenAPI document: values of the very structures, so that they fit."""

from __future__ import annotations

from msgspec import structs

from isoneph.core.api.answers import (
    Application,
    ApplicationList,
    Cloud,
    CloudList,
    Health,
    Index,
    Limit,
    Offer,
    PlacedVm,
    Placement,
    Reason,
    Refusal,
    Relay,
    Removal,
    Verdict,
    Vm,
    VmList,
    VmType,
    VmTypeList,
)
from isoneph.core.api.requests import VmCreate
from isoneph.core.model import VmState

_ID = "6f1c54a2-58c1-4f0e-9a57-0d2f7b1c9e11"
_AT = 1767225600.25

CREATE = VmCreate(type="mme_worker", near="uniform", tags={"role": "worker"})

VM = Vm(
    id=_ID,
    application="mme",
    type="mme_worker",
    cloud="quebec",
    cloud_id="5d0c5b4e-3f5e-4a55-8f6d-1b2c3d4e5f60",
    name="mme-mme_worker-6f1c54a2",
    state=VmState.ACTIVE,
    attempt=1,
    placed_at=_AT,
    addresses={"private": ["10.0.0.7"]},
    tags={"role": "worker"},
    fault=None,
    fault_code=None,
    near="uniform",
)
PLACEMENT = Placement(
    [
        Verdict("quebec", 1.0, [Reason("count-balance", "runs 2 of 7 VMs", -2.0, 1.0)]),
        Verdict("uniform", 0.0, [Reason("count-balance", "runs 5 of 7 VMs", -5.0, 0.0)]),
        Verdict(
            "tango",
            None,
            [Reason("health", "tried: quota_exceeded: 4 of 4 instances", None, None)],
        ),
    ],
)
_STORY = Placement(PLACEMENT.ranking, [Refusal("tango", "quota_exceeded", "4 of 4 instances", _AT)])
_ACTIVE = structs.astuple(VM)
_BUILDING = structs.astuple(structs.replace(VM, state=VmState.BUILDING))
PLACED_VM = PlacedVm(*_BUILDING, placement=_STORY, existed=False)
EXISTING_VM = PlacedVm(*_ACTIVE, placement=_STORY, existed=True)
SHOWN_VM = PlacedVm(*_ACTIVE, placement=_STORY)
DRAINING_VM = structs.replace(
    VM,
    state=VmState.DRAINING,
    relay=Relay(
        ready=True,
        sessions=17,
        text="",
        draining_since=_AT + 3600,
        drain_deadline=_AT + 3900,
        stale=False,
    ),
)
VM_LIST = VmList([VM], 1, [])
REMOVAL = Removal(
    VM, [Verdict(_ID, 1.0, [Reason("largest-cloud", "on quebec with 5 VMs", 5.0, 1.0)])]
)
DRAINING_REMOVAL = Removal(DRAINING_VM, REMOVAL.ranking)

TYPE = VmType(
    "mme_worker",
    [Offer("uniform", {"instances": 1.0, "cores": 2.0}), Offer("quebec", {"instances": 1.0})],
)
TYPE_LIST = VmTypeList([TYPE])
CLOUD = Cloud(
    name="quebec",
    driver="openstack",
    healthy=True,
    breaker="closed",
    retry_at=None,
    last_error=None,
    listed_at=_AT,
    vms=2,
    in_flight=1,
    by_type={"mme_worker": 2},
    by_state={"ACTIVE": 1, "BUILDING": 1},
    limits={"instances": Limit(10.0, 2.0), "cores": Limit(None, 4.0)},
)
CLOUD_LIST = CloudList([CLOUD])

APPLICATION_LIST = ApplicationList([Application("mme", "/v1/mme", default=True)])
INDEX = Index("isoneph", "1.0", {"applications": "/v1", "openapi": "/openapi.json"})
ALIVE = Health("alive")
READY = Health("ready")
