"""Reject, weigh, order: the core's half of every decision."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoneph.core.errors import PluginFailed
from isoneph.core.model import (
    Candidate,
    CloudUse,
    PlacementRequest,
    Reason,
    VictimCandidate,
    VictimRequest,
    Vm,
    VmState,
    Weight,
)
from isoneph.core.plugin import Placement, Victims
from isoneph.core.ranking import VICTIMS_SHOWN, WeightedPolicy, rank_clouds, rank_victims
from isoneph.core.testing import make_environment

REQUEST = PlacementRequest(application="mme", type="worker")


class Liking(Placement):
    """Gives each cloud the value that the options name; None rejects it."""

    def reject(self, candidate: Candidate, request: PlacementRequest) -> str | None:
        return "not liked" if self.options.get(candidate.cloud, 0.0) is None else None

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        return Weight(self.options.get(candidate.cloud, 0.0), "so liked")


def liking(weight: float = 1.0, **values: float | None) -> WeightedPolicy:
    return WeightedPolicy("liking", Liking(values, make_environment()), weight)


def candidates(*names: str) -> list[Candidate]:
    return [Candidate(cloud=n, position=i, use=CloudUse()) for i, n in enumerate(names)]


def order(
    names: str, *policies: WeightedPolicy, unavailable: Mapping[str, Reason] | None = None
) -> list[tuple[str, float | None]]:
    ranking = rank_clouds(candidates(*names), REQUEST, policies, unavailable or {})
    return [(verdict.candidate, verdict.score) for verdict in ranking.verdicts]


def test_values_are_brought_to_one_scale_weighted_and_summed() -> None:
    assert order("abc", liking(a=-5, b=0, c=5), liking(2.0, a=300, b=100, c=100)) == [
        ("a", 2.0),
        ("c", 1.0),
        ("b", 0.5),
    ]


def test_equal_scores_go_to_the_first_configured() -> None:
    assert [name for name, _score in order("cab", liking())] == ["c", "a", "b"]


def test_what_one_policy_rejects_is_not_weighed_by_the_others() -> None:
    assert order("abc", liking(a=None), liking(a=9, b=1, c=2)) == [
        ("c", 1.0),
        ("b", 0.0),
        ("a", None),
    ]


def test_a_negative_weight_turns_a_preference_round() -> None:
    assert [name for name, _ in order("ab", liking(-1.0, a=2, b=1))] == ["b", "a"]


def test_what_the_core_rules_out_keeps_its_reason() -> None:
    no = Reason("health", "breaker open")
    ranking = rank_clouds(candidates("a", "b"), REQUEST, [liking(a=9)], {"a": no})
    assert ranking.best is not None
    assert ranking.best.candidate == "b"
    assert ranking.verdicts[1].reasons == [no]


def test_no_candidates_and_no_policies_are_no_errors() -> None:
    assert rank_clouds([], REQUEST, [liking()], {}).best is None
    assert order("ab") == [("a", 0.0), ("b", 0.0)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "much"])
def test_a_policy_that_gives_nonsense_is_named(value: float) -> None:
    with pytest.raises(PluginFailed, match="policy liking"):
        order("ab", liking(a=value))


def test_a_policy_that_raises_is_named() -> None:
    class Raising(Placement):
        def reject(self, candidate: Candidate, request: PlacementRequest) -> str | None:
            raise KeyError("x")

    entry = WeightedPolicy("mine", Raising({}, make_environment()), 1.0)
    with pytest.raises(PluginFailed, match=r"policy mine \(Raising\): reject\(\) failed: KeyError"):
        order("a", entry)


VALUES = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, width=32))


@given(
    table=st.lists(st.lists(VALUES, min_size=4, max_size=4), max_size=4),
    weights=st.lists(st.floats(0, 10), min_size=4, max_size=4),
)
def test_every_ranking_is_sound(table: list[list[float | None]], weights: list[float]) -> None:
    policies = [
        liking(weight, **dict(zip("abcd", row, strict=True)))
        for row, weight in zip(table, weights, strict=False)
    ]
    ranking = rank_clouds(candidates(*"abcd"), REQUEST, policies, {})
    assert sorted(v.candidate for v in ranking.verdicts) == list("abcd")
    scores = [v.score for v in ranking.verdicts if v.score is not None]
    assert scores == sorted(scores, reverse=True)
    assert all(-1e-6 <= score <= sum(weights) + 1e-6 for score in scores)
    for verdict in ranking.verdicts:
        assert verdict.rejected == any(
            row["abcd".index(verdict.candidate)] is None for row in table
        )
        if not verdict.rejected:
            shares = [reason.share or 0.0 for reason in verdict.reasons]
            assert verdict.score == pytest.approx(sum(shares))


class Oldest(Victims):
    """Prefers what was placed first."""

    def weigh(self, candidate: VictimCandidate, request: VictimRequest) -> Weight:
        return Weight(-candidate.vm.placed_at, "age")


def victims(*states: VmState) -> list[VictimCandidate]:
    return [
        VictimCandidate(
            vm=Vm(
                id=f"vm-{n:02}",
                application="mme",
                type="worker",
                cloud="uniform",
                cloud_id=str(n),
                name=f"vm-{n}",
                state=state,
                placed_at=float(n),
            ),
            position=0,
            use=CloudUse(),
        )
        for n, state in enumerate(states)
    ]


def test_a_vm_in_error_is_the_first_to_go() -> None:
    entry = WeightedPolicy("oldest", Oldest({}, make_environment()), 1.0)
    states = [VmState.ACTIVE, VmState.ACTIVE, VmState.ERROR]
    ranking = rank_victims(victims(*states), VictimRequest(application="mme"), [entry])
    assert [v.candidate for v in ranking.verdicts] == ["vm-02", "vm-00", "vm-01"]


def test_only_the_first_few_of_many_victims_are_told() -> None:
    entry = WeightedPolicy("oldest", Oldest({}, make_environment()), 1.0)
    many = victims(*[VmState.ACTIVE] * 50)
    ranking = rank_victims(many, VictimRequest(application="mme"), [entry])
    assert len(ranking.verdicts) == VICTIMS_SHOWN
