"""Victims by price."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from voluptuous import Invalid, Optional, Required

from isoneph.core.identity import NAME_PATTERN
from isoneph.core.model import VictimCandidate, VictimRequest, Weight
from isoneph.core.plugin import Environment, OptionSchema, Victims

#: Keeps what is added up from prices finite.
LARGEST = 1e12


def _name(value: Any) -> str:
    if not isinstance(value, str) or not NAME_PATTERN.fullmatch(value):
        raise Invalid("expected the name of a cloud or a type")
    return value


def _price(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= LARGEST:
        raise Invalid("expected a number of 0 or more")
    return float(value)


def _currency(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch("[A-Z]{3}", value):
        raise Invalid("expected a currency code of three capital letters, such as EUR")
    return value


class MostExpensive(Victims):
    """The VM with the highest hourly price goes first.

    Prices are by cloud and type, as for the placement policy ``cost-aware``; traffic does not
    count. A VM without a price counts as ``unknown_price``: with the default of 0 it goes
    last.

    VMs with the same price are equal here. List ``newest`` or ``oldest`` beside this policy
    with a small ``weight`` to say which of them goes first.
    """

    schema: ClassVar[OptionSchema] = {
        Required("currency", description="ISO 4217 code of the currency of all prices"): _currency,
        Required("prices", description="by cloud and type: price of one VM for an hour"): {
            _name: {_name: _price}
        },
        Optional(
            "unknown_price", default=0.0, description="price to assume for a VM without one"
        ): _price,
    }

    @classmethod
    def named_clouds(cls, options: Mapping[str, Any]) -> Collection[str]:
        """Those with prices."""
        return list(options["prices"])

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        currency = options["currency"]
        self._weights = {
            (cloud, kind): Weight(price, f"{price:.4f} {currency}/h")
            for cloud, prices in options["prices"].items()
            for kind, price in prices.items()
        }
        assumed: float = options["unknown_price"]
        self._unknown = Weight(assumed, f"no price known, {assumed:.4f} {currency}/h assumed")

    def weigh(self, candidate: VictimCandidate, request: VictimRequest) -> Weight:
        """The higher the price, the better."""
        return self._weights.get((candidate.vm.cloud, candidate.vm.type), self._unknown)
