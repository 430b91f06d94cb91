"""A description as it is on one cloud, and what its parts mean."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from isoneph.plugins.clouds.openstack.preparing.schema import PER_CLOUD
from isoneph.plugins.clouds.openstack.preparing.values import (
    ANY_PROTOCOL,
    NO_GATEWAY,
    PROTOCOL_NUMBERS,
)

Entry = Mapping[str, Any]
#: All ports that there are; to Neutron that is as if none were given.
_ALL_PORTS = (1, 65535)
#: The first and the last address.
Range = tuple[str, str]


def on_cloud(options: Entry, section: str, cloud: str) -> dict[str, Entry]:
    """The things of one section that ``cloud`` is to have, each as it is there."""
    return {
        name: _resolved(entry, cloud)
        for name, entry in options.get(section, {}).items()
        if cloud in entry.get("only", (cloud,))
    }


def _resolved(entry: Entry, cloud: str) -> Entry:
    found = {
        key: value[cloud] if key in PER_CLOUD and isinstance(value, Mapping) else value
        for key, value in entry.items()
        if not (key in PER_CLOUD and isinstance(value, Mapping) and cloud not in value)
    }
    if "subnets" in found:
        found["subnets"] = {
            cidr: _resolved(subnet, cloud) for cidr, subnet in found["subnets"].items()
        }
    return found


def gateway_of(cidr: str, subnet: Entry) -> str | None:
    """The address of a subnet's gateway, described or Neutron's choice; None without one."""
    given = subnet.get("gateway")
    if given is None:
        return str(ipaddress.ip_network(cidr).network_address + 1)
    return None if given == NO_GATEWAY else str(given)


def parse_ranges(texts: Iterable[str]) -> tuple[Range, ...]:
    """Ranges of addresses from their texts, in order."""
    ranges = [(first, last) for first, _, last in (text.partition("-") for text in texts)]
    return ordered(ranges)


def ordered(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Ranges in the order of their addresses, those that touch each other joined."""
    joined: list[Range] = []
    for first, last in sorted(ranges, key=lambda ends: _number(ends[0])):
        if joined and _number(first) <= _number(joined[-1][1]) + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last, key=_number))
        else:
            joined.append((first, last))
    return tuple(joined)


def overlap(one: Range, other: Range) -> bool:
    """Whether two ranges have an address in common."""
    return _number(one[0]) <= _number(other[1]) and _number(other[0]) <= _number(one[1])


def _number(address: str) -> int:
    return int(ipaddress.ip_address(address))


class RuleKey(NamedTuple):
    """What makes a security group rule what it is: two with the same are the same rule.

    ``protocol`` is a number, None for any, or a name that has none here; ``ports`` are the
    first and the last; ``remote`` is a network or the name or id of a group, None for anywhere.
    """

    direction: str
    ethertype: str
    protocol: int | str | None
    ports: tuple[int, int] | None
    remote: str | None

    def canonical(self) -> RuleKey:
        """As Neutron rewrites a rule before it keeps it: all ports are no ports, and ICMP of
        IPv6 has a number of its own. Old ones did not, so theirs is rewritten here too."""
        icmp = PROTOCOL_NUMBERS["icmp"]
        is_ipv6_icmp = self.ethertype == "IPv6" and self.protocol == icmp
        return self._replace(
            protocol=PROTOCOL_NUMBERS["ipv6-icmp"] if is_ipv6_icmp else self.protocol,
            ports=None if self.ports == _ALL_PORTS else self.ports,
        )

    def __str__(self) -> str:
        words = [self.direction, protocol_name(self.protocol) or self.ethertype]
        if self.ports is not None:
            first, last = self.ports
            words.append(str(first) if first == last else f"{first}-{last}")
        towards = "from" if self.direction == "ingress" else "to"
        return " ".join([*words, towards, self.remote or "anywhere"])


def rule_key(rule: Entry) -> RuleKey:
    """The key of a rule as it is described; its remote group is still a name."""
    remote = rule.get("from", rule.get("to"))
    version = "IPv6" if is_prefix(remote) and ":" in str(remote) else "IPv4"
    first, _, last = rule.get("ports", "").partition("-")
    return RuleKey(
        direction="egress" if "to" in rule else "ingress",
        ethertype=rule.get("ethertype", version),
        protocol=protocol_number(rule.get("protocol")),
        ports=(int(first), int(last or first)) if first else None,
        remote=None if is_everywhere(remote) else remote,
    ).canonical()


def is_prefix(remote: str | None) -> bool:
    """Whether the far end of a rule is a network, and not a group."""
    return remote is not None and "/" in remote


def is_everywhere(remote: str | None) -> bool:
    """Whether the far end of a rule may be anywhere."""
    return remote is not None and is_prefix(remote) and remote.endswith("/0")


def protocol_number(protocol: str | None) -> int | str | None:
    """IANA's number of a protocol; None for any."""
    if protocol in {None, ANY_PROTOCOL}:
        return None
    word = str(protocol).lower()
    return int(word) if word.isdecimal() else PROTOCOL_NUMBERS.get(word, word)


def protocol_name(number: int | str | None) -> str:
    """A protocol as people write it; empty for any."""
    if number is None or isinstance(number, str):
        return number or ""
    names = [name for name, known in PROTOCOL_NUMBERS.items() if known == number]
    return names[0] if names else f"protocol {number}"
