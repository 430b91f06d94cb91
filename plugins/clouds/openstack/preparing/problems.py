"""What is wrong with a description whose parts are right one by one."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from isoneph.plugins.clouds.openstack.preparing.description import (
    Entry,
    Range,
    gateway_of,
    on_cloud,
    overlap,
    parse_ranges,
    rule_key,
)
from isoneph.plugins.clouds.openstack.preparing.schema import PER_CLOUD
from isoneph.plugins.clouds.openstack.preparing.values import NO_GATEWAY

_SECTIONS = ("networks", "routers", "keypairs", "images")


def preparation_problems(options: Entry, clouds: Sequence[str]) -> Sequence[str]:
    """A sentence for each mistake, which begins with its place in the description; ``clouds``
    are those of the application that it is for."""
    problems = [*_clouds_problems(options, clouds), *_rules_problems(options)]
    if problems:
        return problems  # the rest would only follow from them
    networks = options.get("networks", {})
    for name, network in networks.items():
        on = [cloud for cloud in clouds if cloud in network.get("only", clouds)]
        for cidr, subnet in network["subnets"].items():
            place = f"networks.{name}.subnets.{cidr}"
            problems += [f"{place}{text}" for text in _subnet_problems(cidr, subnet)]
            problems += [f"{place}{text}" for text in _pool_problems(subnet, cidr, on)]
        problems += [f"networks.{name}.{text}" for text in _router_problems(options, network, on)]
    problems += _pool_collisions(options, clouds)
    for cloud in clouds:
        problems += _collisions(options, cloud)
    return list(dict.fromkeys(problems))


def _clouds_problems(options: Entry, clouds: Sequence[str]) -> Iterator[str]:
    """Mappings by cloud that name others than the application's, or not all that they should."""
    for section in _SECTIONS:
        for name, entry in options.get(section, {}).items():
            place = f"{section}.{name}"
            only = entry.get("only", clouds)
            yield from _unknown(f"{place}.only", only, clouds)
            on = [cloud for cloud in clouds if cloud in only]
            yield from _mappings_problems(place, entry, clouds, on)
            for cidr, subnet in entry.get("subnets", {}).items():
                yield from _mappings_problems(f"{place}.subnets.{cidr}", subnet, clouds, on)


def _mappings_problems(
    place: str, entry: Entry, clouds: Sequence[str], on: Sequence[str]
) -> Iterator[str]:
    for key, value in entry.items():
        if key in PER_CLOUD and isinstance(value, Mapping):
            yield from _unknown(f"{place}.{key}", value, clouds)
            missing = [cloud for cloud in on if cloud not in value]
            if missing:
                yield f"{place}.{key}: nothing is said of {', '.join(missing)}"


def _unknown(place: str, named: Any, clouds: Sequence[str]) -> Iterator[str]:
    for name in named:
        if name not in clouds:
            yield (
                f"{place}: '{name}' is none of the application's clouds that this is for; "
                f"expected one of {', '.join(clouds)}"
            )


def _rules_problems(options: Entry) -> Iterator[str]:
    for name, rules in options.get("security_groups", {}).items():
        first: dict[Any, int] = {}
        for index, rule in enumerate(rules):
            same = first.setdefault(rule_key(rule), index)
            if same != index:
                yield f"security_groups.{name}[{index}]: the same rule as [{same}]"


def _subnet_problems(cidr: str, subnet: Entry) -> Iterator[str]:
    """What is wrong with a subnet wherever it is."""
    network = ipaddress.ip_network(cidr)
    given = subnet.get("gateway", NO_GATEWAY)
    for address in given.values() if isinstance(given, Mapping) else [given]:
        if address != NO_GATEWAY and ipaddress.ip_address(address) not in network:
            yield f".gateway: {address} is not in {cidr}"
    if "ipv6_mode" in subnet:
        if ":" not in cidr:
            yield ".ipv6_mode: expected none, this is an IPv4 subnet"
        if subnet.get("dhcp") is False:
            yield ".ipv6_mode: expected none without dhcp"
        if subnet["ipv6_mode"] == "slaac" and "pools" in subnet:
            yield ".pools: expected none, with slaac VMs choose their addresses themselves"


def _pool_problems(subnet: Entry, cidr: str, clouds: Sequence[str]) -> Iterator[str]:
    """Pools that a subnet cannot have."""
    bounds = ipaddress.ip_network(cidr)
    gateways = {gateway_of(cidr, _on(subnet, cloud)) for cloud in clouds} - {None}
    for cloud in clouds if "pools" in subnet else ():
        for pool in parse_ranges(subnet["pools"][cloud]):
            shown = f"{cloud}'s {'-'.join(pool)}"
            if not all(ipaddress.ip_address(end) in bounds for end in pool):
                yield f".pools: {shown} is not in {cidr}"
                continue
            for gateway in sorted(map(str, gateways)):
                if overlap(pool, (gateway, gateway)):
                    yield f".pools: {shown} has the gateway's address {gateway} in it"


class _Share(NamedTuple):
    """Addresses that one cloud gives to VMs on a network where they may meet others."""

    place: str
    network: str
    vlan: int | None
    cloud: str
    pool: Range

    def meets(self, other: _Share) -> bool:
        """Whether VMs that get addresses from both can be on one wire."""
        same = self.network == other.network or (self.vlan is not None and self.vlan == other.vlan)
        return same and self.cloud != other.cloud


def _shares(options: Entry, cloud: str) -> Iterator[_Share]:
    for name, network in on_cloud(options, "networks", cloud).items():
        for cidr, subnet in network["subnets"].items():
            bounds = ipaddress.ip_network(cidr)
            pools = parse_ranges(subnet.get("pools", ()))
            if not pools and "vlan" in network and subnet.get("ipv6_mode") != "slaac":
                pools = ((str(bounds[1]), str(bounds[-1])),)
            place = f"networks.{name}.subnets.{cidr}.pools"
            for pool in pools:
                yield _Share(place, name, network.get("vlan"), cloud, pool)


def _pool_collisions(options: Entry, clouds: Sequence[str]) -> Iterator[str]:
    """Addresses that two clouds would give to VMs that may meet."""
    shares = [share for cloud in clouds for share in _shares(options, cloud)]
    for one, other in combinations(shares, 2):
        if one.meets(other) and overlap(one.pool, other.pool):
            where = "" if one.network == other.network else f" on {one.network}"
            yield (
                f"{other.place}: {one.cloud}'s {'-'.join(one.pool)}{where} and {other.cloud}'s "
                f"{'-'.join(other.pool)} overlap: VMs of both could get the same address; "
                "expected ranges without a common one"
            )


def _on(subnet: Entry, cloud: str) -> Entry:
    gateway = subnet.get("gateway")
    return {"gateway": gateway[cloud]} if isinstance(gateway, Mapping) else subnet


def _router_problems(options: Entry, network: Entry, clouds: Sequence[str]) -> Iterator[str]:
    router = network.get("router")
    if router is None:
        return
    routers = options.get("routers", {})
    if router not in routers:
        known = ", ".join(routers) or "none, there are no routers"
        yield f"router: no router '{router}' is described; expected one of {known}"
        return
    missing = [cloud for cloud in clouds if cloud not in routers[router].get("only", clouds)]
    if missing:
        yield f"router: router '{router}' is not described for {', '.join(missing)}"
    for cidr, subnet in network["subnets"].items():
        gateways = [gateway_of(cidr, _on(subnet, cloud)) for cloud in clouds]
        if None in gateways:
            yield f"subnets.{cidr}.gateway: expected an address, the router '{router}' takes it"
        elif "vlan" in network and len(set(gateways)) < len(gateways):
            yield (
                f"subnets.{cidr}.gateway: {' and '.join(clouds)} share the VLAN, and the routers "
                "of all would take the same address; expected another one for each cloud"
            )


def _collisions(options: Entry, cloud: str) -> Iterator[str]:
    """Networks that cannot be on one cloud, or on one router, together."""
    networks = on_cloud(options, "networks", cloud)
    for (one, first), (other, second) in combinations(networks.items(), 2):
        if "vlan" in first and _segment(first) == _segment(second):
            vlan, where = _segment(first)
            yield f"networks.{other}.vlan: {one} has VLAN {vlan} of {where} on {cloud} too"
        if first.get("router") and first.get("router") == second.get("router"):
            for cidr, same in _overlaps(first["subnets"], second["subnets"]):
                yield (
                    f"networks.{other}.subnets.{same}: {one} has {cidr}, which overlaps, on "
                    f"router '{first['router']}' too"
                )
    for name, network in networks.items():
        for cidr, same in combinations(network["subnets"], 2):
            if ipaddress.ip_network(cidr).overlaps(ipaddress.ip_network(same)):
                yield f"networks.{name}.subnets.{same}: it overlaps with {cidr}"


def _segment(network: Entry) -> tuple[Any, Any]:
    return network.get("vlan"), network.get("physical_network")


def _overlaps(ones: Entry, others: Entry) -> Iterator[tuple[str, str]]:
    for cidr in ones:
        for same in others:
            if ipaddress.ip_network(cidr).overlaps(ipaddress.ip_network(same)):
                yield cidr, same
