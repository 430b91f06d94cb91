"""Placement by the number of VMs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from voluptuous import In, Optional

from isoneph.core.model import Candidate, PlacementRequest, Weight
from isoneph.core.plugin import Environment, OptionSchema, Placement
from isoneph.plugins.placement.words import vms


class CountBalance(Placement):
    """The cloud with the fewest VMs of the application first.

    Creates in flight count as VMs, so a burst of creates spreads as if it came one by one.
    Clouds with equally many are taken in the order in which the application lists them.

    With ``by: type`` only VMs of the requested type count: every type is then balanced on its
    own, and together they may be uneven by up to one VM a type.
    """

    schema: ClassVar[OptionSchema] = {
        Optional(
            "by",
            default="application",
            description="what is counted: all VMs of the 'application', or those of the "
            "requested 'type'",
        ): In(["application", "type"]),
    }

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self._by_type = options["by"] == "type"

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        """The fewer VMs, the better."""
        if self._by_type:
            count = candidate.use.by_type.get(request.type, 0)
            return Weight(float(-count), f"{vms(count)} of type {request.type} here")
        count = candidate.use.vms
        return Weight(float(-count), f"{vms(count)} here")
