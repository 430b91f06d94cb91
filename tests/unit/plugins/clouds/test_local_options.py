from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

import pytest
from voluptuous import MultipleInvalid, Schema

from isoneph.plugins.clouds.local import LocalCloud
from isoneph.plugins.clouds.local.options import default_network

OPTIONS = Schema(LocalCloud.schema)
TYPE = Schema(LocalCloud.type_schema)


def problem(schema: Schema, options: Mapping[str, Any]) -> str:
    with pytest.raises(MultipleInvalid) as caught:
        schema(options)
    return str(caught.value)


def test_defaults() -> None:
    assert OPTIONS({"directory": "/d"}) == {
        "directory": "/d",
        "stop_seconds": 5.0,
        "log_bytes": 16 * 1024 * 1024,
        "keep_logs": False,
    }
    assert TYPE({"command": "run"}) == {
        "command": ["run"],
        "environment": {},
        "working_directory": "{directory}",
    }


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert OPTIONS({"directory": "~/vms"})["directory"] == "/home/somebody/vms"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("directory", "vms", "expected an absolute path"),
        ("directory", 3, "expected a text"),
        ("network", "10.0.0.0/24", "inside 127.0.0.0/8"),
        ("network", "127.0.0.0/24", "does not contain 127.0.0.1"),
        ("network", "127.64.0.1/24", "expected an IPv4 network"),
        ("network", "127.64.0.0/31", "/30 or larger"),
        ("max_vms", -1, "expected a whole number of 0 or more"),
        ("max_vms", True, "expected a whole number"),
        ("stop_seconds", float("inf"), "expected a number of seconds"),
        ("stop_seconds", "5", "expected a number of seconds"),
        ("log_bytes", 0, "expected a whole number of 1 or more"),
        ("keep_logs", "yes", "expected true or false"),
        ("size", 1, "extra keys not allowed"),
    ],
)
def test_wrong_options(option: str, value: object, message: str) -> None:
    assert message in problem(OPTIONS, {"directory": "/d", option: value})


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("command", [], "expected a command"),
        ("command", "", "expected a command"),
        ("command", ["", "x"], "expected a command"),
        ("command", ["run", 3], "expected a text"),
        ("command", "run 'it", "expected a command line: no closing quotation"),
        ("command", ["run", "{adress}"], "unknown placeholder {adress}; expected one of {id}"),
        ("command", ["run", "{id.x}"], "unknown placeholder {id.x}"),
        ("command", ["run", "{id!r}"], "unknown placeholder {id}"),
        ("command", ["run", "{"], "write {{ and }} for braces"),
        ("command", ["run", "{}"], "unknown placeholder {}"),
        ("command", ["run", "a\0b"], "expected a text"),
        ("environment", ["A=b"], "expected a mapping"),
        ("environment", {"A B": "c"}, "letters, digits and _"),
        ("environment", {"ISONEPH_ID": "c"}, "set by the driver"),
        ("environment", {"A": True}, "put quotes around it"),
        ("environment", {"A": "{b}"}, "unknown placeholder {b}"),
        ("ready_port", 0, "expected a whole number from 1 to 65535"),
        ("ready_port", 65536, "expected a whole number from 1 to 65535"),
        ("working_directory", "{home}", "unknown placeholder {home}"),
    ],
)
def test_wrong_type_options(option: str, value: object, message: str) -> None:
    text = problem(TYPE, {"command": "run", option: value})
    assert message in text
    assert f"data['{option}']" in text


def test_a_command_line_is_split_before_placeholders_are_filled_in() -> None:
    assert TYPE({"command": "run 'a b' {name}"})["command"] == ["run", "a b", "{name}"]


def test_numbers_are_texts_in_the_environment() -> None:
    assert TYPE({"command": "run", "environment": {"PORT": 80}})["environment"] == {"PORT": "80"}


def test_default_networks_are_stable_valid_and_differ() -> None:
    assert default_network("north") == default_network("north")
    networks = {default_network(name) for name in ("north", "south", "east", "west")}
    assert len(networks) == 4
    for network in networks:
        assert OPTIONS({"directory": "/d", "network": network})["network"] == network
        assert ipaddress.IPv4Network(network).subnet_of(ipaddress.IPv4Network("127.64.0.0/10"))


def test_every_marker_is_described() -> None:
    for marker in [*LocalCloud.schema, *LocalCloud.type_schema]:
        assert marker.description
