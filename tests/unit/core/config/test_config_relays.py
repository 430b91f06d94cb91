"""``relay`` of an application: the plugin, its parts, and what is the core's own."""

from __future__ import annotations

import pytest

from configured import APPLICATION, Directory, FakeRelay, cases
from isoneph.core.config import describe, plugin_rows
from isoneph.core.settings import PartSettings, RelaySettings

PARTS = {
    "transport": PartSettings(
        driver="auto",
        options={"mtu": 1200},
        parts={"inner": PartSettings(driver="plain", options={"depth": 1})},
    )
}


def relay_of(directory: Directory, text: str) -> RelaySettings | None:
    directory.write("applications/mme.yaml", APPLICATION + text)
    return directory.load().settings.applications["mme"].relay


def test_there_is_none_by_default(directory: Directory) -> None:
    assert relay_of(directory, "") is None


def test_defaults_are_filled_in_those_of_parts_too(directory: Directory) -> None:
    assert relay_of(directory, "relay: {driver: fake, listen: [a]}") == RelaySettings(
        driver="fake", options={"listen": ["a"]}, parts=PARTS
    )


def test_everything_can_be_said(directory: Directory) -> None:
    text = """\
relay:
  driver: fake
  network: sctp
  types: [worker]
  servers: [192.0.2.7, "2001:DB8::7"]
  weights: {worker: 3, 192.0.2.7: 0.5, "2001:db8:0::7": 2}
  drain: 30
  control: "[::1]:7001"
  control_secret_file: /etc/isoneph/control.secret
  metrics: 9642
  listen: [a, b]
  first: true
  transport: {mtu: 9000, inner: {depth: 5}}
"""
    assert relay_of(directory, text) == RelaySettings(
        driver="fake",
        network="sctp",
        types=("worker",),
        servers=("192.0.2.7", "2001:db8::7"),
        weights={"worker": 3.0, "192.0.2.7": 0.5, "2001:db8::7": 2.0},
        drain=30.0,
        control="[::1]:7001",
        control_secret_file="/etc/isoneph/control.secret",
        metrics="127.0.0.1:9642",
        options={"listen": ["a", "b"], "first": True},
        parts={
            "transport": PartSettings(
                driver="auto",
                options={"mtu": 9000},
                parts={"inner": PartSettings(driver="plain", options={"depth": 5})},
            )
        },
    )


@pytest.mark.parametrize("transport", ["auto", "{driver: auto}", "{inner: plain}", "{}"])
def test_a_part_is_a_name_or_a_mapping(directory: Directory, transport: str) -> None:
    relay = relay_of(directory, f"relay: {{driver: fake, listen: [a], transport: {transport}}}")
    assert relay is not None
    assert relay.parts == PARTS


def test_it_is_shown_with_its_parts(directory: Directory) -> None:
    directory.write("applications/mme.yaml", APPLICATION + "relay: {driver: fake, listen: [a]}\n")
    shown = describe(directory.load().settings)["applications"]["mme"]["relay"]
    assert shown["parts"]["transport"]["parts"]["inner"] == {
        "driver": "plain",
        "options": {"depth": 1},
        "parts": {},
    }


def test_its_reference_names_the_parts_first() -> None:
    names = [(row.name, row.default) for row in plugin_rows(FakeRelay)]
    assert names[:2] == [("transport", '"auto"'), ("listen", None)]


@pytest.mark.parametrize(("text", "problems"), cases("broken_relays.txt"))
def test_broken_relays(directory: Directory, text: str, problems: list[str]) -> None:
    directory.write("applications/mme.yaml", APPLICATION + text)
    expected = [f"applications/mme.yaml:{problem}" for problem in problems]
    assert sorted(directory.problems()) == sorted(expected)
