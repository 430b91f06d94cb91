"""Networks and subnets: made, compared, changed where that can be, and pruned."""

from __future__ import annotations

import pytest

from fake_project import OTHER, OWN, FakeProject
from isoneph.core.model import Outcome
from isoneph.plugins.clouds.openstack.errors import NotFound
from preparations import prepared, told

TAG = "isoneph-application=mme"

TENANT = """
networks:
  openstack:
    subnets:
      10.1.0.0/24:
        gateway: 10.1.0.1
        pools: {uniform: 10.1.0.2-10.1.0.100}
        dns: [9.9.9.9, 1.1.1.1]
        routes: {10.9.0.0/16: 10.1.0.9, 10.8.0.0/16: 10.1.0.9}
"""
VLAN = """
networks:
  ltemgmt:
    vlan: 3285
    physical_network: physnet2
    subnets:
      10.2.0.0/24: {gateway: none}
"""


@pytest.fixture
def project() -> FakeProject:
    return FakeProject()


def test_a_tenant_network_is_made_once_and_says_whose_it_is(project: FakeProject) -> None:
    assert told(prepared(project, TENANT)) == [
        "made network openstack",
        "made subnet openstack 10.1.0.0/24",
    ]
    network, subnet = project.the("networks", "openstack"), project.items["subnets"][0]
    assert network["tags"] == [TAG]
    assert network["description"] == subnet["description"] == f"made by isoneph ({TAG})"
    assert subnet["ip_version"] == 4
    assert subnet["gateway_ip"] == "10.1.0.1"
    assert subnet["allocation_pools"] == [{"start": "10.1.0.2", "end": "10.1.0.100"}]
    assert subnet["dns_nameservers"] == ("9.9.9.9", "1.1.1.1")
    posts = [name for name in project.calls if not name.startswith("GET")]
    before = {name: project.calls[name] for name in posts}
    again = prepared(project, TENANT)
    assert {each.outcome for each in again} == {Outcome.RIGHT}
    assert {name: project.calls[name] for name in posts} == before


def test_what_differs_is_named_and_set_right(project: FakeProject) -> None:
    prepared(project, TENANT)
    subnet = project.items["subnets"][0]
    subnet |= {"gateway_ip": None, "dns_nameservers": ["1.1.1.1"], "host_routes": []}
    subnet["allocation_pools"] = [
        {"start": "10.1.0.50", "end": "10.1.0.60"},
        {"start": "10.1.0.2", "end": "10.1.0.49"},
    ]
    (differs,) = told(prepared(project, TENANT, change=False))
    assert differs == (
        "differs subnet openstack 10.1.0.0/24: allocation_pools is 10.1.0.2-10.1.0.60, should be "
        "10.1.0.2-10.1.0.100; dns_nameservers is 1.1.1.1, should be 9.9.9.9, 1.1.1.1; "
        "host_routes is none, should be 10.8.0.0/16-10.1.0.9, 10.9.0.0/16-10.1.0.9; "
        "gateway_ip is none, should be 10.1.0.1"
    )
    (changed,) = told(prepared(project, TENANT))
    assert "gateway_ip was none, now 10.1.0.1" in changed
    assert told(prepared(project, TENANT, change=False)) == []


def test_what_is_not_described_is_not_compared(project: FakeProject) -> None:
    bare = "networks: {openstack: {subnets: {10.1.0.0/24: {}}}}"
    prepared(project, TENANT)
    project.the("networks", "openstack")["mtu"] = 1234
    assert told(prepared(project, bare, change=False)) == []


def test_a_vlan_needs_an_administrator_who_makes_it_for_the_project(project: FakeProject) -> None:
    assert told(prepared(project, VLAN)) == [
        (
            "failed network ltemgmt: a network with a VLAN of its own needs an administrator's "
            "rights: give them with --admin FILE (Neutron answers POST /networks with "
            "403: disallowed by policy)"
        )
    ]
    made = told(prepared(project, VLAN, admin=True))
    assert made == ["made network ltemgmt", "made subnet ltemgmt 10.2.0.0/24"]
    network = project.the("networks", "ltemgmt")
    assert network["project_id"] == OWN
    assert network["provider:segmentation_id"] == 3285
    assert project.items["subnets"][0]["gateway_ip"] is None


def test_another_vlan_is_told_and_never_changed(project: FakeProject) -> None:
    prepared(project, VLAN, admin=True)
    network = project.the("networks", "ltemgmt")
    network["provider:segmentation_id"] = 3286
    difference = "segmentation_id is 3286, should be 3285"
    assert told(prepared(project, VLAN, admin=True, change=False)) == [
        f"differs network ltemgmt: {difference}"
    ]
    assert told(prepared(project, VLAN, admin=True)) == [
        f"failed network ltemgmt: {difference}; that cannot be changed: remove it by hand"
    ]
    assert network["provider:segmentation_id"] == 3286


def test_nothing_is_built_on_what_is_wrong(project: FakeProject) -> None:
    project.add("networks", name="ltemgmt", **{"provider:network_type": "vxlan"})
    (failed,) = told(prepared(project, VLAN, admin=True))
    assert failed.startswith("failed network ltemgmt: ")
    assert project.items["subnets"] == []


def test_who_may_not_see_the_vlan_is_told_so(project: FakeProject) -> None:
    prepared(project, VLAN, admin=True)
    network, _ = told(prepared(project, VLAN), right=True)
    assert network == (
        "right network ltemgmt: its VLAN was not compared: only an administrator sees it "
        "(--admin FILE)"
    )


def test_a_taken_vlan_fails_alone(project: FakeProject) -> None:
    prepared(project, VLAN.replace("ltemgmt", "other"), admin=True, application="web")
    findings = told(prepared(project, VLAN + TENANT.replace("networks:\n", "")[1:], admin=True))
    assert findings[0].startswith("failed network ltemgmt: Neutron answers POST /networks with 409")
    assert findings[1:] == ["made network openstack", "made subnet openstack 10.1.0.0/24"]


def test_two_networks_of_one_name(project: FakeProject) -> None:
    ids = [project.add("networks", name="openstack")["id"] for _ in range(2)]
    (failed,) = told(prepared(project, TENANT))
    assert failed == (
        "failed network openstack: there are 2 of this name; remove or rename all but one: "
        + ", ".join(ids)
    )


def test_the_project_s_own_network_goes_before_a_shared_one(project: FakeProject) -> None:
    project.add("networks", name="openstack", project_id=OTHER, shared=True)
    project.add("networks", name="openstack", project_id=OTHER)
    own = project.add("networks", name="openstack")
    prepared(project, TENANT)
    assert [subnet["network_id"] for subnet in project.items["subnets"]] == [own["id"]]


def test_other_subnets_are_extra_and_only_ours_are_pruned(project: FakeProject) -> None:
    theirs = project.add("networks", name="openstack")
    project.add("subnets", network_id=theirs["id"], cidr="10.7.0.0/24", gateway_ip=None)
    prepared(project, TENANT)
    without = "networks: {openstack: {subnets: {10.6.0.0/24: {}}}}"
    assert told(prepared(project, without, change=False))[1:] == [
        "extra subnet openstack 10.7.0.0/24: not described, and not made by isoneph: it stays",
        "extra subnet openstack 10.1.0.0/24: not described",
    ]
    assert "removed subnet openstack 10.1.0.0/24" in told(prepared(project, without, prune=True))
    assert [s["cidr"] for s in project.items["subnets"]] == ["10.7.0.0/24", "10.6.0.0/24"]


def test_our_subnet_in_a_network_described_no_more_goes_with_prune(project: FakeProject) -> None:
    theirs = project.add("networks", name="openstack")
    project.add("subnets", network_id=theirs["id"], cidr="10.7.0.0/24", gateway_ip=None)
    prepared(project, TENANT)
    assert told(prepared(project, "{}", prune=True)) == ["removed subnet openstack 10.1.0.0/24"]
    assert [subnet["cidr"] for subnet in project.items["subnets"]] == ["10.7.0.0/24"]


def test_a_network_in_use_is_not_pruned_and_its_user_is_named(project: FakeProject) -> None:
    prepared(project, TENANT)
    network = project.the("networks", "openstack")
    port = project.add(
        "ports", network_id=network["id"], device_owner="compute:nova", device_id="server-1"
    )
    project.add("ports", network_id=network["id"], device_owner="network:dhcp")
    assert told(prepared(project, "{}")) == ["extra network openstack: not described"]
    assert told(prepared(project, "{}", prune=True)) == [
        "failed network openstack: in use by compute:nova server-1"
    ]
    project.items["ports"].clear()
    assert port["device_id"] == "server-1"
    assert told(prepared(project, "{}", prune=True)) == ["removed network openstack"]
    assert project.items["networks"] == project.items["subnets"] == []


def test_nothing_that_isoneph_did_not_make_is_pruned(project: FakeProject) -> None:
    theirs = project.add("networks", name="openstack")
    prepared(project, TENANT)
    assert theirs["tags"] == []
    prepared(project, "{}", prune=True)
    assert project.items["networks"] == [theirs]


def test_a_neutron_that_filters_no_tags_loses_nothing(project: FakeProject) -> None:
    prepared(project, TENANT)
    project.add("networks", name="theirs")
    project.unfiltered = {"tags"}
    assert told(prepared(project, "{}", prune=True)) == ["removed network openstack"]


def test_a_neutron_without_routers_can_be_pruned(project: FakeProject) -> None:
    def no_such_path() -> None:
        raise NotFound("404")

    prepared(project, TENANT)
    project.before["GET /routers"] = [no_such_path]
    assert told(prepared(project, "{}", prune=True)) == ["removed network openstack"]


def test_what_two_applications_want_stays_for_the_other(project: FakeProject) -> None:
    prepared(project, TENANT)
    prepared(project, TENANT, application="web")
    network = project.the("networks", "openstack")
    (subnet,) = project.items["subnets"]
    assert network["tags"] == subnet["tags"] == [TAG, "isoneph-application=web"]
    assert told(prepared(project, "{}", prune=True)) == [
        "released subnet openstack 10.1.0.0/24: it stays for web",
        "released network openstack: it stays for web",
    ]
    assert network["tags"] == subnet["tags"] == ["isoneph-application=web"]
    assert told(prepared(project, "{}", prune=True)) == []
    assert told(prepared(project, "{}", application="web", prune=True)) == [
        "removed network openstack"
    ]


TWO_SUBNETS = "networks: {n: {subnets: {10.1.0.0/24: {}, 10.2.0.0/24: {}}}}"
ONE_SUBNET = "networks: {n: {subnets: {10.1.0.0/24: {}}}}"


def test_a_subnet_that_only_another_application_wants_is_its_business(
    project: FakeProject,
) -> None:
    prepared(project, ONE_SUBNET)
    prepared(project, TWO_SUBNETS, application="web")
    assert told(prepared(project, ONE_SUBNET, prune=True)) == []
    for subnet in project.items["subnets"]:  # and one whose maker broke off before its tag
        subnet["tags"].clear()
    assert told(prepared(project, ONE_SUBNET, prune=True)) == []
    assert len(project.items["subnets"]) == 2


def test_a_subnet_stays_until_the_last_application_gives_it_up(project: FakeProject) -> None:
    for application in ("mme", "web"):
        prepared(project, TWO_SUBNETS, application=application)
    name = "subnet n 10.2.0.0/24"
    assert told(prepared(project, ONE_SUBNET)) == [f"extra {name}: not described"]
    assert told(prepared(project, ONE_SUBNET, prune=True)) == [
        f"released {name}: it stays for web",
    ]
    assert told(prepared(project, ONE_SUBNET, prune=True)) == []
    pruned = told(prepared(project, ONE_SUBNET, application="web", prune=True))
    assert pruned == [f"removed {name}"]
    assert [subnet["cidr"] for subnet in project.items["subnets"]] == ["10.1.0.0/24"]


def test_our_own_subnet_in_a_network_of_two_applications_goes_in_the_same_run(
    project: FakeProject,
) -> None:
    prepared(project, TWO_SUBNETS)
    prepared(project, ONE_SUBNET, application="web")
    assert told(prepared(project, "{}", prune=True)) == [
        "released subnet n 10.1.0.0/24: it stays for web",
        "removed subnet n 10.2.0.0/24",
        "released network n: it stays for web",
    ]
    assert told(prepared(project, "{}", prune=True)) == []
    assert [subnet["cidr"] for subnet in project.items["subnets"]] == ["10.1.0.0/24"]


@pytest.mark.parametrize("maker", [OWN, OTHER])
def test_a_subnet_that_somebody_put_into_our_network_stays_and_so_does_the_network(
    project: FakeProject, maker: str
) -> None:
    prepared(project, ONE_SUBNET)
    theirs = project.add(
        "subnets",
        network_id=project.the("networks", "n")["id"],
        cidr="10.2.0.0/24",
        gateway_ip=None,
        project_id=maker,
    )
    seen = maker == OWN
    extra = "extra subnet n 10.2.0.0/24: not described, and not made by isoneph: it stays"
    assert told(prepared(project, ONE_SUBNET, prune=True)) == ([extra] if seen else [])
    stays = (
        "extra network n: not described, and isoneph did not make subnet "
        f"{theirs['cidr'] if seen else theirs['id']} in it for mme: it stays"
    )
    ours = "subnet n 10.1.0.0/24"
    assert told(prepared(project, "{}")) == [f"extra {ours}: not described", stays]
    assert told(prepared(project, "{}", prune=True)) == [f"removed {ours}", stays]
    assert project.items["subnets"] == [theirs]
    project.items["subnets"].clear()
    assert told(prepared(project, "{}", prune=True)) == ["removed network n"]


def test_somebody_s_subnet_does_not_keep_a_network_that_stays_for_others_ours(
    project: FakeProject,
) -> None:
    prepared(project, ONE_SUBNET)
    prepared(project, ONE_SUBNET, application="web")
    network = project.the("networks", "n")
    project.add("subnets", network_id=network["id"], cidr="10.2.0.0/24", gateway_ip=None)
    assert told(prepared(project, "{}", prune=True)) == [
        "released subnet n 10.1.0.0/24: it stays for web",
        "released network n: it stays for web",
    ]
    assert network["tags"] == ["isoneph-application=web"]


def test_a_run_that_broke_off_before_it_left_its_tag_is_made_up_for(project: FakeProject) -> None:
    prepared(project, TENANT)
    network = project.the("networks", "openstack")
    network["tags"].clear()
    prepared(project, TENANT, change=False)
    assert network["tags"] == []
    prepared(project, TENANT)
    assert network["tags"] == [TAG]
