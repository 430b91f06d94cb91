from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from fake_holdings import DELETE_SECONDS, ident
from fake_openstack import FakeApi
from isoneph.core import identity
from isoneph.core.errors import Unreachable
from isoneph.core.model import Leftover, Vm
from isoneph.plugins.clouds.openstack import OpenstackCloud
from isoneph.plugins.clouds.openstack.errors import Forbidden
from isoneph.plugins.clouds.openstack.leftovers import PROVED_FOR, SHARED_FOR
from openstack_drivers import make_driver, request_for

FLOATING: dict[str, Any] = {"floating_network": "ext"}
APPLICATION = "mme"


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def cloud(api: FakeApi) -> OpenstackCloud:
    return make_driver(api)


def mark(vm_id: str, application: str = APPLICATION) -> str:
    return f"isoneph vm {vm_id} of {application}"


def look(cloud: OpenstackCloud, api: FakeApi, application: str = APPLICATION) -> list[Leftover]:
    """What is left, from a look of its own."""
    api.clock.advance(SHARED_FOR + PROVED_FOR)
    return list(cloud.list_leftovers(application))


def kinds(leftovers: Sequence[Leftover]) -> list[str]:
    return [leftover.kind for leftover in leftovers]


def finished_vm(api: FakeApi, **options: Any) -> Vm:
    """A VM that some other process made, and that is gone."""
    cloud = make_driver(api)
    vm = cloud.create_vm(request_for(APPLICATION, **options))
    api.calls.clear()
    for port in api.servers[vm.cloud_id]["ports"]:
        if api.ports[port].get("made_by_nova"):
            del api.ports[port]
    api.kill(vm.cloud_id)
    return vm


# Ports that Nova made.


def test_the_port_of_a_vm_that_this_process_saw(api: FakeApi, cloud: OpenstackCloud) -> None:
    vm = cloud.create_vm(request_for())
    ports = api.servers[vm.cloud_id]["ports"]
    api.kill(vm.cloud_id)
    assert look(cloud, api) == [
        Leftover(cloud="uniform", kind="port", cloud_id=port, vm_id=vm.id) for port in ports
    ]
    assert look(cloud, api, "another") == []


def test_the_port_of_a_vm_that_nova_remembers(api: FakeApi, cloud: OpenstackCloud) -> None:
    vm = finished_vm(api)
    api.add_port(device_id=vm.cloud_id, device_owner=None)
    for _ in range(3):
        assert [leftover.vm_id for leftover in look(cloud, api)] == [vm.id]
    searches = [params for _, params in api.queries if "changes-since" in params]
    assert len(searches) == 1, "what is proved is not searched again"
    # A minute before the port was made: clocks differ.
    assert searches[0]["changes-since"] == "2023-11-14T22:12:20Z"


def test_only_recent_ends_are_searched(api: FakeApi, cloud: OpenstackCloud) -> None:
    api.add_port(device_id=ident(), created_at="2019-05-01T00:00:00Z")
    look(cloud, api)
    (search,) = [params for _, params in api.queries if "changes-since" in params]
    assert search["changes-since"].startswith("2023-11-07T")


def test_a_search_that_fails_holds_nothing_up(api: FakeApi, cloud: OpenstackCloud) -> None:
    vm = finished_vm(api)
    api.add_port(device_id=vm.cloud_id)
    marked = api.add_port(description=mark(identity.new_id()), device_owner="")
    asked = Counter[str]()

    def fail_the_search(name: str) -> None:
        asked[name] += 1
        if name == "GET /servers/detail" and asked[name] == 2:
            api.faults[name] = [Unreachable("too slow")]

    api.before = fail_the_search
    assert [leftover.cloud_id for leftover in look(cloud, api)] == [marked["id"]]
    assert len(look(cloud, api)) == 1, "it is not repeated at once"
    api.clock.advance(60.0)
    assert len(look(cloud, api)) == 2


def test_nova_before_descriptions_proves_nothing() -> None:
    api = FakeApi(version=(2, 18))
    vm = finished_vm(api)
    api.add_port(device_id=vm.cloud_id)
    assert look(make_driver(api), api) == []


def test_without_the_age_of_a_port_nothing_is_searched(api: FakeApi, cloud: OpenstackCloud) -> None:
    vm = finished_vm(api)
    api.add_port(device_id=vm.cloud_id, created_at=None)
    assert look(cloud, api) == []


def test_what_others_left_stays(api: FakeApi, cloud: OpenstackCloud) -> None:
    theirs = api.add_server(description="isoneph vm of a friend")
    api.kill(theirs["id"])
    api.add_port(device_id=theirs["id"])
    api.add_port(device_id="lb-7")
    api.add_port(device_id="")
    api.add_port(device_id=ident(), device_owner="network:router_interface")
    vm = finished_vm(api)
    api.add_port(device_id=vm.cloud_id, name="somebody plugged this in")
    api.add_port(device_id=vm.cloud_id, description="so they did this")
    unnamed = api.add_port(device_id=vm.cloud_id)
    (leftover,) = look(cloud, api)
    assert leftover.cloud_id == unnamed["id"]
    cloud.delete_leftover(leftover)
    for _ in range(3):
        assert look(cloud, api) == []
    searches = [name for name, params in api.queries if "changes-since" in params]
    assert len(searches) == 1, "what proves nothing is not searched for again"


def test_what_a_server_holds_is_none(api: FakeApi, cloud: OpenstackCloud) -> None:
    vm = cloud.create_vm(request_for(**FLOATING))
    for step in range(4):
        assert look(cloud, api) == [], step
    assert cloud.get_vm(vm) is not None


def test_a_server_that_only_its_id_finds_keeps_its_port(
    api: FakeApi, cloud: OpenstackCloud
) -> None:
    """Before microversion 2.69 Nova lists nothing of a cell that is down."""
    vm = cloud.create_vm(request_for())
    hidden = api.servers.pop(vm.cloud_id)
    found = {"GET /servers/ID": hidden}

    def appear(name: str) -> None:
        if name in found:
            api.servers[vm.cloud_id] = hidden

    api.before = appear
    assert look(cloud, api) == []


def test_a_server_that_cannot_be_asked_for_keeps_its_port(
    api: FakeApi, cloud: OpenstackCloud
) -> None:
    vm = cloud.create_vm(request_for())
    api.kill(vm.cloud_id)
    for process, asks in ((cloud, 1), (make_driver(api), 2)):  # who never saw it asks for each
        api.faults["GET /servers/ID"] = [Unreachable("its cell is down")] * asks
        assert look(process, api) == []
        assert kinds(look(process, api)) == ["port", "port"]


def test_another_vm_of_the_same_id_protects_nothing(api: FakeApi, cloud: OpenstackCloud) -> None:
    request = request_for()
    first = cloud.create_vm(request)
    api.kill(first.cloud_id)
    second = cloud.create_vm(request)
    assert len(look(cloud, api)) == 2
    api.kill(second.cloud_id)
    assert len(look(cloud, api)) == 4


# What isoneph made.


def test_a_port_and_a_floating_ip_of_a_create_that_broke_off(
    api: FakeApi, cloud: OpenstackCloud
) -> None:
    vm_id = identity.new_id()
    port = api.add_port(description=mark(vm_id), device_owner="", name="mme-worker")
    one = {"id": ident(), "port_id": port["id"], "description": mark(vm_id)}
    api.floating_ips[one["id"]] = one
    leftovers = look(cloud, api)
    assert kinds(leftovers) == ["port", "floating IP"]
    assert {leftover.vm_id for leftover in leftovers} == {vm_id}
    for leftover in leftovers:
        cloud.delete_leftover(leftover)
    assert not api.ports
    assert not api.floating_ips


def test_a_floating_ip_of_ours_on_a_port_of_others_stays(
    api: FakeApi, cloud: OpenstackCloud
) -> None:
    port = api.add_port(device_id=api.add_server()["id"])
    vm_id = identity.new_id()
    one = {"id": ident(), "port_id": port["id"], "description": mark(vm_id)}
    api.floating_ips[one["id"]] = one
    assert look(cloud, api) == []
    one["port_id"] = None
    assert kinds(look(cloud, api)) == ["floating IP"]


def test_a_building_server_keeps_the_port_that_it_will_take(
    api: FakeApi, cloud: OpenstackCloud
) -> None:
    vm = cloud.create_vm(request_for(**FLOATING))
    (port_id,) = {one["port_id"] for one in api.floating_ips.values()}
    api.ports[port_id] |= {"device_id": "", "device_owner": ""}
    assert look(cloud, api) == []
    api.kill(vm.cloud_id)
    assert kinds(look(cloud, api)) == ["port", "port", "floating IP"]


def test_a_server_made_during_the_look_keeps_its_port(api: FakeApi, cloud: OpenstackCloud) -> None:
    other = make_driver(api)
    request = request_for(**FLOATING)

    def meanwhile(name: str) -> None:
        if name == "GET /os-server-groups":
            api.before = lambda name: None
            other.create_vm(request)

    api.before = meanwhile
    assert look(cloud, api) == []


def test_a_vm_deleted_by_another_process_leaves_its_floating_ip_to_the_look(
    api: FakeApi, cloud: OpenstackCloud
) -> None:
    vm = make_driver(api).create_vm(request_for(**FLOATING))
    make_driver(api).delete_vm(vm)
    api.clock.advance(2 * DELETE_SECONDS)
    assert cloud.get_vm(vm) is None
    leftovers = look(cloud, api)
    assert kinds(leftovers) == ["port", "floating IP"]
    for leftover in leftovers:
        cloud.delete_leftover(leftover)
    assert look(cloud, api) == []


def test_a_cloud_without_floating_ips_is_not_asked_for_any(
    api: FakeApi, cloud: OpenstackCloud
) -> None:
    api.extensions.remove("router")
    assert look(cloud, api) == []
    assert api.calls["GET /floatingips"] == 0


def test_a_cloud_without_neutron_is_asked_for_servers_only(cloud: OpenstackCloud) -> None:
    api = FakeApi()
    api.services = {"compute"}
    assert look(make_driver(api), api) == []


# Server groups.


def test_an_empty_group_of_ours(api: FakeApi, cloud: OpenstackCloud) -> None:
    vm = cloud.create_vm(request_for(server_group={"policy": "affinity"}))
    for name in ("isoneph", "isoneph mme worker", "isoneph mme worker affinity 2", "affinity"):
        api.create_group(body={"server_group": {"name": name}}, params={})
    (ours,) = (one for one in api.groups.values() if one["members"])
    assert look(cloud, api) == []
    api.kill(vm.cloud_id)
    api.ports.clear()
    (leftover,) = look(cloud, api)
    assert leftover == Leftover(cloud="uniform", kind="server group", cloud_id=ours["id"], vm_id="")
    ours["members"].append("a newcomer")
    cloud.delete_leftover(leftover)
    assert ours["id"] in api.groups
    ours["members"].clear()
    cloud.delete_leftover(leftover)
    cloud.delete_leftover(leftover)
    assert ours["id"] not in api.groups


def test_groups_that_may_not_be_seen_are_none(api: FakeApi, cloud: OpenstackCloud) -> None:
    api.faults["GET /os-server-groups"] = [Forbidden("not yours")]
    assert look(cloud, api) == []


# Boot volumes.


def server_with_volume(api: FakeApi, *, goes: bool) -> tuple[Vm, dict[str, Any]]:
    api.services.add("volume")
    vm = make_driver(api).create_vm(request_for(boot_volume={"size_gb": 1}))
    attachment = {"server_id": vm.cloud_id, "attachment_id": ident()}
    volume = api.add_volume(status="in-use", attachments=[attachment])
    api.servers[vm.cloud_id]["os-extended-volumes:volumes_attached"] = [
        {"id": volume["id"], "delete_on_termination": goes}
    ]
    return vm, volume


@pytest.mark.parametrize("attached", [True, False])
def test_a_boot_volume_that_was_to_go(
    api: FakeApi, cloud: OpenstackCloud, *, attached: bool
) -> None:
    vm, volume = server_with_volume(api, goes=True)
    for _ in range(3):
        assert look(cloud, api) == []
    assert api.calls["POST /volumes/ID/metadata"] == 1, "a volume is marked once"
    api.kill(vm.cloud_id)
    api.ports.clear()
    if not attached:
        volume |= {"attachments": [], "status": "available"}
    again = make_driver(api)
    (leftover,) = look(again, api)
    assert leftover == Leftover(cloud="uniform", kind="volume", cloud_id=volume["id"], vm_id=vm.id)
    again.delete_leftover(leftover)
    again.delete_leftover(leftover)
    assert not api.volumes


def test_volumes_that_are_to_stay_do(api: FakeApi, cloud: OpenstackCloud) -> None:
    vm, volume = server_with_volume(api, goes=False)
    assert look(cloud, api) == []
    assert volume["metadata"] == {}
    api.kill(vm.cloud_id)
    api.ports.clear()
    assert look(cloud, api) == []


def test_a_boot_volume_that_somebody_took_over_stays(api: FakeApi, cloud: OpenstackCloud) -> None:
    vm, volume = server_with_volume(api, goes=True)
    assert look(cloud, api) == []
    api.kill(vm.cloud_id)
    api.ports.clear()
    other = api.add_server()["id"]
    volume["attachments"] = [{"server_id": other, "attachment_id": ident()}]
    assert look(cloud, api) == []


def test_a_mark_that_fails_is_tried_again(api: FakeApi, cloud: OpenstackCloud) -> None:
    vm, volume = server_with_volume(api, goes=True)
    api.faults["POST /volumes/ID/metadata"] = [Unreachable("down")]
    assert look(cloud, api) == []
    assert volume["metadata"] == {}
    assert look(cloud, api) == []
    assert volume["metadata"] == {
        "isoneph-application": vm.application,
        "isoneph-id": vm.id,
        "isoneph-server": vm.cloud_id,
        "isoneph-volume": volume["id"],
    }


@pytest.mark.parametrize("answers", [True, False])
def test_a_boot_volume_that_is_to_stay_after_all_does(
    api: FakeApi, cloud: OpenstackCloud, *, answers: bool
) -> None:
    """Nova lets that be changed while the server is there."""
    vm, volume = server_with_volume(api, goes=True)
    volume["metadata"]["theirs"] = "too"
    assert look(cloud, api) == []
    (attached,) = api.servers[vm.cloud_id]["os-extended-volumes:volumes_attached"]
    attached["delete_on_termination"] = False
    if not answers:
        api.faults["DELETE /volumes/ID/metadata/isoneph-volume"] = [Unreachable("down")]
        assert look(cloud, api) == []
    for _ in range(2):
        assert look(cloud, api) == []
    assert "isoneph-volume" not in volume["metadata"]
    assert volume["metadata"]["theirs"] == "too"
    assert api.calls["DELETE /volumes/ID/metadata/isoneph-volume"] == (1 if answers else 2)
    api.kill(vm.cloud_id)
    api.ports.clear()
    volume |= {"attachments": [], "status": "available"}
    assert look(cloud, api) == []


def test_a_mark_on_another_volume_proves_nothing(api: FakeApi, cloud: OpenstackCloud) -> None:
    """Cinder restores the metadata with the data of a backup, into any volume."""
    vm, volume = server_with_volume(api, goes=True)
    assert look(cloud, api) == []
    restored = api.add_volume(metadata=dict(volume["metadata"]))
    api.kill(vm.cloud_id)
    api.ports.clear()
    del api.volumes[volume["id"]]
    assert look(cloud, api) == []
    assert restored["id"] in api.volumes


# Looking and removing.


def test_applications_share_a_look(api: FakeApi, cloud: OpenstackCloud) -> None:
    for application in ("mme", "hss", "pcrf"):
        cloud.list_leftovers(application)
    assert api.calls["GET /ports"] == 1


def test_only_what_is_left_is_removed(api: FakeApi, cloud: OpenstackCloud) -> None:
    vm = cloud.create_vm(request_for(**FLOATING))
    for kind, items in (("port", api.ports), ("floating IP", api.floating_ips)):
        for item_id in items:
            leftover = Leftover(cloud="uniform", kind=kind, cloud_id=item_id, vm_id=vm.id)
            cloud.delete_leftover(leftover)
    assert len(api.ports) == 2
    assert len(api.floating_ips) == 1


def test_a_service_that_does_not_answer_is_told(api: FakeApi, cloud: OpenstackCloud) -> None:
    api.faults["GET /ports"] = [Unreachable("Neutron is down")]
    with pytest.raises(Unreachable, match=re.escape("Neutron is down")):
        look(cloud, api)
