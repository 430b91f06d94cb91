"""What each cloud has from the start: users, endpoints, flavors, an image, a public network.

All of it is made only where it is missing.
"""

from __future__ import annotations

import http.client
from typing import Any

from .configuration import APPLICATION_CREDENTIAL
from .rest import Refusal, Rest
from .services import APIS, services_of
from .settings import PROJECT, PUBLIC_RANGES, REGION, Settings

#: Name: vCPUs, MiB of memory, GiB of disk.
FLAVORS = {
    "tiny": (1, 128, 1),
    "small": (1, 2048, 20),
    "medium": (2, 4096, 40),
    "large": (4, 8192, 80),
    # No host has so much memory: "No valid host was found".
    "impossible": (1, 900_000_000, 1),
}
IMAGE = "tiny"
PUBLIC_NETWORK = "public"


class Provisioning:
    """What is made in one cloud."""

    def __init__(self, settings: Settings, cloud: str) -> None:
        self._settings = settings
        self._cloud = cloud
        self._admin = Rest.admin(settings, cloud)
        #: The APIs by the names of their projects, which are those of their users too.
        self._apis = {
            service.partition("-")[0]: APIS[service]
            for service in services_of(settings)
            if service in APIS
        }

    def identities(self) -> None:
        """Services, endpoints, users: needs Keystone alone, and the daemons need it."""
        self._endpoints()
        roles = {
            name: self._named("identity", "roles", {"name": name})
            for name in ("admin", "service", "member", "reader")
        }
        users: dict[str, tuple[str, list[str]]] = {PROJECT: (PROJECT, ["member"])}
        users |= dict.fromkeys(self._apis, ("service", ["admin", "service"]))
        for name, (project, role_names) in users.items():
            project_id = self._named("identity", "projects", {"name": project})
            wanted = {"name": name, "password": self._settings.password}
            user_id = self._named("identity", "users", wanted)
            for role in role_names:
                path = f"/projects/{project_id}/users/{user_id}/roles/{roles[role]}"
                self._admin.call("identity", "PUT", path)

    def resources(self) -> None:
        """Flavors, image, public network, application credential."""
        for name, (vcpus, ram, disk) in FLAVORS.items():
            flavor = {"name": name, "vcpus": vcpus, "ram": ram, "disk": disk}
            self._named("compute", "flavors", flavor)
        self._image()
        self._public_network()
        self._application_credential()

    def reset_quotas(self) -> None:
        """The limits of the user's project as they are by default."""
        member = Rest.member(self._settings, self._cloud)
        member.login()
        for kind in ("compute", "block-storage") if self._settings.volumes else ("compute",):
            self._admin.call(kind, "DELETE", f"/os-quota-sets/{member.project_id}")
        try:
            self._admin.call("network", "DELETE", f"/v2.0/quotas/{member.project_id}")
        except Refusal as refusal:
            if refusal.status != http.client.NOT_FOUND:  # it has none of its own
                raise

    def _endpoints(self) -> None:
        listed = self._admin.call("identity", "GET", "/endpoints")["endpoints"]
        have = {(endpoint["service_id"], endpoint["interface"]) for endpoint in listed}
        for name, api in self._apis.items():
            service = self._named("identity", "services", {"name": name, "type": api.kind})
            for interface in ("public", "internal", "admin"):
                if (service, interface) not in have:
                    endpoint = {
                        "service_id": service,
                        "interface": interface,
                        "region_id": REGION,
                        "url": self._settings.url(self._cloud, api.kind),
                    }
                    self._admin.call("identity", "POST", "/endpoints", {"endpoint": endpoint})

    def _image(self) -> None:
        image = {
            "name": IMAGE,
            "visibility": "public",
            "disk_format": "raw",
            "container_format": "bare",
        }
        path = "/v2/images"
        found = self._admin.call("image", "GET", f"{path}?name={IMAGE}")["images"]
        made = found[0] if found else self._admin.call("image", "POST", path, image)
        if made["status"] == "queued":
            self._admin.call("image", "PUT", f"{path}/{made['id']}/file", bytes(4096))

    def _public_network(self) -> None:
        network = {
            "name": PUBLIC_NETWORK,
            "router:external": True,
            "provider:network_type": "flat",
            "provider:physical_network": PUBLIC_NETWORK,
        }
        network_id = self._named("network", "networks", network)
        subnet = {
            "name": PUBLIC_NETWORK,
            "network_id": network_id,
            "ip_version": 4,
            "cidr": PUBLIC_RANGES[self._cloud],
            "enable_dhcp": False,
        }
        self._named("network", "subnets", subnet)

    def _application_credential(self) -> None:
        member = Rest.member(self._settings, self._cloud)
        member.login()
        path = f"/users/{member.user_id}/application_credentials"
        found = member.call("identity", "GET", f"{path}?name={APPLICATION_CREDENTIAL}")
        if not found["application_credentials"]:
            # With a secret of our choice the file for clients can be written at any time.
            credential = {
                "name": APPLICATION_CREDENTIAL,
                "secret": self._settings.password,
            }
            member.call("identity", "POST", path, {"application_credential": credential})

    def _named(self, kind: str, collection: str, wanted: dict[str, Any]) -> str:
        """The id of the resource with the name that is wanted, made unless it is there."""
        path = f"/v2.0/{collection}" if kind == "network" else f"/{collection}"
        for found in self._admin.call(kind, "GET", path)[collection]:
            if found["name"] == wanted["name"]:
                return str(found["id"])
        single = collection.removesuffix("s")
        made = self._admin.call(kind, "POST", path, {single: wanted})
        return str(made[single]["id"])
