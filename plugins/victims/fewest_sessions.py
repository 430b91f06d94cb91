"""Victims by the sessions that the application's relay brings them."""

from __future__ import annotations

from isoneph.core.model import VictimCandidate, VictimRequest, Weight
from isoneph.core.plugin import Victims


class FewestSessions(Victims):
    """The VM with the fewest sessions goes first: it is the soonest drained.

    Sessions are what the application's relay counts. A VM of which it knows none yet has 0;
    without a relay all VMs are equal here. List ``newest`` or ``largest-cloud`` beside this
    policy with a small ``weight`` to say which of equals goes first.
    """

    def weigh(self, candidate: VictimCandidate, request: VictimRequest) -> Weight:
        """The fewer, the better."""
        sessions = candidate.sessions
        if sessions is None:
            return Weight(0.0, "no sessions known")
        return Weight(-float(sessions), f"{sessions} session{'s' * (sessions != 1)}")
