"""Placement by the price of a VM and of its traffic."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from voluptuous import All, Invalid, Optional, Required

from isoneph.core.model import Candidate, PlacementRequest, Weight
from isoneph.core.plugin import Environment, OptionSchema, Placement
from isoneph.plugins.placement.tariffs import TARIFFS, Tariff, Tariffs
from isoneph.plugins.placement.values import currency, name, not_negative, positive
from isoneph.plugins.placement.words import amount

#: What rounding may add to a price before it counts as beyond the limit.
ROUNDING = 1 + 1e-9
#: Prices below this are shown with more decimals.
SMALL = 0.001
#: Flows that a reason names one by one.
SHOWN = 2


def _check_flow(flow: dict[str, Any]) -> dict[str, Any]:
    if ("to" in flow) == ("from" in flow):
        raise Invalid("expected either 'to' or 'from': the VM's own cloud is the other end")
    return flow


def _unknown_price(value: Any) -> str | float:
    if value == "reject":
        return "reject"
    try:
        return not_negative(value)
    except Invalid:
        raise Invalid("expected 'reject' or a number of 0 or more") from None


class _Quote(NamedTuple):
    """What one more VM costs by the hour; ``assumed`` when its own price is not known."""

    vm: float
    assumed: bool
    traffic: float

    @property
    def total(self) -> float:
        return self.vm + self.traffic


class CostAware(Placement):
    """The cloud where one more VM costs least by the hour, its expected traffic included.

    **The VM** costs what ``prices`` says for its type on the cloud. Without a price there the
    cloud is rejected, unless ``unknown_price`` gives a price to assume.

    **Its traffic** is what ``traffic`` expects of a VM of the type: so many GB an hour ``to`` a
    place or cloud, or ``from`` one; the VM's own cloud is the other end. The tariff that
    applies is the most specific one: ``from`` and ``to`` as they are; then ``to: "*"``; then
    ``from: "*"``; then both. Traffic without a tariff is free, and so is traffic within one
    cloud, unless a tariff names that cloud at both ends.

    **Tiers** are cumulative and count a month's volume: each tier's price applies to the
    volume inside it alone. On each cloud, all the application's traffic under one tariff adds
    up. The VMs that the application has there (creates in flight too) fill the lower tiers,
    and the new VM pays for what its own traffic adds on top. With ::

        currency: EUR
        prices: {oslo: {worker: 0.05}}
        traffic: {worker: [{to: ran1, gb_per_hour: 0.1}]}
        tariffs:
          - {from: oslo, to: "*", tiers: [{up_to_gb: 100, price: 0.09}, {price: 0.05}]}

    and 730 hours a month, a worker sends 73 GB a month. The first one on oslo pays 73 x 0.09 =
    6.57 EUR a month for it, 0.0090 an hour, and in all 0.0590. The second one fills the first
    tier with 27 GB and has 46 GB in the second: 27 x 0.09 + 46 x 0.05 = 4.73 a month, 0.0065
    an hour. Each further one pays 73 x 0.05 = 3.65 a month, 0.0050 an hour.

    Traffic of other applications and of other VMs is not known here and fills no tier.
    """

    schema: ClassVar[OptionSchema] = {
        Required("currency", description="ISO 4217 code of the currency of all prices"): currency,
        Required("prices", description="by cloud and type: price of one VM for an hour"): {
            name: {name: not_negative}
        },
        Optional(
            "traffic",
            default=dict,
            description="by type: the traffic that one VM is expected to make",
        ): {
            name: [
                All(
                    {
                        Optional("to", description="the place or cloud that the VM sends to"): name,
                        Optional("from", description="the place or cloud it receives from"): name,
                        Required("gb_per_hour", description="GB an hour"): positive,
                    },
                    _check_flow,
                )
            ]
        },
        Optional("tariffs", default=list, description="prices of traffic"): TARIFFS,
        Optional(
            "hours_per_month", default=730.0, description="hours by which tiers are filled"
        ): positive,
        Optional(
            "max_hourly",
            description="hard limit: no cloud is taken where one more VM costs more by the hour, "
            "traffic included",
        ): not_negative,
        Optional(
            "unknown_price",
            default="reject",
            description="a price to assume for a VM without one, or 'reject'",
        ): _unknown_price,
    }

    @classmethod
    def named_clouds(cls, options: Mapping[str, Any]) -> Collection[str]:
        """Those with prices."""
        return list(options["prices"])

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self._currency: str = options["currency"]
        self._prices: Mapping[str, Mapping[str, float]] = options["prices"]
        self._traffic: Mapping[str, Sequence[Mapping[str, Any]]] = options["traffic"]
        self._tariffs = Tariffs(options["tariffs"])
        self._hours: float = options["hours_per_month"]
        self._limit: float | None = options.get("max_hourly")
        unknown = options["unknown_price"]
        self._refuse_unknown = unknown == "reject"
        self._assumed: float = 0.0 if self._refuse_unknown else unknown
        self._flows_in_words = {kind: _in_words(flows) for kind, flows in self._traffic.items()}
        self._volumes: dict[str, Mapping[str, Mapping[Tariff, float]]] = {}

    def reject(self, candidate: Candidate, request: PlacementRequest) -> str | None:
        """A price that is unknown or beyond the limit."""
        if self._refuse_unknown and request.type not in self._prices.get(candidate.cloud, {}):
            return f"no price for type {request.type} on {candidate.cloud}"
        if self._limit is None:
            return None
        quote = self._quote(candidate, request)
        if quote.total <= self._limit * ROUNDING:
            return None
        return f"{self._in_words(quote, request.type)}; the limit is {_money(self._limit)}"

    def weigh(self, candidate: Candidate, request: PlacementRequest) -> Weight:
        """The cheaper, the better."""
        quote = self._quote(candidate, request)
        return Weight(0.0 - quote.total, self._in_words(quote, request.type))

    def _quote(self, candidate: Candidate, request: PlacementRequest) -> _Quote:
        price = self._prices.get(candidate.cloud, {}).get(request.type)
        volumes = self._volumes_on(candidate.cloud)
        by_type = candidate.use.by_type
        monthly = 0.0
        for tariff, more in volumes.get(request.type, {}).items():
            before = sum(
                by_type.get(kind, 0) * volume.get(tariff, 0.0) for kind, volume in volumes.items()
            )
            monthly += tariff.marginal(before, more)
        return _Quote(
            vm=self._assumed if price is None else price,
            assumed=price is None,
            traffic=monthly / self._hours,
        )

    def _volumes_on(self, cloud: str) -> Mapping[str, Mapping[Tariff, float]]:
        """By type: the GB a month that one VM on ``cloud`` adds to each tariff."""
        if cloud not in self._volumes:
            self._volumes[cloud] = {
                kind: self._volume(cloud, flows) for kind, flows in self._traffic.items()
            }
        return self._volumes[cloud]

    def _volume(self, cloud: str, flows: Sequence[Mapping[str, Any]]) -> Mapping[Tariff, float]:
        volume: dict[Tariff, float] = {}
        for flow in flows:
            tariff = self._tariffs.find(flow.get("from", cloud), flow.get("to", cloud))
            if tariff is not None:
                volume[tariff] = volume.get(tariff, 0.0) + flow["gb_per_hour"] * self._hours
        return volume

    def _in_words(self, quote: _Quote, type_name: str) -> str:
        assumed = " assumed" if quote.assumed else ""
        vm = f"{_money(quote.total)} {self._currency}/h: VM {_money(quote.vm)}{assumed}"
        flows = self._flows_in_words.get(type_name)
        if not flows:
            return f"{vm}, no traffic expected"
        return f"{vm}, traffic {_money(quote.traffic)} ({flows})"


def _money(price: float) -> str:
    """Four decimals, or six for a small price."""
    return f"{price:.6f}" if 0 < price < SMALL else f"{price:.4f}"


def _in_words(flows: Sequence[Mapping[str, Any]]) -> str:
    if len(flows) > SHOWN:
        return f"{amount(sum(f['gb_per_hour'] for f in flows))} GB/h in {len(flows)} flows"
    return ", ".join(
        f"{amount(flow['gb_per_hour'])} GB/h "
        + (f"to {flow['to']}" if "to" in flow else f"from {flow['from']}")
        for flow in flows
    )
