"""The interfaces of policies: where a VM is placed, and which one goes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from isoneph.core.model import (
    Candidate,
    PlacementRequest,
    VictimCandidate,
    VictimRequest,
    Weight,
)
from isoneph.core.plugin.base import BlockingPlugin


class Policy(BlockingPlugin):
    """What placement and victim policies share.

    ``reject`` and ``weigh`` are pure functions of their arguments, the options and what
    ``start`` or ``refresh`` read; they are called on the event loop, once for each candidate
    of each decision, and take microseconds.
    """

    @classmethod
    def named_clouds(cls, options: Mapping[str, Any]) -> Collection[str]:
        """The names in the options that can only be clouds of the application, so that the
        configuration can tell of one that is misspelt."""
        return ()

    def refresh(self) -> None:
        """Called in a thread every few seconds: the place to read a file or a service again.
        An error is logged, and the policy goes on with what it had."""


class Placement(Policy):
    """A placement policy (``isoneph.placement``): which cloud gets the next VM."""

    def reject(self, candidate: Candidate, request: PlacementRequest) -> str | None:
        """Why this candidate cannot be taken, in words for a person, or None when it can."""
        return None

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        """How good this candidate is: any finite scale, higher is better. The core brings the
        values of one decision to 0..1 before it applies the configured weight."""
        return Weight(0.0, "no preference")


class Victims(Policy):
    """A victim policy (``isoneph.victims``): which VM goes when the application needs fewer."""

    def reject(self, candidate: VictimCandidate, request: VictimRequest) -> str | None:
        """Why this VM must stay, or None."""
        return None

    def weigh(self, candidate: VictimCandidate, request: VictimRequest) -> Weight:
        """How well this VM can be spared; scale as in :meth:`Placement.weigh`."""
        return Weight(0.0, "no preference")
