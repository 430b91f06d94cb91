from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voluptuous import MultipleInvalid

from isoneph.core.model import Candidate, CloudUse, PlacementRequest, Weight
from isoneph.core.testing import build_plugin
from isoneph.plugins.placement.cost_aware import CostAware

TIERS = [{"up_to_gb": 100, "price": 0.09}, {"price": 0.05}]
#: The example of the policy's documentation.
EXAMPLE: dict[str, Any] = {
    "currency": "EUR",
    "prices": {"oslo": {"worker": 0.05}},
    "traffic": {"worker": [{"to": "ran1", "gb_per_hour": 0.1}]},
    "tariffs": [{"from": "oslo", "to": "*", "tiers": TIERS}],
}


def policy(**changes: Any) -> CostAware:
    return build_plugin(CostAware, EXAMPLE | changes)


def on(cloud: str, **by_type: int) -> Candidate:
    use = CloudUse(vms=sum(by_type.values()), by_type=by_type)
    return Candidate(cloud=cloud, position=0, use=use)


def request(type_name: str = "worker") -> PlacementRequest:
    return PlacementRequest(application="shop", type=type_name)


def total(judge: CostAware, candidate: Candidate) -> float:
    return -judge.weigh(candidate, request()).value


def test_a_vm_without_traffic_costs_its_price() -> None:
    weight = policy(traffic={}).weigh(on("oslo"), request())
    assert weight == Weight(-0.05, "0.0500 EUR/h: VM 0.0500, no traffic expected")


@pytest.mark.parametrize(
    ("already", "monthly", "reason"),
    [
        (0, 73 * 0.09, "0.0590 EUR/h: VM 0.0500, traffic 0.0090 (0.1 GB/h to ran1)"),
        (1, 27 * 0.09 + 46 * 0.05, "0.0565 EUR/h: VM 0.0500, traffic 0.0065 (0.1 GB/h to ran1)"),
        (2, 73 * 0.05, "0.0550 EUR/h: VM 0.0500, traffic 0.0050 (0.1 GB/h to ran1)"),
    ],
)
def test_the_vms_already_there_fill_the_lower_tiers(
    already: int, monthly: float, reason: str
) -> None:
    weight = policy().weigh(on("oslo", worker=already), request())
    assert -weight.value == pytest.approx(0.05 + monthly / 730)
    assert weight.reason == reason


def test_all_types_fill_the_tiers_of_a_tariff_together() -> None:
    traffic = EXAMPLE["traffic"] | {"cache": [{"to": "ran2", "gb_per_hour": 0.2}], "idle": []}
    judge = policy(traffic=traffic)
    assert total(judge, on("oslo", cache=1, idle=5, unheard_of=9)) == pytest.approx(
        0.05 + 73 * 0.05 / 730
    )
    assert total(judge, on("oslo", idle=5, unheard_of=9)) == pytest.approx(0.05 + 0.1 * 0.09)


def test_flows_under_one_tariff_add_up() -> None:
    flows = [{"to": "ran1", "gb_per_hour": 0.1}, {"to": "ran2", "gb_per_hour": 0.1}]
    weight = policy(traffic={"worker": flows}).weigh(on("oslo"), request())
    assert -weight.value == pytest.approx(0.05 + (100 * 0.09 + 46 * 0.05) / 730)
    assert weight.reason.endswith("(0.1 GB/h to ran1, 0.1 GB/h to ran2)")


def test_tariffs_fill_apart_from_each_other() -> None:
    tariffs = [
        {"from": "oslo", "to": "ran1", "tiers": TIERS},
        {"from": "oslo", "to": "ran2", "tiers": TIERS},
    ]
    flows = [{"to": "ran1", "gb_per_hour": 0.1}, {"to": "ran2", "gb_per_hour": 0.1}]
    judge = policy(traffic={"worker": flows}, tariffs=tariffs)
    assert total(judge, on("oslo")) == pytest.approx(0.05 + 2 * 73 * 0.09 / 730)


def test_incoming_traffic_is_priced_from_its_source() -> None:
    flows = [{"from": "paris", "gb_per_hour": 1}]
    tariffs = [
        {"from": "oslo", "to": "*", "tiers": [{"price": 9}]},
        {"from": "paris", "to": "*", "tiers": [{"price": 0.02}]},
    ]
    judge = policy(traffic={"worker": flows}, tariffs=tariffs, unknown_price=0.05)
    weight = judge.weigh(on("oslo"), request())
    assert weight.reason == "0.0700 EUR/h: VM 0.0500, traffic 0.0200 (1 GB/h from paris)"
    # On paris itself the traffic stays inside the cloud.
    assert judge.weigh(on("paris"), request()).value == -0.05


def test_traffic_to_a_cloud_is_free_on_that_cloud() -> None:
    flows = [{"to": "oslo", "gb_per_hour": 1}]
    anywhere = {"from": "*", "to": "*", "tiers": [{"price": 1}]}
    free = policy(traffic={"worker": flows}, tariffs=[anywhere])
    assert total(free, on("oslo")) == 0.05
    inside = {"from": "oslo", "to": "oslo", "tiers": [{"price": 0.01}]}
    charged = policy(traffic={"worker": flows}, tariffs=[anywhere, inside])
    assert total(charged, on("oslo")) == pytest.approx(0.06)


def test_many_flows_are_summed_up_in_words() -> None:
    flows = [{"to": f"ran{i}", "gb_per_hour": 0.1} for i in range(3)]
    reason = policy(traffic={"worker": flows}).weigh(on("oslo"), request()).reason
    assert reason.endswith("(0.3 GB/h in 3 flows)")


def test_small_amounts_are_not_shown_as_nothing() -> None:
    flows = [{"to": "ran1", "gb_per_hour": 0.0002}]
    reason = policy(traffic={"worker": flows}).weigh(on("oslo"), request()).reason
    assert reason == "0.0500 EUR/h: VM 0.0500, traffic 0.000018 (0.0002 GB/h to ran1)"


def test_without_a_price_a_cloud_is_rejected() -> None:
    judge = policy()
    assert judge.reject(on("oslo"), request()) is None
    assert judge.reject(on("paris"), request()) == "no price for type worker on paris"
    assert judge.reject(on("oslo"), request("cache")) == "no price for type cache on oslo"


def test_a_price_can_be_assumed() -> None:
    judge = policy(unknown_price=0.2)
    assert judge.reject(on("paris"), request()) is None
    weight = judge.weigh(on("paris"), request())
    assert weight == Weight(
        -0.2,
        "0.2000 EUR/h: VM 0.2000 assumed, traffic 0.0000 (0.1 GB/h to ran1)",
    )


def test_hard_limit_counts_traffic() -> None:
    judge = policy(max_hourly=0.056)
    assert judge.reject(on("oslo", worker=2), request()) is None
    assert judge.reject(on("oslo"), request()) == (
        "0.0590 EUR/h: VM 0.0500, traffic 0.0090 (0.1 GB/h to ran1); the limit is 0.0560"
    )


def test_rounding_does_not_break_the_limit() -> None:
    flat = [{"from": "*", "to": "*", "tiers": [{"price": 0.1}]}]
    judge = policy(tariffs=flat, max_hourly=0.06)
    assert 0.05 + 0.01 * 730 / 730 > 0.06  # the exact comparison would reject
    assert judge.reject(on("oslo"), request()) is None


def test_hours_of_a_month_can_be_set() -> None:
    # 1000 hours fill the first tier with the first VM exactly.
    judge = policy(hours_per_month=1000)
    assert total(judge, on("oslo")) == pytest.approx(0.05 + 0.1 * 0.09)
    assert total(judge, on("oslo", worker=1)) == pytest.approx(0.05 + 0.1 * 0.05)


@given(st.integers(1, 60), st.floats(0.001, 3))
def test_placed_one_by_one_the_vms_pay_the_whole_bill(vms: int, gb_per_hour: float) -> None:
    judge = policy(traffic={"worker": [{"to": "ran1", "gb_per_hour": gb_per_hour}]})
    paid = sum(total(judge, on("oslo", worker=already)) for already in range(vms))
    volume = vms * gb_per_hour * 730
    bill = min(volume, 100) * 0.09 + max(0, volume - 100) * 0.05
    assert paid == pytest.approx(vms * 0.05 + bill / 730)


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"currency": "euro"}, ["currency"], "expected a currency code of three capital letters"),
        ({"prices": {"oslo": {"worker": "5"}}}, ["prices", "oslo", "worker"], "expected a number"),
        ({"prices": {"*": {}}}, ["prices", "*"], "expected a name"),
        ({"hours_per_month": 0}, ["hours_per_month"], "expected a positive number"),
        ({"unknown_price": "guess"}, ["unknown_price"], "expected 'reject' or a number"),
        (
            {"traffic": {"worker": [{"gb_per_hour": 1}]}},
            ["traffic", "worker", 0],
            "expected either 'to' or 'from'",
        ),
        (
            {"traffic": {"worker": [{"gb_per_hour": 1, "to": "a", "from": "b"}]}},
            ["traffic", "worker", 0],
            "expected either 'to' or 'from'",
        ),
        (
            {"traffic": {"worker": [{"to": "a", "gb_per_hour": 0}]}},
            ["traffic", "worker", 0, "gb_per_hour"],
            "expected a positive number",
        ),
    ],
)
def test_refuses_wrong_options(changes: dict[str, Any], path: list[object], message: str) -> None:
    with pytest.raises(MultipleInvalid, match=message) as raised:
        policy(**changes)
    assert raised.value.path == path


def test_currency_has_no_default() -> None:
    with pytest.raises(MultipleInvalid, match="required key not provided") as raised:
        build_plugin(CostAware, {"prices": {}})
    assert raised.value.path == ["currency"]
