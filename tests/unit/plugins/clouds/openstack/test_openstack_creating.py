from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from fake_holdings import ident
from fake_openstack import FakeApi
from isoneph.core import identity
from isoneph.core.errors import (
    InvalidRequest,
    OutcomeUnknown,
    QuotaExceeded,
    Unreachable,
)
from isoneph.core.model import VmState
from isoneph.plugins.clouds.openstack import OpenstackCloud
from openstack_drivers import make_driver, request_for

FLOATING: dict[str, Any] = {"floating_network": "ext", "security_groups": ["ssh"]}


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def cloud(api: FakeApi) -> OpenstackCloud:
    return make_driver(api)


def test_all_is_said_in_one_request(api: FakeApi, cloud: OpenstackCloud) -> None:
    request = request_for(
        networks=["mgmt", {"network": "net", "fixed_ip": "10.0.0.9"}],
        security_groups=["default", "ssh"],
        key_name="key",
        user_data="#!/bin/sh\necho $HOME {{isoneph.id}} {{ v1.name }} {{isoneph.relay}}",
        relay="10.0.0.1:36412",
        availability_zone="nova:host7",
        server_group={"policy": "anti-affinity"},
        scheduler_hints={"different_host": ["x"]},
        config_drive=True,
        description="an MME worker",
        tags=["lte"],
        metadata={"owner": "ran team"},
    )
    vm = cloud.create_vm(request)
    (body,) = api.posted()
    (group,) = api.groups.values()
    user_data = base64.b64decode(body["server"].pop("user_data")).decode()
    assert user_data == f"#!/bin/sh\necho $HOME {request.id} {{{{ v1.name }}}} 10.0.0.1:36412"
    assert body == {
        "server": {
            "name": request.name,
            "flavorRef": api.flavors["tiny"],
            "imageRef": api.images["tiny"],
            "metadata": {"owner": "ran team", **request.tags},
            "networks": [
                {"uuid": api.networks["mgmt"]},
                {"uuid": api.networks["net"], "fixed_ip": "10.0.0.9"},
            ],
            "description": f"an MME worker; isoneph vm {request.id} of mme",
            "security_groups": [{"name": "default"}, {"name": "ssh"}],
            "key_name": "key",
            "availability_zone": "nova:host7",
            "config_drive": True,
            "tags": ["lte"],
        },
        "os:scheduler_hints": {"different_host": ["x"], "group": group["id"]},
    }
    assert vm.state is VmState.BUILDING
    assert vm.tags == {"owner": "ran team"}
    assert (group["name"], group["policy"]) == (
        "isoneph mme worker anti-affinity",
        "anti-affinity",
    )


def test_a_boot_volume_stands_for_the_image(api: FakeApi, cloud: OpenstackCloud) -> None:
    api.services.add("volume")
    volume = {"size_gb": 9, "volume_type": "ssd", "delete_on_termination": False}
    cloud.create_vm(request_for(boot_volume=volume))
    (body,) = api.posted()
    assert "imageRef" not in body["server"]
    assert body["server"]["block_device_mapping_v2"] == [
        {
            "boot_index": 0,
            "uuid": api.images["tiny"],
            "source_type": "image",
            "destination_type": "volume",
            "volume_size": 9,
            "volume_type": "ssd",
            "delete_on_termination": False,
        }
    ]


def test_a_boot_volume_needs_cinder(api: FakeApi, cloud: OpenstackCloud) -> None:
    with pytest.raises(InvalidRequest, match=r"boot_volume: cloud 'uniform' has no volumes"):
        cloud.create_vm(request_for(boot_volume={"size_gb": 9}))
    assert not api.posted()


@pytest.mark.parametrize(
    ("version", "networks", "said"),
    [
        ((2, 36), "auto", {}),
        ((2, 37), "auto", {"networks": "auto"}),
        ((2, 37), "none", {"networks": "none"}),
    ],
)
def test_networks_that_nova_chooses(
    version: tuple[int, int], networks: str, said: dict[str, str]
) -> None:
    api = FakeApi(version=version)
    del api.networks["mgmt"]
    make_driver(api).create_vm(request_for(networks=networks))
    (body,) = api.posted()
    assert {key: body["server"][key] for key in body["server"] if key == "networks"} == said


@pytest.mark.parametrize(
    ("version", "options", "needed"),
    [
        ((2, 18), {"description": "x"}, "2.19"),
        ((2, 36), {"networks": "none"}, "2.37"),
        ((2, 51), {"tags": ["a"]}, "2.52"),
        ((2, 66), {"boot_volume": {"size_gb": 1, "volume_type": "ssd"}}, "2.67"),
        ((2, 14), {"server_group": {"policy": "soft-affinity"}}, "2.15"),
    ],
)
def test_what_an_older_cloud_cannot_do_is_told(
    version: tuple[int, int], options: dict[str, Any], needed: str
) -> None:
    api = FakeApi(version=version)
    api.services.add("volume")
    with pytest.raises(InvalidRequest, match=rf"mme: types.worker: .*needs version {needed}"):
        make_driver(api).create_vm(request_for(**options))
    assert not api.posted()


def test_the_oldest_cloud_gets_no_description() -> None:
    api = FakeApi(version=(2, 18))
    make_driver(api).create_vm(request_for())
    assert "description" not in api.posted()[0]["server"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"flavor": "tinny"}, "flavor: cloud 'uniform' has no flavor 'tinny'; did you mean 'tiny'"),
        ({"image": "suse"}, r"image: cloud 'uniform' has no image 'suse' \(it has: tiny\)"),
        ({"networks": ["nett"]}, "networks: .* has no network 'nett'; did you mean 'net'"),
        ({"security_groups": ["shh"]}, "security_groups: .* no security group 'shh'; .*'ssh'"),
        ({"key_name": "kay"}, "key_name: cloud 'uniform' has no keypair 'kay'"),
        ({"availability_zone": "nva:h"}, "availability_zone: .* no availability zone 'nva'"),
        ({"networks": None}, r"networks: .* several networks; say which \(it has: ext, mgmt, net"),
        ({"floating_network": "exd"}, "floating_network: .*no external network 'exd'; did .*'ext'"),
        ({"floating_network": "ext", "networks": None}, "floating_network: .*first of `networks`"),
        ({"server_group": {"name": "g"}}, r"server_group.name: .* no server group 'g' \(.*: none"),
    ],
)
def test_what_the_cloud_does_not_have_is_told_with_its_place(
    api: FakeApi, cloud: OpenstackCloud, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"application mme: types.worker.options.{complaint}"):
        cloud.create_vm(request_for(**options))
    assert not api.servers


def test_a_refusal_that_nothing_explains_is_told_with_its_place(
    api: FakeApi, cloud: OpenstackCloud
) -> None:
    api.faults["POST /servers"] = [InvalidRequest("Nova answers 400: Flavor's disk is too small")]
    with pytest.raises(InvalidRequest, match=r"mme: types\.worker: Nova answers 400: Flavor's"):
        cloud.create_vm(request_for())
    assert len(api.posted()) == 1


def test_a_name_that_got_another_id_is_sent_once_more(api: FakeApi, cloud: OpenstackCloud) -> None:
    cloud.create_vm(request_for())
    api.images["tiny"] = ident()
    cloud.create_vm(request_for())
    assert len(api.posted()) == 3
    assert len(api.servers) == 2
    cloud.create_vm(request_for())
    assert len(api.posted()) == 4


def test_a_group_that_was_removed_is_made_anew(api: FakeApi, cloud: OpenstackCloud) -> None:
    request: dict[str, Any] = {"server_group": {"policy": "soft-anti-affinity"}}
    cloud.create_vm(request_for(**request))
    api.groups.clear()
    vm = cloud.create_vm(request_for(**request))
    (group,) = api.groups.values()
    assert group["members"] == [vm.cloud_id]


def test_a_refusal_is_told_though_names_cannot_be_looked_up(
    api: FakeApi, cloud: OpenstackCloud
) -> None:
    cloud.create_vm(request_for())
    api.faults["POST /servers"] = [InvalidRequest("no such thing")]
    api.faults["GET /flavors"] = [Unreachable("down")]
    with pytest.raises(InvalidRequest, match="worker: no such thing"):
        cloud.create_vm(request_for())


def test_a_group_in_doubt_is_no_vm_in_doubt(api: FakeApi, cloud: OpenstackCloud) -> None:
    api.faults["POST /os-server-groups"] = [OutcomeUnknown("no answer")]
    with pytest.raises(Unreachable):
        cloud.create_vm(request_for(server_group={"policy": "affinity"}))


def test_a_create_in_doubt_is_not_repeated(api: FakeApi, cloud: OpenstackCloud) -> None:
    api.faults["POST /servers"] = [OutcomeUnknown("no answer")]
    with pytest.raises(OutcomeUnknown):
        cloud.create_vm(request_for(**FLOATING))
    assert len(api.posted()) == 1
    assert api.ports, "what the VM may be using stays"
    assert api.floating_ips


def test_a_floating_ip_comes_with_a_port_of_its_own(api: FakeApi, cloud: OpenstackCloud) -> None:
    request = request_for(networks=[{"network": "net", "fixed_ip": "10.0.0.9"}, "mgmt"], **FLOATING)
    vm = cloud.create_vm(request)
    (floating_ip,) = api.floating_ips.values()
    port = api.ports[floating_ip["port_id"]]
    mark = f"isoneph vm {request.id} of mme"
    assert floating_ip["description"] == port["description"] == mark
    assert floating_ip["floating_network_id"] == api.external["ext"]
    assert port["name"] == request.name
    assert port["security_groups"] == [api.security_groups["ssh"]]
    assert port["fixed_ips"] == [{"ip_address": "10.0.0.9"}]
    (body,) = api.posted()
    first, second = body["server"]["networks"]
    assert first == {"port": port["id"]}
    assert second == {"uuid": api.networks["mgmt"]}
    assert vm.tags == {}
    assert body["server"]["metadata"]["isoneph-port"] == port["id"]


@pytest.mark.parametrize("listed", [True, False])
def test_a_floating_ip_goes_with_its_vm(listed: bool) -> None:
    api = FakeApi()
    vm = make_driver(api).create_vm(request_for(**FLOATING))
    cloud = make_driver(api)
    if listed:
        cloud.list_vms("mme")
    cloud.delete_vm(vm)
    assert bool(api.floating_ips) is not listed, "one not known is left for the look at leftovers"


@pytest.mark.parametrize("description", ["", "isoneph vm {other} of mme", "isoneph vm {id} of hss"])
def test_only_what_carries_the_mark_of_the_vm_goes_with_it(
    api: FakeApi, cloud: OpenstackCloud, description: str
) -> None:
    """Whoever may use the project may edit the metadata of its servers."""
    vm = cloud.create_vm(request_for(**FLOATING))
    said = description.format(id=vm.id, other=identity.new_id())
    theirs = api.add_port(description=said)
    address = {"id": ident(), "port_id": theirs["id"], "description": said}
    api.floating_ips[address["id"]] = address
    api.servers[vm.cloud_id]["metadata"] |= {
        "isoneph-port": theirs["id"],
        "isoneph-floating-ip": address["id"],
    }
    cloud.list_vms("mme")
    cloud.delete_vm(vm)
    assert theirs["id"] in api.ports
    assert address["id"] in api.floating_ips


@pytest.mark.parametrize("named", ["", "../networks", "nothing"])
def test_metadata_that_names_no_port_holds_no_delete_up(
    api: FakeApi, cloud: OpenstackCloud, named: str
) -> None:
    vm = cloud.create_vm(request_for())
    api.servers[vm.cloud_id]["metadata"] |= {"isoneph-port": named, "isoneph-floating-ip": named}
    ports = set(api.ports)
    cloud.list_vms("mme")
    cloud.delete_vm(vm)
    assert set(api.ports) == ports


def test_a_port_that_cannot_be_looked_at_is_left_for_later(
    api: FakeApi, cloud: OpenstackCloud
) -> None:
    vm = cloud.create_vm(request_for(**FLOATING))
    api.faults["GET /ports"] = [Unreachable("Neutron is slow")]
    cloud.delete_vm(vm)
    assert not api.floating_ips
    assert len(api.ports) == 2


def test_after_a_refusal_no_port_is_left(api: FakeApi, cloud: OpenstackCloud) -> None:
    api.faults["POST /servers"] = [QuotaExceeded("too many instances")]
    with pytest.raises(QuotaExceeded):
        cloud.create_vm(request_for(**FLOATING))
    assert not api.ports
    assert not api.floating_ips


def test_without_a_floating_ip_no_port_is_left(api: FakeApi, cloud: OpenstackCloud) -> None:
    api.faults["POST /floatingips"] = [QuotaExceeded("too many floating IPs")]
    with pytest.raises(QuotaExceeded):
        cloud.create_vm(request_for(**FLOATING))
    assert not api.ports


def test_a_port_that_resists_does_not_hide_the_refusal(api: FakeApi, cloud: OpenstackCloud) -> None:
    api.faults["POST /servers"] = [QuotaExceeded("too many instances")]
    api.faults["DELETE /ports/ID"] = [Unreachable("Neutron is down")]
    with pytest.raises(QuotaExceeded):
        cloud.create_vm(request_for(**FLOATING))


def test_a_port_in_doubt_is_no_vm_in_doubt(api: FakeApi, cloud: OpenstackCloud) -> None:
    api.faults["POST /ports"] = [OutcomeUnknown("no answer")]
    with pytest.raises(Unreachable):
        cloud.create_vm(request_for(**FLOATING))
    assert not api.posted()


def test_user_data_from_a_file(api: FakeApi, cloud: OpenstackCloud, tmp_path: Path) -> None:
    file = tmp_path / "init"
    file.write_text("#cloud-config\nhostname: {{isoneph.name}}\n")
    request = request_for(user_data_file=str(file))
    cloud.create_vm(request)
    sent = base64.b64decode(api.posted()[0]["server"]["user_data"])
    assert sent == f"#cloud-config\nhostname: {request.name}\n".encode()
    file.unlink()
    with pytest.raises(InvalidRequest, match=r"types\.worker: user_data_file: .*cannot be read"):
        cloud.create_vm(request)
