from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fake_openstack import BOOT_SECONDS, FakeApi
from isoneph.core.model import VmState
from isoneph.plugins.clouds.openstack import OpenstackCloud, servers
from isoneph.plugins.clouds.openstack.records import addresses_of, state_of, vm_of
from openstack_drivers import make_driver, request_for

LISTING = "GET /servers/detail"


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def cloud(api: FakeApi) -> OpenstackCloud:
    return make_driver(api)


@pytest.mark.parametrize(
    ("status", "task", "state"),
    [
        ("BUILD", None, VmState.BUILDING),
        ("BUILD", "deleting", VmState.DELETING),
        ("ACTIVE", None, VmState.ACTIVE),
        ("ACTIVE", "powering-off", VmState.ACTIVE),
        ("ACTIVE", "soft-deleting", VmState.DELETING),
        ("ERROR", None, VmState.ERROR),
        ("ERROR", "deleting", VmState.DELETING),
        ("SHUTOFF", None, VmState.STOPPED),
        ("PAUSED", None, VmState.STOPPED),
        ("SUSPENDED", None, VmState.STOPPED),
        ("SHELVED", None, VmState.STOPPED),
        ("SHELVED_OFFLOADED", None, VmState.STOPPED),
        ("UNKNOWN", None, VmState.UNKNOWN),
        *(
            (status, None, VmState.ACTIVE)
            for status in ("HARD_REBOOT", "MIGRATING", "PASSWORD", "REBOOT", "REBUILD", "RESCUE")
        ),
        *((status, None, VmState.ACTIVE) for status in ("RESIZE", "REVERT_RESIZE", "NEW_IN_2030")),
    ],
)
def test_states(status: str, task: str | None, state: VmState) -> None:
    assert state_of({"status": status, "OS-EXT-STS:task_state": task}) is state


def record(**said: Any) -> dict[str, Any]:
    tags = request_for().tags
    return {"id": "s", "name": "n", "status": "ACTIVE", "metadata": tags, **said}


@pytest.mark.parametrize("status", ["DELETED", "SOFT_DELETED"])
def test_the_deleted_are_gone(status: str) -> None:
    assert vm_of(record(status=status), "mme", "uniform") is None


def test_a_fault_comes_with_its_kind() -> None:
    fault = {"code": 500, "message": "No valid host was found. "}
    vm = vm_of(record(status="ERROR", fault=fault), "mme", "uniform")
    assert vm is not None
    assert (vm.fault, vm.fault_code) == ("No valid host was found.", "no_capacity")
    silent = vm_of(record(status="ERROR"), "mme", "uniform")
    assert silent is not None
    assert silent.fault
    running = vm_of(record(fault=fault), "mme", "uniform")
    assert running is not None
    assert running.fault is None, "a fault that is over says nothing"


def test_addresses_by_network_the_fixed_ones_first() -> None:
    addresses = {
        "zone-b": [
            {"addr": "203.0.113.9", "OS-EXT-IPS:type": "floating"},
            {"addr": "10.0.0.5", "OS-EXT-IPS:type": "fixed"},
            {"addr": "2001:db8::5", "OS-EXT-IPS:type": "fixed"},
        ],
        "zone-a": [{"addr": "10.1.0.5"}],
        "empty": [],
    }
    found = addresses_of({"addresses": addresses})
    assert list(found.items()) == [
        ("zone-b", ("10.0.0.5", "2001:db8::5", "203.0.113.9")),
        ("zone-a", ("10.1.0.5",)),
    ]


def test_a_listing_follows_its_pages() -> None:
    api = FakeApi(page=3)
    cloud = make_driver(api)
    made = {cloud.create_vm(request_for()).id for _ in range(7)}
    assert {vm.id for vm in cloud.list_vms("mme")} == made
    assert api.calls[LISTING] == 3
    assert not api.queries[-3][1], "no filter: it would hide servers of cells that are down"


@pytest.mark.parametrize(
    ("version", "headers"),
    [((2, 103), {"OpenStack-API-Version": "compute 2.69"}), ((2, 69), {}), ((2, 1), {})],
)
def test_servers_are_read_with_no_more_than_is_needed(
    version: tuple[int, int], headers: dict[str, str]
) -> None:
    api = FakeApi(version=version)
    cloud = make_driver(api)
    vm = cloud.create_vm(request_for())
    cloud.list_vms("mme")
    cloud.get_vm(vm)
    asked = dict(api.headers)
    assert asked[LISTING] == asked["GET /servers/ID"] == headers
    assert asked["POST /servers"] == {}


def test_callers_at_once_share_a_listing(api: FakeApi, cloud: OpenstackCloud) -> None:
    vm = cloud.create_vm(request_for())
    first_asks, others_wait = threading.Event(), threading.Event()

    def hold(name: str) -> None:
        if name == LISTING:
            first_asks.set()
            assert others_wait.wait(5)

    api.before = hold
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(cloud.list_vms, "mme")
        assert first_asks.wait(5)
        late = cloud.create_vm(request_for())
        others = [threads.submit(cloud.list_vms, "mme") for _ in range(6)]
        others_wait.set()
        assert [found.id for found in first.result()] in ([vm.id], [vm.id, late.id])
        for other in others:
            assert [found.id for found in other.result()] == [vm.id, late.id]
    # One that came when the second was under way needed a third.
    assert 2 <= api.calls[LISTING] <= 4


def test_a_vm_in_a_cell_that_is_down_is_unknown(api: FakeApi, cloud: OpenstackCloud) -> None:
    vm = cloud.create_vm(request_for(networks=["net"]))
    api.clock.advance(BOOT_SECONDS)
    (before,) = cloud.list_vms("mme")
    api.down.add(vm.cloud_id)
    (listed,) = cloud.list_vms("mme")
    assert listed.state is VmState.UNKNOWN
    assert (listed.id, listed.name, listed.addresses) == (vm.id, vm.name, before.addresses)
    got = cloud.get_vm(before)
    assert got is not None
    assert got.state is VmState.UNKNOWN
    assert make_driver(api).list_vms("mme") == [], "who never saw it cannot know whose it is"


def test_get_takes_only_what_has_the_vms_tags(api: FakeApi, cloud: OpenstackCloud) -> None:
    vm, other = (cloud.create_vm(request_for()) for _ in range(2))
    api.servers[vm.cloud_id]["metadata"] = api.servers[other.cloud_id]["metadata"]
    assert cloud.get_vm(vm) is None
    api.servers[vm.cloud_id]["metadata"] = {}
    assert cloud.get_vm(vm) is None


def test_what_is_remembered_is_bounded(
    api: FakeApi, cloud: OpenstackCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "MOST_REMEMBERED", 2)
    made = [cloud.create_vm(request_for()) for _ in range(3)]
    api.down.update(api.servers)
    assert {vm.id for vm in cloud.list_vms("mme")} == {made[1].id, made[2].id}
