"""An OpenStack project in memory, behind the same face as the driver's ``Api``: what services
answered on a real cloud, in their own JSON."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fake_holdings import OUR_PROJECT, Item, ident
from fake_nova import FakeNova
from isoneph.core.errors import CloudError, InvalidRequest
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.openstack.api import Answer
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.errors import NotFound


class FakeApi(FakeNova):
    """One project. ``calls`` counts what was asked, as in ``POST /servers``; ``faults`` are
    raised by the next call of that name; ``before`` is run ahead of each call."""

    def __init__(
        self, clock: FakeClock | None = None, version: tuple[int, int] = (2, 103), page: int = 1000
    ) -> None:
        super().__init__(clock or FakeClock(), version, page)
        self.services = {"compute", "network", "image"}
        self.calls: Counter[str] = Counter()
        self.bodies: list[tuple[str, Any]] = []
        self.queries: list[tuple[str, Mapping[str, Any]]] = []
        self.headers: list[tuple[str, Mapping[str, str]]] = []
        self.faults: dict[str, list[CloudError]] = {}
        self.before: Callable[[str], None] = lambda name: None
        self.closed = 0
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

    def posted(self, name: str = "POST /servers") -> list[Any]:
        """The bodies of all calls of that name."""
        return [body for called, body in self.bodies if called == name]

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
