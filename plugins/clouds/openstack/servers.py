"""The project's servers: the one bulk listing that everybody shares, and single ones by id."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from isoneph.core.errors import InvalidRequest
from isoneph.core.identity import TAG_APPLICATION, TAG_ID, is_ours
from isoneph.core.model import Vm, VmState
from isoneph.core.plugin import Clock
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.errors import Conflict, NotFound
from isoneph.plugins.clouds.openstack.marks import Owner
from isoneph.plugins.clouds.openstack.paging import list_all
from isoneph.plugins.clouds.openstack.records import Record, is_gone, is_partial, taken_by, vm_of
from isoneph.plugins.clouds.openstack.shared import Shared

#: Servers of ours that are remembered, those longest not seen forgotten first.
MOST_REMEMBERED = 10_000
#: The microversion that servers are read with, where the cloud has it: it tells all that is
#: wanted, of cells that are down too, and later ones have Nova look up more for each server.
ENOUGH = (2, 69)
#: What is remembered of each.
_REMEMBERED = ("id", "name", "metadata", "addresses")


class Listing(NamedTuple):
    """All servers of the project; ``vms`` are those with isoneph's tags, as far as is known, and
    ``taken`` is what all take of the project's limits, as far as servers tell it."""

    ids: frozenset[str]
    vms: Sequence[Record]
    taken: Mapping[str, float]


class Servers:
    """Reads and deletes servers. Safe for threads.

    Remembers those of isoneph's by their id, for the times when Nova cannot tell more of them
    than that they exist, and for what they leave behind when they are gone.
    """

    def __init__(self, api: Api, cloud: str, clock: Clock) -> None:
        self._api = api
        self._cloud = cloud
        self._shared = Shared(self._fetch, clock)
        self._lock = threading.Lock()
        self._remembered: dict[str, Record] = {}

    def list_servers(self, deadline: Deadline) -> Listing:
        """All servers, as they were after this was called.

        It is never asked for some of them: with a filter, Nova leaves out those in cells that
        it cannot reach at the moment.
        """
        return self._shared.read(deadline)

    def list_vms(self, application: str, deadline: Deadline) -> Sequence[Vm]:
        """The VMs of one application."""
        vms = (vm_of(server, application, self._cloud) for server in self._listed(deadline))
        return [vm for vm in vms if vm is not None]

    def get_vm(self, vm: Vm, deadline: Deadline) -> Vm | None:
        """The VM as it is now; None when it is gone, or not isoneph's."""
        server = self.find(vm.cloud_id, deadline)
        if server is None:
            return None
        if is_partial(server):
            return dataclasses.replace(vm, state=VmState.UNKNOWN)
        found = vm_of(server, vm.application, self._cloud)
        return found if found is not None and found.id == vm.id else None

    def find(self, server_id: str, deadline: Deadline) -> Record | None:
        """A server by id, or None when Nova is sure that there is none."""
        try:
            answer = self._api.call(
                "GET",
                "compute",
                f"/servers/{server_id}",
                deadline=deadline,
                headers=self._headers(),
            )
        except NotFound:
            return None
        server: Record = answer.body["server"]
        return server

    def delete(self, server_id: str, deadline: Deadline) -> None:
        """Have a server deleted. Raises InvalidRequest when somebody locked it."""
        try:
            self._api.call("DELETE", "compute", f"/servers/{server_id}", deadline=deadline)
        except NotFound:
            return
        except Conflict as error:
            if "locked" in error.message:
                raise InvalidRequest(
                    f"server {server_id} is locked: somebody ran `openstack server lock` on it, "
                    "and `openstack server unlock` lets it be deleted"
                ) from error
            raise

    def remember(self, server: Record) -> None:
        """Remember a server with isoneph's tags."""
        with self._lock:
            self._remembered.pop(server["id"], None)
            self._remembered[server["id"]] = {
                key: server[key] for key in _REMEMBERED if key in server
            }
            if len(self._remembered) > MOST_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]

    def metadata_of(self, server_id: str) -> Mapping[str, Any]:
        """The metadata of a server that is remembered, be it there or gone."""
        with self._lock:
            metadata: Mapping[str, Any] = self._remembered.get(server_id, {}).get("metadata", {})
            return metadata

    def owner_of(self, server_id: str) -> Owner | None:
        """Whose VM a server that is remembered is, or was."""
        return owner_by_tags(self.metadata_of(server_id))

    def _listed(self, deadline: Deadline) -> Sequence[Record]:
        return self.list_servers(deadline).vms

    def _fetch(self, deadline: Deadline) -> Listing:
        servers = list_all(
            self._api,
            "compute",
            "/servers/detail",
            "servers",
            deadline,
            headers=self._headers(),
        )
        there = [server for server in servers if not is_gone(server)]
        return Listing(
            ids=frozenset(server["id"] for server in there),
            vms=[known for server in there if (known := self._known(server)) is not None],
            taken=taken_by(there),
        )

    def _headers(self) -> Mapping[str, str]:
        if self._api.compute_version <= ENOUGH:
            return {}
        return {"OpenStack-API-Version": f"compute {ENOUGH[0]}.{ENOUGH[1]}"}

    def _known(self, server: Record) -> Record | None:
        """A server of isoneph's, completed from memory where Nova knows only its id."""
        if not is_partial(server):
            if owner_by_tags(server["metadata"]) is None:
                return None
            self.remember(server)
            return server
        with self._lock:
            remembered = self._remembered.get(server["id"])
        return None if remembered is None else {**remembered, "status": "UNKNOWN"}


def owner_by_tags(metadata: Mapping[str, Any]) -> Owner | None:
    """Whose VM a server with such metadata is; None when it is none of isoneph's."""
    application = metadata.get(TAG_APPLICATION, "")
    if not is_ours(metadata, application):
        return None
    return Owner(application, metadata[TAG_ID])
