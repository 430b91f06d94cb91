"""Every policy that ships with isoneph, and proof that the suites notice what is wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from voluptuous import Optional

from isoneph.core.model import (
    Candidate,
    CloudUse,
    PlacementRequest,
    VictimCandidate,
    VictimRequest,
    Weight,
)
from isoneph.core.plugin import OptionSchema, Placement, Victims
from isoneph.core.testing import PlacementConformance, VictimsConformance, build_plugin
from isoneph.plugins.placement.cost_aware import CostAware
from isoneph.plugins.placement.count_balance import CountBalance
from isoneph.plugins.placement.latency_aware import LatencyAware
from isoneph.plugins.placement.overflow import Overflow
from isoneph.plugins.placement.quota import QuotaPolicy
from isoneph.plugins.victims.age import Newest, Oldest
from isoneph.plugins.victims.fewest_sessions import FewestSessions
from isoneph.plugins.victims.largest_cloud import LargestCloud
from isoneph.plugins.victims.most_expensive import MostExpensive

LINKS: list[Mapping[str, Any]] = [
    {"from": "north", "to": "ran1", "rtt_ms": 5, "mbps": 1000},
    {"from": "south", "to": "ran1", "rtt_ms": 25, "mbps": 100},
    {"from": "north", "to": "south", "rtt_ms": 20},
]
PRICES = {"north": {"worker": 0.05}, "south": {"worker": 0.04}}


class TestCountBalance(PlacementConformance):
    def make_policy(self) -> Placement:
        return build_plugin(CountBalance)


class TestCountBalanceByType(PlacementConformance):
    def make_policy(self) -> Placement:
        return build_plugin(CountBalance, {"by": "type"})


class TestQuota(PlacementConformance):
    def make_policy(self) -> Placement:
        return build_plugin(QuotaPolicy)


class TestOverflow(PlacementConformance):
    def make_policy(self) -> Placement:
        return build_plugin(Overflow, {"order": ["south", "north"], "keep": {"south": 5}})


class TestLatencyAware(PlacementConformance):
    near = "ran1"

    def make_policy(self) -> Placement:
        return build_plugin(LatencyAware, {"links": LINKS, "throughput_weight": 4000})


class TestLatencyAwareWithLimits(PlacementConformance):
    near = "ran1"

    def make_policy(self) -> Placement:
        options = {"links": LINKS, "max_rtt_ms": 20, "min_mbps": 500, "unknown": "reject"}
        return build_plugin(LatencyAware, options)


class TestLatencyAwareFromFile(PlacementConformance):
    @pytest.fixture(autouse=True)
    def measurements(self, tmp_path: Path) -> None:
        self.file = tmp_path / "links.json"
        self.file.write_text(json.dumps(LINKS))

    def make_policy(self) -> Placement:
        return build_plugin(LatencyAware, {"measurements": str(self.file), "towards": "ran1"})


class TestCostAware(PlacementConformance):
    def make_policy(self) -> Placement:
        return build_plugin(CostAware, cost_options())


class TestCostAwareWithLimit(PlacementConformance):
    def make_policy(self) -> Placement:
        return build_plugin(CostAware, cost_options() | {"max_hourly": 0.06, "unknown_price": 0.1})


class TestLargestCloud(VictimsConformance):
    def make_policy(self) -> Victims:
        return build_plugin(LargestCloud)


class TestFewestSessions(VictimsConformance):
    def make_policy(self) -> Victims:
        return build_plugin(FewestSessions)


class TestNewest(VictimsConformance):
    def make_policy(self) -> Victims:
        return build_plugin(Newest)


class TestOldest(VictimsConformance):
    def make_policy(self) -> Victims:
        return build_plugin(Oldest)


class TestMostExpensive(VictimsConformance):
    def make_policy(self) -> Victims:
        return build_plugin(MostExpensive, {"currency": "EUR", "prices": PRICES})


def cost_options() -> dict[str, Any]:
    flows = [{"to": "ran1", "gb_per_hour": 1}, {"from": "south", "gb_per_hour": 0.5}]
    tiers = [{"up_to_gb": 1000, "price": 0.09}, {"up_to_gb": 5000, "price": 0.05}, {"price": 0.01}]
    return {
        "currency": "EUR",
        "prices": PRICES,
        "traffic": {"worker": flows},
        "tariffs": [{"from": "*", "to": "*", "tiers": tiers}],
    }


class Sound(Placement):
    """Does nothing wrong; the policies below each do one thing wrong."""


class NotFinite(Sound):
    """Gives a weight that cannot be ordered."""

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        return Weight(float("nan"), "nobody knows")


class Wordless(Sound):
    """Rejects without a reason."""

    def reject(self, candidate: Candidate, request: PlacementRequest) -> str | None:
        return " "


class Talkative(Sound):
    """Gives a reason of several lines."""

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        return Weight(0.0, "first\nsecond")


class Fickle(Sound):
    """Changes its mind from call to call."""

    calls = 0

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        self.calls += 1
        return Weight(float(self.calls), "as the wind blows")


class Meddling(Sound):
    """Changes what it is given."""

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        request.fleet["seen"] = CloudUse()  # type: ignore[index]  # what the suite is to notice
        return Weight(0.0, "no preference")


class Resentful(Sound):
    """Lets one decision colour the next."""

    def __init__(self, options: Mapping[str, Any], environment: Any) -> None:
        super().__init__(options, environment)
        self._known: set[str] = set()

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        self._known.add(request.type)
        return Weight(float(len(self._known)), "types heard of")


class Restless(Sound):
    """Has another opinion after every refresh, though nothing changed."""

    refreshes = 0

    def refresh(self) -> None:
        self.refreshes += 1
        time.sleep(0.001)

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        return Weight(float(self.refreshes), "refreshes so far")


class Undescribed(Sound):
    """Has an option that nobody can look up."""

    schema: ClassVar[OptionSchema] = {Optional("secret", default=1): int}


class Misdefaulted(Sound):
    """Has a default that it would refuse from an operator."""

    schema: ClassVar[OptionSchema] = {Optional("size", default="1", description="how much"): int}


class Undocumented(Sound):
    pass


Undocumented.__doc__ = None


class Slow(Sound):
    """Takes its time."""

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        time.sleep(0.0005)
        return Weight(0.0, "no preference")


class Unclosable(Sound):
    """Can be closed only after a start."""

    def close(self) -> None:
        raise RuntimeError("not started")


class Changing(Sound):
    """Has options that its schema changes each time."""

    schema: ClassVar[OptionSchema] = {
        Optional("size", default=1, description="what grows"): lambda size: size + 1
    }


Check = Callable[[PlacementConformance, Placement], None]


@pytest.mark.parametrize(
    ("faulty", "check"),
    [
        (NotFinite, PlacementConformance.test_verdicts_are_well_formed),
        (Wordless, PlacementConformance.test_verdicts_are_well_formed),
        (Talkative, PlacementConformance.test_verdicts_are_well_formed),
        (Fickle, PlacementConformance.test_judging_is_pure),
        (Meddling, PlacementConformance.test_judging_is_pure),
        (Resentful, PlacementConformance.test_judging_remembers_nothing),
        (Restless, PlacementConformance.test_refreshing_without_a_change_changes_nothing),
        (Restless, PlacementConformance.test_judges_while_it_is_refreshed),
        (Slow, PlacementConformance.test_is_quick),
    ],
)
def test_suite_notices(faulty: type[Placement], check: Check) -> None:
    check(suite_of(Sound), build_plugin(Sound))
    suite, policy = suite_of(faulty), build_plugin(faulty)
    with pytest.raises(AssertionError):
        check(suite, policy)


@pytest.mark.parametrize(
    ("faulty", "check"),
    [
        (Undescribed, PlacementConformance.test_every_option_is_described),
        (Undocumented, PlacementConformance.test_has_a_summary),
        (Changing, PlacementConformance.test_its_schema_accepts_its_options),
        (Unclosable, PlacementConformance.test_starts_and_closes_as_often_as_it_is_told),
    ],
)
def test_suite_notices_before_start(
    faulty: type[Placement], check: Callable[[PlacementConformance], None]
) -> None:
    check(suite_of(Sound))
    suite = suite_of(faulty)
    with pytest.raises((AssertionError, RuntimeError)):
        check(suite)


def suite_of(policy: type[Placement]) -> PlacementConformance:
    class Suite(PlacementConformance):
        def make_policy(self) -> Placement:
            return build_plugin(policy)

    return Suite()


def test_suite_notices_a_default_that_its_validator_refuses() -> None:
    class Suite(PlacementConformance):
        def make_policy(self) -> Placement:
            return build_plugin(Misdefaulted, {"size": 1})

    suite = Suite()
    with pytest.raises(AssertionError, match="size: expected int"):
        suite.test_defaults_pass_their_own_validators()


class Rude(Victims):
    """A victim policy without manners."""

    def weigh(self, candidate: VictimCandidate, request: VictimRequest) -> Weight:
        return Weight(0.0, "")


def test_victims_suite_notices() -> None:
    class Suite(VictimsConformance):
        def make_policy(self) -> Victims:
            return build_plugin(Rude)

    suite, policy = Suite(), build_plugin(Rude)
    with pytest.raises(AssertionError, match="empty reason"):
        suite.test_verdicts_are_well_formed(policy)


@pytest.mark.parametrize("name", sorted(PlacementConformance.scenes))
def test_placement_scenes_have_candidates(name: str) -> None:
    scene = suite_of(Sound).scene(name)
    assert scene.candidates
    assert len(scene.candidates) in {1, 2, 3, 4, 100}
