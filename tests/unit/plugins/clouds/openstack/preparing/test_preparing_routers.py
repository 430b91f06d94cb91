"""Routers and the networks on them: made, compared, led elsewhere, and pruned."""

from __future__ import annotations

import pytest

from fake_project import OTHER, FakeProject
from preparations import prepared, told

ROUTED = """
networks:
  openstack: {router: gateway, subnets: {10.1.0.0/24: {}}}
routers:
  gateway: {external: public}
"""


@pytest.fixture
def project() -> FakeProject:
    return FakeProject()


def test_a_check_tells_and_changes_nothing(project: FakeProject) -> None:
    findings = prepared(project, ROUTED, change=False)
    assert told(findings) == [
        "missing network openstack",
        "missing subnet openstack 10.1.0.0/24",
        "missing router gateway",
        "missing router interface gateway openstack 10.1.0.0/24",
    ]
    assert all(name.startswith("GET") for name in project.calls)


def test_a_router_leads_out_and_has_the_subnets(project: FakeProject) -> None:
    public = project.add("networks", name="public", project_id=OTHER, **{"router:external": True})
    assert told(prepared(project, ROUTED)) == [
        "made network openstack",
        "made subnet openstack 10.1.0.0/24",
        "made router gateway",
        "made router interface gateway openstack 10.1.0.0/24",
    ]
    router = project.the("routers", "gateway")
    assert router["external_gateway_info"] == {"network_id": public["id"]}
    assert told(prepared(project, ROUTED)) == []


def test_a_router_that_leads_elsewhere_is_led_back(project: FakeProject) -> None:
    for name in ("public", "other"):
        project.add("networks", name=name, project_id=OTHER, **{"router:external": True})
    prepared(project, ROUTED)
    router = project.the("routers", "gateway")
    router["external_gateway_info"] = {"network_id": project.the("networks", "other")["id"]}
    assert told(prepared(project, ROUTED, change=False)) == [
        "differs router gateway: external is other, should be public"
    ]
    assert told(prepared(project, ROUTED)) == [
        "changed router gateway: external was other, now public"
    ]
    router["external_gateway_info"] = None
    assert told(prepared(project, ROUTED)) == [
        "changed router gateway: external was none, now public"
    ]


def test_a_router_without_its_external_network(project: FakeProject) -> None:
    findings = told(prepared(project, ROUTED))
    assert findings[-1] == (
        "failed router gateway: there are 0 external networks 'public'; expected one"
    )


def test_our_networks_leave_a_router_that_they_are_described_no_more_on(
    project: FakeProject,
) -> None:
    both = ROUTED.replace("{external: public}", "{}")
    prepared(project, both)
    foreign = project.add("networks", name="foreign")
    subnet = project.add("subnets", network_id=foreign["id"], cidr="10.5.0.0/24", gateway_ip="a")
    router = project.the("routers", "gateway")
    path = f"/routers/{router['id']}/add_router_interface"
    project.member.call("PUT", "network", path, body={"subnet_id": subnet["id"]})
    off = both.replace("router: gateway, ", "")
    gone = "router interface gateway openstack 10.1.0.0/24"
    assert told(prepared(project, off)) == [f"extra {gone}: not described"]
    assert told(prepared(project, off, prune=True)) == [f"removed {gone}"]
    assert [port["network_id"] for port in project.items["ports"]] == [foreign["id"]]
    assert told(prepared(project, "{}", prune=True)) == [
        f"failed router gateway: in use by network:router_interface {router['id']}",
        "removed network openstack",
    ]


def test_a_network_that_another_application_wants_on_a_router_stays_there(
    project: FakeProject,
) -> None:
    on = ROUTED.replace("{external: public}", "{}")
    off = on.replace("router: gateway, ", "")
    prepared(project, on)
    prepared(project, on, application="web")
    name = "router interface gateway openstack 10.1.0.0/24"
    stays = f"extra {name}: not described, and web may want it: it stays"
    assert told(prepared(project, off, prune=True)) == [stays]
    router = project.the("routers", "gateway")
    tags, router["tags"] = router["tags"], []
    router["description"] = "by hand"  # nobody knows who describes it
    assert told(prepared(project, off, prune=True)) == [stays]
    router |= {"tags": tags, "description": ""}
    prepared(project, off.replace("gateway", "other"), application="web", prune=True)
    assert told(prepared(project, off, prune=True)) == [f"removed {name}"]


def test_a_subnet_that_somebody_put_on_our_router_stays_there(project: FakeProject) -> None:
    text = ROUTED.replace("{external: public}", "{}")
    prepared(project, text)
    router, network = project.the("routers", "gateway"), project.the("networks", "openstack")
    subnet = project.add("subnets", network_id=network["id"], cidr="10.2.0.0/24", gateway_ip="a")
    path = f"/routers/{router['id']}/add_router_interface"
    project.member.call("PUT", "network", path, body={"subnet_id": subnet["id"]})
    theirs = project.items["ports"][-1]
    assert told(prepared(project, text, prune=True)) == [
        "extra subnet openstack 10.2.0.0/24: not described, and not made by isoneph: it stays"
    ]
    assert told(prepared(project, "{}", prune=True))[0] == (
        f"failed router gateway: in use by network:router_interface {router['id']}"
    )
    assert project.items["ports"] == [theirs]


def test_our_own_network_leaves_a_router_that_stays_for_another_application(
    project: FakeProject,
) -> None:
    text = ROUTED.replace("{external: public}", "{}")
    prepared(project, text)
    prepared(project, "routers: {gateway: {}}", application="web")
    assert told(prepared(project, "{}", prune=True)) == [
        "released router gateway: it stays for web",
        "removed network openstack",
    ]
    prepared(project, text)
    prepared(project, text, application="web")
    released = [line.split()[0] for line in told(prepared(project, "{}", prune=True))]
    assert released == ["released", "released", "released"]
    assert len(project.items["ports"]) == 1


def test_a_pruned_router_lets_go_of_our_networks_first(project: FakeProject) -> None:
    prepared(project, ROUTED.replace("{external: public}", "{}"))
    assert told(prepared(project, "{}", prune=True)) == [
        "removed router gateway",
        "removed network openstack",
    ]
    assert project.items["ports"] == []
