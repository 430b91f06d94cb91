"""What an OpenStack project in memory has, and how tests add to it past the driver."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from isoneph.core.testing import FakeClock

BOOT_SECONDS = 3.0
DELETE_SECONDS = 1.0
OUR_PROJECT = "our-project"

Item = dict[str, Any]


def ident() -> str:
    """A fresh id."""
    return str(uuid.uuid4())


class Holdings:
    """Servers and what they are made of, as :class:`fake_openstack.FakeApi` tells of them."""

    def __init__(self, clock: FakeClock, version: tuple[int, int], page: int) -> None:
        self.clock = clock
        self.version = version
        self.page = page
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
