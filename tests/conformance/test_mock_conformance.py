from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from isoneph.core.model import Vm
from isoneph.core.plugin import Cloud
from isoneph.core.testing import CloudConformance, FakeClock, make_environment
from isoneph.plugins.clouds.mock import MockCloud


class TestMockInMemory(CloudConformance):
    resources: ClassVar[Mapping[str, float]] = {"instances": 1, "cores": 2, "ram": 2048}
    type_options: ClassVar[Mapping[str, Any]] = {"boot_seconds": {"uniform": [5, 10]}}
    bad_type_options: ClassVar[Mapping[str, Any] | None] = {"boot_seconds": -1}
    persistent = False
    state = ":memory:"

    @pytest.fixture(autouse=True)
    def _clock(self) -> None:
        self.clock = FakeClock()

    def make_cloud(self, tmp_path: Path) -> Cloud:
        options = {
            "state": self.state.format(tmp_path=tmp_path),
            "delete_seconds": 3.0,
            "quotas": {"instances": 30, "cores": None, "ram": 1e6},
            "latency": {"list": 0.01, "any": {"exponential": 0.01}},
        }
        return MockCloud(options, make_environment("here", clock=self.clock))

    def add_foreign_vm(self, cloud: Cloud) -> str | None:
        assert isinstance(cloud, MockCloud)
        return cloud.simulation.add_vm(tags={"owner": "somebody"})

    def has_foreign_vm(self, cloud: Cloud, cloud_id: str) -> bool:
        assert isinstance(cloud, MockCloud)
        return any(
            vm.cloud_id == cloud_id and vm.state == "ACTIVE" for vm in cloud.simulation.vms()
        )

    def provoke_leftover(self, cloud: Cloud, vm: Vm) -> bool:
        assert isinstance(cloud, MockCloud)
        cloud.simulation.inject("leave_port", count=1)
        return True


class TestMockInAFile(TestMockInMemory):
    persistent = True
    state = "{tmp_path}/state/clouds.db"
