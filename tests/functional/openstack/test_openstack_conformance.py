from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from voluptuous import Schema

from isoneph.core.clock import SystemClock
from isoneph.core.model import Vm
from isoneph.core.plugin import Cloud
from isoneph.core.testing import CloudConformance, make_environment
from isoneph.plugins.clouds.openstack import OpenstackCloud

CLOUD = "uniform"


class TestOpenstackCloud(CloudConformance):
    boot_timeout = 120.0
    delete_timeout = 60.0
    parallel = 8
    reuses_cloud_ids = False
    #: What the cloud's options say beside how to get in.
    settings: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _project(self, tmp_path: Path, openstack_clouds: Path, network: str) -> Iterator[None]:
        """The cloud past the driver, for what a driver would not do."""
        kind, self.network = type(self), network
        wanted = {"flavor": "tiny", "image": "tiny", "networks": [network]}
        kind.type_options = Schema(OpenstackCloud.type_schema)(wanted)
        kind.bad_type_options = {**kind.type_options, "flavor": "tinny"}
        self.access = yaml.safe_load(openstack_clouds.read_text())["clouds"][CLOUD]
        driver = self.make_cloud(tmp_path)
        self.api = driver.api
        self.foreign: list[str] = []
        self.leaving: list[str] = []
        yield
        for server_id in self.foreign:
            self.api.call("DELETE", "compute", f"/servers/{server_id}")
        driver.close()

    def make_cloud(self, tmp_path: Path) -> OpenstackCloud:
        options = Schema(OpenstackCloud.schema)({**self.access, **self.settings})
        return OpenstackCloud(options, make_environment(CLOUD, clock=SystemClock(), timeout=60.0))

    def add_foreign_vm(self, cloud: Cloud) -> str | None:
        body = {
            "name": f"foreign-{secrets.token_hex(4)}",
            "flavorRef": self._id("compute", "/flavors", "flavors", "tiny"),
            "imageRef": self._id("image", "/images", "images", "tiny"),
            "networks": [{"uuid": self._id("network", "/networks", "networks", self.network)}],
            "metadata": {"isoneph-application": "conformance"},
        }
        made = self.api.call("POST", "compute", "/servers", body={"server": body})
        self.foreign.append(made.body["server"]["id"])
        return self.foreign[-1]

    def has_foreign_vm(self, cloud: Cloud, cloud_id: str) -> bool:
        server = self.api.call("GET", "compute", f"/servers/{cloud_id}").body["server"]
        return bool(server["OS-EXT-STS:task_state"] != "deleting")

    def provoke_leftover(self, cloud: Cloud, vm: Vm) -> bool:
        self.leaving.append(vm.cloud_id)
        return True

    def wait_until_gone(self, cloud: Cloud, vm: Vm) -> None:
        """Then there is a port again, as when Neutron did not hear of the server's end."""
        super().wait_until_gone(cloud, vm)
        if vm.cloud_id in self.leaving:
            self.leaving.remove(vm.cloud_id)
            port = {
                "network_id": self._id("network", "/networks", "networks", self.network),
                "device_id": vm.cloud_id,
                "device_owner": "compute:nova",
            }
            self.api.call("POST", "network", "/ports", body={"port": port})

    def _id(self, service: str, path: str, key: str, name: str) -> str:
        items = self.api.call("GET", service, path).body[key]
        return next(str(item["id"]) for item in items if item["name"] == name)


class TestOpenstackCloudAsIn2014(TestOpenstackCloud):
    """Microversion 2.1 is what every Nova with microversions at all has."""

    settings: ClassVar[Mapping[str, Any]] = {"compute_default_microversion": "2.1"}
