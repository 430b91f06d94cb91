"""The driver on EC2, as moto's server plays it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from voluptuous import Schema

from isoneph.core import identity
from isoneph.core.clock import SystemClock
from isoneph.core.model import Vm
from isoneph.core.plugin import Cloud
from isoneph.core.testing import CloudConformance, build_plugin, make_environment
from isoneph.plugins.clouds.libcloud import LibcloudCloud
from moto_server import IMAGE, MotoServer

TYPE = Schema(LibcloudCloud.type_schema)


@pytest.fixture(scope="module")
def ec2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    server = MotoServer(tmp_path_factory.mktemp("moto") / "moto.log")
    yield server
    server.close()


class TestLibcloudOnEc2(CloudConformance):
    type_options: ClassVar[Mapping[str, Any]] = TYPE({"size": "t3.micro", "image": IMAGE})
    bad_type_options: ClassVar[Mapping[str, Any] | None] = TYPE(
        {"size": "t3.micro", "image": "ami-0123456789abcdef0"}
    )
    boot_timeout = 20.0
    delete_timeout = 20.0
    #: "instance IDs are never reused": the driver deletes by id, without a look.
    reuses_cloud_ids = False

    @pytest.fixture(autouse=True)
    def _server(self, ec2: MotoServer) -> None:
        self.ec2 = ec2

    def make_cloud(self, tmp_path: Path) -> Cloud:
        options = self.ec2.options(max_vms=1000, calls_per_second=1000)
        del options["driver"]
        environment = make_environment("public", clock=SystemClock())
        return build_plugin(LibcloudCloud, options, environment=environment)

    def unknown_cloud_id(self) -> str:
        return "i-0123456789abcdef0"

    def add_foreign_vm(self, cloud: Cloud) -> str | None:
        answer = self.ec2.call(
            "RunInstances", ImageId=IMAGE, InstanceType="t3.micro", MinCount="1", MaxCount="1"
        )
        found = re.search("<instanceId>(.*?)</instanceId>", answer)
        assert found is not None
        return found[1]

    def has_foreign_vm(self, cloud: Cloud, cloud_id: str) -> bool:
        return "<name>running</name>" in self.ec2.call("DescribeInstances", InstanceId__1=cloud_id)

    def provoke_leftover(self, cloud: Cloud, vm: Vm) -> bool:
        """A volume that was taken off the VM before it was deleted."""
        self.ec2.call(
            "CreateVolume",
            AvailabilityZone="eu-central-1a",
            Size="1",
            TagSpecification__1__ResourceType="volume",
            TagSpecification__1__Tag__1__Key=identity.TAG_APPLICATION,
            TagSpecification__1__Tag__1__Value=vm.application,
            TagSpecification__1__Tag__2__Key=identity.TAG_ID,
            TagSpecification__1__Tag__2__Value=vm.id,
        )
        return True
