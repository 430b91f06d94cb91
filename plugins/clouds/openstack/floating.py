"""Ports with a floating IP, made before the server that they are for.

Nova knows no floating IPs, so the server is given a port that has one already. Both carry the
mark of their VM (:mod:`isoneph.plugins.clouds.openstack.marks`), and the server names both in
its metadata; whatever breaks off in between, they are found again as leftovers.

https://docs.openstack.org/api-ref/network/v2/#ports
https://docs.openstack.org/api-ref/network/v2/#floating-ips-floatingips
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging import Logger
from typing import Any

from isoneph.core.errors import CloudError
from isoneph.core.identity import PREFIX
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.errors import NotFound
from isoneph.plugins.clouds.openstack.marks import Owner, describe, owner_of

#: The server's metadata that names them.
TAG_PORT = PREFIX + "port"
TAG_FLOATING_IP = PREFIX + "floating-ip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A port with a floating IP: ids."""

    port: str
    floating_ip: str

    @property
    def metadata(self) -> Mapping[str, str]:
        """What its server says of it."""
        return {TAG_PORT: self.port, TAG_FLOATING_IP: self.floating_ip}

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Opening | None:
        """What a server's metadata says; None when it has no port with a floating IP."""
        if TAG_PORT not in metadata or TAG_FLOATING_IP not in metadata:
            return None
        return cls(port=metadata[TAG_PORT], floating_ip=metadata[TAG_FLOATING_IP])


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What such a port is to be like: ids, and the address if it matters."""

    network: str
    external_network: str
    fixed_ip: str | None = None
    security_groups: Sequence[str] | None = None


class Openings:
    """Makes and removes ports with floating IPs. Safe for threads."""

    def __init__(self, api: Api, logger: Logger) -> None:
        self._api = api
        self._logger = logger

    def make(self, wanted: Wanted, owner: Owner, name: str, deadline: Deadline) -> Opening:
        """Make one; after a refusal nothing of it is left."""
        description = describe(owner)
        port: dict[str, Any] = {
            "network_id": wanted.network,
            "name": name,
            "description": description,
        }
        if wanted.fixed_ip is not None:
            port["fixed_ips"] = [{"ip_address": wanted.fixed_ip}]
        if wanted.security_groups is not None:
            port["security_groups"] = list(wanted.security_groups)
        port_id = self._post("/ports", "port", port, deadline)
        floating_ip = {
            "floating_network_id": wanted.external_network,
            "port_id": port_id,
            "description": description,
        }
        try:
            floating_ip_id = self._post("/floatingips", "floatingip", floating_ip, deadline)
        except CloudError:
            self._drop(f"/ports/{port_id}", deadline)  # and a floating IP that is there after all
            raise
        return Opening(port=port_id, floating_ip=floating_ip_id)

    def remove(self, opening: Opening, deadline: Deadline) -> None:
        """Remove both; what does not go now is found later as a leftover."""
        self._drop(f"/floatingips/{opening.floating_ip}", deadline)
        self._drop(f"/ports/{opening.port}", deadline)

    def remove_of(self, owner: Owner, opening: Opening, deadline: Deadline) -> None:
        """Remove both, as far as they carry the mark of ``owner``: for an opening that a server's
        metadata names, which whoever may use the project may have written. What does not go now
        is found later as a leftover."""
        self._drop_marked("floatingips", opening.floating_ip, owner, deadline)
        self._drop_marked("ports", opening.port, owner, deadline)

    def _drop_marked(self, kind: str, item_id: str, owner: Owner, deadline: Deadline) -> None:
        # A filter and no path, because it may be any text.
        params = {"id": item_id, "fields": ["id", "description"]}
        try:
            answer = self._api.call("GET", "network", f"/{kind}", params=params, deadline=deadline)
        except CloudError as error:
            self._logger.info("/%s/%s is left for later: %s", kind, item_id, error.message)
            return
        for found in answer.body[kind]:
            if owner_of(found.get("description")) == owner:
                self._drop(f"/{kind}/{found['id']}", deadline)

    def _post(self, path: str, key: str, body: Mapping[str, Any], deadline: Deadline) -> str:
        answer = self._api.call("POST", "network", path, body={key: body}, deadline=deadline)
        return str(answer.body[key]["id"])

    def _drop(self, path: str, deadline: Deadline) -> None:
        try:
            self._api.call("DELETE", "network", path, deadline=deadline)
        except NotFound:
            return
        except CloudError as error:
            self._logger.info("%s is left for later: %s", path, error.message)
