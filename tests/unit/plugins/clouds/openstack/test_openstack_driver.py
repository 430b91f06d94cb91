from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pytest_mock import MockerFixture

from fake_openstack import FakeApi
from isoneph.core.errors import InvalidRequest
from isoneph.core.model import Preparation, Quota, Vm
from isoneph.core.plugin import Cloud
from isoneph.core.testing import CloudConformance
from isoneph.plugins.clouds.openstack import OpenstackCloud
from isoneph.plugins.clouds.openstack.errors import Forbidden
from openstack_drivers import WORKER, make_driver, request_for, worker_options


class TestOpenstackCloudOnAFake(CloudConformance):
    type_options: ClassVar[Mapping[str, Any]] = worker_options()
    bad_type_options: ClassVar[Mapping[str, Any] | None] = worker_options(flavor="tinny")
    reuses_cloud_ids = False
    boot_timeout = 30.0
    delete_timeout = 30.0

    @pytest.fixture(autouse=True)
    def _project(self) -> None:
        self.api = FakeApi()

    def make_cloud(self, tmp_path: Path) -> Cloud:
        return make_driver(self.api)

    def add_foreign_vm(self, cloud: Cloud) -> str | None:
        return str(self.api.add_server()["id"])

    def has_foreign_vm(self, cloud: Cloud, cloud_id: str) -> bool:
        return cloud_id in self.api.servers

    def provoke_leftover(self, cloud: Cloud, vm: Vm) -> bool:
        self.api.add_port(device_id=vm.cloud_id)
        return True


class TestOldestOpenstackCloudOnAFake(TestOpenstackCloudOnAFake):
    @pytest.fixture(autouse=True)
    def _project(self) -> None:
        self.api = FakeApi(version=(2, 1))


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def cloud(api: FakeApi) -> OpenstackCloud:
    return make_driver(api)


def test_a_vm_costs_one_create_and_one_delete(api: FakeApi, cloud: OpenstackCloud) -> None:
    cloud.create_vm(request_for())  # the names are read with the first one
    api.calls.clear()
    made = [cloud.create_vm(request_for()) for _ in range(5)]
    for vm in made:
        cloud.delete_vm(vm)
    assert api.calls == {"POST /servers": 5, "DELETE /servers/ID": 5}


def test_what_a_vm_takes() -> None:
    assert OpenstackCloud.takes(worker_options()) == {"ports": 2}
    assert OpenstackCloud.takes(worker_options(networks=None)) == {"ports": 1}
    assert OpenstackCloud.takes(worker_options(networks="none")) == {}
    full = worker_options(floating_network="ext", boot_volume={"size_gb": 20})
    assert OpenstackCloud.takes(full) == {
        "ports": 2,
        "floating_ips": 1,
        "volumes": 1,
        "gigabytes": 20,
    }


def test_start_asks_nobody_and_close_closes(api: FakeApi, cloud: OpenstackCloud) -> None:
    cloud.start()
    assert not api.calls
    cloud.close()
    assert api.closed == 1


def test_a_locked_server_cannot_be_deleted(api: FakeApi, cloud: OpenstackCloud) -> None:
    vm = cloud.create_vm(request_for())
    api.locked.add(vm.cloud_id)
    with pytest.raises(InvalidRequest, match="is locked: somebody ran `openstack server lock`"):
        cloud.delete_vm(vm)


def test_limits_of_all_services(api: FakeApi, cloud: OpenstackCloud) -> None:
    api.services.add("volume")
    api.add_server()
    api.add_port()
    assert cloud.get_limits() == {
        "instances": Quota(limit=10, used=1),
        "cores": Quota(limit=None, used=1),
        "ram": Quota(limit=None, used=128),
        "ports": Quota(limit=50, used=2),
        "floating_ips": Quota(limit=None, used=0),
        "volumes": Quota(limit=10, used=0),
        "gigabytes": Quota(limit=None, used=7),
    }


def test_limits_count_what_nova_counts_later(api: FakeApi, cloud: OpenstackCloud) -> None:
    api.add_server(status="BUILD", flavor={"vcpus": 4, "ram": 512})
    api.add_server(status="BUILD", flavor={"id": "before-2.47"})
    api.add_server(status="ERROR", flavor={"vcpus": 64, "ram": 512})
    limits = cloud.get_limits()
    assert {name: limits[name].used for name in ("instances", "cores", "ram")} == {
        "instances": 2,
        "cores": 4,
        "ram": 512,
    }


def test_limits_that_are_not_told_are_left_out(api: FakeApi, cloud: OpenstackCloud) -> None:
    api.extensions.remove("quota_details")
    api.services.add("volume")
    api.faults["GET /limits"] = [Forbidden("not yours")]
    for _ in range(2):
        assert set(cloud.get_limits()) == {"volumes", "gigabytes"}
    assert api.calls["GET /extensions"] == 1
    assert api.calls["GET /limits"] == 3, "Nova's, which are forbidden, are asked for once"


@pytest.mark.parametrize("administrator", [True, False])
def test_a_preparation_is_handed_on(
    api: FakeApi, cloud: OpenstackCloud, mocker: MockerFixture, *, administrator: bool
) -> None:
    prepare = mocker.patch("isoneph.plugins.clouds.openstack.driver.preparing.prepare")
    admin_api = FakeApi() if administrator else None
    admin = make_driver(admin_api) if admin_api else None
    preparation = Preparation(application="mme")
    assert cloud.prepare(preparation, admin) is prepare.return_value
    prepare.assert_called_once_with(api, admin_api, preparation, cloud.environment)


def test_the_shortest_type() -> None:
    assert worker_options(networks=None) == {**WORKER, "networks": "auto"}
