"""Placement within the clouds' limits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from isoneph.core.model import Candidate, PlacementRequest, Quota, Weight
from isoneph.core.plugin import Placement
from isoneph.plugins.placement.words import amount

#: What rounding may take from a sum of resources that are not whole.
TOLERANCE = 1e-9


class _Stock(NamedTuple):
    """One resource that the cloud limits and the VM needs."""

    resource: str
    need: float
    left: float
    quota: Quota
    planned: float

    @property
    def shortage(self) -> str:
        """Why there is too little, in words."""
        text = f"{self.resource}: {amount(self.quota.used)} of {amount(self.quota.limit or 0)} used"
        if self.planned:
            text += f", {amount(self.planned)} placed since"
        if self.left > 0:
            text += f", {amount(self.need)} needed"
        return text


class QuotaPolicy(Placement):
    """Rejects clouds whose limits have no room for one more VM of the type.

    For every resource that the cloud has a limit for and the VM type takes some of, what is
    left is ``limit - used - planned``: ``used`` as the cloud last told it, everybody's VMs
    included, ``planned`` what isoneph has placed there since. A cloud where less is left than
    the VM takes is rejected, before it is asked and refuses.

    A resource that the cloud does not limit, or that the type does not take, never rejects.
    While a cloud's limits are unknown it is accepted: it refuses by itself what it cannot
    take, and the next candidate is tried.

    Among the clouds with room this policy has no preference; its reason tells how many more
    VMs of the type would fit.
    """

    def reject(self, candidate: Candidate, request: PlacementRequest) -> str | None:
        """The resources that are short, with their figures."""
        short = [s.shortage for s in _stocks(candidate) if s.left + TOLERANCE < s.need]
        return "; ".join(short) or None

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        """No preference; the reason tells the headroom."""
        if candidate.use.limits is None:
            return Weight(0.0, "limits unknown")
        room = min(((s.left + TOLERANCE) / s.need for s in _stocks(candidate)), default=None)
        if room is None:
            return Weight(0.0, "no limit applies")
        return Weight(0.0, f"room for {max(0, math.floor(room))} more")


def _stocks(candidate: Candidate) -> Iterator[_Stock]:
    use = candidate.use
    if not use.limits:
        return
    for resource, need in candidate.resources.items():
        quota = use.limits.get(resource)
        if quota is not None and quota.limit is not None and need > 0:
            planned = use.planned.get(resource, 0)
            left = quota.limit - quota.used - planned
            yield _Stock(resource, need, left, quota, planned)
