"""What the testbed's user has in a cloud: counted, limited, swept away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openstack_testbed.rest import Refusal, Rest
from openstack_testbed.settings import Settings

Thing = Mapping[str, Any]
#: Of each limit that can be set: which API has it, and what it calls it.
QUOTAS: Mapping[str, tuple[str, str]] = {
    "instances": ("compute", "instances"),
    "cores": ("compute", "cores"),
    "ram": ("compute", "ram"),
    "key_pairs": ("compute", "key_pairs"),
    "server_groups": ("compute", "server_groups"),
    "volumes": ("block-storage", "volumes"),
    "gigabytes": ("block-storage", "gigabytes"),
    "networks": ("network", "network"),
    "subnets": ("network", "subnet"),
    "ports": ("network", "port"),
    "routers": ("network", "router"),
    "floating_ips": ("network", "floatingip"),
    "security_groups": ("network", "security_group"),
}
_PATIENCE = 120.0
_GONE = 404


@dataclass(frozen=True)
class Census:
    """What there is, each thing as its API describes it."""

    servers: Sequence[Thing]
    server_groups: Sequence[Thing]
    keypairs: Sequence[Thing]
    volumes: Sequence[Thing]
    images: Sequence[Thing]
    networks: Sequence[Thing]
    subnets: Sequence[Thing]
    routers: Sequence[Thing]
    ports: Sequence[Thing]
    floatingips: Sequence[Thing]
    security_groups: Sequence[Thing]

    def ids(self) -> Mapping[str, frozenset[str]]:
        """The ids (of keypairs: the names) of each kind."""
        return {
            kind: frozenset(thing["id"] for thing in things) for kind, things in vars(self).items()
        }

    def without(self, other: Census) -> Census:
        """What is here and not in ``other``."""
        ids = other.ids()
        return Census(
            **{
                kind: [thing for thing in things if thing["id"] not in ids[kind]]
                for kind, things in vars(self).items()
            }
        )

    def counts(self) -> Mapping[str, int]:
        """How many there are of each kind."""
        return {kind: len(ids) for kind, ids in self.ids().items()}


class Project:
    """The project of the testbed's user in one cloud, and that one only."""

    def __init__(self, settings: Settings, cloud: str) -> None:
        self._settings = settings
        self._cloud = cloud
        self._member = Rest.member(settings, cloud)
        self._member.login()
        self._admin = Rest.admin(settings, cloud)
        self._id = self._member.project_id

    def census(self) -> Census:
        """What there is."""
        pairs = self._listed("compute", "/os-keypairs", "keypairs")
        return Census(
            servers=self._servers(),
            server_groups=self._listed("compute", "/os-server-groups", "server_groups"),
            keypairs=[{"id": pair["keypair"]["name"], **pair["keypair"]} for pair in pairs],
            volumes=self._volumes(),
            images=self._listed("image", f"/v2/images?owner={self._id}", "images"),
            networks=self._neutron("networks"),
            subnets=self._neutron("subnets"),
            routers=self._neutron("routers"),
            ports=self._neutron("ports"),
            floatingips=self._neutron("floatingips"),
            security_groups=self._neutron("security_groups"),
        )

    def sweep(self, keep: Census | None = None) -> None:
        """Remove all of it, or all but ``keep``.

        The default security group is made anew when it is needed.

        Raises:
            AssertionError: A server or a volume does not go away.
        """
        found = self.census()
        if keep is not None:
            found = found.without(keep)
        self._delete("compute", "/servers", found.servers)
        self._until_gone(found.servers, self._servers)
        for volume in found.volumes:
            path = f"/volumes/{volume['id']}/action"
            self._removed("block-storage", "POST", path, {"os-force_delete": {}})
        self._until_gone(found.volumes, self._volumes)
        self._delete("compute", "/os-server-groups", found.server_groups)
        self._delete("compute", "/os-keypairs", found.keypairs)
        self._delete("network", "/v2.0/floatingips", found.floatingips)
        for router in found.routers:
            self._detach(router["id"])
        self._delete("network", "/v2.0/routers", found.routers)
        mine = [port for port in found.ports if not port["device_owner"].startswith("network:")]
        self._delete("network", "/v2.0/ports", mine)
        self._delete("network", "/v2.0/networks", found.networks)
        self._delete("network", "/v2.0/security-groups", found.security_groups)
        self._delete("image", "/v2/images", found.images)

    def limits(self, names: Iterable[str]) -> dict[str, int]:
        """The limits in force."""
        found = {}
        for name in names:
            kind, theirs = QUOTAS[name]
            answer = self._admin.call(kind, "GET", self._quota_path(kind))
            found[name] = int(answer[_quota_key(kind)][theirs])
        return found

    def limit(self, limits: Mapping[str, int]) -> None:
        """Set limits, below what is in use too; -1 is unlimited."""
        for name, limit in limits.items():
            kind, theirs = QUOTAS[name]
            values: dict[str, object] = {theirs: limit}
            if kind != "block-storage":
                values["force"] = True
            self._admin.call(kind, "PUT", self._quota_path(kind), {_quota_key(kind): values})

    def _quota_path(self, kind: str) -> str:
        return f"/v2.0/quotas/{self._id}" if kind == "network" else f"/os-quota-sets/{self._id}"

    def _servers(self) -> list[Thing]:
        return self._listed("compute", "/servers/detail", "servers")

    def _volumes(self) -> list[Thing]:
        if not self._settings.volumes:
            return []
        return self._listed("block-storage", "/volumes/detail", "volumes")

    def _listed(self, kind: str, path: str, key: str) -> list[Thing]:
        found: list[Thing] = self._member.call(kind, "GET", path)[key]
        return found

    def _neutron(self, kind: str) -> list[Thing]:
        path = f"/v2.0/{kind.replace('_', '-')}?project_id={self._id}"
        return self._listed("network", path, kind)

    def _detach(self, router: str) -> None:
        """Take the interfaces off a router."""
        owned = [port for port in self._neutron("ports") if port["device_id"] == router]
        for port in owned:
            path = f"/v2.0/routers/{router}/remove_router_interface"
            self._admin.call("network", "PUT", path, {"port_id": port["id"]})

    def _delete(self, kind: str, path: str, things: Iterable[Thing]) -> None:
        """Delete by id what is there."""
        for thing in things:
            self._removed(kind, "DELETE", f"{path}/{thing['id']}")

    def _removed(self, kind: str, method: str, path: str, body: object = None) -> None:
        """Remove one thing unless it is gone; networks that an administrator made for us too."""
        rest = self._member if kind in {"compute", "image"} else self._admin
        try:
            rest.call(kind, method, path, body)
        except Refusal as refusal:
            if refusal.status != _GONE:
                raise

    def _until_gone(self, things: Iterable[Thing], look: Callable[[], list[Thing]]) -> None:
        until = time.monotonic() + _PATIENCE
        going = {thing["id"] for thing in things}
        while left := going & {thing["id"] for thing in look()}:
            assert time.monotonic() < until, f"{self._cloud}: what does not go: {left}"
            time.sleep(0.1)


def _quota_key(kind: str) -> str:
    return "quota" if kind == "network" else "quota_set"
