"""Routers, where they lead, and the subnets that are on them.

https://docs.openstack.org/api-ref/network/v2/#routers-routers
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from isoneph.core.model import Finding, Outcome
from isoneph.plugins.clouds.openstack.preparing.description import Entry
from isoneph.plugins.clouds.openstack.preparing.networks import Subnets
from isoneph.plugins.clouds.openstack.preparing.pruning import Extra, prune_tagged, settle_extra
from isoneph.plugins.clouds.openstack.preparing.run import (
    NETWORK,
    Found,
    Run,
    is_made_by_isoneph,
)
from isoneph.plugins.clouds.openstack.preparing.things import Changeable, Failure, Thing, settle

_INTERFACES = (
    "network:router_interface",
    "network:router_interface_distributed",
    "network:ha_router_replicated_interface",
)


class Router(Changeable):
    """A router of the project; ``external`` is the name of the network that it leads to."""

    kind = "router"

    def __init__(self, run: Run, name: str, entry: Entry) -> None:
        super().__init__(run, name)
        self._entry = entry

    @property
    def wanted(self) -> Mapping[str, Any]:
        """Where it leads, if that is described."""
        return {"external": self._entry["external"]} if "external" in self._entry else {}

    def find(self) -> Sequence[Found]:
        """The project's routers of this name."""
        return self.run.listing(
            NETWORK, "/routers", "routers", name=self.name, project_id=self.run.project
        )

    def make(self) -> Found:
        """Make it, with its gateway."""
        body = {"name": self.name, "description": self.run.mark, **self._gateway(self.wanted)}
        return self.run.post(NETWORK, "/routers", "router", body)

    def remove(self, found: Found) -> None:
        """Remove it."""
        self.run.delete(NETWORK, f"/routers/{found['id']}")

    def complete(self, found: Found) -> Found:
        """Put our tag on it."""
        self.run.claim(NETWORK, f"/routers/{found['id']}", found)
        return found

    def state(self, found: Found) -> Mapping[str, Any]:
        """The name of the network that it leads to."""
        gateway = found.get("external_gateway_info")
        if not self.wanted or not gateway:
            return dict.fromkeys(self.wanted)
        network = self.run.get(NETWORK, f"/networks/{gateway['network_id']}", "network")
        return {"external": network["name"]}

    def change(self, found: Found, attributes: Mapping[str, Any]) -> None:
        """Let it lead elsewhere."""
        self.run.put(f"/routers/{found['id']}", {"router": self._gateway(attributes)})

    def _gateway(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        if "external" not in attributes:
            return {}
        name = attributes["external"]
        found = self.run.listing(
            NETWORK, "/networks", "networks", name=name, **{"router:external": True}
        )
        if len(found) != 1:
            raise Failure(f"there are {len(found)} external networks '{name}'; expected one")
        return {"external_gateway_info": {"network_id": found[0]["id"]}}


class Interface(Thing):
    """A subnet on a router."""

    kind = "router interface"
    unique = True

    def __init__(self, run: Run, router: Found, network: str, subnet: Found) -> None:
        super().__init__(run, f"{router['name']} {network} {subnet['cidr']}")
        self._router = router
        self._subnet = subnet

    def find(self) -> Sequence[Found]:
        """The router's port on the subnet."""
        return [
            port
            for port in interfaces_of(self.run, self._router)
            if any(ip["subnet_id"] == self._subnet["id"] for ip in port["fixed_ips"])
        ]

    def make(self) -> Found:
        """Attach the subnet; the router takes the gateway's address."""
        path = f"/routers/{self._router['id']}/add_router_interface"
        self.run.put(path, {"subnet_id": self._subnet["id"]})
        return self._subnet

    def remove(self, found: Found) -> None:
        """Detach the subnet."""
        detach(self.run, self._router, self._subnet["id"])


def interfaces_of(run: Run, router: Found) -> list[Found]:
    """The ports by which a router is on networks, but for the external one."""
    ports = run.listing(NETWORK, "/ports", "ports", device_id=router["id"])
    return [port for port in ports if port["device_owner"] in _INTERFACES]


def detach(run: Run, router: Found, subnet_id: str) -> None:
    """Take a subnet off a router."""
    run.put(f"/routers/{router['id']}/remove_router_interface", {"subnet_id": subnet_id})


def prepare_routers(run: Run, subnets: Subnets) -> Iterator[Finding]:
    """Every described router with the networks that are to be on it, of which ``subnets`` are
    there; those of the application's other networks that are on it too are told."""
    networks = run.described("networks")
    for name, entry in run.described("routers").items():
        attached = [
            (network, cidr)
            for network, described in networks.items()
            if described.get("router") == name
            for cidr in described["subnets"]
        ]
        router = yield from settle(Router(run, name, entry))
        there = set()
        for network, cidr in attached:
            subnet = subnets.get(network, {}).get(cidr)
            if router is not None and subnet is not None:
                there.add(subnet["id"])
                yield from settle(Interface(run, router, network, subnet))
            elif not run.change:
                yield run.finding(Interface.kind, f"{name} {network} {cidr}", Outcome.MISSING)
        if router is not None:
            yield from _extra_interfaces(run, router, there)


def _extra_interfaces(run: Run, router: Found, described: set[str]) -> Iterator[Finding]:
    for port in interfaces_of(run, router):
        ids = {ip["subnet_id"] for ip in port["fixed_ips"]} - described
        for network, subnet in _ours(run, port["network_id"], ids):
            yield settle_extra(run, _extra_interface(run, router, network, subnet))


def _ours(run: Run, network_id: str, subnet_ids: set[str]) -> Iterator[tuple[Found, Found]]:
    """Those subnets of a network that are the application's, if the network is; each with it."""
    for subnet_id in sorted(subnet_ids):
        network = run.get(NETWORK, f"/networks/{network_id}", "network")
        if run.is_ours(network):
            subnet = run.get(NETWORK, f"/subnets/{subnet_id}", "subnet")
            if run.is_ours(subnet):
                yield network, subnet


def _extra_interface(run: Run, router: Found, network: Found, subnet: Found) -> Extra:
    others = _others_with(run, router, network)
    return Extra(
        kind=Interface.kind,
        name=f"{router['name']} {network['name']} {subnet['cidr']}",
        remove=partial(detach, run, router, subnet["id"]),
        kept=f"not described, and {', '.join(others)} may want it: it stays" if others else "",
    )


def _others_with(run: Run, router: Found, network: Found) -> list[str]:
    """The other applications that may describe the network to be on the router, of which there
    is no mark: those that have both."""
    others = run.other_owners(network)
    if is_made_by_isoneph(router):
        others = [each for each in others if each in run.other_owners(router)]
    return others


def prune_routers(run: Run) -> Iterator[Finding]:
    """The application's routers that are described no more, first taken off those networks that
    are its alone."""
    return prune_tagged(
        run,
        Router.kind,
        "routers",
        run.described("routers"),
        users_by="device_id",
        first=partial(_detach_ours, run),
    )


def _detach_ours(run: Run, router: Found) -> None:
    for port in interfaces_of(run, router):
        ids = {ip["subnet_id"] for ip in port["fixed_ips"]}
        for network, subnet in _ours(run, port["network_id"], ids):
            if not _others_with(run, router, network):
                detach(run, router, subnet["id"])
