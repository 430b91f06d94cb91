from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fake_holdings import BOOT_SECONDS, DELETE_SECONDS
from fake_openstack import FakeApi
from isoneph.core.errors import Unreachable
from isoneph.core.model import VmState
from isoneph.plugins.clouds.openstack import OpenstackCloud, servers
from isoneph.plugins.clouds.openstack.records import addresses_of, state_of, vm_of
from isoneph.plugins.clouds.openstack.servers import SEEK_PAUSE, SEEK_SECONDS
from openstack_drivers import make_driver, request_for

LISTING = "GET /servers/detail"
BY_ID = "GET /servers/ID"


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


@pytest.mark.parametrize(
    ("version", "page", "told"),
    [((2, 103), 1000, True), ((2, 103), 2, False), ((2, 60), 1000, False)],
)
def test_a_vm_in_a_cell_that_is_down_is_unknown(
    version: tuple[int, int], page: int, *, told: bool
) -> None:
    api = FakeApi(version=version, page=page)
    cloud = make_driver(api)
    for _ in range(2):
        api.add_server()
    vm = cloud.create_vm(request_for(networks=["net"]))
    api.clock.advance(BOOT_SECONDS)
    (before,) = cloud.list_vms("mme")
    api.down.add(vm.cloud_id)
    (listed,) = cloud.list_vms("mme")
    assert listed.state is VmState.UNKNOWN
    assert (listed.id, listed.name, listed.addresses) == (vm.id, vm.name, before.addresses)
    assert cloud.list_vms("mme") == [listed], "and stays so"
    assert api.calls[BY_ID] == (0 if told else 1), "and is not asked for each time"
    api.clock.advance(SEEK_PAUSE)
    cloud.list_vms("mme")
    assert api.calls[BY_ID] == (0 if told else 2)
    api.down.clear()
    assert cloud.list_vms("mme") == [before]


def test_a_vm_in_a_cell_that_is_down_is_unknown_by_its_id_too(
    api: FakeApi, cloud: OpenstackCloud
) -> None:
    vm = cloud.create_vm(request_for())
    api.down.add(vm.cloud_id)
    got = cloud.get_vm(vm)
    assert got is not None
    assert got.state is VmState.UNKNOWN


def test_vms_that_nobody_has_seen_before_their_cell_went_down(
    api: FakeApi, cloud: OpenstackCloud
) -> None:
    vm, neighbour = cloud.create_vm(request_for()), cloud.create_vm(request_for())
    api.down.add(vm.cloud_id)
    started_now = make_driver(api)
    with pytest.raises(Unreachable, match=r"a cell of Nova\) is down; .* \(servers: 1\)"):
        started_now.list_vms("mme")
    assert started_now.get_vm(neighbour) is not None, "what is asked by id is as certain as ever"
    assert started_now.get_limits()["instances"].used == 2
    api.down.clear()
    assert len(started_now.list_vms("mme")) == 2


def test_servers_of_others_in_a_cell_that_is_down_are_known_as_such(
    api: FakeApi, cloud: OpenstackCloud
) -> None:
    vm, other = cloud.create_vm(request_for()), api.add_server()
    cloud.list_vms("mme")
    api.down.add(other["id"])
    for _ in range(2):
        assert [found.id for found in cloud.list_vms("mme")] == [vm.id]
    assert api.calls[BY_ID] == 0


def test_what_vanished_is_gone_when_nova_says_so(api: FakeApi, cloud: OpenstackCloud) -> None:
    vm, hidden = cloud.create_vm(request_for()), cloud.create_vm(request_for())
    api.kill(vm.cloud_id)
    server = api.servers.pop(hidden.cloud_id)

    def show(name: str) -> None:
        if name == BY_ID:
            api.servers[hidden.cloud_id] = server

    api.before = show
    for _ in range(3):
        assert [found.id for found in cloud.list_vms("mme")] == [hidden.id]
    assert api.calls[BY_ID] == 2, "each is asked for once"


def test_what_we_deleted_is_not_asked_for(api: FakeApi, cloud: OpenstackCloud) -> None:
    seen_deleting, not_seen, deleted_by_others = (cloud.create_vm(request_for()) for _ in range(3))
    cloud.list_vms("mme")
    cloud.delete_vm(seen_deleting)
    api.delete_server(deleted_by_others.cloud_id, body=None, params={})
    states = {vm.id: vm.state for vm in cloud.list_vms("mme")}
    assert states[seen_deleting.id] is states[deleted_by_others.id] is VmState.DELETING
    cloud.delete_vm(not_seen)
    api.clock.advance(DELETE_SECONDS)
    assert cloud.list_vms("mme") == []
    assert api.calls[BY_ID] == 0


def test_few_of_many_that_vanished_are_asked_for_at_once(
    api: FakeApi, cloud: OpenstackCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "MOST_SOUGHT", 2)
    made = [cloud.create_vm(request_for()) for _ in range(5)]
    gone = made[3:]
    for vm in gone:
        api.kill(vm.cloud_id)
    api.version = (2, 60)
    api.down.update(api.servers)
    left = []
    for _ in range(3):
        listed = cloud.list_vms("mme")
        assert {vm.state for vm in listed} == {VmState.UNKNOWN}
        left.append(len(listed))
        api.clock.advance(SEEK_PAUSE)
    assert left == [5, 4, 3], "those that nobody could tell of are asked for again last"


def test_a_slow_nova_holds_a_listing_up_for_moments_only(
    api: FakeApi, cloud: OpenstackCloud
) -> None:
    for _ in range(5):
        api.kill(cloud.create_vm(request_for()).cloud_id)
    api.before = lambda name: api.clock.advance(SEEK_SECONDS / 2 if name == BY_ID else 0.0)
    begun = api.clock.monotonic()
    assert len(cloud.list_vms("mme")) == 3
    assert api.clock.monotonic() - begun == SEEK_SECONDS


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
    with pytest.raises(Unreachable, match="servers: 1"):
        cloud.list_vms("mme")
    api.kill(made[0].cloud_id)
    assert {vm.id for vm in cloud.list_vms("mme")} == {made[1].id, made[2].id}
