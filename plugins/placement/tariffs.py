"""What traffic costs: tiers, tariffs by source and destination, and their options."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from voluptuous import All, Invalid, Optional, Required

from isoneph.plugins.placement.values import name, not_negative, positive

ANYWHERE = "*"


def _end(value: Any) -> str:
    if value == ANYWHERE:
        return ANYWHERE
    try:
        return name(value)
    except Invalid as error:
        raise Invalid(f"{error.msg}; or '*' for anywhere") from None


def _check_tiers(tiers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not tiers:
        raise Invalid("expected at least one tier")
    below = 0.0
    for index, tier in enumerate(tiers[:-1]):
        if "up_to_gb" not in tier:
            raise Invalid("expected 'up_to_gb': only the last tier goes on for ever", path=[index])
        if tier["up_to_gb"] <= below:
            raise Invalid(
                f"expected more than the {below:g} GB before it", path=[index, "up_to_gb"]
            )
        below = tier["up_to_gb"]
    if "up_to_gb" in tiers[-1]:
        raise Invalid(
            "expected no end: the last tier is for all that goes beyond the others",
            path=[len(tiers) - 1, "up_to_gb"],
        )
    return tiers


def _check_tariffs(tariffs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    seen = set()
    for index, tariff in enumerate(tariffs):
        ends = (tariff["from"], tariff["to"])
        if ends in seen:
            raise Invalid(f"the tariff from '{ends[0]}' to '{ends[1]}' is given twice", [index])
        seen.add(ends)
    return tariffs


TARIFFS = All(
    [
        {
            Required("from", description="a cloud or a place, or '*' for anywhere"): _end,
            Required("to", description="a cloud or a place, or '*' for anywhere"): _end,
            Required("tiers", description="prices by monthly volume, the lowest tier first"): All(
                [
                    {
                        Optional(
                            "up_to_gb",
                            description="GB a month at which the tier ends; none for the last",
                        ): positive,
                        Required("price", description="price of one GB in this tier"): not_negative,
                    }
                ],
                _check_tiers,
            ),
        }
    ],
    _check_tariffs,
)


class Tariff:
    """Prices by monthly volume. Each tier's price applies to the volume inside it alone."""

    def __init__(self, tiers: Sequence[Mapping[str, float]]) -> None:
        self._starts = [0.0]
        self._costs = [0.0]
        self._prices = [tier["price"] for tier in tiers]
        for tier in tiers[:-1]:
            width = tier["up_to_gb"] - self._starts[-1]
            self._costs.append(self._costs[-1] + width * tier["price"])
            self._starts.append(tier["up_to_gb"])

    def cost(self, gb: float) -> float:
        """What ``gb`` in a month cost."""
        tier = bisect_right(self._starts, gb) - 1
        return self._costs[tier] + (gb - self._starts[tier]) * self._prices[tier]

    def marginal(self, before: float, more: float) -> float:
        """What ``more`` GB cost on top of the ``before`` GB of the same month."""
        return max(0.0, self.cost(before + more) - self.cost(before))


class Tariffs:
    """All tariffs of one configuration, as :data:`TARIFFS` leaves it."""

    def __init__(self, tariffs: Sequence[Mapping[str, Any]]) -> None:
        self._tariffs = {(t["from"], t["to"]): Tariff(t["tiers"]) for t in tariffs}

    def find(self, source: str, target: str) -> Tariff | None:
        """The most specific tariff, or None when the traffic is free."""
        exact = self._tariffs.get((source, target))
        if exact is not None or source == target:
            return exact
        return (
            self._tariffs.get((source, ANYWHERE))
            or self._tariffs.get((ANYWHERE, target))
            or self._tariffs.get((ANYWHERE, ANYWHERE))
        )
