from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from libcloud.compute.providers import DRIVERS

from isoneph.plugins.clouds.libcloud.providers import (
    UNFIT,
    Unfit,
    constructor_arguments,
    judged,
    node_driver_class,
    provider_ids,
    tag_argument,
)

PAGE = Path(__file__).parents[5] / "doc" / "source" / "libcloud.rst"


def test_the_page_lists_the_providers_that_can_be_used() -> None:
    usable = {provider for provider, argument, _ in judged() if argument is not None}
    text = PAGE.read_text()
    table = text[text.index(".. list-table:: Providers that can be used") :]
    listed = set(re.findall(r"(?m)^   \* - ``(\w+)``$", table[: table.index("\n\nThe others")]))
    assert listed == usable


def test_the_page_gives_the_reasons_of_those_that_cannot() -> None:
    text = " ".join(PAGE.read_text().split())
    for provider, reason in UNFIT.items():
        assert f"``{provider}``: {reason}" in text


def test_every_provider_is_judged_once() -> None:
    found = list(judged())
    assert [provider for provider, *_ in found] == list(provider_ids())
    assert all((argument is None) == bool(reason) for _, argument, reason in found)


def test_those_that_are_unfit_are_known_to_libcloud() -> None:
    assert set(UNFIT) <= set(provider_ids())


def test_a_class_that_does_not_load_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    drivers: dict[Any, tuple[str, str]] = DRIVERS
    monkeypatch.setitem(drivers, "broken", ("no_such_module", "Driver"))
    with pytest.raises(Unfit, match="does not load here: ModuleNotFoundError"):
        tag_argument("broken")


def test_openstack_is_judged_by_the_class_for_its_version() -> None:
    assert node_driver_class("openstack", "2.1").__name__ == "OpenStack_2_NodeDriver"
    with pytest.raises(Unfit):
        node_driver_class("openstack", "0.9")


def test_what_a_constructor_takes() -> None:
    takes = constructor_arguments(node_driver_class("ec2"))
    assert {"key", "secret", "region", "token", "host", "port", "secure"} <= set(takes)
    assert "project" not in takes
