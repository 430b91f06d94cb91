"""Descriptions whose parts are right one by one, and do not go together."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from isoneph.plugins.clouds.openstack.preparing import preparation_problems
from preparations import described

BOTH = ("uniform", "quebec")

RIGHT = """
networks:
  openstack:
    router: gateway
    subnets:
      10.1.0.0/24:
        gateway: 10.1.0.1
        pools: {uniform: 10.1.0.2-10.1.0.100, quebec: 10.1.0.102-10.1.0.200}
      fd00:10:1::/64: {ipv6_mode: slaac}
  ltemgmt:
    vlan: 3285
    physical_network: physnet2
    subnets:
      10.2.0.0/24:
        gateway: none
        pools: {uniform: 10.2.0.3-10.2.0.50, quebec: 10.2.0.52-10.2.0.100}
  internal:
    subnets:
      10.4.0.0/24: {}
routers: {gateway: {external: public}}
security_groups: {web: [{protocol: tcp, ports: 80}, {protocol: tcp, ports: 443}]}
"""
VLAN = "vlan: 7, physical_network: p"


def problems(text: str, clouds: Sequence[str] = BOTH) -> Sequence[str]:
    return preparation_problems(described(text), clouds)


def test_a_right_description() -> None:
    assert problems(RIGHT) == []


def test_pools_that_overlap_are_refused_with_both_ranges() -> None:
    text = RIGHT.replace("10.2.0.3-10.2.0.50", "10.2.0.3-10.2.0.60")
    assert problems(text) == [
        (
            "networks.ltemgmt.subnets.10.2.0.0/24.pools: uniform's 10.2.0.3-10.2.0.60 and quebec's "
            "10.2.0.52-10.2.0.100 overlap: VMs of both could get the same address; expected ranges "
            "without a common one"
        )
    ]


def test_pools_of_tenant_networks_are_kept_apart_too() -> None:
    text = RIGHT.replace("quebec: 10.1.0.102-", "quebec: 10.1.0.90-")
    assert [each.partition(":")[0] for each in problems(text)] == [
        "networks.openstack.subnets.10.1.0.0/24.pools"
    ]


def test_a_shared_vlan_needs_pools() -> None:
    text = f"networks: {{m: {{{VLAN}, subnets: {{10.2.0.0/29: {{gateway: none}}}}}}}}"
    (problem,) = problems(text)
    assert "uniform's 10.2.0.1-10.2.0.7 and quebec's 10.2.0.1-10.2.0.7 overlap" in problem
    assert problems(text, ["uniform"]) == []
    slaac = text.replace("10.2.0.0/29: {gateway: none}", "'fd00::/64': {ipv6_mode: slaac}")
    assert problems(slaac) == []


def test_two_networks_of_one_vlan_on_different_clouds_share_it() -> None:
    text = """
    networks:
      a: {vlan: 7, physical_network: p, only: [uniform], subnets: {10.2.0.0/24: {
            pools: {uniform: 10.2.0.2-10.2.0.9}}}}
      b: {vlan: 7, physical_network: q, only: [quebec], subnets: {10.2.0.0/24: {
            pools: {quebec: 10.2.0.9-10.2.0.20}}}}
    """
    (problem,) = problems(text)
    assert problem.startswith(
        "networks.b.subnets.10.2.0.0/24.pools: uniform's 10.2.0.2-10.2.0.9 on a and quebec's"
    )
    assert problems(text.replace("10.2.0.9-", "10.2.0.10-")) == []


SUBNET = "networks: {n: {subnets: {10.1.0.0/24: {%s}}}}"
PLACE = "networks.n.subnets.10.1.0.0/24"
ROUTED = "networks: {n: {router: r, %s subnets: {10.1.0.0/24: {%s}}}}\nrouters: {r: {%s}}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (SUBNET % "pools: {uniform: 10.1.0.2-10.1.0.9}", ".pools: nothing is said of quebec"),
        (
            SUBNET % "pools: {uniform: 10.1.0.2-10.1.0.9, quebeck: 10.1.0.10-10.1.0.11}",
            (
                ".pools: 'quebeck' is none of the application's clouds that this is for; expected "
                "one of uniform, quebec"
            ),
        ),
        (
            SUBNET % "pools: {uniform: 10.1.0.2-10.1.1.9, quebec: 10.1.0.10-10.1.0.11}",
            ".pools: uniform's 10.1.0.2-10.1.1.9 is not in 10.1.0.0/24",
        ),
        (
            SUBNET % "pools: {uniform: 10.1.0.1-10.1.0.9, quebec: 10.1.0.10-10.1.0.11}",
            ".pools: uniform's 10.1.0.1-10.1.0.9 has the gateway's address 10.1.0.1 in it",
        ),
        (
            SUBNET % "gateway: {uniform: 10.1.0.5, quebec: none}, "
            "pools: {uniform: 10.1.0.8-10.1.0.9, quebec: 10.1.0.2-10.1.0.7}",
            ".pools: quebec's 10.1.0.2-10.1.0.7 has the gateway's address 10.1.0.5 in it",
        ),
        (SUBNET % "gateway: 10.2.0.1", ".gateway: 10.2.0.1 is not in 10.1.0.0/24"),
        (SUBNET % "ipv6_mode: slaac", ".ipv6_mode: expected none, this is an IPv4 subnet"),
        (SUBNET % "dns: {uniform: [10.0.0.1]}", ".dns: nothing is said of quebec"),
        (
            ROUTED % ("", "gateway: none", ""),
            ".gateway: expected an address, the router 'r' takes it",
        ),
        (
            ROUTED
            % (
                f"{VLAN},",
                "pools: {uniform: 10.1.0.2-10.1.0.3, quebec: 10.1.0.4-10.1.0.5}",
                "",
            ),
            (
                ".gateway: uniform and quebec share the VLAN, and the routers of all would take "
                "the same address; expected another one for each cloud"
            ),
        ),
    ],
)
def test_mistakes_in_subnets(text: str, problem: str) -> None:
    assert f"{PLACE}{problem}" in problems(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "networks: {n: {router: gatway, subnets: {10.1.0.0/24: {}}}}\nrouters: {gateway: {}}",
            "networks.n.router: no router 'gatway' is described; expected one of gateway",
        ),
        (
            "networks: {n: {router: r, subnets: {10.1.0.0/24: {}}}}",
            (
                "networks.n.router: no router 'r' is described; expected one of none, there are no "
                "routers"
            ),
        ),
        (
            ROUTED % ("", "", "only: [uniform]"),
            "networks.n.router: router 'r' is not described for quebec",
        ),
        (
            "networks: {n: {only: [oslo], subnets: {10.1.0.0/24: {}}}}",
            (
                "networks.n.only: 'oslo' is none of the application's clouds that this is for; "
                "expected one of uniform, quebec"
            ),
        ),
        (
            "routers: {r: {external: {uniform: public}}}",
            "routers.r.external: nothing is said of quebec",
        ),
        (
            (
                f"networks: {{a: {{{VLAN}, subnets: {{10.1.0.0/24: {{}}}}}}, "
                f"b: {{{VLAN}, subnets: {{10.2.0.0/24: {{}}}}}}}}"
            ),
            "networks.b.vlan: a has VLAN 7 of p on uniform too",
        ),
        (
            (
                "networks: {a: {router: r, subnets: {10.1.0.0/24: {}}}, "
                "b: {router: r, subnets: {10.1.0.0/16: {}}}}\nrouters: {r: {}}"
            ),
            "networks.b.subnets.10.1.0.0/16: a has 10.1.0.0/24, which overlaps, on router 'r' too",
        ),
        (
            "networks: {n: {subnets: {10.1.0.0/24: {}, 10.1.0.0/28: {}}}}",
            "networks.n.subnets.10.1.0.0/28: it overlaps with 10.1.0.0/24",
        ),
        (
            (
                "security_groups: {g: [{protocol: tcp, ports: 22}, {protocol: 6, ports: 22-22, "
                "from: 0.0.0.0/0}]}"
            ),
            "security_groups.g[1]: the same rule as [0]",
        ),
        (
            "security_groups: {g: [{protocol: tcp}, {protocol: tcp, ports: 1-65535}]}",
            "security_groups.g[1]: the same rule as [0]",
        ),
    ],
)
def test_mistakes_between_the_parts(text: str, problem: str) -> None:
    assert problem in problems(text)


def test_ipv6_modes_that_contradict_the_rest() -> None:
    text = (
        "networks: {n: {subnets: {'fd00::/64': {ipv6_mode: slaac, dhcp: false, "
        "pools: {uniform: 'fd00::10-fd00::20', quebec: 'fd00::30-fd00::40'}}}}}"
    )
    assert problems(text) == [
        "networks.n.subnets.fd00::/64.ipv6_mode: expected none without dhcp",
        (
            "networks.n.subnets.fd00::/64.pools: expected none, with slaac VMs choose their "
            "addresses themselves"
        ),
    ]


def test_only_some_clouds_need_be_told_of() -> None:
    text = (
        "networks: {n: {only: [quebec], subnets: {10.1.0.0/24: {"
        "pools: {quebec: 10.1.0.4-10.1.0.5}}}}}"
    )
    assert problems(text) == []
