"""How three policies together choose a cloud: the figures, their shares, the order."""

from __future__ import annotations

from isoneph.core.model import Candidate, CloudUse, PlacementRequest, Weight
from isoneph.core.plugin import Placement
from isoneph.core.ranking import WeightedPolicy, rank_clouds
from isoneph.core.testing import make_environment

VMS = {"oslo": 4, "paris": 1, "berlin": 2, "tokyo": 0}
RTT_MS = {"oslo": 5.0, "paris": 25.0, "berlin": 20.0, "tokyo": 180.0}
MAX_RTT_MS = 100.0
PRICE = {"oslo": 0.05, "paris": 0.06, "berlin": 0.04, "tokyo": 0.03}


class Count(Placement):
    """The fewer VMs, the better."""

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        """Minus the number of VMs."""
        return Weight(-candidate.use.vms, f"VMs here: {candidate.use.vms}")


class Latency(Placement):
    """The nearer, the better; nothing beyond a limit."""

    def reject(self, candidate: Candidate, request: PlacementRequest) -> str | None:
        """A hard limit."""
        rtt = RTT_MS[candidate.cloud]
        return f"RTT is {rtt:g} ms, the limit is {MAX_RTT_MS:g} ms" if rtt > MAX_RTT_MS else None

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        """Minus the round-trip time."""
        return Weight(-RTT_MS[candidate.cloud], f"{RTT_MS[candidate.cloud]:g} ms")


class Cost(Placement):
    """The cheaper, the better."""

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        """Minus the price."""
        return Weight(-PRICE[candidate.cloud], f"{PRICE[candidate.cloud]:.2f} EUR an hour")


environment = make_environment()
policies = [
    WeightedPolicy("count", Count({}, environment), weight=1.0),
    WeightedPolicy("latency", Latency({}, environment), weight=1.5),
    WeightedPolicy("cost", Cost({}, environment), weight=0.25),
]
candidates = [
    Candidate(cloud=name, position=position, use=CloudUse(vms=count))
    for position, (name, count) in enumerate(VMS.items())
]
request = PlacementRequest(application="mme", type="worker")
ranking = rank_clouds(candidates, request, policies, unavailable={})

for verdict in ranking.verdicts:
    print(verdict.candidate, "rejected" if verdict.score is None else f"{verdict.score:.3f}")
    for reason in verdict.reasons:
        share = (
            "" if reason.share is None else f", value {reason.value:g}, share {reason.share:.3f}"
        )
        print(f"  {reason.policy:7}  {reason.text}{share}")
