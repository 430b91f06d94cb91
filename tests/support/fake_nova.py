"""Nova of an OpenStack project in memory: what it answered on a real cloud, in its own JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fake_holdings import BOOT_SECONDS, DELETE_SECONDS, OUR_PROJECT, Holdings, Item, ident
from isoneph.core.errors import InvalidRequest, OutcomeUnknown, Unreachable
from isoneph.plugins.clouds.openstack.errors import Conflict, NotFound

_FIRST_ADDRESS = 10
#: From which microversion on Nova tells of servers in cells that are down.
PARTIAL = (2, 69)


class FakeNova(Holdings):
    """Nova's part of the project, one method for each request."""

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


def _partial(server_id: str) -> Item:
    """All that Nova knows of a server in a cell that is down."""
    return {"id": server_id, "status": "UNKNOWN", "tenant_id": OUR_PROJECT}
