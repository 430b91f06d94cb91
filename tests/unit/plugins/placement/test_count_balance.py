from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voluptuous import MultipleInvalid

from isoneph.core.model import Candidate, CloudUse, PlacementRequest, Weight
from isoneph.core.testing import build_plugin
from isoneph.plugins.placement.count_balance import CountBalance

REQUEST = PlacementRequest(application="shop", type="worker")


def candidate(vms: int, **by_type: int) -> Candidate:
    return Candidate(cloud="oslo", position=0, use=CloudUse(vms=vms, by_type=by_type))


@pytest.mark.parametrize(
    ("vms", "reason"), [(0, "no VMs here"), (1, "1 VM here"), (3, "3 VMs here")]
)
def test_counts_all_vms_of_the_application(vms: int, reason: str) -> None:
    policy = build_plugin(CountBalance)
    assert policy.reject(candidate(vms), REQUEST) is None
    assert policy.weigh(candidate(vms, worker=99), REQUEST) == Weight(-vms, reason)


def test_counts_one_type() -> None:
    policy = build_plugin(CountBalance, {"by": "type"})
    weight = policy.weigh(candidate(5, worker=2, database=3), REQUEST)
    assert weight == Weight(-2, "2 VMs of type worker here")
    assert policy.weigh(candidate(3, database=3), REQUEST).value == 0


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_fewer_is_better(one: int, other: int) -> None:
    policy = build_plugin(CountBalance)
    first, second = (policy.weigh(candidate(vms), REQUEST).value for vms in (one, other))
    assert (first > second) == (one < other)


def test_refuses_other_ways_to_count() -> None:
    with pytest.raises(MultipleInvalid, match="value must be one of"):
        build_plugin(CountBalance, {"by": "cloud"})
