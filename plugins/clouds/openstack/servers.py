"""The project's servers: the one bulk listing that everybody shares, and single ones by id.

A server that is not listed need not be gone. Of those in a cell that is down Nova tells no more
than their ids, and not even these before microversion 2.69 or where a page is full. So what
vanished is asked for by its id, and is gone only when Nova says so.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from isoneph.core.errors import CloudError, InvalidRequest, Unreachable
from isoneph.core.identity import TAG_APPLICATION, TAG_ID, is_ours
from isoneph.core.model import Vm, VmState
from isoneph.core.plugin import Clock
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.errors import Conflict, NotFound
from isoneph.plugins.clouds.openstack.marks import Owner
from isoneph.plugins.clouds.openstack.paging import list_all
from isoneph.plugins.clouds.openstack.records import (
    Record,
    is_gone,
    is_partial,
    state_of,
    taken_by,
    vm_of,
)
from isoneph.plugins.clouds.openstack.shared import Shared

#: Servers of ours that are remembered, those longest not seen forgotten first.
MOST_REMEMBERED = 10_000
#: Of those that vanished, how many are asked for with one listing and for how many seconds, as
#: long as others wait for it; and seconds until Nova, which could not tell of one, is asked again.
MOST_SOUGHT = 20
SEEK_SECONDS = 2.0
SEEK_PAUSE = 10.0
#: The microversion that servers are read with, where the cloud has it: it tells all that is
#: wanted, of cells that are down too, and later ones have Nova look up more for each server.
ENOUGH = (2, 69)
#: What is remembered of each.
_REMEMBERED = ("id", "name", "metadata", "addresses")


class Listing(NamedTuple):
    """All servers of the project; ``vms`` are those with isoneph's tags, as far as is known, and
    ``taken`` is what all take of the project's limits, as far as servers tell it. Of ``unclear``
    it is not known whether they are isoneph's."""

    ids: frozenset[str]
    vms: Sequence[Record]
    taken: Mapping[str, float]
    unclear: frozenset[str]


class Servers:
    """Reads and deletes servers. Safe for threads.

    Remembers those of isoneph's by their id, for the times when Nova cannot tell more of them
    than that they exist, and for what they leave behind when they are gone.
    """

    def __init__(self, api: Api, cloud: str, clock: Clock) -> None:
        self._api = api
        self._cloud = cloud
        self._clock = clock
        self._shared = Shared(self._fetch, clock)
        self._lock = threading.Lock()
        self._remembered: dict[str, Record] = {}
        #: Those of them that are there, as far as is known; the first are sought first.
        self._expected: dict[str, None] = {}
        # What follows is of the one thread that lists.
        self._others: set[str] = set()
        self._seek_after = 0.0

    def list_servers(self, deadline: Deadline) -> Listing:
        """All servers, as they were after this was called.

        It is never asked for some of them: with a filter, Nova leaves out those in cells that
        it cannot reach at the moment.
        """
        return self._shared.read(deadline)

    def list_vms(self, application: str, deadline: Deadline) -> Sequence[Vm]:
        """The VMs of one application. Raises Unreachable when there may be more, in a cell that
        is down."""
        listing = self.list_servers(deadline)
        if listing.unclear:
            raise Unreachable(
                "a part of this cloud (a cell of Nova) is down; whose VMs are there cannot be told "
                f"(servers: {len(listing.unclear)})"
            )
        vms = (vm_of(server, application, self._cloud) for server in listing.vms)
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
                headers=self._headers(deadline),
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
            pass
        except Conflict as error:
            if "locked" in error.message:
                raise InvalidRequest(
                    f"server {server_id} is locked: somebody ran `openstack server lock` on it, "
                    "and `openstack server unlock` lets it be deleted"
                ) from error
            raise
        self._expect(server_id, there=False)

    def remember(self, server: Record) -> None:
        """Remember a server with isoneph's tags."""
        with self._lock:
            self._remembered.pop(server["id"], None)
            self._remembered[server["id"]] = {
                key: server[key] for key in _REMEMBERED if key in server
            }
            if len(self._remembered) > MOST_REMEMBERED:
                oldest = next(iter(self._remembered))
                del self._remembered[oldest]
                self._expected.pop(oldest, None)
        self._expect(server["id"], there=state_of(server) is not VmState.DELETING)

    def metadata_of(self, server_id: str) -> Mapping[str, Any]:
        """The metadata of a server that is remembered, be it there or gone."""
        with self._lock:
            metadata: Mapping[str, Any] = self._remembered.get(server_id, {}).get("metadata", {})
            return metadata

    def owner_of(self, server_id: str) -> Owner | None:
        """Whose VM a server that is remembered is, or was."""
        return owner_by_tags(self.metadata_of(server_id))

    def _fetch(self, deadline: Deadline) -> Listing:
        with self._lock:
            expected = list(self._expected)
        servers = list_all(
            self._api,
            "compute",
            "/servers/detail",
            "servers",
            deadline,
            headers=self._headers(deadline),
        )
        listed = {server["id"] for server in servers}
        missing = [each for each in expected if each not in listed and each in self._expected]
        there = [server for server in servers if not is_gone(server)]
        there += self._sought(missing, deadline.within(SEEK_SECONDS))
        vms: list[Record] = []
        others: set[str] = set()
        unclear: set[str] = set()
        for server in there:
            known, server_id = self._known(server), server["id"]
            if known is not None:
                vms.append(known)
            elif not is_partial(server) or server_id in self._others:
                others.add(server_id)
            else:
                unclear.add(server_id)
        self._others = others
        ids = frozenset(server["id"] for server in there)
        return Listing(ids, vms, taken_by(there), frozenset(unclear))

    def _sought(self, missing: Sequence[str], deadline: Deadline) -> Iterator[Record]:
        """Those of isoneph's that were not listed and are not known to be gone."""
        most = MOST_SOUGHT if self._clock.monotonic() >= self._seek_after else 0
        for number, server_id in enumerate(missing):
            if number < most and deadline.remaining() > 0:
                server = self._seek(server_id, deadline)
            else:
                server = {"id": server_id}
            if server is not None:
                yield server

    def _seek(self, server_id: str, deadline: Deadline) -> Record | None:
        """What Nova knows of a server that was not listed, which may be its id only; None when
        it is gone."""
        try:
            server = self.find(server_id, deadline)
        except CloudError:
            server = {"id": server_id}
        self._expect(server_id, there=False)
        if server is None or is_gone(server):
            return None
        self._expect(server_id, there=True)
        if is_partial(server):
            self._seek_after = self._clock.monotonic() + SEEK_PAUSE
        return server

    def _expect(self, server_id: str, *, there: bool) -> None:
        with self._lock:
            if there:
                self._expected[server_id] = None
            else:
                self._expected.pop(server_id, None)

    def _headers(self, deadline: Deadline) -> Mapping[str, str]:
        if self._api.compute_version(deadline) <= ENOUGH:
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
