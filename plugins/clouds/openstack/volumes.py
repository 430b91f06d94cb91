"""Boot volumes that are to go with their VMs, and those that stayed.

Cinder does not know whose VM Nova makes a volume for, and forgets the server when the volume is
detached. So as long as the VM is there, its volumes are marked in their own metadata, and the
mark is what proves later that a volume was left behind. Volumes that are to outlive their VM
(``delete_on_termination: false``) are never marked.

https://docs.openstack.org/api-ref/block-storage/v3/#volumes-volumes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from logging import Logger
from typing import Any

from isoneph.core.errors import CloudError
from isoneph.core.identity import PREFIX, TAG_APPLICATION, TAG_ID
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.errors import NotFound
from isoneph.plugins.clouds.openstack.marks import Owner
from isoneph.plugins.clouds.openstack.paging import list_all
from isoneph.plugins.clouds.openstack.records import Record
from isoneph.plugins.clouds.openstack.servers import Listing, owner_by_tags

TAG_SERVER = PREFIX + "server"

_ATTACHED = "os-extended-volumes:volumes_attached"


class Volumes:
    """Marks, finds and removes boot volumes. Safe for threads."""

    def __init__(self, api: Api, logger: Logger) -> None:
        self._api = api
        self._logger = logger

    def list_volumes(self, deadline: Deadline) -> Sequence[Record]:
        """All volumes of the project; none where the cloud has no volumes."""
        if not self._api.has_service("volume"):
            return ()
        return list_all(self._api, "volume", "/volumes/detail", "volumes", deadline)

    def mark(self, volumes: Sequence[Record], servers: Listing, deadline: Deadline) -> None:
        """Mark those that go with a VM of isoneph's that is there, once for each volume."""
        marks = dict(_marks(servers.vms))
        for volume in volumes:
            mark = marks.get(volume["id"])
            if mark is None or mark.items() <= volume.get("metadata", {}).items():
                continue
            try:
                path = f"/volumes/{volume['id']}/metadata"
                self._api.call("POST", "volume", path, body={"metadata": mark}, deadline=deadline)
            except CloudError as error:
                self._logger.info("volume %s is not marked: %s", volume["id"], error.message)

    def left(
        self, volumes: Sequence[Record], servers: Listing, is_gone: Callable[[str], bool]
    ) -> Iterator[tuple[Owner, Record]]:
        """Those that carry a mark, and whose server is gone, as is any that holds them."""
        for volume in volumes:
            metadata = volume.get("metadata", {})
            owner = owner_by_tags(metadata)
            if owner is None or TAG_SERVER not in metadata or volume["status"] == "deleting":
                continue
            holders = {metadata[TAG_SERVER], *_holders(volume)}
            if holders.isdisjoint(servers.ids) and all(map(is_gone, holders)):
                yield owner, volume

    def remove(self, volume_id: str, deadline: Deadline) -> None:
        """Remove a volume that was left, from its gone server first. Removing the gone succeeds."""
        path = f"/volumes/{volume_id}"
        try:
            volume = self._api.call("GET", "volume", path, deadline=deadline).body["volume"]
            for attachment in volume.get("attachments", ()):
                detach = {"os-detach": {"attachment_id": attachment["attachment_id"]}}
                self._api.call("POST", "volume", f"{path}/action", body=detach, deadline=deadline)
            self._api.call("DELETE", "volume", path, deadline=deadline)
        except NotFound:
            return


def _marks(vms: Sequence[Record]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """What the volumes of servers are to say, by volume."""
    for server in vms:
        owner = owner_by_tags(server.get("metadata", {}))
        for volume in server.get(_ATTACHED, ()):
            if owner is not None and volume.get("delete_on_termination"):
                yield (
                    volume["id"],
                    {
                        TAG_APPLICATION: owner.application,
                        TAG_ID: owner.vm_id,
                        TAG_SERVER: server["id"],
                    },
                )


def _holders(volume: Record) -> set[Any]:
    return {attachment["server_id"] for attachment in volume.get("attachments", ())}
