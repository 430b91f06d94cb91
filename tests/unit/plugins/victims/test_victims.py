from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voluptuous import MultipleInvalid

from isoneph.core.model import CloudUse, VictimCandidate, VictimRequest, Vm, VmState, Weight
from isoneph.core.plugin import Victims
from isoneph.core.testing import build_plugin
from isoneph.plugins.victims.age import Newest, Oldest
from isoneph.plugins.victims.fewest_sessions import FewestSessions
from isoneph.plugins.victims.largest_cloud import LargestCloud
from isoneph.plugins.victims.most_expensive import MostExpensive

REQUEST = VictimRequest(application="shop")
#: 2023-11-14 22:13:20 UTC.
NOW = 1_700_000_000.0
PRICES = {"currency": "EUR", "prices": {"oslo": {"worker": 0.05, "cache": 0.2}}}
placed_times = st.floats(NOW, NOW + 1e8)
vm_counts = st.integers(1, 10_000)


def vm(
    placed_at: float = NOW, *, cloud: str = "oslo", vms: int = 1, kind: str = "worker"
) -> VictimCandidate:
    machine = Vm(
        id="00000000-0000-4000-8000-000000000001",
        application="shop",
        type=kind,
        cloud=cloud,
        cloud_id="1",
        name="shop-worker-1",
        state=VmState.ACTIVE,
        placed_at=placed_at,
    )
    return VictimCandidate(vm=machine, position=0, use=CloudUse(vms=vms))


def value(policy: Victims, candidate: VictimCandidate) -> float:
    return policy.weigh(candidate, REQUEST).value


def test_newest_and_oldest_by_time_of_placement() -> None:
    newest, oldest = build_plugin(Newest), build_plugin(Oldest)
    assert newest.weigh(vm(), REQUEST) == Weight(NOW, "placed 2023-11-14 22:13:20 UTC")
    assert oldest.weigh(vm(), REQUEST) == Weight(-NOW, "placed 2023-11-14 22:13:20 UTC")


@pytest.mark.parametrize("unknown", [0.0, -5.0])
def test_an_unknown_time_counts_as_the_oldest(unknown: float) -> None:
    newest, oldest = build_plugin(Newest), build_plugin(Oldest)
    assert value(newest, vm(unknown)) < value(newest, vm(1.0))
    assert value(oldest, vm(unknown)) > value(oldest, vm(1.0))
    assert newest.weigh(vm(unknown), REQUEST).reason == "placed at an unknown time"


def test_a_mangled_time_counts_as_the_end_of_time() -> None:
    weight = build_plugin(Newest).weigh(vm(1e300), REQUEST)
    assert weight == Weight(2**33 - 1, "placed 2242-03-16 12:56:31 UTC")


def test_largest_cloud_takes_its_newest() -> None:
    policy = build_plugin(LargestCloud)
    weight = policy.weigh(vm(vms=10), REQUEST)
    assert weight.reason == "10 VMs on oslo, placed 2023-11-14 22:13:20 UTC"
    assert policy.weigh(vm(vms=1), REQUEST).reason.startswith("1 VM on oslo, ")
    assert value(policy, vm(NOW + 1, vms=10)) > weight.value
    assert value(policy, vm(NOW - 1e9, vms=11)) > weight.value


@given(vm_counts, vm_counts, placed_times, placed_times)
def test_no_time_outweighs_a_vm_more(one: int, other: int, first: float, second: float) -> None:
    policy = build_plugin(LargestCloud)
    if one != other:
        larger = value(policy, vm(first, vms=one)) > value(policy, vm(second, vms=other))
        assert larger == (one > other)


@given(vm_counts, placed_times, st.floats(0.03, 1e6))
def test_the_later_of_a_cloud_goes_first(vms: int, placed_at: float, later: float) -> None:
    policy = build_plugin(LargestCloud)
    assert value(policy, vm(placed_at + later, vms=vms)) > value(policy, vm(placed_at, vms=vms))


@given(vm_counts, st.floats(allow_nan=False, allow_infinity=False))
def test_no_time_reaches_the_next_count(vms: int, placed_at: float) -> None:
    assert vms <= value(build_plugin(LargestCloud), vm(placed_at, vms=vms)) < vms + 1


def test_most_expensive_by_price_of_type_and_cloud() -> None:
    policy = build_plugin(MostExpensive, PRICES)
    assert policy.weigh(vm(), REQUEST) == (0.05, "0.0500 EUR/h")
    assert policy.weigh(vm(kind="cache"), REQUEST) == (0.2, "0.2000 EUR/h")


def test_without_a_price_a_vm_goes_last() -> None:
    policy = build_plugin(MostExpensive, PRICES)
    unknown = Weight(0, "no price known, 0.0000 EUR/h assumed")
    assert policy.weigh(vm(kind="database"), REQUEST) == unknown
    assert policy.weigh(vm(cloud="paris"), REQUEST) == unknown
    assumed = build_plugin(MostExpensive, PRICES | {"unknown_price": 1})
    assert value(assumed, vm(cloud="paris")) == 1


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"currency": "€"}, ["currency"], "expected a currency code of three capital letters"),
        ({"prices": {"oslo": {"worker": -1}}}, ["prices", "oslo", "worker"], "expected a number"),
        ({"prices": {"oslo": {"w": float("inf")}}}, ["prices", "oslo", "w"], "expected a number"),
        ({"prices": {"oslo": {"worker": True}}}, ["prices", "oslo", "worker"], "expected a num"),
        ({"prices": {False: {}}}, ["prices", False], "expected the name of a cloud or a type"),
        ({"unknown_price": "none"}, ["unknown_price"], "expected a number of 0 or more"),
    ],
)
def test_refuses_wrong_options(changes: dict[str, Any], path: list[object], message: str) -> None:
    with pytest.raises(MultipleInvalid, match=message) as raised:
        build_plugin(MostExpensive, PRICES | changes)
    assert raised.value.path == path


@pytest.mark.parametrize(
    ("sessions", "weight"),
    [
        (None, Weight(0.0, "no sessions known")),
        (0, Weight(0.0, "0 sessions")),
        (1, Weight(-1.0, "1 session")),
        (250, Weight(-250.0, "250 sessions")),
    ],
)
def test_the_fewest_sessions_go_first(sessions: int | None, weight: Weight) -> None:
    candidate = replace(vm(), sessions=sessions)
    assert build_plugin(FewestSessions).weigh(candidate, REQUEST) == weight
