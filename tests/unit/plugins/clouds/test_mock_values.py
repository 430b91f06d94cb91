from __future__ import annotations

import math
import random
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voluptuous import Invalid, MultipleInvalid

from isoneph.core.testing import make_environment
from isoneph.plugins.clouds.mock import MockCloud
from isoneph.plugins.clouds.mock.values import draw, duration, durations_by_call

seconds = st.floats(0, 1e6)
durations = st.one_of(
    seconds,
    st.builds(lambda low, high: {"uniform": [low, high]}, seconds, seconds),
    st.builds(lambda mean, deviation: {"normal": [mean, deviation]}, seconds, seconds),
    st.builds(lambda median, sigma: {"lognormal": [median, sigma]}, seconds, seconds),
    st.builds(lambda mean: {"exponential": mean}, seconds),
)


@given(durations, st.integers())
def test_draws_are_finite_from_zero_and_follow_the_seed(spec: Any, seed: int) -> None:
    checked = duration(spec)
    assert duration(checked) == checked
    first = draw(checked, lambda: random.Random(seed))
    assert first >= 0
    assert math.isfinite(first)
    assert first == draw(checked, lambda: random.Random(seed))


@pytest.mark.parametrize(
    ("spec", "median"),
    [
        (7, 7),
        ({"uniform": [10, 20]}, 15),
        ({"normal": [30, 2]}, 30),
        ({"lognormal": [30, 0.5]}, 30),
        ({"exponential": [10]}, 10 * math.log(2)),
        ({"exponential": 10}, 10 * math.log(2)),
    ],
)
def test_distributions_have_their_median(spec: Any, median: float) -> None:
    rng = random.Random(1)
    drawn = [draw(duration(spec), lambda: rng) for _ in range(2000)]
    assert statistics.median(drawn) == pytest.approx(median, rel=0.1)


def test_a_fixed_duration_takes_no_chance() -> None:
    def unlucky() -> random.Random:
        raise AssertionError

    assert draw(duration(3), unlucky) == 3


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (-1, "expected seconds from 0"),
        (True, "expected seconds from 0"),
        (math.nan, "expected seconds from 0"),
        (10**400, "expected seconds from 0"),
        ("5", "expected seconds from 0"),
        ({}, "expected seconds from 0"),
        ({"poisson": [1]}, "unknown distribution 'poisson'"),
        ({"uniform": [1]}, r"expected \{uniform: \[low, high\]\}"),
        ({"uniform": 1}, r"expected \{uniform: \[low, high\]\}"),
        ({"normal": [1, -1]}, r"expected \{normal: \[mean, deviation\]\}"),
        ({"lognormal": "ab"}, r"expected \{lognormal: \[median, sigma\]\}"),
    ],
)
def test_a_bad_duration_says_what_is_expected(spec: Any, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        duration(spec)


def test_latencies_are_for_all_calls_or_by_call() -> None:
    assert durations_by_call(2) == {"any": 2.0}
    assert durations_by_call({"uniform": [1, 2]}) == {"any": {"uniform": [1.0, 2.0]}}
    by_call = {"create": 2.0, "any": {"exponential": [1.0]}}
    assert durations_by_call(by_call) == by_call
    assert durations_by_call(durations_by_call(2)) == {"any": 2.0}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"latency": {"creat": 1}}, r"unknown call, expected one of create.*'latency'\]\['creat'"),
        ({"latency": {"create": -1}}, r"expected seconds.*'latency'\]\['create'"),
        ({"boot_seconds": "long"}, r"expected seconds from 0, or one of.*'boot_seconds'"),
        ({"quotas": {"cores": -1}}, r"expected a number from 0, or null.*'quotas'\]\['cores'"),
        ({"quotas": [1]}, r"expected a mapping from names to values.*'quotas'"),
        ({"quotas": {"": 1}}, r"expected a text that is not empty.*'quotas'"),
        ({"capacity": {"small": 1.5}}, r"expected a whole number.*'capacity'\]\['small'"),
        ({"capacity": {"small": -1}}, r"expected a whole number from 0.*'small'"),
        ({"prices": {"small": "dear"}}, r"expected a number from 0.*'prices'\]\['small'"),
        ({"seed": "x"}, r"expected a whole number.*'seed'"),
        ({"state": ""}, r"expected a text that is not empty.*'state'"),
        ({"faults": [{"call": "any"}]}, r"required key not provided.*'faults'\]\[0\]\['fault'"),
        ({"faults": [{"fault": "fire"}]}, r"expected one of quota.*'faults'\]\[0\]\['fault'"),
        ({"faults": [{"fault": "quota", "call": "x"}]}, r"expected one of create.*\['call'"),
        ({"faults": [{"fault": "quota", "call": "list"}]}, r"befalls only create.*\['call'"),
        ({"faults": [{"fault": "hang"}]}, r"'hang' needs the seconds.*\['seconds'"),
        ({"faults": [{"fault": "outage", "probability": 2}]}, r"from 0 to 1.*'probability'"),
        ({"faults": [{"fault": "outage", "count": 2**70}]}, r"whole number from 0.*'count'"),
        ({"boot_second": 1}, r"extra keys not allowed.*'boot_second'"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(MultipleInvalid, match=told):
        MockCloud(options, make_environment())


def test_checked_options_stay_as_they_are() -> None:
    given = {"latency": 1, "faults": [{"fault": "outage"}], "boot_seconds": {"exponential": 1}}
    options = MockCloud(given, make_environment()).options
    assert MockCloud(options, make_environment()).options == options
