"""An OpenStack project in memory, behind the same face as the driver's ``Api``: what services
answered on a real cloud, in their own JSON."""

from __future__ import annotations

import re
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from isoneph.core.errors import CloudError, InvalidRequest, OutcomeUnknown, Unreachable
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.openstack.api import Answer
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.errors import Conflict, NotFound

BOOT_SECONDS = 3.0
DELETE_SECONDS = 1.0
_FIRST_ADDRESS = 10
#: From which microversion on Nova tells of servers in cells that are down.
PARTIAL = (2, 69)
OUR_PROJECT = "our-project"

Item = dict[str, Any]


def ident() -> str:
    """A fresh id."""
    return str(uuid.uuid4())


class FakeApi:
    """One project. ``calls`` counts what was asked, as in ``POST /servers``; ``faults`` are
    raised by the next call of that name; ``before`` is run ahead of each call."""

    def __init__(
        self, clock: FakeClock | None = None, version: tuple[int, int] = (2, 103), page: int = 1000
    ) -> None:
        self.clock = clock or FakeClock()
        self.version = version
        self.page = page
        self.services = {"compute", "network", "image"}
        self.calls: Counter[str] = Counter()
        self.bodies: list[tuple[str, Any]] = []
        self.queries: list[tuple[str, Mapping[str, Any]]] = []
        self.headers: list[tuple[str, Mapping[str, str]]] = []
        self.faults: dict[str, list[CloudError]] = {}
        self.before: Callable[[str], None] = lambda name: None
        self.closed = 0
        self.servers: dict[str, Item] = {}
        self.deleted: dict[str, Item] = {}
        self.down: set[str] = set()
        self.locked: set[str] = set()
        self.flavors = {"tiny": ident(), "small": ident()}
        self.images = {"tiny": ident()}
        self.networks = {"net": ident(), "mgmt": ident()}
        self.external = {"ext": ident()}
        self.security_groups = {"default": ident(), "ssh": ident()}
        self.keypairs = ["key"]
        self.zones = ["nova"]
        self.volume_types = {"ssd": ident()}
        #: What else lists of names have, by the last part of their path.
        self.twins: dict[str, list[Item]] = {}
        self.extensions = ["router", "quota_details"]
        self.ports: dict[str, Item] = {}
        self.floating_ips: dict[str, Item] = {}
        self.volumes: dict[str, Item] = {}
        self.groups: dict[str, Item] = {}
        self._lock = threading.RLock()

    # The face of Api.

    def deadline(self) -> Deadline:
        """The end of a verb."""
        return Deadline.after(self.clock, 27.0)

    def close(self) -> None:
        """Count it."""
        self.closed += 1

    def compute_version(self, deadline: Deadline) -> tuple[int, int]:
        """What Nova speaks."""
        return self.version

    def project_id(self, deadline: Deadline) -> str:
        """The one project."""
        return OUR_PROJECT

    def has_service(self, service: str, deadline: Deadline) -> bool:
        """Whether the catalog has it."""
        return service in self.services

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
        assert deadline is not None, "every call has the deadline of its verb"
        assert service in self.services
        name = f"{method} {re.sub('/[0-9a-f-]{36}', '/ID', path)}"
        self.before(name)
        with self._lock:
            self.calls[name] += 1
            self.queries.append((name, params or {}))
            self.headers.append((name, headers or {}))
            if body is not None:
                self.bodies.append((name, body))
            if self.faults.get(name):
                raise self.faults[name].pop(0)
            for pattern, answer in _ROUTES:
                found = re.fullmatch(pattern, f"{method} {service} {path}")
                if found:
                    said = answer(self, *found.groups(), body=body, params=params or {})
                    return Answer(200, said, {})
        raise AssertionError(f"nobody answers {method} {service} {path}")

    # What tests do past the driver.

    def add_server(self, **said: Any) -> Item:
        """A server that is ACTIVE, by default of somebody else's."""
        server = {
            "id": ident(),
            "name": "other",
            "status": "ACTIVE",
            "metadata": {},
            "addresses": {},
            "OS-EXT-STS:task_state": None,
            "created_at": self.clock.time() - BOOT_SECONDS,
            "description": None,
            **said,
        }
        self.servers[server["id"]] = server
        return server

    def add_port(self, **said: Any) -> Item:
        """A port as Nova makes it."""
        port = {
            "id": ident(),
            "name": "",
            "description": "",
            "device_id": "",
            "device_owner": "compute:nova",
            "created_at": self.now(),
            **said,
        }
        self.ports[port["id"]] = port
        return port

    def add_volume(self, **said: Any) -> Item:
        """A volume that is free."""
        volume = {"id": ident(), "status": "available", "metadata": {}, "attachments": [], **said}
        self.volumes[volume["id"]] = volume
        return volume

    def kill(self, server_id: str) -> None:
        """Let a server be gone, with nothing that it had."""
        server = self.servers.pop(server_id)
        server |= {"status": "DELETED", "metadata": {}, "addresses": {}}
        self.deleted[server_id] = server
        for group in self.groups.values():
            if server_id in group["members"]:
                group["members"].remove(server_id)

    def now(self) -> str:
        """The time as services write it."""
        return datetime.fromtimestamp(self.clock.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def posted(self, name: str = "POST /servers") -> list[Any]:
        """The bodies of all calls of that name."""
        return [body for called, body in self.bodies if called == name]

    # Nova.

    def create_server(self, *, body: Any, params: Any) -> Any:
        wanted = body["server"]
        source = wanted.get("imageRef") or wanted["block_device_mapping_v2"][0]["uuid"]
        self._check(wanted["flavorRef"] in self.flavors.values(), "Flavor could not be found.")
        self._check(source in self.images.values(), "Can not find requested image")
        self._check(wanted.get("key_name", "key") in self.keypairs, "Invalid key_name provided.")
        zone = wanted.get("availability_zone", "nova").partition(":")[0]
        self._check(zone in self.zones, "The requested availability zone is not available")
        for group in wanted.get("security_groups", ()):
            known = group["name"] in self.security_groups
            self._check(known, f"Unable to find security_group with name or id '{group['name']}'")
        group_id = body.get("os:scheduler_hints", {}).get("group")
        found = group_id is None or group_id in self.groups
        self._check(found, f"Instance group {group_id} could not be found.")
        server = self.add_server(
            name=wanted["name"],
            status="BUILD",
            metadata=dict(wanted["metadata"]),
            created_at=self.clock.time(),
            description=wanted.get("description"),
        )
        if group_id is not None:
            self.groups[group_id]["members"].append(server["id"])
        asked = wanted.get("networks", "auto")
        if asked == "auto" and len(self.networks) > 1:
            del self.servers[server["id"]]
            raise Conflict("409: Multiple possible networks found, use a Network ID")
        self._plug(server, [] if isinstance(asked, str) else asked)
        return {"server": {"id": server["id"], "links": [], "adminPass": "secret"}}

    def _plug(self, server: Item, asked: Sequence[Mapping[str, str]]) -> None:
        server["ports"] = []
        for network in asked:
            if "port" in network:
                port = self.ports[network["port"]]
            else:
                known = network["uuid"] in self.networks.values()
                self._check(known, f"Network {network['uuid']} could not be found.")
                port = self.add_port(network_id=network["uuid"], made_by_nova=True)
            port |= {"device_id": server["id"], "device_owner": "compute:nova"}
            server["ports"].append(port["id"])

    def list_servers(self, *, body: Any, params: Any) -> Any:
        """Servers of cells that are down are told of on the first page only, as far as it has
        room, and not to those who filter."""
        self._let_time_pass()
        there = [dict(server) for key, server in self.servers.items() if key not in self.down]
        if "changes-since" in params:
            there += list(self.deleted.values())
        marker = params.get("marker", [None])[0]
        ids = [server["id"] for server in there]
        begin = ids.index(marker) + 1 if marker else 0
        page = there[begin : begin + self.page]
        partial: list[Item] = []
        if self.version >= PARTIAL and not params:
            partial = [_partial(key) for key in self.servers if key in self.down]
        answer: Item = {"servers": [*partial[: self.page - len(page)], *page]}
        if begin + self.page < len(there):
            href = f"http://inside.example/v2.1/servers/detail?marker={page[-1]['id']}"
            answer["servers_links"] = [{"rel": "next", "href": href}]
        return answer

    def get_server(self, server_id: str, *, body: Any, params: Any) -> Any:
        self._let_time_pass()
        if server_id not in self.servers:
            raise NotFound(f"Instance {server_id} could not be found.")
        if server_id not in self.down:
            return {"server": dict(self.servers[server_id])}
        if self.version < PARTIAL:
            raise Unreachable("Nova answers GET /servers with 500: Unexpected API Error.")
        return {"server": _partial(server_id)}

    def delete_server(self, server_id: str, *, body: Any, params: Any) -> None:
        self.get_server(server_id, body=None, params={})
        if server_id in self.locked:
            raise Conflict(f"Nova answers 409: Instance {server_id} is locked")
        if server_id in self.down:
            raise OutcomeUnknown("Nova answers DELETE /servers with 500: Unexpected API Error.")
        server = self.servers[server_id]
        if server["OS-EXT-STS:task_state"] is None:
            server |= {"OS-EXT-STS:task_state": "deleting", "delete_at": self.clock.time()}

    def _let_time_pass(self) -> None:
        now = self.clock.time()
        for server in list(self.servers.values()):
            if server["status"] == "BUILD" and now >= server["created_at"] + BOOT_SECONDS:
                server["status"] = "ACTIVE"
                server["addresses"] = self._addresses(server)
            if now >= server.get("delete_at", now + 1) + DELETE_SECONDS:
                self.kill(server["id"])
                for port_id in server.get("ports", ()):
                    self._unplug(port_id)

    def _addresses(self, server: Item) -> Item:
        """As Nova tells them, the floating one too."""
        names = {network: name for name, network in self.networks.items()}
        return {
            names[self.ports[port]["network_id"]]: [
                {"addr": f"10.0.{number}.{_FIRST_ADDRESS}", "OS-EXT-IPS:type": "fixed"}
            ]
            for number, port in enumerate(server.get("ports", ()))
            if port in self.ports
        }

    def _unplug(self, port_id: str) -> None:
        port = self.ports.get(port_id, {})
        if port.get("made_by_nova"):
            del self.ports[port_id]
        else:
            port |= {"device_id": "", "device_owner": ""}

    def _check(self, good: bool, message: str) -> None:
        if not good:
            raise InvalidRequest(f"Nova answers POST /servers with 400: {message}")

    def list_groups(self, *, body: Any, params: Any) -> Any:
        return {"server_groups": [dict(group) for group in self.groups.values()]}

    def create_group(self, *, body: Any, params: Any) -> Any:
        group = {"id": ident(), "members": [], **body["server_group"]}
        self.groups[group["id"]] = group
        return {"server_group": group}

    def get_group(self, group_id: str, *, body: Any, params: Any) -> Any:
        if group_id not in self.groups:
            raise NotFound(f"Instance group {group_id} could not be found.")
        return {"server_group": self.groups[group_id]}

    def delete_group(self, group_id: str, *, body: Any, params: Any) -> None:
        self.get_group(group_id, body=None, params={})
        del self.groups[group_id]

    def compute_limits(self, *, body: Any, params: Any) -> Any:
        counted = sum(server["status"] != "BUILD" for server in self.servers.values())
        absolute = {
            "maxTotalInstances": 10,
            "totalInstancesUsed": counted,
            "maxTotalCores": -1,
            "totalCoresUsed": counted,
            "maxTotalRAMSize": -1,
            "totalRAMUsed": 128 * counted,
        }
        return {"limits": {"rate": [], "absolute": absolute}}

    def list_keypairs(self, *, body: Any, params: Any) -> Any:
        return {"keypairs": [{"keypair": {"name": name}} for name in self.keypairs]}

    def list_zones(self, *, body: Any, params: Any) -> Any:
        return {"availabilityZoneInfo": [{"zoneName": name} for name in self.zones]}

    # Neutron.

    def list_ports(self, *, body: Any, params: Any) -> Any:
        return {"ports": _with_id(self.ports, params)}

    def create_port(self, *, body: Any, params: Any) -> Any:
        return {"port": self.add_port(**{"device_owner": "", **body["port"]})}

    def list_floating_ips(self, *, body: Any, params: Any) -> Any:
        return {"floatingips": _with_id(self.floating_ips, params)}

    def create_floating_ip(self, *, body: Any, params: Any) -> Any:
        one = {"id": ident(), **body["floatingip"]}
        self.floating_ips[one["id"]] = one
        return {"floatingip": one}

    def delete_of_network(self, kind: str, item_id: str, *, body: Any, params: Any) -> None:
        items = {"ports": self.ports, "floatingips": self.floating_ips}[kind]
        if item_id not in items:
            raise NotFound(f"{kind} {item_id} could not be found.")
        del items[item_id]
        for one in self.floating_ips.values():
            if one["port_id"] == item_id:
                one["port_id"] = None

    def network_quota(self, project: str, *, body: Any, params: Any) -> Any:
        ports = {"limit": 50, "used": len(self.ports), "reserved": 1}
        return {"quota": {"port": ports, "floatingip": {"limit": -1, "used": 0, "reserved": 0}}}

    # Cinder.

    def list_volumes(self, *, body: Any, params: Any) -> Any:
        return {"volumes": [dict(volume) for volume in self.volumes.values()]}

    def get_volume(self, volume_id: str, *, body: Any, params: Any) -> Any:
        if volume_id not in self.volumes:
            raise NotFound(f"Volume {volume_id} could not be found.")
        return {"volume": self.volumes[volume_id]}

    def mark_volume(self, volume_id: str, *, body: Any, params: Any) -> Any:
        self.volumes[volume_id]["metadata"].update(body["metadata"])
        return {"metadata": {}}

    def unmark_volume(self, volume_id: str, key: str, *, body: Any, params: Any) -> None:
        del self.volumes[volume_id]["metadata"][key]

    def act_on_volume(self, volume_id: str, *, body: Any, params: Any) -> None:
        gone = body["os-detach"]["attachment_id"]
        volume = self.volumes[volume_id]
        kept = [one for one in volume["attachments"] if one["attachment_id"] != gone]
        volume |= {"attachments": kept, "status": "in-use" if kept else "available"}

    def delete_volume(self, volume_id: str, *, body: Any, params: Any) -> None:
        if self.volumes[volume_id]["status"] != "available":
            raise InvalidRequest("Volume status must be available or error")
        del self.volumes[volume_id]

    def volume_limits(self, *, body: Any, params: Any) -> Any:
        absolute = {
            "maxTotalVolumes": 10,
            "totalVolumesUsed": len(self.volumes),
            "maxTotalVolumeGigabytes": -1,
            "totalGigabytesUsed": 7,
        }
        return {"limits": {"rate": [], "absolute": absolute}}

    def list_names(self, path: str, *, body: Any, params: Any) -> Any:
        external = "router:external" in params
        names = {
            "flavors": self.flavors,
            "images": self.images,
            "networks": self.external if external else {**self.networks, **self.external},
            "security-groups": self.security_groups,
            "types": self.volume_types,
        }[path]
        items = [{"id": one, "name": name} for name, one in names.items()]
        items += self.twins.get(path, [])
        return {{"types": "volume_types"}.get(path, path.replace("-", "_")): items}

    def list_extensions(self, *, body: Any, params: Any) -> Any:
        return {"extensions": [{"alias": alias} for alias in self.extensions]}


def _with_id(items: Mapping[str, Item], params: Mapping[str, Any]) -> list[Item]:
    """The items of a list of Neutron's, which knows no empty filter."""
    return [dict(item) for item in items.values() if params.get("id") in {None, "", item["id"]}]


def _partial(server_id: str) -> Item:
    """All that Nova knows of a server in a cell that is down."""
    return {"id": server_id, "status": "UNKNOWN", "tenant_id": OUR_PROJECT}


_ID = "([0-9a-f-]{36})"
_ROUTES: Sequence[tuple[str, Callable[..., Any]]] = (
    ("POST compute /servers", FakeApi.create_server),
    ("GET compute /servers/detail", FakeApi.list_servers),
    (f"GET compute /servers/{_ID}", FakeApi.get_server),
    (f"DELETE compute /servers/{_ID}", FakeApi.delete_server),
    ("GET compute /os-server-groups", FakeApi.list_groups),
    ("POST compute /os-server-groups", FakeApi.create_group),
    (f"GET compute /os-server-groups/{_ID}", FakeApi.get_group),
    (f"DELETE compute /os-server-groups/{_ID}", FakeApi.delete_group),
    ("GET compute /limits", FakeApi.compute_limits),
    ("GET compute /os-keypairs", FakeApi.list_keypairs),
    ("GET compute /os-availability-zone", FakeApi.list_zones),
    ("GET network /ports", FakeApi.list_ports),
    ("POST network /ports", FakeApi.create_port),
    ("GET network /floatingips", FakeApi.list_floating_ips),
    ("POST network /floatingips", FakeApi.create_floating_ip),
    (f"DELETE network /(ports|floatingips)/{_ID}", FakeApi.delete_of_network),
    ("GET network /quotas/([^/]+)/details.json", FakeApi.network_quota),
    ("GET network /extensions", FakeApi.list_extensions),
    ("GET volume /volumes/detail", FakeApi.list_volumes),
    (f"GET volume /volumes/{_ID}", FakeApi.get_volume),
    (f"POST volume /volumes/{_ID}/metadata", FakeApi.mark_volume),
    (f"DELETE volume /volumes/{_ID}/metadata/([^/]+)", FakeApi.unmark_volume),
    (f"POST volume /volumes/{_ID}/action", FakeApi.act_on_volume),
    (f"DELETE volume /volumes/{_ID}", FakeApi.delete_volume),
    ("GET volume /limits", FakeApi.volume_limits),
    (r"GET \w+ /(flavors|images|networks|security-groups|types)", FakeApi.list_names),
)
