"""Security groups and their rules."""

from __future__ import annotations

from typing import Any

import pytest

from fake_project import FakeProject
from preparations import prepared, told

GROUPS = """
security_groups:
  redis:
    - {protocol: tcp, ports: 7000-7002, from: redis}
    - {protocol: 132, from: 10.1.0.0/24}
  default:
    - {protocol: icmp, from: 10.1.0.0/24}
"""


@pytest.fixture
def project() -> FakeProject:
    return FakeProject()


def test_groups_are_made_and_the_project_s_default_is_used(project: FakeProject) -> None:
    assert told(prepared(project, GROUPS)) == [
        "made security group redis",
        "made security group rule redis: ingress tcp 7000-7002 from redis",
        "made security group rule redis: ingress sctp from 10.1.0.0/24",
        "made security group rule default: ingress icmp from 10.1.0.0/24",
    ]
    redis, default = (project.the("security-groups", name) for name in ("redis", "default"))
    assert redis["tags"] == ["isoneph-application=mme"]
    assert default["tags"] == []
    tcp, sctp = project.rules("redis")[2:]
    assert (tcp["remote_group_id"], tcp["port_range_min"], tcp["port_range_max"]) == (
        redis["id"],
        7000,
        7002,
    )
    assert (sctp["protocol"], sctp["remote_ip_prefix"]) == ("132", "10.1.0.0/24")
    assert told(prepared(project, GROUPS)) == []


def test_a_rule_by_any_other_name_is_the_same(project: FakeProject) -> None:
    prepared(project, GROUPS[: GROUPS.index("  default")])
    project.rules("redis")[3]["protocol"] = "sctp"
    anywhere = "security_groups: {redis: [{protocol: sctp, from: 10.1.0.0/24}, {protocol: udp}]}"
    group = project.the("security-groups", "redis")
    project.add(
        "security-group-rules",
        security_group_id=group["id"],
        direction="ingress",
        ethertype="IPv4",
        protocol="17",
        remote_ip_prefix="0.0.0.0/0",
    )
    assert told(prepared(project, anywhere, change=False)) == [
        "extra security group rule redis: ingress tcp 7000-7002 from redis: not described"
    ]


@pytest.mark.parametrize(
    ("rule", "sent"),
    [
        ("{protocol: tcp, ports: 1-65535}", {"port_range_min": 1, "port_range_max": 65535}),
        ("{protocol: icmp, from: 'fd00::/64'}", {"protocol": "icmp"}),
        ("{protocol: 1, ethertype: IPv6}", {"protocol": "1"}),
    ],
)
def test_a_rule_is_known_again_in_neutron_s_own_form(
    project: FakeProject, rule: str, sent: dict[str, Any]
) -> None:
    text = f"security_groups: {{web: [{rule}]}}"
    assert len(told(prepared(project, text))) == 2
    (ours,) = project.rules("web")[2:]
    assert told(prepared(project, text, prune=True)) == []
    ours |= sent  # a Neutron that keeps it as it was sent
    assert told(prepared(project, text, prune=True)) == []
    assert project.rules("web")[2:] == [ours]


def test_a_missing_rule_is_named_and_added(project: FakeProject) -> None:
    prepared(project, GROUPS)
    project.items["security-group-rules"].remove(project.rules("redis")[3])
    name = "security group rule redis: ingress sctp from 10.1.0.0/24"
    assert told(prepared(project, GROUPS, change=False)) == [f"missing {name}"]
    assert told(prepared(project, GROUPS)) == [f"made {name}"]


def test_extra_rules_go_with_prune_from_our_groups(project: FakeProject) -> None:
    prepared(project, GROUPS)
    for group in ("redis", "default"):
        project.add(
            "security-group-rules",
            security_group_id=project.the("security-groups", group)["id"],
            direction="ingress",
            ethertype="IPv4",
            protocol="tcp",
            port_range_min=23,
            port_range_max=23,
        )
    ours = "security group rule redis: ingress tcp 23 from anywhere"
    theirs = (
        "extra security group rule default: ingress tcp 23 from anywhere: not described, and not "
        "made by isoneph: it stays"
    )
    assert told(prepared(project, GROUPS)) == [f"extra {ours}: not described", theirs]
    assert told(prepared(project, GROUPS, prune=True)) == [f"removed {ours}", theirs]
    assert told(prepared(project, GROUPS)) == [theirs]


def test_our_rule_in_the_default_group_goes_with_prune(project: FakeProject) -> None:
    prepared(project, GROUPS)
    less = "security_groups: {redis: [], default: []}"
    findings = told(prepared(project, less, prune=True))
    assert "removed security group rule default: ingress icmp from 10.1.0.0/24" in findings
    assert len(project.rules("default")) == 4
    assert len(project.rules("redis")) == 2


def test_our_rules_in_a_group_described_no_more_go_with_prune(project: FakeProject) -> None:
    prepared(project, GROUPS, application="web")
    prepared(project, "security_groups: {default: [{protocol: tcp}]}")
    name = "security group rule default: ingress tcp from anywhere"
    assert told(prepared(project, "{}")) == [f"extra {name}: not described"]
    assert told(prepared(project, "{}", prune=True)) == [f"removed {name}"]
    assert len(project.rules("default")) == 5


def test_our_rules_in_a_group_that_stays_for_another_application_go_with_it(
    project: FakeProject,
) -> None:
    prepared(project, "security_groups: {web: [{protocol: tcp}]}")
    prepared(project, "security_groups: {web: []}", application="web")
    assert told(prepared(project, "{}", prune=True)) == [
        "removed security group rule web: ingress tcp from anywhere",
        "released security group web: it stays for web",
    ]
    assert told(prepared(project, "{}", prune=True)) == []


def test_rules_of_another_application_are_its_business(project: FakeProject) -> None:
    prepared(project, GROUPS, application="web")
    mine = "security_groups: {default: [{protocol: tcp, ports: 22}]}"
    assert told(prepared(project, mine, prune=True)) == [
        "made security group rule default: ingress tcp 22 from anywhere"
    ]


def test_once_egress_is_described_the_leave_to_go_anywhere_is_extra(project: FakeProject) -> None:
    text = "security_groups: {dns: [{protocol: udp, ports: 53, to: 10.0.0.0/8}]}"
    assert told(prepared(project, text)) == [
        "made security group dns",
        "made security group rule dns: egress udp 53 to 10.0.0.0/8",
        "extra security group rule dns: egress IPv4 to anywhere: not described",
        "extra security group rule dns: egress IPv6 to anywhere: not described",
    ]


def test_a_rule_may_name_a_group_that_is_there_already(project: FakeProject) -> None:
    other = project.add("security-groups", name="other")
    text = "security_groups: {web: [{protocol: tcp, ports: 80, from: other}]}"
    prepared(project, text)
    assert project.rules("web")[2]["remote_group_id"] == other["id"]


def test_a_rule_that_names_no_group(project: FakeProject) -> None:
    text = "security_groups: {web: [{protocol: tcp, ports: 80, from: nobody}]}"
    name = "security group rule web: ingress tcp 80 from nobody"
    assert told(prepared(project, text, change=False))[1:] == [f"missing {name}"]
    assert told(prepared(project, text))[1:] == [
        f"failed {name}: there is no security group 'nobody'"
    ]


def test_rules_for_a_group_of_addresses_are_not_taken_for_others(project: FakeProject) -> None:
    prepared(project, "security_groups: {web: [{protocol: tcp}]}")
    project.rules("web")[2]["remote_address_group_id"] = "a-1"
    text = "security_groups: {web: [{protocol: tcp}]}"
    assert told(prepared(project, text, change=False)) == [
        "missing security group rule web: ingress tcp from anywhere",
        "extra security group rule web: ingress tcp from address group a-1: not described",
    ]


def test_a_group_described_no_more(project: FakeProject) -> None:
    prepared(project, GROUPS)
    group = project.the("security-groups", "redis")
    project.add("ports", security_groups=[group["id"]], device_id="s", device_owner="compute:nova")
    default = GROUPS[GROUPS.index("  default") :]
    less = f"security_groups:\n{default}"
    assert told(prepared(project, less, prune=True)) == [
        "failed security group redis: in use by compute:nova s"
    ]
    project.items["ports"].clear()
    assert told(prepared(project, less, prune=True)) == ["removed security group redis"]
