"""What finished VMs left behind: ports, floating IPs, boot volumes and server groups.

The project may be shared with others, so a thing is taken for a leftover only when it is proved
that isoneph's VM left it, and that no server holds it:

- what isoneph made itself carries its mark (:mod:`isoneph.plugins.clouds.openstack.marks`);
- a port that Nova made, which has neither name nor description, tells its server: it is proved
  that the server was isoneph's (:mod:`isoneph.plugins.clouds.openstack.proofs`) and is gone.

Things are read before the servers, so that what a server takes in between is seen to be taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from isoneph.core.model import Leftover
from isoneph.core.plugin import Environment
from isoneph.plugins.clouds.openstack import groups
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.errors import Forbidden, NotFound
from isoneph.plugins.clouds.openstack.extensions import FLOATING_IPS, Extensions
from isoneph.plugins.clouds.openstack.floating import Opening
from isoneph.plugins.clouds.openstack.groups import Groups
from isoneph.plugins.clouds.openstack.marks import Owner, group_application, owner_of
from isoneph.plugins.clouds.openstack.paging import list_all
from isoneph.plugins.clouds.openstack.proofs import Proofs
from isoneph.plugins.clouds.openstack.records import Record
from isoneph.plugins.clouds.openstack.servers import Listing, Servers
from isoneph.plugins.clouds.openstack.shared import Shared
from isoneph.plugins.clouds.openstack.volumes import Volumes

PORT, FLOATING_IP, VOLUME, SERVER_GROUP = "port", "floating IP", "volume", "server group"
#: Seconds for which one look serves all applications, and for which it proves enough to remove.
SHARED_FOR = 2.0
PROVED_FOR = 10.0

_PORT_FIELDS = ("id", "name", "description", "device_id", "device_owner", "created_at")
_FLOATING_IP_FIELDS = ("id", "description", "port_id")


class _Found(NamedTuple):
    application: str
    leftover: Leftover


class _Seen(NamedTuple):
    """All that one look saw."""

    ports: Sequence[Record]
    floating_ips: Sequence[Record]
    volumes: Sequence[Record]
    groups: Sequence[Record]
    servers: Listing
    openings: Sequence[Opening]


class Leftovers:
    """Finds and removes leftovers. Safe for threads; a look is shared by all applications."""

    def __init__(
        self, api: Api, servers: Servers, extensions: Extensions, environment: Environment
    ) -> None:
        self._api = api
        self._servers = servers
        self._extensions = extensions
        self._cloud = environment.name
        self._proofs = Proofs(api, servers, environment)
        self._volumes = Volumes(api, environment.logger)
        self._groups = Groups(api, environment.clock)
        self._found = Shared(self._look, environment.clock)

    def list_of(self, application: str, deadline: Deadline) -> Sequence[Leftover]:
        """What VMs of one application left."""
        found = self._found.read(deadline, SHARED_FOR)
        return [one.leftover for one in found if one.application == application]

    def remove(self, leftover: Leftover, deadline: Deadline) -> None:
        """Remove a leftover, if it still is one. Removing the gone succeeds."""
        found = self._found.read(deadline, PROVED_FOR)
        if not any(one.leftover == leftover for one in found):
            return
        if leftover.kind == PORT:
            self._delete("network", f"/ports/{leftover.cloud_id}", deadline)
        elif leftover.kind == FLOATING_IP:
            self._delete("network", f"/floatingips/{leftover.cloud_id}", deadline)
        elif leftover.kind == VOLUME:
            self._volumes.remove(leftover.cloud_id, deadline)
        elif self._is_empty_group(leftover.cloud_id, deadline):
            self._delete("compute", f"{groups.PATH}/{leftover.cloud_id}", deadline)

    def _look(self, deadline: Deadline) -> Sequence[_Found]:
        seen = self._see(deadline)
        self._volumes.mark(seen.volumes, seen.servers, deadline)
        is_gone = partial(self._proofs.is_gone, deadline=deadline)
        ports = list(self._left_ports(seen, deadline))
        floating_ips = _left_floating_ips(seen, {port["id"] for _, port in ports})
        volumes = self._volumes.left(seen.volumes, seen.servers, is_gone)
        return [
            *(self._of_vm(PORT, *one) for one in ports),
            *(self._of_vm(FLOATING_IP, *one) for one in floating_ips),
            *(self._of_vm(VOLUME, *one) for one in volumes),
            *(
                self._one(SERVER_GROUP, application, group)
                for application, group in _left_groups(seen.groups)
            ),
        ]

    def _see(self, deadline: Deadline) -> _Seen:
        ports = self._of_network("/ports", "ports", _PORT_FIELDS, deadline)
        floating_ips: Sequence[Record] = ()
        if self._extensions.has(FLOATING_IPS, deadline):
            floating_ips = self._of_network(
                "/floatingips", "floatingips", _FLOATING_IP_FIELDS, deadline
            )
        volumes = self._volumes.list_volumes(deadline)
        server_groups = self._server_groups(deadline)
        servers = self._servers.list_servers(deadline)
        openings = [Opening.of(server.get("metadata", {})) for server in servers.vms]
        held = [opening for opening in openings if opening is not None]
        return _Seen(ports, floating_ips, volumes, server_groups, servers, held)

    def _of_network(
        self, path: str, key: str, fields: Sequence[str], deadline: Deadline
    ) -> Sequence[Record]:
        """A list of Neutron's, of our own project also for an administrator."""
        if not self._api.has_service("network", deadline):
            return ()
        params = {"fields": list(fields), "project_id": self._api.project_id(deadline)}
        return list_all(self._api, "network", path, key, deadline, params)

    def _server_groups(self, deadline: Deadline) -> Sequence[Record]:
        try:
            return self._groups.list_groups(deadline)
        except (Forbidden, NotFound):
            return ()

    def _left_ports(self, seen: _Seen, deadline: Deadline) -> Iterator[tuple[Owner, Record]]:
        held = {opening.port for opening in seen.openings}
        free = [
            port
            for port in seen.ports
            if _is_of_a_server(port)
            and port["id"] not in held
            and port["device_id"] not in seen.servers.ids
        ]
        suspects = {port["device_id"]: port.get("created_at") for port in free if _is_of_nova(port)}
        owners = self._proofs.owners_of(suspects, deadline)
        for port in free:
            server_id = port["device_id"]
            owner = owners.get(server_id) if _is_of_nova(port) else _marked_owner(port)
            if owner is not None and (not server_id or self._proofs.is_gone(server_id, deadline)):
                yield owner, port

    def _is_empty_group(self, group_id: str, deadline: Deadline) -> bool:
        try:
            answer = self._api.call(
                "GET", "compute", f"{groups.PATH}/{group_id}", deadline=deadline
            )
        except NotFound:
            return False
        return not answer.body["server_group"]["members"]

    def _delete(self, service: str, path: str, deadline: Deadline) -> None:
        try:
            self._api.call("DELETE", service, path, deadline=deadline)
        except NotFound:
            return

    def _of_vm(self, kind: str, owner: Owner, thing: Record) -> _Found:
        return self._one(kind, owner.application, thing, owner.vm_id)

    def _one(self, kind: str, application: str, thing: Record, vm_id: str = "") -> _Found:
        leftover = Leftover(cloud=self._cloud, kind=kind, cloud_id=thing["id"], vm_id=vm_id)
        return _Found(application, leftover)


def _is_of_a_server(port: Record) -> bool:
    """Whether a port is for a server, or may be meant to be."""
    owner = port["device_owner"] or ""
    return not owner or owner.startswith("compute:")


def _is_of_nova(port: Record) -> bool:
    """Whether Nova made it: people give names, and isoneph its mark."""
    return bool(port["device_id"]) and not port["name"] and not port.get("description")


def _marked_owner(thing: Record) -> Owner | None:
    return owner_of(thing.get("description"))


def _left_floating_ips(seen: _Seen, left_ports: set[str]) -> Iterator[tuple[Owner, Record]]:
    """Those with isoneph's mark that lead to nothing, or only to what was left itself."""
    held = {opening.floating_ip for opening in seen.openings}
    for floating_ip in seen.floating_ips:
        owner = _marked_owner(floating_ip)
        port_id = floating_ip["port_id"]
        if owner and floating_ip["id"] not in held and (not port_id or port_id in left_ports):
            yield owner, floating_ip


def _left_groups(server_groups: Sequence[Record]) -> Iterator[tuple[str, Record]]:
    """Those that isoneph made and that have no member."""
    for group in server_groups:
        application = group_application(group["name"])
        if application is not None and not group["members"]:
            yield application, group
