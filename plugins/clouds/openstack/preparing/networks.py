"""Networks and their subnets, in Neutron.

https://docs.openstack.org/api-ref/network/v2/#networks
https://docs.openstack.org/api-ref/network/v2/#subnets
"""

from __future__ import annotations

import ipaddress
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar

from isoneph.core.model import Finding, Outcome
from isoneph.plugins.clouds.openstack.preparing.description import (
    Entry,
    gateway_of,
    ordered,
    parse_ranges,
)
from isoneph.plugins.clouds.openstack.preparing.pruning import (
    Extra,
    give_up,
    port_users,
    prune_tagged,
    settle_extra,
)
from isoneph.plugins.clouds.openstack.preparing.run import NETWORK, Found, Run
from isoneph.plugins.clouds.openstack.preparing.things import Changeable, settle

_PROVIDER = frozenset(
    {"provider:network_type", "provider:physical_network", "provider:segmentation_id"}
)
#: Subnets that are there, by network and prefix.
Subnets = Mapping[str, Mapping[str, Found]]


class Network(Changeable):
    """A tenant network, or with a VLAN a provider network."""

    kind = "network"
    fixed = _PROVIDER

    def __init__(self, run: Run, name: str, entry: Entry) -> None:
        super().__init__(run, name)
        self._entry = entry
        self._is_provider = "vlan" in entry

    @cached_property
    def wanted(self) -> Mapping[str, Any]:
        """Its MTU, port security and VLAN, as far as they are described."""
        described = {
            "mtu": self._entry.get("mtu"),
            "port_security_enabled": self._entry.get("port_security"),
            "provider:network_type": "vlan" if self._is_provider else None,
            "provider:physical_network": self._entry.get("physical_network"),
            "provider:segmentation_id": self._entry.get("vlan"),
        }
        return {name: value for name, value in described.items() if value is not None}

    def find(self) -> Sequence[Found]:
        """The project's own of this name, else those that others share with it."""
        found = self.run.listing(NETWORK, "/networks", "networks", name=self.name)
        own = [each for each in found if each["project_id"] == self.run.project]
        return own or [each for each in found if each.get("shared")]

    def make(self) -> Found:
        """Provider networks as the administrator, for the project."""
        body = {"name": self.name, "description": self.run.mark, **self.wanted}
        if not self._is_provider:
            return self.run.post(NETWORK, "/networks", "network", body)
        with self.run.administrator("a network with a VLAN of its own") as api:
            body["project_id"] = self.run.project
            answer = api.call("POST", NETWORK, "/networks", body={"network": body})
        made: Found = answer.body["network"]
        return made

    def remove(self, found: Found) -> None:
        """Remove it."""
        self.run.delete(NETWORK, f"/networks/{found['id']}")

    def complete(self, found: Found) -> Found:
        """Put our tag on it."""
        self.run.claim(NETWORK, f"/networks/{found['id']}", found)
        return found

    def state(self, found: Found) -> Mapping[str, Any]:
        """Of the provider network only what somebody may see."""
        if self._is_provider and self.run.admin and not _shows_provider(found):
            answer = self.run.admin.call("GET", NETWORK, f"/networks/{found['id']}")
            found.update(answer.body["network"])
        seen = super().state(found)
        return {
            key: each
            for key, each in seen.items()
            if key not in _PROVIDER or _shows_provider(found)
        }

    def change(self, found: Found, attributes: Mapping[str, Any]) -> None:
        """Set its MTU or port security."""
        self.run.put(f"/networks/{found['id']}", {"network": attributes})

    def remark(self, found: Found) -> str:
        """That its VLAN could not be seen."""
        if not self._is_provider or _shows_provider(found):
            return ""
        return "its VLAN was not compared: only an administrator sees it (--admin FILE)"


def _shows_provider(found: Found) -> bool:
    return "provider:network_type" in found


class Subnet(Changeable):
    """A subnet of a network; its prefix is what it is known by."""

    kind = "subnet"
    fixed: ClassVar[frozenset[str]] = frozenset({"ipv6_ra_mode", "ipv6_address_mode"})

    def __init__(self, run: Run, network: Found, cidr: str, entry: Entry) -> None:
        super().__init__(run, f"{network['name']} {cidr}")
        self._network = network
        self._cidr = cidr
        self._entry = entry

    @cached_property
    def wanted(self) -> Mapping[str, Any]:
        """What is described of it; lists of mappings as sorted pairs."""
        entry = self._entry
        mode = entry.get("ipv6_mode")
        described = {
            "allocation_pools": parse_ranges(entry["pools"]) if "pools" in entry else None,
            "dns_nameservers": tuple(entry["dns"]) if "dns" in entry else None,
            "enable_dhcp": entry.get("dhcp"),
            "host_routes": _routes(entry["routes"].items()) if "routes" in entry else None,
            "ipv6_ra_mode": mode,
            "ipv6_address_mode": mode,
        }
        wanted = {name: value for name, value in described.items() if value is not None}
        if "gateway" in entry:
            wanted["gateway_ip"] = gateway_of(self._cidr, entry)
        return wanted

    def find(self) -> Sequence[Found]:
        """The network's subnet with the prefix."""
        return self.run.listing(
            NETWORK, "/subnets", "subnets", network_id=self._network["id"], cidr=self._cidr
        )

    def make(self) -> Found:
        """Make it in the network."""
        body = {
            "network_id": self._network["id"],
            "name": f"{self._network['name']}-{self._cidr}",
            "description": self.run.mark,
            "cidr": self._cidr,
            "ip_version": ipaddress.ip_network(self._cidr).version,
            **_to_api(self.wanted),
        }
        return self.run.post(NETWORK, "/subnets", "subnet", body)

    def remove(self, found: Found) -> None:
        """Remove it."""
        self.run.delete(NETWORK, f"/subnets/{found['id']}")

    def complete(self, found: Found) -> Found:
        """Put our tag on it."""
        self.run.claim(NETWORK, f"/subnets/{found['id']}", found)
        return found

    def state(self, found: Found) -> Mapping[str, Any]:
        """What of it is described, in the same form."""
        seen = {
            **found,
            "allocation_pools": ordered(
                (pool["start"], pool["end"]) for pool in found["allocation_pools"]
            ),
            "host_routes": _routes(
                (route["destination"], route["nexthop"]) for route in found["host_routes"]
            ),
            "dns_nameservers": tuple(found["dns_nameservers"]),
        }
        return {name: seen[name] for name in self.wanted}

    def change(self, found: Found, attributes: Mapping[str, Any]) -> None:
        """Set them."""
        self.run.put(f"/subnets/{found['id']}", {"subnet": _to_api(attributes)})


def _routes(pairs: Any) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(pairs))


def _to_api(attributes: Mapping[str, Any]) -> dict[str, Any]:
    body = dict(attributes)
    if "allocation_pools" in body:
        body["allocation_pools"] = [
            {"start": first, "end": last} for first, last in body["allocation_pools"]
        ]
    if "host_routes" in body:
        body["host_routes"] = [
            {"destination": prefix, "nexthop": hop} for prefix, hop in body["host_routes"]
        ]
    return body


def prepare_networks(run: Run) -> Generator[Finding, None, Subnets]:
    """Every described network with its subnets; what other subnets they have is told.

    Returns the described subnets that are there, by network and prefix.
    """
    there: dict[str, dict[str, Found]] = {}
    for name, entry in run.described("networks").items():
        network = yield from settle(Network(run, name, entry))
        if network is not None:
            there[name] = yield from _prepare_subnets(run, network, entry["subnets"])
        elif not run.change:
            for cidr in entry["subnets"]:
                yield run.finding(Subnet.kind, f"{name} {cidr}", Outcome.MISSING)
    return there


def _prepare_subnets(
    run: Run, network: Found, described: Mapping[str, Entry]
) -> Generator[Finding, None, dict[str, Found]]:
    there = {}
    for cidr, entry in described.items():
        subnet = yield from settle(Subnet(run, network, cidr, entry))
        if subnet is not None:
            there[cidr] = subnet
    for found in run.listing(NETWORK, "/subnets", "subnets", network_id=network["id"]):
        if found["cidr"] not in described and not run.is_of_others(found):
            yield settle_extra(run, _extra_subnet(run, network, found))
    return there


def _extra_subnet(run: Run, network: Found, found: Found) -> Extra:
    return Extra(
        kind=Subnet.kind,
        name=f"{network['name']} {found['cidr']}",
        remove=partial(give_up, run, NETWORK, f"/subnets/{found['id']}", found),
        users=partial(port_users, run, fixed_ips=f"subnet_id={found['id']}"),
        kept="" if run.is_ours(found) else "not described, and not made by isoneph: it stays",
    )


def prune_networks(run: Run) -> Iterator[Finding]:
    """The application's networks that are described no more, with their subnets, and its
    subnets in such networks that stay."""
    described = run.described("networks")
    listed = run.listing(NETWORK, "/subnets", "subnets", project_id=run.project)
    subnets = {each["id"]: each for each in listed}
    kept = partial(_kept, run, subnets)
    for network in run.listing(NETWORK, "/networks", "networks"):
        stays = not run.is_ours(network) or run.other_owners(network) or kept(network)
        if network["name"] in described or not stays:
            continue
        for found in (subnets[each] for each in network["subnets"] if each in subnets):
            if run.is_ours(found):
                yield settle_extra(run, _extra_subnet(run, network, found))
    yield from prune_tagged(
        run, Network.kind, "networks", described, users_by="network_id", kept=kept
    )


def _kept(run: Run, subnets: Mapping[str, Found], network: Found) -> str:
    """Why a network of ours is not removed, as its subnets would be with it; ``subnets`` are
    the project's, by id."""
    foreign = [
        subnets[each]["cidr"] if each in subnets else each
        for each in network["subnets"]
        if each not in subnets or not run.is_ours(subnets[each])
    ]
    if not foreign or run.other_owners(network):
        return ""
    return (
        f"not described, and isoneph did not make subnet {', '.join(foreign)} in it for "
        f"{run.preparation.application}: it stays"
    )
