from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoneph.core.model import Candidate, CloudUse, Limits, PlacementRequest, Quota
from isoneph.core.testing import build_plugin
from isoneph.plugins.placement.quota import QuotaPolicy

NEEDS = {"instances": 1.0, "cores": 2.0, "ram": 4096.0}
amounts = st.integers(0, 50)


def ask(
    limits: Limits | None,
    planned: Mapping[str, float] | None = None,
    needs: Mapping[str, float] = NEEDS,
) -> tuple[str | None, str]:
    policy = build_plugin(QuotaPolicy)
    use = CloudUse(limits=limits, planned=planned or {})
    candidate = Candidate(cloud="oslo", position=0, use=use, resources=needs)
    request = PlacementRequest(application="shop", type="worker")
    weight = policy.weigh(candidate, request)
    assert weight.value == 0
    return policy.reject(candidate, request), weight.reason


def test_accepts_what_just_fits() -> None:
    limits = {"instances": Quota(limit=10, used=8), "cores": Quota(limit=20, used=16)}
    assert ask(limits, {"instances": 1, "cores": 2}) == (None, "room for 1 more")


@pytest.mark.parametrize(
    ("limits", "planned", "reason"),
    [
        (
            {"instances": Quota(limit=10, used=10)},
            {"instances": 1},
            "instances: 10 of 10 used, 1 placed since",
        ),
        ({"instances": Quota(limit=10, used=10)}, {}, "instances: 10 of 10 used"),
        ({"instances": Quota(limit=0)}, {}, "instances: 0 of 0 used"),
        ({"instances": Quota(limit=10, used=12)}, {}, "instances: 12 of 10 used"),
        ({"cores": Quota(limit=16, used=15)}, {}, "cores: 15 of 16 used, 2 needed"),
        (
            {"ram": Quota(limit=1_048_576, used=1_040_384)},
            {"ram": 6144},
            "ram: 1040384 of 1048576 used, 6144 placed since, 4096 needed",
        ),
        (
            {"instances": Quota(limit=1, used=1), "cores": Quota(limit=4, used=4)},
            {},
            "instances: 1 of 1 used; cores: 4 of 4 used",
        ),
    ],
)
def test_rejects_what_does_not_fit(
    limits: Limits, planned: Mapping[str, float], reason: str
) -> None:
    assert ask(limits, planned) == (reason, "room for 0 more")


def test_the_scarcest_resource_gives_the_headroom() -> None:
    limits = {
        "instances": Quota(limit=100, used=0),
        "cores": Quota(limit=20, used=11),
        "ram": Quota(limit=None, used=1e9),
    }
    assert ask(limits) == (None, "room for 4 more")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (None, "limits unknown"),
        ({}, "no limit applies"),
        ({"instances": Quota(limit=None, used=70)}, "no limit applies"),
        ({"volumes": Quota(limit=1, used=1)}, "no limit applies"),
    ],
)
def test_accepts_where_no_limit_applies(limits: Limits | None, reason: str) -> None:
    assert ask(limits, {"instances": 3}) == (None, reason)


def test_what_a_type_does_not_take_never_rejects() -> None:
    limits = {"cores": Quota(limit=4, used=4)}
    assert ask(limits, needs={"instances": 1, "cores": 0}) == (None, "no limit applies")


def test_rounding_does_not_cost_a_vm() -> None:
    limits = {"share": Quota(limit=0.3, used=0.1 + 0.1)}
    assert ask(limits, needs={"share": 0.1}) == (None, "room for 1 more")


@given(amounts, amounts, amounts, st.integers(1, 9))
def test_rejects_exactly_when_there_is_no_room(
    limit: int, used: int, planned: int, need: int
) -> None:
    rejected, headroom = ask(
        {"cores": Quota(limit=limit, used=used)}, {"cores": planned}, {"cores": need}
    )
    room = max(0, (limit - used - planned) // need)
    assert headroom == f"room for {room} more"
    assert (rejected is None) == (room > 0)
