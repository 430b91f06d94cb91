"""Victims by the number of VMs on their cloud."""

from __future__ import annotations

from isoneph.core.model import VictimCandidate, VictimRequest, Weight
from isoneph.core.plugin import Victims
from isoneph.plugins.victims.age import END_OF_TIME, placed, placed_at


class LargestCloud(Victims):
    """The newest VM of the cloud with the most VMs goes first.

    It is the counterpart of ``count-balance``: what is left stays as even as it can be. Of
    clouds with equally many VMs the one goes first that holds the newest VM.

    Both levels are in one figure: the number of the application's VMs on the cloud, a whole
    number, plus a fraction that grows with the time of placement (the seconds since the epoch
    divided by 2 to the 33rd). The fraction stays below 1, so no time outweighs a VM more. VMs
    of one cloud of 10,000 that were placed within about 20 ms may come out equal.
    """

    def weigh(self, candidate: VictimCandidate, request: VictimRequest) -> Weight:
        """The more VMs on its cloud, and then the later it was placed, the better."""
        vm, count = candidate.vm, candidate.use.vms
        noun = "VM" if count == 1 else "VMs"
        return Weight(
            count + placed_at(vm) / END_OF_TIME, f"{count} {noun} on {vm.cloud}, {placed(vm)}"
        )
