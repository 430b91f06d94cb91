"""Victims by the time at which they were placed, and how the others break ties by it."""

from __future__ import annotations

import time

from isoneph.core.model import VictimCandidate, VictimRequest, Vm, Weight
from isoneph.core.plugin import Victims

#: The times that a VM can be placed at: from the epoch to the year 2242. What somebody
#: mangled by hand counts as the nearest.
END_OF_TIME = 2.0**33


def placed_at(vm: Vm) -> float:
    """When the VM was placed, in seconds since the epoch; 0 when that is not known."""
    return min(max(vm.placed_at, 0.0), END_OF_TIME - 1)


def placed(vm: Vm) -> str:
    """When the VM was placed, in words."""
    seconds = placed_at(vm)
    if not seconds:
        return "placed at an unknown time"
    return time.strftime("placed %Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


class Newest(Victims):
    """The VM that was placed last goes first.

    The time counts at which the VM's id was last placed on a cloud, failover included. A VM
    whose time is not known counts as the oldest.
    """

    def weigh(self, candidate: VictimCandidate, request: VictimRequest) -> Weight:
        """The later, the better."""
        return Weight(placed_at(candidate.vm), placed(candidate.vm))


class Oldest(Victims):
    """The VM that was placed first goes first.

    The time counts at which the VM's id was last placed on a cloud, failover included. A VM
    whose time is not known counts as the oldest, and so goes before all others.
    """

    def weigh(self, candidate: VictimCandidate, request: VictimRequest) -> Weight:
        """The earlier, the better."""
        return Weight(0.0 - placed_at(candidate.vm), placed(candidate.vm))
