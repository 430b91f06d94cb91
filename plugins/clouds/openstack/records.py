"""From Nova's JSON of a server to isoneph's VM.

https://docs.openstack.org/api-ref/compute/#list-servers-detailed
https://docs.openstack.org/api-guide/compute/server_concepts.html#server-status
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from isoneph.core.model import Vm, VmState
from isoneph.plugins.clouds.openstack.errors import fault_code

#: A server, a port ... as its service's JSON has it.
Record = Mapping[str, Any]

#: The status of servers that can still be seen, but are none any more.
_GONE = frozenset({"DELETED", "SOFT_DELETED"})
_DELETING = frozenset({"deleting", "soft-deleting"})
_STATES: Mapping[str, VmState] = {
    "BUILD": VmState.BUILDING,
    "ERROR": VmState.ERROR,
    "UNKNOWN": VmState.UNKNOWN,
    "SHUTOFF": VmState.STOPPED,
    "PAUSED": VmState.STOPPED,
    "SUSPENDED": VmState.STOPPED,
    "SHELVED": VmState.STOPPED,
    "SHELVED_OFFLOADED": VmState.STOPPED,
}
_LONGEST_FAULT = 500


def is_gone(server: Record) -> bool:
    """Whether a record only tells that there was a server."""
    return server.get("status") in _GONE


def is_partial(server: Record) -> bool:
    """Whether the server's cell cannot be asked, so that Nova knows little more than its id."""
    return "metadata" not in server


def state_of(server: Record) -> VmState:
    """What the server is doing; whatever is done to a booted one leaves it ACTIVE."""
    if server.get("OS-EXT-STS:task_state") in _DELETING:
        return VmState.DELETING
    return _STATES.get(server.get("status", ""), VmState.ACTIVE)


def vm_of(server: Record, application: str, cloud: str) -> Vm | None:
    """The VM that a record tells of; None when it is not ``application``'s, or gone."""
    if is_gone(server):
        return None
    state = state_of(server)
    fault = _fault_of(server) if state is VmState.ERROR else None
    return Vm.from_tags(
        server.get("metadata", {}),
        application,
        cloud=cloud,
        cloud_id=server["id"],
        name=server.get("name", ""),
        state=state,
        addresses=addresses_of(server),
        fault=fault,
        fault_code=fault_code(fault) if fault is not None else None,
    )


def addresses_of(server: Record) -> Mapping[str, Sequence[str]]:
    """Addresses by network, in the order of the interfaces; on each the fixed ones first."""
    return {
        network: tuple(
            entry["addr"]
            for entry in sorted(
                entries, key=lambda entry: entry.get("OS-EXT-IPS:type", "fixed") != "fixed"
            )
        )
        for network, entries in server.get("addresses", {}).items()
        if entries
    }


def taken_by(servers: Iterable[Record]) -> Mapping[str, float]:
    """What servers take of limits on ``instances``, ``cores`` and ``ram`` (MiB), at the least:
    failed ones may take nothing, and before microversion 2.47 a server tells no sizes."""
    flavors = [server.get("flavor", {}) for server in servers if server.get("status") != "ERROR"]
    return {
        "instances": len(flavors),
        "cores": sum(flavor.get("vcpus", 0) for flavor in flavors),
        "ram": sum(flavor.get("ram", 0) for flavor in flavors),
    }


def _fault_of(server: Record) -> str:
    message = str(server.get("fault", {}).get("message") or "").strip()
    return message[:_LONGEST_FAULT] or "in ERROR; Nova tells no reason"
