"""Placement in a fixed order of clouds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from voluptuous import All, Invalid, Optional, Required

from isoneph.core.model import Candidate, PlacementRequest, Weight
from isoneph.core.plugin import Environment, OptionSchema, Placement
from isoneph.plugins.placement.values import count, name


def _order(names: list[str]) -> list[str]:
    if not names:
        raise Invalid("expected at least one cloud")
    for index, cloud in enumerate(names):
        if cloud in names[:index]:
            raise Invalid(f"'{cloud}' is named twice", path=[index])
    return names


class Overflow(Placement):
    """The home cloud first, then the next: private before public.

    The first cloud of ``order`` takes every VM until it is full, then the second one does, and
    so on; clouds that ``order`` leaves out come last, as the application lists them. When VMs
    on an earlier cloud go, the next VM is placed there again; none is moved.

    A cloud is full when another policy rejects it (``quota``), when it refuses the create
    itself, or when it runs as many VMs of the application as ``keep`` allows it. ``keep`` is a
    hard limit: when every cloud has reached its own, placement fails. Leave the last cloud
    without one where that is not wanted.

    To let the order win over every other policy, give this one a ``weight`` of more than the
    sum of theirs times twice the number of clouds.
    """

    schema: ClassVar[OptionSchema] = {
        Required("order", description="cloud names, the home cloud first"): All([name], _order),
        Optional(
            "keep",
            default=dict,
            description="by cloud name: the number of this application's VMs, creates in flight "
            "included, at which the cloud counts as full",
        ): {name: count},
    }

    @classmethod
    def named_clouds(cls, options: Mapping[str, Any]) -> Collection[str]:
        """Those in the order and those with a bound."""
        return [*options["order"], *options["keep"]]

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self._places = {cloud: place for place, cloud in enumerate(options["order"])}
        self._keep: Mapping[str, int] = options["keep"]

    def reject(self, candidate: Candidate, request: PlacementRequest) -> str | None:
        """A cloud that holds as many VMs as it is to keep takes no more."""
        keep = self._keep.get(candidate.cloud)
        if keep is None or candidate.use.vms < keep:
            return None
        return f"full: {candidate.use.vms} of {keep} VMs; next in order takes over"

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        """The earlier in the order, the better."""
        listed = len(self._places)
        place = self._places.get(candidate.cloud)
        if place is None:
            return Weight(
                float(-listed - candidate.position), f"not in the order, after its {listed}"
            )
        return Weight(float(-place), f"number {place + 1} of {listed} in order")
