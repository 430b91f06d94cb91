"""What a project has in Neutron, Glance and Nova, in memory, as far as preparing it takes.

:class:`FakeProject` holds it; :class:`FakeFace` looks like the driver's ``Api`` to it, as the
application's user or as an administrator.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from isoneph.core.errors import InvalidRequest
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.openstack.api import Answer, Deadline, Stream
from isoneph.plugins.clouds.openstack.errors import Conflict, NotFound

Item = dict[str, Any]

OWN, OTHER = "own-project", "another-project"
_PROVIDER = ("provider:network_type", "provider:physical_network", "provider:segmentation_id")
_SINGULAR = {
    "networks": "network",
    "subnets": "subnet",
    "routers": "router",
    "ports": "port",
    "security-groups": "security_group",
    "security-group-rules": "security_group_rule",
}
_DEFAULTS: Mapping[str, Item] = {
    "networks": {"shared": False, "router:external": False, "mtu": 1500},
    "subnets": {
        "enable_dhcp": True,
        "dns_nameservers": [],
        "host_routes": [],
        "allocation_pools": [],
        "ipv6_ra_mode": None,
        "ipv6_address_mode": None,
    },
    "routers": {"external_gateway_info": None},
    "ports": {"device_owner": "", "device_id": "", "fixed_ips": []},
    "security-groups": {},
    "security-group-rules": {
        "protocol": None,
        "port_range_min": None,
        "port_range_max": None,
        "remote_ip_prefix": None,
        "remote_group_id": None,
    },
}
_RULE = ("security_group_id", "direction", "ethertype", *_DEFAULTS["security-group-rules"])


@dataclass
class FakeProject:
    """``calls`` counts requests by method and collection; a callable in ``before`` is called
    before the request of that name is answered, once, and may raise what it answers. Filters in
    ``unfiltered`` are not known to Neutron."""

    clock: FakeClock = field(default_factory=FakeClock)
    items: dict[str, list[Item]] = field(default_factory=lambda: {kind: [] for kind in _SINGULAR})
    images: list[Item] = field(default_factory=list)
    keypairs: dict[str, Item] = field(default_factory=dict)
    flavors: list[Item] = field(default_factory=list)
    unfiltered: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    before: dict[str, list[Callable[[], Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.member, self.admin = FakeFace(self, admin=False), FakeFace(self, admin=True)
        group = self.add("security-groups", name="default", description="Default security group")
        for version in ("IPv4", "IPv6"):
            self.add(
                "security-group-rules",
                security_group_id=group["id"],
                direction="ingress",
                ethertype=version,
                remote_group_id=group["id"],
            )

    def add(self, kind: str, **said: Any) -> Item:
        """Something that somebody made: with what the cloud adds by itself."""
        item = {
            "id": str(uuid.uuid4()),
            "project_id": OWN,
            "description": "",
            "tags": [],
            **copy.deepcopy(_DEFAULTS[kind]),
            **said,
        }
        self.items[kind].append(item)
        if kind == "security-groups":
            for version in ("IPv4", "IPv6"):
                self.add(
                    "security-group-rules",
                    security_group_id=item["id"],
                    direction="egress",
                    ethertype=version,
                )
        return item

    def the(self, kind: str, name: str) -> Item:
        """The only thing of a kind and name."""
        (item,) = [each for each in self.items[kind] if each["name"] == name]
        return item

    def rules(self, group: str) -> list[Item]:
        """The rules of a group."""
        group_id = self.the("security-groups", group)["id"]
        rules = self.items["security-group-rules"]
        return [rule for rule in rules if rule["security_group_id"] == group_id]

    def add_image(self, name: str, data: bytes = b"", **said: Any) -> Item:
        """An image with its data."""
        image = {
            "id": str(uuid.uuid4()),
            "name": name,
            "owner": OWN,
            "tags": [],
            "status": "queued",
            "disk_format": "raw",
            "container_format": "bare",
            **said,
        }
        self.images.append(image)
        if data:
            self.store(image, data)
        return image

    def store(self, image: Item, data: bytes) -> None:
        """Let an image have data."""
        image |= {
            "status": "active",
            "checksum": hashlib.md5(data, usedforsecurity=False).hexdigest(),
            "os_hash_algo": "sha512",
            "os_hash_value": hashlib.sha512(data).hexdigest(),
        }


class FakeFace:
    """The face of ``Api`` for one user."""

    def __init__(self, project: FakeProject, *, admin: bool) -> None:
        self._project = project
        self._admin = admin
        self._own = OTHER if admin else OWN

    def deadline(self) -> Deadline:
        """The end of a verb."""
        return Deadline.after(self._project.clock, 27.0)

    def project_id(self, deadline: Deadline) -> str:
        """That of the user."""
        return self._own

    def call(
        self,
        method: str,
        service: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        deadline: Deadline | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Answer one request, or raise what the real one would."""
        name = f"{method} /{path.split('/')[1]}"
        self._project.calls[name] += 1
        if self._project.before.get(name):
            self._project.before[name].pop(0)()
        handler: Callable[..., Any] = getattr(self, f"_{service}")
        found = handler(method, path.strip("/").split("/"), body, params or {})
        return Answer(200, copy.deepcopy(found), {})

    # Neutron.

    def _network(self, method: str, path: Sequence[str], body: Any, params: Item) -> Any:
        kind, *rest = path
        if method == "POST":
            return {_SINGULAR[kind]: self._make(kind, body[_SINGULAR[kind]])}
        if not rest:
            return {kind.replace("-", "_"): self._listing(kind, params)}
        item = self._item(self._project.items[kind], rest[0])
        if rest[1:2] == ["tags"]:
            return self._tag(method, item, rest[2])
        if method == "GET":
            return {_SINGULAR[kind]: self._shown(kind, item)}
        if method == "DELETE":
            self._remove(kind, item)
        elif rest[1:]:
            self._plug(item, rest[1], body["subnet_id"])
        else:
            item.update(body[_SINGULAR[kind]])
        return None

    def _listing(self, kind: str, params: Item) -> list[Item]:
        filters = {key: params[key] for key in params.keys() - self._project.unfiltered}
        found = []
        for item in self._project.items[kind]:
            visible = item["project_id"] == self._own or item.get("shared")
            visible = visible or item.get("router:external") or self._admin
            if visible and all(self._matches(item, *each) for each in filters.items()):
                found.append(self._shown(kind, item))
        return found

    @staticmethod
    def _matches(item: Item, name: str, value: Any) -> bool:
        if name == "fields":
            return True
        if name == "tags":
            return value in item["tags"]
        if name == "fixed_ips":
            return value in [f"subnet_id={ip['subnet_id']}" for ip in item["fixed_ips"]]
        if name == "security_groups":
            return value in item.get("security_groups", ())
        return bool(str(item.get(name)).lower() == str(value).lower())

    def _shown(self, kind: str, item: Item) -> Item:
        shown = dict(item)
        if kind == "networks":
            if not self._admin:
                shown = {key: value for key, value in item.items() if key not in _PROVIDER}
            subnets = self._project.items["subnets"]  # whosever they are
            shown["subnets"] = [each["id"] for each in subnets if each["network_id"] == item["id"]]
        if kind == "security-groups":
            shown["security_group_rules"] = self._project.rules(item["name"])
        return shown

    def _make(self, kind: str, body: Item) -> Item:
        body = {"project_id": self._own, **body}
        refuse: Mapping[str, Callable[[Item], None]] = {
            "networks": self._check_network,
            "subnets": self._check_subnet,
            "security-group-rules": self._check_rule,
        }
        if kind in refuse:
            refuse[kind](body)
        return self._shown(kind, self._project.add(kind, **body))

    def _check_network(self, body: Item) -> None:
        if "provider:segmentation_id" not in body:
            return
        if not self._admin:
            raise InvalidRequest("Neutron answers POST /networks with 403: disallowed by policy")
        for other in self._project.items["networks"]:
            if all(other.get(key) == body[key] for key in _PROVIDER):
                raise Conflict("Neutron answers POST /networks with 409: the VLAN is in use")

    def _check_subnet(self, body: Item) -> None:
        for other in self._project.items["subnets"]:
            if other["network_id"] == body["network_id"] and ip_network(other["cidr"]).overlaps(
                ip_network(body["cidr"])
            ):
                raise InvalidRequest("Neutron answers POST /subnets with 400: it overlaps")
        first = str(ip_network(body["cidr"])[1])
        body.setdefault("gateway_ip", first)

    def _check_rule(self, body: Item) -> None:
        _rewrite(body)
        wanted = {**_DEFAULTS["security-group-rules"], **body}
        for rule in self._project.items["security-group-rules"]:
            if all(rule[key] == wanted[key] for key in _RULE):
                raise Conflict("Neutron answers POST /security-group-rules with 409: exists")

    def _remove(self, kind: str, item: Item) -> None:
        used: Mapping[str, Callable[[Item], bool]] = {
            "networks": lambda port: port.get("network_id") == item["id"],
            "subnets": lambda port: any(ip["subnet_id"] == item["id"] for ip in port["fixed_ips"]),
            "routers": lambda port: port["device_id"] == item["id"],
            "security-groups": lambda port: item["id"] in port.get("security_groups", ()),
        }
        if kind in used and any(map(used[kind], self._project.items["ports"])):
            raise Conflict(f"Neutron answers DELETE /{kind} with 409: in use")
        self._project.items[kind].remove(item)
        if kind == "networks":
            subnets = self._project.items["subnets"]
            subnets[:] = [each for each in subnets if each["network_id"] != item["id"]]

    def _plug(self, router: Item, action: str, subnet_id: str) -> None:
        ports = self._project.items["ports"]
        subnet = self._item(self._project.items["subnets"], subnet_id)
        if action == "add_router_interface":
            self._project.add(
                "ports",
                network_id=subnet["network_id"],
                device_owner="network:router_interface",
                device_id=router["id"],
                fixed_ips=[{"subnet_id": subnet_id, "ip_address": subnet["gateway_ip"]}],
            )
        else:
            ports[:] = [
                port
                for port in ports
                if port["device_id"] != router["id"]
                or port["fixed_ips"][0]["subnet_id"] != subnet_id
            ]

    def _tag(self, method: str, item: Item, tag: str) -> None:
        if method == "PUT":
            item["tags"].append(tag)
        else:
            item["tags"].remove(tag)

    @staticmethod
    def _item(items: Sequence[Item], item_id: str) -> Item:
        for item in items:
            if item["id"] == item_id:
                return item
        raise NotFound(f"{item_id} could not be found")

    # Glance.

    def _image(self, method: str, path: Sequence[str], body: Any, params: Item) -> Any:
        images = self._project.images
        if method == "POST":
            if body.get("visibility") == "public" and not self._admin:
                raise InvalidRequest("Glance answers POST /images with 403: disallowed by policy")
            return self._project.add_image(**{"owner": self._own, **body})
        if path[1:] == []:
            wanted = {key: value for key, value in params.items() if key in {"name", "owner"}}
            return {
                "images": [
                    image
                    for image in images
                    if all(image[key] == value for key, value in wanted.items())
                    and params.get("tag", "") in [*image["tags"], ""]
                ]
            }
        image = self._item(images, path[1])
        if path[2:3] == ["tags"]:
            return self._tag(method, image, path[3])
        if path[2:3] == ["file"]:
            return self._receive(image, body)
        if method == "DELETE":
            return images.remove(image)
        for change in body or ():
            image[change["path"].lstrip("/")] = change["value"]
        return image

    def _receive(self, image: Item, body: Any) -> None:
        assert isinstance(body, Stream)
        if image["status"] != "queued":
            raise Conflict("Glance answers PUT /images with 409: status transition")
        data = b"".join(iter(lambda: body.read(1000), b""))
        assert len(data) == len(body)
        self._project.store(image, data)

    # Nova.

    def _compute(self, method: str, path: Sequence[str], body: Any, params: Item) -> Any:
        keypairs = self._project.keypairs
        if path[0] == "flavors":
            if path[1:]:
                return {"flavor": self._item(self._project.flavors, path[1])}
            return {"flavors": self._project.flavors}
        if method == "POST":
            return {"keypair": self.add_keypair(body["keypair"])}
        if not path[1:]:
            return {"keypairs": [{"keypair": each} for each in keypairs.values()]}
        if path[1] not in keypairs:
            raise NotFound(f"Keypair {path[1]} not found")
        return {"keypair": keypairs[path[1]]}

    def add_keypair(self, body: Item) -> Item:
        """Import a key."""
        if body["name"] in self._project.keypairs:
            raise Conflict("Nova answers POST /os-keypairs with 409: it exists")
        blob = base64.b64decode(body["public_key"].split()[1])
        digest = hashlib.md5(blob, usedforsecurity=False).digest()
        self._project.keypairs[body["name"]] = {**body, "fingerprint": digest.hex(":")}
        return self._project.keypairs[body["name"]]


def _rewrite(rule: Item) -> None:
    """As Neutron does before it stores a rule."""
    if (rule.get("port_range_min"), rule.get("port_range_max")) == (1, 65535):
        rule["port_range_min"] = rule["port_range_max"] = None
    if rule["ethertype"] == "IPv6":
        ipv6_icmp = {"icmp": "ipv6-icmp", "icmpv6": "ipv6-icmp", "1": "58"}
        rule["protocol"] = ipv6_icmp.get(rule["protocol"], rule["protocol"])
