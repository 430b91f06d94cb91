from __future__ import annotations

from typing import Any

import pytest
from voluptuous import MultipleInvalid

from isoneph.core.model import Candidate, CloudUse, PlacementRequest, Weight
from isoneph.core.testing import build_plugin
from isoneph.plugins.placement.overflow import Overflow

REQUEST = PlacementRequest(application="shop", type="worker")


def candidate(cloud: str, position: int = 0, vms: int = 0) -> Candidate:
    return Candidate(cloud=cloud, position=position, use=CloudUse(vms=vms))


def test_follows_the_order_and_puts_the_rest_behind() -> None:
    policy = build_plugin(Overflow, {"order": ["private", "public"]})
    configured = ["spare", "public", "reserve", "private"]
    weights = {
        cloud: policy.weigh(candidate(cloud, position), REQUEST)
        for position, cloud in enumerate(configured)
    }
    ranked = sorted(weights, key=lambda cloud: -weights[cloud].value)
    assert ranked == ["private", "public", "spare", "reserve"]
    assert weights["private"] == Weight(0, "number 1 of 2 in order")
    assert weights["public"] == Weight(-1, "number 2 of 2 in order")
    assert weights["spare"] == Weight(-2, "not in the order, after its 2")


def test_home_stays_first_however_full() -> None:
    policy = build_plugin(Overflow, {"order": ["private", "public"]})
    home = policy.weigh(candidate("private", vms=500), REQUEST)
    assert home.value > policy.weigh(candidate("public"), REQUEST).value


def test_a_cloud_with_all_it_may_keep_is_full() -> None:
    policy = build_plugin(Overflow, {"order": ["private"], "keep": {"private": 10}})
    assert policy.reject(candidate("private", vms=9), REQUEST) is None
    full = policy.reject(candidate("private", vms=10), REQUEST)
    assert full == "full: 10 of 10 VMs; next in order takes over"
    assert policy.reject(candidate("public", vms=99), REQUEST) is None


def test_a_cloud_may_be_kept_empty() -> None:
    policy = build_plugin(Overflow, {"order": ["private"], "keep": {"private": 0}})
    full = policy.reject(candidate("private"), REQUEST)
    assert full == "full: 0 of 0 VMs; next in order takes over"


@pytest.mark.parametrize(
    ("options", "path", "message"),
    [
        ({}, ["order"], "required key not provided"),
        ({"order": []}, ["order"], "expected at least one cloud"),
        ({"order": ["a", "b", "a"]}, ["order", 2], "'a' is named twice"),
        ({"order": ["a", "two words"]}, ["order", 1], "expected a name"),
        ({"order": ["a"], "keep": {"a": 1.5}}, ["keep", "a"], "expected a whole number"),
        ({"order": ["a"], "keep": {"a": -1}}, ["keep", "a"], "expected a whole number"),
        ({"order": ["a"], "keep": {"a": True}}, ["keep", "a"], "expected a whole number"),
        ({"order": ["a"], "keep": {False: 1}}, ["keep", False], "expected a name"),
    ],
)
def test_refuses_wrong_options(options: dict[str, Any], path: list[object], message: str) -> None:
    with pytest.raises(MultipleInvalid, match=message) as raised:
        build_plugin(Overflow, options)
    assert raised.value.path == path
