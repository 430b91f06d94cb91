from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from voluptuous import Invalid, Schema

from isoneph.plugins.relays.haproxy import HaproxyRelay
from isoneph.plugins.relays.haproxy.options import Binding

OWN = {"listen": ["127.0.0.1:80"], "port": 8080}
RUNNING = {"socket": "/run/haproxy/admin.sock", "backend": "web", "port": 8080}


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    return dict(Schema(HaproxyRelay.schema)(options))


def test_defaults() -> None:
    options = checked(OWN)
    assert options["check"] == {"interval": 1.0, "timeout": 2.0, "rise": 2, "fall": 3}
    assert options["limits"] == {"clients": 4000}
    assert list(HaproxyRelay.problems(options)) == []
    assert list(HaproxyRelay.problems(checked(RUNNING))) == []


@pytest.mark.parametrize(
    ("text", "binding"),
    [
        ("192.0.2.1:80", Binding("192.0.2.1", 80, "")),
        ("[::]:80", Binding("::", 80, "")),
        ("[2001:DB8::0]:65535  ssl crt /a b", Binding("2001:db8::", 65535, "ssl crt /a b")),
    ],
)
def test_addresses_to_listen_on(text: str, binding: Binding) -> None:
    assert checked({**OWN, "listen": [text]})["listen"] == [text]
    assert Binding.parse(text) == binding


def test_an_address_is_shown_as_in_urls() -> None:
    assert str(Binding("::1", 80, "ssl")) == "[::1]:80"
    assert str(Binding("192.0.2.1", 80, "")) == "192.0.2.1:80"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"listen": []}, "expected a list of addresses with ports"),
        ({"listen": "127.0.0.1:80"}, "expected a list of addresses with ports"),
        ({"listen": [80]}, "expected an address and a port"),
        ({"listen": ["127.0.0.1"]}, "expected a numeric address and a port"),
        ({"listen": ["localhost:80"]}, "expected a numeric address and a port"),
        ({"listen": ["127.0.0.1:0"]}, "expected a numeric address and a port"),
        ({"listen": ["127.0.0.1:٣"]}, "expected a numeric address and a port"),
        ({"listen": ["::1:80"]}, "expected brackets around an IPv6 address"),
        ({"listen": ["[127.0.0.1]:80"]}, "expected brackets around an IPv6 address"),
        ({"listen": ["127.0.0.1:80 ssl\nglobal"]}, "expected one line"),
        ({"port": 0}, "expected a whole number from 1 to 65535"),
        ({"port": True}, "expected a whole number"),
        ({"mode": "udp"}, "expected one of http, tcp"),
        ({"balance": "static-rr"}, "expected one of roundrobin"),
        ({"check": {"path": "no slash"}}, "expected a path that begins with /"),
        ({"check": {"path": "/a b"}}, "expected a path that begins with /"),
        ({"check": {"interval": 0}}, "expected from 0.001 to 2000000 seconds"),
        ({"check": {"interval": float("nan")}}, "expected a number of seconds"),
        ({"check": {"rise": 0}}, "expected a whole number from 1 to 1000"),
        ({"check": {"host": "a b"}}, "expected a name of letters"),
        ({"limits": {"clients": "many"}}, "expected a whole number"),
        ({"timeouts": {"connect": -1}}, "expected from 0.001"),
        ({"lines": {"backend": "one"}}, "expected a list of lines"),
        ({"lines": {"backend": [""]}}, "expected a line of HAProxy's configuration"),
        ({"lines": {"backend": ["a\nfrontend b"]}}, "expected one line without control"),
        ({"lines": {"backend": [" frontend b"]}}, "not the beginning of another"),
        ({"lines": {"backend": ["option a \\"]}}, "not the beginning of another"),
        ({"lines": {"listen": ["option a"]}}, "extra keys not allowed"),
        ({"program": ""}, "expected the name or the path of a program"),
    ],
)
def test_mistakes_are_told(change: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint):
        checked({**OWN, **change})


@pytest.mark.parametrize("change", [{"socket": "admin.sock"}, {"backend": "a b"}])
def test_mistakes_of_what_runs_already_are_told(change: Mapping[str, Any]) -> None:
    with pytest.raises(Invalid, match="expected"):
        checked({**RUNNING, **change})


@pytest.mark.parametrize("line", ["listening a", "global-things", "# frontend", "http-request x"])
def test_lines_that_only_look_like_sections_are_taken(line: str) -> None:
    assert checked({**OWN, "lines": {"frontend": [line]}})["lines"]["frontend"] == [line]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"port": 80}, "listen is missing"),
        ({**OWN, "backend": "web"}, "it needs socket"),
        ({**OWN, "check": {"host": "a"}}, r"check\.host needs check\.path"),
        ({"port": 80, "socket": "/s"}, "backend is missing"),
        (
            {**RUNNING, **OWN, "mode": "tcp", "check": {"path": "/"}},
            r"^listen, mode, check\.path: the configuration of the HAProxy at socket says that$",
        ),
    ],
)
def test_what_does_not_go_together_is_told(options: Mapping[str, Any], complaint: str) -> None:
    (problem,) = HaproxyRelay.problems(checked(options))
    assert re.search(complaint, problem)
