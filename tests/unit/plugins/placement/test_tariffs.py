from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voluptuous import MultipleInvalid, Schema

from isoneph.plugins.placement.tariffs import TARIFFS, Tariff, Tariffs

FLAT = [{"price": 1.0}]
volumes = st.floats(0, 5000)


@st.composite
def tariffs(draw: st.DrawFn) -> list[dict[str, float]]:
    ends = sorted(draw(st.sets(st.integers(1, 4000), max_size=5)))
    prices = draw(st.lists(st.floats(0, 2), min_size=len(ends) + 1, max_size=len(ends) + 1))
    tiers = [{"up_to_gb": float(end)} for end in ends] + [{}]
    return [tier | {"price": price} for tier, price in zip(tiers, prices, strict=True)]


def tier_by_tier(tiers: list[dict[str, float]], gb: float) -> float:
    """The same cost, worked out as a bill would show it."""
    total = below = 0.0
    for tier in tiers:
        end = min(tier.get("up_to_gb", gb), gb)
        total += max(0.0, end - below) * tier["price"]
        below = max(below, end)
    return total


@pytest.mark.parametrize(
    ("gb", "cost"),
    [
        (0, 0),
        (50, 4.5),
        (100, 9),
        (101, 9 + 0.05),
        (500, 9 + 400 * 0.05),
        (600, 9 + 400 * 0.05 + 100 * 0.01),
    ],
)
def test_each_price_is_for_the_volume_inside_its_tier(gb: float, cost: float) -> None:
    tariff = Tariff(
        [{"up_to_gb": 100, "price": 0.09}, {"up_to_gb": 500, "price": 0.05}, {"price": 0.01}]
    )
    assert tariff.cost(gb) == pytest.approx(cost)


def test_more_pays_from_the_tier_that_is_reached() -> None:
    tariff = Tariff([{"up_to_gb": 100, "price": 0.09}, {"price": 0.05}])
    assert tariff.marginal(0, 73) == pytest.approx(73 * 0.09)
    assert tariff.marginal(73, 73) == pytest.approx(27 * 0.09 + 46 * 0.05)
    assert tariff.marginal(146, 73) == pytest.approx(73 * 0.05)


@given(tariffs(), volumes)
def test_costs_what_a_bill_would_show(tiers: list[dict[str, float]], gb: float) -> None:
    assert Tariff(tiers).cost(gb) == pytest.approx(tier_by_tier(tiers, gb), abs=1e-9)


@given(tariffs(), st.lists(st.floats(0, 900), max_size=8))
def test_what_each_pays_adds_up_to_the_bill(
    tiers: list[dict[str, float]], shares: list[float]
) -> None:
    tariff = Tariff(tiers)
    paid = before = 0.0
    for share in shares:
        paid += tariff.marginal(before, share)
        before += share
    assert paid == pytest.approx(tier_by_tier(tiers, before), abs=1e-6)


def test_the_most_specific_tariff_counts() -> None:
    ends = [("oslo", "ran1"), ("oslo", "*"), ("*", "ran1"), ("*", "*")]
    known = Tariffs(
        [{"from": a, "to": b, "tiers": [{"price": float(i)}]} for i, (a, b) in enumerate(ends)]
    )

    def price(source: str, target: str) -> float | None:
        tariff = known.find(source, target)
        return None if tariff is None else tariff.cost(1)

    assert price("oslo", "ran1") == 0
    assert price("oslo", "ran2") == 1
    assert price("paris", "ran1") == 2
    assert price("paris", "ran2") == 3


def test_within_a_cloud_only_its_own_tariff_counts() -> None:
    anywhere = {"from": "*", "to": "*", "tiers": FLAT}
    assert Tariffs([anywhere]).find("oslo", "oslo") is None
    inside = {"from": "oslo", "to": "oslo", "tiers": FLAT}
    assert Tariffs([anywhere, inside]).find("oslo", "oslo") is not None


def test_without_a_tariff_traffic_is_free() -> None:
    assert Tariffs([{"from": "oslo", "to": "*", "tiers": FLAT}]).find("ran1", "oslo") is None


def tariff(*tiers: dict[str, float], to: str = "*") -> dict[str, Any]:
    return {"from": "*", "to": to, "tiers": list(tiers)}


@pytest.mark.parametrize(
    ("options", "path", "message"),
    [
        ([tariff()], [0, "tiers"], "expected at least one tier"),
        (
            [tariff({"price": 1}, {"price": 2})],
            [0, "tiers", 0],
            "expected 'up_to_gb': only the last tier goes on for ever",
        ),
        (
            [tariff({"price": 1, "up_to_gb": 9}, {"price": 1, "up_to_gb": 9}, {"price": 1})],
            [0, "tiers", 1, "up_to_gb"],
            "expected more than the 9 GB before it",
        ),
        (
            [tariff({"price": 1, "up_to_gb": 9})],
            [0, "tiers", 0, "up_to_gb"],
            "expected no end: the last tier is for all that goes beyond",
        ),
        (
            [tariff({"price": -1})],
            [0, "tiers", 0, "price"],
            "expected a number of 0 or more",
        ),
        (
            [tariff({"price": 1, "up_to_gb": 0}, {"price": 1})],
            [0, "tiers", 0, "up_to_gb"],
            "expected a positive number",
        ),
        ([tariff({"price": 1}, to="a b")], [0, "to"], r"expected a name.*; or '\*' for anywhere"),
        (
            [tariff({"price": 1}), tariff({"price": 2})],
            [1],
            r"the tariff from '\*' to '\*' is given twice",
        ),
    ],
)
def test_refuses_wrong_tariffs(options: Any, path: list[object], message: str) -> None:
    with pytest.raises(MultipleInvalid, match=message) as raised:
        Schema(TARIFFS)(options)
    assert raised.value.path == path
