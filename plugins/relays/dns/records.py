"""Which records there are to be, and how to get there: pure, from wanted and found to an update.

The name has an address record for each address of each backend. With SRV records (RFC 2782) each
backend also has a host name of its own below the name, because these point at names::

    mme.example.com.              A    192.0.2.7
    _sip._tcp.mme.example.com.    SRV  0 100 5060 8c8ba10a-....mme.example.com.
    8c8ba10a-....mme.example.com. A    192.0.2.7
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.update

from isoneph.core.traffic import Backend
from isoneph.plugins.relays.dns.options import name_of, zone_of

#: The weight of the backend with the largest.
FULL_WEIGHT = 100
_ADDRESS_TYPES = (dns.rdatatype.A, dns.rdatatype.AAAA)
_MOST_ADDRESSES = 16


class Place(NamedTuple):
    """Where records are: a name and a type."""

    name: dns.name.Name
    kind: dns.rdatatype.RdataType


#: Records by where they are; where there are none, a place may stand with an empty set.
Records = Mapping[Place, set[dns.rdata.Rdata]]


def unfit(backend: Backend) -> str | None:
    """Why a backend cannot be pointed at, if it cannot."""
    if not backend.addresses:
        return "it has no address"
    if len(backend.addresses) > _MOST_ADDRESSES:
        return f"it has more than {_MOST_ADDRESSES} addresses"
    for address in backend.addresses:
        try:
            text = str(ipaddress.ip_address(address))
        except ValueError:
            text = "%"
        if "%" in text:  # a zone index means nothing elsewhere
            return f"{address[:64]!r} is no address"
    try:
        dns.name.Name([backend.id.encode(), b""])
    except dns.exception.DNSException:
        return "its id cannot be a part of a domain name"
    return None


class Layout:
    """Where the records of one relay's options are."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._zone = zone_of(options)
        self._name = name_of(options)
        self._srv: Mapping[str, Any] | None = options.get("srv")
        self._ttl = options["ttl"]

    @property
    def name(self) -> str:
        """The name that points at the backends, for people."""
        return str(self._name.to_text(omit_final_dot=True))

    @property
    def service(self) -> Place | None:
        """Where the SRV records are, if there are to be any."""
        if self._srv is None:
            return None
        name = dns.name.from_text(self._srv["service"], origin=self._name)
        return Place(name, dns.rdatatype.SRV)

    def host(self, backend_id: str) -> dns.name.Name:
        """A backend's own name."""
        return dns.name.Name([backend_id.encode(), *self._name.labels])

    def hosts_of(self, records: Iterable[dns.rdata.Rdata]) -> set[dns.name.Name]:
        """The backends' own names that SRV records point at."""
        targets: list[dns.name.Name] = [getattr(each, "target", dns.name.root) for each in records]
        return {
            target
            for target in targets
            if len(target) == len(self._name) + 1 and target.is_subdomain(self._name)
        }

    def places(self, hosts: Iterable[dns.name.Name]) -> Sequence[Place]:
        """All places that are looked after, with those of ``hosts``."""
        return [
            *(Place(name, kind) for name in (self._name, *hosts) for kind in _ADDRESS_TYPES),
            *([self.service] if self.service is not None else []),
        ]

    def records(self, backends: Sequence[Backend]) -> Records:
        """What there is to be for exactly these backends."""
        records: dict[Place, set[dns.rdata.Rdata]] = {place: set() for place in self.places(())}
        largest = max((backend.weight for backend in backends), default=0.0)
        for backend in backends:
            for each in addresses(backend):
                records[Place(self._name, each.rdtype)].add(each)
                if self._srv is not None:
                    host = Place(self.host(backend.id), each.rdtype)
                    records.setdefault(host, set()).add(each)
            if self._srv is not None and self.service is not None:
                share = backend.weight / largest if largest > 0 else 0.0
                weight = math.ceil(FULL_WEIGHT * share)
                target = self.host(backend.id).to_text()
                text = f"{self._srv['priority']} {weight} {self._srv['port']} {target}"
                srv = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.SRV, text)
                records[self.service].add(srv)
        return records

    def replacing(
        self, wanted: Records, found: Mapping[Place, dns.rrset.RRset | None]
    ) -> dns.update.UpdateMessage | None:
        """What makes ``found`` ``wanted``, as the only owner; None when it is so already."""
        update = dns.update.UpdateMessage(self._zone)
        for place, rrset in found.items():
            records = wanted.get(place, set())
            if _same(records, rrset, self._ttl):
                continue
            if rrset is not None:
                update.delete(place.name, place.kind)
            for each in sorted(records):
                update.add(place.name, self._ttl, each)
        return update if update.update else None

    def merging(
        self,
        wanted: Records,
        found: Mapping[Place, dns.rrset.RRset | None],
        ours: Sequence[Backend],
    ) -> dns.update.UpdateMessage | None:
        """What adds ``wanted`` to ``found`` and takes of it what is of a backend of ``ours`` and
        not wanted; None when it is so already."""
        update = dns.update.UpdateMessage(self._zone)
        for place, rrset in found.items():
            there = set(rrset or ())
            records = wanted.get(place, set())
            for each in sorted(there - records):
                if self._is_of(ours, place, each):
                    update.delete(place.name, each)
            for each in sorted(records - there):
                update.add(place.name, self._ttl, each)
        return update if update.update else None

    def _is_of(self, backends: Sequence[Backend], place: Place, record: dns.rdata.Rdata) -> bool:
        hosts = {self.host(backend.id) for backend in backends}
        if place.kind == dns.rdatatype.SRV:
            return not hosts.isdisjoint(self.hosts_of([record]))
        if place.name != self._name:
            return place.name in hosts
        return any(record in addresses(backend) for backend in backends)


def addresses(backend: Backend) -> Sequence[dns.rdata.Rdata]:
    """The address records of a fit backend."""
    return [
        dns.rdata.from_text(
            dns.rdataclass.IN,
            dns.rdatatype.A if ip.version == 4 else dns.rdatatype.AAAA,  # noqa: PLR2004 (of IP)
            str(ip),
        )
        for ip in map(ipaddress.ip_address, backend.addresses)
    ]


def _same(records: set[dns.rdata.Rdata], rrset: dns.rrset.RRset | None, ttl: int) -> bool:
    if rrset is None:
        return not records
    return rrset.ttl == ttl and set(rrset) == records
