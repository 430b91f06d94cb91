from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from voluptuous import Invalid

from isoneph.core import identity
from isoneph.core.errors import QuotaExceeded, Throttled, Unreachable
from isoneph.core.model import VmRequest, VmState, VmType
from isoneph.core.testing import FakeClock, make_environment, make_request
from isoneph.plugins.clouds.mock import MockCloud, Simulation


class Site:
    """A state file, its clock, and all that was opened on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock()
        self.opened: list[MockCloud | Simulation] = []

    def cloud(self, name: str = "east", **options: Any) -> MockCloud:
        environment = make_environment(name, clock=self.clock)
        cloud = MockCloud({"state": str(self.path), **options}, environment)
        self.opened.append(cloud)
        cloud.start()
        return cloud

    def simulation(self, name: str = "east") -> Simulation:
        simulation = Simulation(self.path, name, time=self.clock.time)
        self.opened.append(simulation)
        return simulation


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "clouds.db")
    yield site
    for opened in site.opened:
        opened.close()


def small_request(application: str = "app") -> VmRequest:
    return make_request(application, VmType(name="small"))


def test_scripts_a_running_cloud_from_outside(site: Site) -> None:
    cloud, simulation = site.cloud(), site.simulation()
    cloud.list_vms("app")
    number = simulation.inject("throttle", call="list", count=5)
    with pytest.raises(Throttled):
        cloud.list_vms("app")
    (record,) = simulation.faults()
    assert (record.id, record.hits, record.remaining) == (number, 1, 4)
    assert not record.configured
    simulation.clear_faults(number)
    cloud.list_vms("app")
    assert simulation.faults() == []


def test_may_come_before_the_cloud(site: Site) -> None:
    with Simulation(site.path, "east", time=site.clock.time) as simulation:
        simulation.begin_outage()
        simulation.override(quotas={"instances": 0})
        simulation.add_vm()
        assert simulation.options == {"quotas": {"instances": 0}}
        assert simulation.calls() == {}
    cloud = site.cloud()
    with pytest.raises(Unreachable):
        cloud.list_vms("app")
    cloud.simulation.end_outage()
    with pytest.raises(QuotaExceeded):
        cloud.create_vm(small_request())


def test_outages_last_or_end(site: Site) -> None:
    cloud, simulation = site.cloud(), site.simulation()
    simulation.begin_outage(seconds=10)
    with pytest.raises(Unreachable):
        cloud.get_limits()
    site.clock.advance(10)
    cloud.get_limits()
    simulation.begin_outage()
    simulation.inject("throttle", call="list")
    simulation.end_outage()
    cloud.get_limits()
    with pytest.raises(Throttled):
        cloud.list_vms("app")


def test_clouds_of_one_file_are_apart(site: Site) -> None:
    east, west = site.cloud("east"), site.cloud("west")
    east.simulation.begin_outage()
    east.simulation.override(quotas={"instances": 0})
    vm = west.create_vm(small_request())
    assert west.simulation.calls() == {"create": 1}
    assert east.simulation.vms() == []
    east.simulation.end_outage()
    assert east.list_vms("app") == []
    assert east.get_vm(vm) is None
    east.delete_vm(vm)
    assert west.get_vm(vm) == replace(vm, state=VmState.ACTIVE)


def test_counts_calls_that_fail_too(site: Site) -> None:
    cloud, simulation = site.cloud(), site.simulation()
    vm = cloud.create_vm(small_request())
    for _ in range(3):
        cloud.list_vms("app")
    simulation.begin_outage()
    with pytest.raises(Unreachable):
        cloud.get_vm(vm)
    assert simulation.calls() == {"create": 1, "list": 3, "get": 1}


def test_overrides_hold_over_restarts_until_restored(site: Site) -> None:
    options: dict[str, Any] = {"quotas": {"instances": 1}, "boot_seconds": 5}
    cloud, simulation = site.cloud(**options), site.simulation()
    simulation.override(quotas={"instances": 2})
    simulation.override(boot_seconds={"uniform": [1, 2]})
    cloud.close()
    cloud = site.cloud(**options)
    assert simulation.options["boot_seconds"] == {"uniform": [1, 2]}
    for _ in range(2):
        cloud.create_vm(small_request())
    simulation.restore()
    assert cloud.get_limits()["instances"].limit == 1
    assert simulation.options["boot_seconds"] == 5


def test_the_options_of_the_last_driver_started_hold(site: Site) -> None:
    first = site.cloud(quotas={"instances": 1})
    site.cloud(quotas={"instances": 9})
    assert first.get_limits()["instances"].limit == 9


def test_refuses_what_is_wrong(site: Site) -> None:
    simulation = site.simulation()
    with pytest.raises(Invalid, match="expected one of quota"):
        simulation.inject("fire")
    with pytest.raises(Invalid, match="befalls only create"):
        simulation.inject("quota", "delete")
    with pytest.raises(Invalid, match="extra keys"):
        simulation.override(quota={})
    with pytest.raises(ValueError, match="cannot be set at run time: faults, state"):
        simulation.override(faults=[], state="x", seed=1)
    with pytest.raises(KeyError, match="east-1"):
        simulation.set_vm_state("east-1", VmState.STOPPED)


def test_foreign_vms_are_seen_by_the_simulation_only(site: Site) -> None:
    cloud, simulation = site.cloud(), site.simulation()
    mine = cloud.create_vm(small_request())
    foreign = [
        simulation.add_vm("legacy", tags={"Name": "legacy"}, resources={"cores": 4}),
        simulation.add_vm("half", type="small", tags={identity.TAG_APPLICATION: "app"}),
        simulation.add_vm("other", tags=small_request("other").tags),
    ]
    assert cloud.list_vms("app") == [replace(mine, state=VmState.ACTIVE)]
    for cloud_id in foreign:
        stale = replace(mine, cloud_id=cloud_id)
        assert cloud.get_vm(stale) is None
        cloud.delete_vm(stale)
    records = simulation.vms()
    assert [vm.cloud_id for vm in records] == [mine.cloud_id, *foreign]
    assert [vm.name for vm in records] == [mine.name, "legacy", "half", "other"]
    assert records[1].resources == {"instances": 1, "cores": 4}
    assert records[1].tags == {"Name": "legacy"}
    assert records[2].type == "small"


def test_a_vm_of_isoneph_can_be_planted(site: Site) -> None:
    """As an orphan that another replica's create left."""
    cloud, simulation = site.cloud(), site.simulation()
    request = small_request()
    cloud_id = simulation.add_vm(request.name, type="small", tags=request.tags)
    (vm,) = cloud.list_vms("app")
    assert (vm.id, vm.cloud_id, vm.state) == (request.id, cloud_id, "ACTIVE")


def test_vms_change_behind_isonephs_back(site: Site) -> None:
    cloud, simulation = site.cloud(delete_seconds=60), site.simulation()
    failing, going, deleting = (cloud.create_vm(small_request()) for _ in range(3))
    simulation.set_vm_state(failing.cloud_id, VmState.ERROR, "host is down")
    simulation.remove_vm(going.cloud_id)
    failed = cloud.get_vm(failing)
    assert failed is not None
    assert (failed.state, failed.fault) == (VmState.ERROR, "host is down")
    assert cloud.get_vm(going) is None
    cloud.delete_vm(deleting)
    simulation.remove_vm(deleting.cloud_id)
    simulation.set_vm_state(failing.cloud_id, VmState.STOPPED)
    assert [(vm.id, vm.state, vm.fault) for vm in cloud.list_vms("app")] == [
        (failing.id, VmState.STOPPED, None)
    ]


def test_configured_faults_stay_used_up_over_restarts(site: Site) -> None:
    faults = [{"fault": "throttle", "count": 1}]
    cloud = site.cloud(faults=faults)
    with pytest.raises(Throttled):
        cloud.list_vms("app")
    cloud.close()
    cloud = site.cloud(faults=faults)
    cloud.list_vms("app")


def test_configured_faults_follow_the_options(site: Site) -> None:
    cloud, simulation = site.cloud(faults=[{"fault": "throttle"}]), site.simulation()
    injected = simulation.inject("quota")
    cloud.close()
    cloud = site.cloud(faults=[{"fault": "outage"}])
    with pytest.raises(Unreachable):
        cloud.list_vms("app")
    assert [(item.fault.fault, item.configured) for item in simulation.faults()] == [
        ("quota", False),
        ("outage", True),
    ]
    assert simulation.faults()[0].id == injected
    simulation.clear_faults()
    cloud.close()
    site.cloud(faults=[{"fault": "outage"}]).list_vms("app")


def test_chance_goes_on_over_restarts(site: Site) -> None:
    options: dict[str, Any] = {"faults": [{"fault": "throttle", "probability": 0.5}], "seed": 3}

    def lots(calls: int) -> list[bool]:
        cloud = site.cloud(**options)
        met = []
        for _ in range(calls):
            try:
                cloud.list_vms("app")
                met.append(False)
            except Throttled:
                met.append(True)
        cloud.close()
        return met

    first, second = lots(32), lots(32)
    assert first != second
    site.path = site.path.with_name("again.db")
    assert lots(64) == first + second


def test_memory_is_private_and_lasts_as_long_as_the_cloud(site: Site) -> None:
    cloud = MockCloud({}, make_environment("east", clock=site.clock))
    cloud.simulation.add_vm(tags=small_request().tags)
    cloud.start()
    assert len(cloud.list_vms("app")) == 1
    cloud.close()
    assert len(cloud.simulation.vms()) == 1
    cloud.start()
    assert len(cloud.list_vms("app")) == 1
    other = MockCloud({}, make_environment("east", clock=site.clock))
    other.start()
    assert other.list_vms("app") == []
