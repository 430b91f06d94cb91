from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from voluptuous import Invalid, Schema

from isoneph.core.traffic import Address
from isoneph.plugins.relays.dns import DnsRelay
from isoneph.plugins.relays.dns.options import name_of, server_address

GOOD = {"name_servers": ["192.0.2.53"], "zone": "example.com", "name": "mme"}


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    return dict(Schema(DnsRelay.schema)(options))


def test_defaults() -> None:
    options = checked(GOOD)
    assert (options["ttl"], options["grace"], options["shared"]) == (30, 5.0, False)
    assert list(DnsRelay.problems(options)) == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.53", Address("192.0.2.53", 53)),
        ("192.0.2.53:5353", Address("192.0.2.53", 5353)),
        ("2001:db8::53", Address("2001:db8::53", 53)),
        ("[2001:db8::53]", Address("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", Address("2001:db8::53", 5353)),
    ],
)
def test_addresses_of_servers(text: str, address: Address) -> None:
    assert server_address(text) == address


@pytest.mark.parametrize(
    ("name", "absolute"),
    [
        ("mme", "mme.example.com."),
        ("a.b", "a.b.example.com."),
        ("mme.example.com.", "mme.example.com."),
        ("@", "example.com."),
    ],
)
def test_names_are_relative_to_the_zone(name: str, absolute: str) -> None:
    options = checked({**GOOD, "name": name})
    assert name_of(options).to_text() == absolute
    assert list(DnsRelay.problems(options)) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name_servers": []}, "expected an address, or a list"),
        ({"name_servers": ["ns.example.com"]}, "expected a numeric address"),
        ({"name_servers": ["192.0.2.53:0"]}, "expected a numeric address"),
        ({"name_servers": ["[::1"]}, "expected a numeric address"),
        ({"name_servers": ["[::1]53"]}, "expected a numeric address"),
        ({"name_servers": [53]}, "expected a text"),
        ({"zone": "a..b"}, "expected a domain name"),
        ({"name": f"{'x' * 64}"}, "expected a domain name"),
        ({"ttl": 0}, "expected a whole number from 1 to 604800"),
        ({"ttl": 1.5}, "expected a whole number"),
        ({"grace": -1}, "expected a number of seconds, 0 or more"),
        ({"grace": float("inf")}, "expected a number of seconds, 0 or more"),
        ({"shared": "yes"}, "expected true or false"),
        ({"key_file": "key"}, "expected an absolute path"),
        ({"key": {"name": "k", "algorithm": "hmac-md5"}}, "expected one of hmac-sha224"),
        (
            {"key": {"name": "k", "secret_file": "/a", "secret_env": "B"}},
            "expected secret_file or secret_env, not both",
        ),
        ({"key": {"name": "k", "secret": "c2VjcmV0"}}, "extra keys not allowed"),
        ({"srv": {"service": "sip", "port": 1}}, "expected a service and its protocol"),
        ({"srv": {"service": "_sip._tcp"}}, "required key not provided"),
        ({"check": {"port": 70000}}, "expected a whole number from 1 to 65535"),
        ({"check": {"port": 7, "interval": 0}}, r"expected a number of seconds, 0\.1 or more"),
    ],
)
def test_mistakes_are_told(change: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint):
        checked({**GOOD, **change})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"key": {"name": "k"}}, "key needs secret_file or secret_env"),
        (
            {"key": {"name": "k", "secret_env": "S"}, "key_file": "/k"},
            "expected key or key_file, not both",
        ),
        ({"name": "mme.example.org."}, r"name mme\.example\.org\. is not in the zone example\.com"),
        ({"name": ".".join(["x" * 60] * 4)}, "in the zone"),
    ],
)
def test_what_does_not_go_together_is_told(change: Mapping[str, Any], complaint: str) -> None:
    (problem,) = DnsRelay.problems(checked({**GOOD, **change}))
    assert re.search(complaint, problem)
