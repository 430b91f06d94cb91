"""Reject, weigh, order: how policies together choose, with every reason kept.

Each policy may reject a candidate; what is left is weighed. The values that one policy gives
to the candidates of one decision are brought to 0..1 (the worst gets 0, the best 1, all 0 when
they are equal), multiplied by the configured weight and summed, as OpenStack's schedulers do
it. Equal scores go to the candidate that was configured first.

Pure: the same candidates, request and policies give the same ranking.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isoneph.core.errors import PluginFailed
from isoneph.core.model import (
    Candidate,
    PlacementRequest,
    Ranking,
    Reason,
    Verdict,
    VictimCandidate,
    VictimRequest,
    VmState,
    Weight,
)
from isoneph.core.plugin import Policy

#: How many victims a ranking shows with their reasons; the others' are the same kind of text.
VICTIMS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class WeightedPolicy:
    """A policy with the name and the weight that the configuration gives it."""

    name: str
    policy: Any  # a Placement or a Victims: the two differ only in their arguments' types
    weight: float


def rank_clouds(
    candidates: Sequence[Candidate],
    request: PlacementRequest,
    policies: Sequence[WeightedPolicy],
    unavailable: Mapping[str, Reason],
) -> Ranking:
    """Order clouds for a VM. ``unavailable`` tells of clouds that the core itself rules out
    why it does so.

    Raises PluginFailed when a policy breaks its contract.
    """
    rejected: list[Verdict] = []
    accepted: list[Candidate] = []
    for candidate in candidates:
        no = unavailable.get(candidate.cloud)
        reasons = _rejections(candidate, request, policies) if no is None else [no]
        if reasons:
            rejected.append(Verdict(candidate=candidate.cloud, score=None, reasons=reasons))
        else:
            accepted.append(candidate)
    weights, shares, scores = _score(accepted, request, policies)
    order = sorted(range(len(accepted)), key=lambda i: (-scores[i], accepted[i].position))
    ranked = [_verdict(accepted[i].cloud, i, policies, weights, shares, scores[i]) for i in order]
    return Ranking(verdicts=[*ranked, *rejected])


def rank_victims(
    candidates: Sequence[VictimCandidate],
    request: VictimRequest,
    policies: Sequence[WeightedPolicy],
) -> Ranking:
    """Order VMs by how well they can be spared; the candidates of the verdicts are VM ids.

    A VM in ERROR is spared before any other. Only the first few verdicts are given, and the
    rejected are left out when there are many.

    Raises PluginFailed when a policy breaks its contract.
    """
    rejected: list[Verdict] = []
    accepted: list[VictimCandidate] = []
    for candidate in candidates:
        reasons = _rejections(candidate, request, policies)
        if reasons:
            rejected.append(Verdict(candidate=candidate.vm.id, score=None, reasons=reasons))
        else:
            accepted.append(candidate)
    weights, shares, scores = _score(accepted, request, policies)
    order = sorted(range(len(accepted)), key=lambda i: _victim_key(accepted[i], scores[i]))
    ranked = [
        _verdict(accepted[i].vm.id, i, policies, weights, shares, scores[i])
        for i in order[:VICTIMS_SHOWN]
    ]
    return Ranking(verdicts=[*ranked, *rejected[:VICTIMS_SHOWN]])


def _victim_key(candidate: VictimCandidate, score: float) -> tuple[bool, float, int, str]:
    healthy = candidate.vm.state is not VmState.ERROR
    return (healthy, -score, candidate.position, candidate.vm.id)


def _rejections(candidate: Any, request: Any, policies: Sequence[WeightedPolicy]) -> list[Reason]:
    reasons = []
    for entry in policies:
        try:
            text = entry.policy.reject(candidate, request)
        except Exception as error:
            raise _failed(entry, "reject", error) from error
        if text is not None:
            reasons.append(Reason(entry.name, str(text)))
    return reasons


def _score(
    accepted: Sequence[Any], request: Any, policies: Sequence[WeightedPolicy]
) -> tuple[list[list[Weight]], list[list[float]], list[float]]:
    """Weights and shares by policy, then by candidate; and each candidate's score."""
    scores = [0.0] * len(accepted)
    weights: list[list[Weight]] = []
    shares: list[list[float]] = []
    for entry in policies:
        column = _weigh(accepted, request, entry)
        share = _normalise([weight[0] for weight in column], entry.weight)
        for index, value in enumerate(share):
            scores[index] += value
        weights.append(column)
        shares.append(share)
    return weights, shares, scores


def _weigh(accepted: Sequence[Any], request: Any, entry: WeightedPolicy) -> list[Weight]:
    weigh = entry.policy.weigh
    try:
        column = [weigh(candidate, request) for candidate in accepted]
        sound = all(math.isfinite(value) for value, _reason in column)
    except Exception as error:
        raise _failed(entry, "weigh", error) from error
    if not sound:
        raise PluginFailed(f"policy {entry.name}: weigh() gave a value that is not finite")
    return column


def _normalise(values: Sequence[float], weight: float) -> list[float]:
    low = min(values, default=0.0)
    span = max(values, default=0.0) - low
    if span <= 0.0 or not math.isfinite(span):
        return [0.0] * len(values)
    return [weight * (value - low) / span for value in values]


def _verdict(
    name: str,
    index: int,
    policies: Sequence[WeightedPolicy],
    weights: list[list[Weight]],
    shares: list[list[float]],
    score: float,
) -> Verdict:
    reasons = [
        Reason(entry.name, weights[i][index][1], weights[i][index][0], shares[i][index])
        for i, entry in enumerate(policies)
    ]
    return Verdict(candidate=name, score=score, reasons=reasons)


def _failed(entry: WeightedPolicy, verb: str, error: Exception) -> PluginFailed:
    policy: Policy = entry.policy
    kind = type(policy).__name__
    return PluginFailed(
        f"policy {entry.name} ({kind}): {verb}() failed: {type(error).__name__}: {error}"
    )
