"""Boot volumes that are to go with their VMs, and those that stayed.

Cinder does not know whose VM Nova makes a volume for, and forgets the server when the volume is
detached. So as long as the VM is there, its volumes are marked in their own metadata, and the
mark is what proves later that a volume was left behind. It names the volume, because Cinder
restores the metadata of a backup into another one too. Volumes that are to outlive their VM
(``delete_on_termination: false``) are not marked, or no more once that was changed.

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
#: The volume's own id: without it the rest of the mark proves nothing.
TAG_VOLUME = PREFIX + "volume"

_ATTACHED = "os-extended-volumes:volumes_attached"


class Volumes:
    """Marks, finds and removes boot volumes. Safe for threads."""

    def __init__(self, api: Api, logger: Logger) -> None:
        self._api = api
        self._logger = logger

    def list_volumes(self, deadline: Deadline) -> Sequence[Record]:
        """All volumes of the project; none where the cloud has no volumes."""
        if not self._api.has_service("volume", deadline):
            return ()
        return list_all(self._api, "volume", "/volumes/detail", "volumes", deadline)

    def mark(self, volumes: Sequence[Record], servers: Listing, deadline: Deadline) -> None:
        """Mark those that go with a VM of isoneph's that is there, once for each volume, and take
        the mark from those that are to stay after all."""
        marks = dict(_marks(servers.vms))
        for volume in volumes:
            if volume["id"] not in marks:
                continue
            mark, path = marks[volume["id"]], f"/volumes/{volume['id']}/metadata"
            try:
                if mark is None and _is_marked(volume):
                    path = f"{path}/{TAG_VOLUME}"
                    self._api.call("DELETE", "volume", path, deadline=deadline)
                elif mark is not None and not mark.items() <= _metadata(volume).items():
                    body = {"metadata": mark}
                    self._api.call("POST", "volume", path, body=body, deadline=deadline)
            except CloudError as error:
                self._logger.info(
                    "the mark of volume %s stays as it is: %s", volume["id"], error.message
                )

    def left(
        self, volumes: Sequence[Record], servers: Listing, is_gone: Callable[[str], bool]
    ) -> Iterator[tuple[Owner, Record]]:
        """Those that carry a mark, and whose server is gone, as is any that holds them."""
        for volume in volumes:
            metadata = _metadata(volume)
            owner = owner_by_tags(metadata) if _is_marked(volume) else None
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


def _marks(vms: Sequence[Record]) -> Iterator[tuple[str, Mapping[str, str] | None]]:
    """What the volumes of isoneph's servers are to say, by volume; None for those that stay."""
    for server in vms:
        owner = owner_by_tags(server.get("metadata", {}))
        for volume in server.get(_ATTACHED, ()):
            if owner is not None and "delete_on_termination" in volume:
                goes = volume["delete_on_termination"]
                yield volume["id"], _mark(owner, server["id"], volume["id"]) if goes else None


def _mark(owner: Owner, server_id: str, volume_id: str) -> Mapping[str, str]:
    return {
        TAG_APPLICATION: owner.application,
        TAG_ID: owner.vm_id,
        TAG_SERVER: server_id,
        TAG_VOLUME: volume_id,
    }


def _metadata(volume: Record) -> Mapping[str, Any]:
    metadata: Mapping[str, Any] = volume.get("metadata", {})
    return metadata


def _is_marked(volume: Record) -> bool:
    """Whether it carries a mark that was put on it, and not on what it was restored from."""
    return bool(_metadata(volume).get(TAG_VOLUME) == volume["id"])


def _holders(volume: Record) -> set[Any]:
    return {attachment["server_id"] for attachment in volume.get("attachments", ())}
