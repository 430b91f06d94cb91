"""A placement policy: VMs go where electricity is clean."""

from __future__ import annotations

import math
from typing import ClassVar

from isoneph.core.model import Candidate, PlacementRequest, Weight
from isoneph.core.plugin import OptionSchema, Placement
from voluptuous import All, Any, Msg, Optional, Range, Required

GRAMS = Msg(All(Any(int, float), Range(min=0, max=2000)), "expected a number from 0 to 2000")


class Green(Placement):
    """The cloud with the cleanest electricity first, within a limit.

    A cloud for which no figure is given is rejected: nobody knows that it keeps the limit.
    """

    schema: ClassVar[OptionSchema] = {
        Required(
            "grams_per_kwh", description="by cloud: grams of CO2 that a kWh stands for there"
        ): {str: GRAMS},
        Optional("max_grams_per_kwh", description="no cloud with more is taken"): GRAMS,
    }

    def reject(self, candidate: Candidate, request: PlacementRequest) -> str | None:
        """A figure that is unknown or beyond the limit."""
        grams = self.options["grams_per_kwh"].get(candidate.cloud)
        if grams is None:
            return "its grams_per_kwh is not known"
        limit = self.options.get("max_grams_per_kwh", math.inf)
        return f"{grams:g} g CO2 per kWh, the limit is {limit:g}" if grams > limit else None

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        """The cleaner, the better."""
        grams = self.options["grams_per_kwh"][candidate.cloud]
        return Weight(-float(grams), f"{grams:g} g CO2 per kWh")
