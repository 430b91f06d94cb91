from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.update
import pytest

from isoneph.core.traffic import Backend
from isoneph.plugins.relays.dns.records import Layout, Place, Records, unfit

OPTIONS = {"zone": "example.com", "name": "mme", "ttl": 30}
SRV = {"service": "_sip._tcp", "port": 5060, "priority": 10}
A = Backend(id="a", addresses=["192.0.2.1"])
B = Backend(id="b", addresses=["192.0.2.2", "2001:db8::2"], weight=0.25)
NAME = dns.name.from_text("mme.example.com")

Found = Mapping[Place, dns.rrset.RRset | None]


def layout(**options: Any) -> Layout:
    return Layout({**OPTIONS, **options})


def texts(records: Records) -> dict[str, list[str]]:
    return {
        f"{place.name} {dns.rdatatype.to_text(place.kind)}": sorted(each.to_text() for each in data)
        for place, data in records.items()
    }


def found(records: Records, ttl: int = 30) -> Found:
    """``records`` as a server answers with them."""
    return {
        place: dns.rrset.from_rdata_list(place.name, ttl, list(data)) if data else None
        for place, data in records.items()
    }


def changes(update: dns.update.UpdateMessage | None) -> list[str]:
    assert update is not None
    return [
        f"{rrset.name.relativize(dns.name.from_text('example.com'))} {operation} {each}".rstrip()
        for rrset in update.update
        for operation in ["add" if rrset.deleting is None else "delete"]
        for each in (list(rrset) or [dns.rdatatype.to_text(rrset.rdtype)])
    ]


def test_addresses_by_family() -> None:
    assert texts(layout().records([A, B])) == {
        "mme.example.com. A": ["192.0.2.1", "192.0.2.2"],
        "mme.example.com. AAAA": ["2001:db8::2"],
    }
    assert texts(layout().records([])) == {"mme.example.com. A": [], "mme.example.com. AAAA": []}


def test_srv_records_point_at_names_of_the_backends() -> None:
    records = texts(layout(srv=SRV).records([A, B]))
    assert records["_sip._tcp.mme.example.com. SRV"] == [
        "10 100 5060 a.mme.example.com.",
        "10 25 5060 b.mme.example.com.",
    ]
    assert records["b.mme.example.com. AAAA"] == ["2001:db8::2"]
    assert records["mme.example.com. A"] == ["192.0.2.1", "192.0.2.2"]


def test_a_weight_of_nothing_stays_nothing() -> None:
    records = texts(layout(srv=SRV).records([replace(A, weight=0.0)]))
    assert records["_sip._tcp.mme.example.com. SRV"] == ["10 0 5060 a.mme.example.com."]


def test_nothing_changes_when_all_is_there() -> None:
    there = layout(srv=SRV)
    records = there.records([A, B])
    assert there.replacing(records, found(records)) is None
    assert there.merging(records, found(records), [A, B]) is None


def test_records_are_replaced_as_a_whole() -> None:
    update = layout().replacing(layout().records([A]), found(layout().records([B])))
    assert changes(update) == ["mme delete A", "mme add 192.0.2.1", "mme delete AAAA"]


def test_another_ttl_is_replaced() -> None:
    records = layout().records([A])
    update = layout().replacing(records, found(records, ttl=300))
    assert changes(update) == ["mme delete A", "mme add 192.0.2.1"]
    assert layout().merging(records, found(records, ttl=300), [A]) is None


def test_in_a_shared_place_only_what_is_ours_goes() -> None:
    theirs = Backend(id="theirs", addresses=["192.0.2.99"])
    there = layout(srv=SRV)
    before = found(there.records([B, theirs]))
    update = there.merging(there.records([A]), before, [A, B])
    assert changes(update) == [
        "mme delete 192.0.2.2",
        "mme add 192.0.2.1",
        "mme delete 2001:db8::2",
        "_sip._tcp.mme delete 10 25 5060 b.mme.example.com.",
        "_sip._tcp.mme add 10 100 5060 a.mme.example.com.",
        "b.mme delete 192.0.2.2",
        "b.mme delete 2001:db8::2",
    ]


def test_hosts_are_names_just_below_the_name() -> None:
    records = [
        dns.rrset.from_text("x", 1, "IN", "SRV", f"0 0 1 {target}")[0]
        for target in ("a.mme.example.com.", "x.a.mme.example.com.", "mme.example.com.", "a.")
    ]
    assert layout().hosts_of(records) == {dns.name.from_text("a", NAME)}
    assert layout().hosts_of([dns.rrset.from_text("x", 1, "IN", "A", "192.0.2.1")[0]]) == set()


def test_places_are_those_of_all_hosts() -> None:
    places = layout(srv=SRV).places([dns.name.from_text("a", NAME)])
    assert len(places) == len(set(places)) == 5
    assert len(layout().places([])) == 2


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (A, None),
        (B, None),
        (Backend(id="a", addresses=[]), "it has no address"),
        (Backend(id="a", addresses=["192.0.2.1", "x"]), "'x' is no address"),
        (Backend(id="a", addresses=["fe80::1%1"]), "'fe80::1%1' is no address"),
        (Backend(id="a", addresses=["192.0.2.1"] * 17), "more than 16 addresses"),
        (Backend(id="a" * 64, addresses=["192.0.2.1"]), "cannot be a part of a domain name"),
        (Backend(id="", addresses=["192.0.2.1"]), "cannot be a part of a domain name"),
    ],
)
def test_what_cannot_be_pointed_at_is_told(backend: Backend, reason: str | None) -> None:
    said = unfit(backend)
    assert (said is None) == (reason is None)
    assert reason is None or (said is not None and reason in said)
