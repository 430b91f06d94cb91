"""How long one placement decision takes, and how that grows with clouds and VMs.

The decision is the whole of it: counting what runs where with the ledger's entries laid over,
then rejecting, weighing and ordering, with every reason. The named alternative is what the
prototype did: go through the list of all VMs, count them by cloud, take the fewest.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import Mock

from voluptuous import Schema

from isoneph.core.fleet import Fleet
from isoneph.core.gateway import CloudGateway
from isoneph.core.ledger import Ledger, Phase
from isoneph.core.model import Vm, VmState, VmType
from isoneph.core.placing import Placer, Plan
from isoneph.core.ranking import WeightedPolicy
from isoneph.core.registry import Registry
from isoneph.core.settings import ApplicationSettings, CloudSettings
from isoneph.core.testing import FakeClock, NullMetrics, make_environment
from isoneph.plugins.clouds.mock import MockCloud

SIZES = [(2, 1000), (10, 10_000), (100, 1000), (100, 10_000), (100, 100_000)]
IN_FLIGHT = 20
ROUNDS = 200


@dataclass(frozen=True)
class Decision:
    """Median seconds of one decision at one size."""

    clouds: int
    vms: int
    default: float
    four_policies: float
    prototype: float


def measure(clouds: int, vms: int) -> Decision:
    """Decide over so many clouds that hold so many VMs in all."""
    names = [f"cloud-{n:03}" for n in range(clouds)]
    running = [_vm(n, names[n % clouds]) for n in range(vms)]
    return Decision(
        clouds=clouds,
        vms=vms,
        default=_median(_decider(names, running, _policies(names, ["count-balance"]))),
        four_policies=_median(
            _decider(
                names,
                running,
                _policies(names, ["quota", "count-balance", "latency-aware", "cost-aware"]),
            )
        ),
        prototype=_median(lambda: _prototype(names, running)),
    )


def _median(function: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        function()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _prototype(names: Sequence[str], running: Sequence[Vm]) -> str:
    counts = Counter(vm.cloud for vm in running)
    return min(names, key=lambda name: counts[name])


def _decider(
    names: Sequence[str], running: Sequence[Vm], policies: Sequence[WeightedPolicy]
) -> Callable[[], object]:
    """The balancer's own decision, over a fleet that was listed a moment ago."""
    clock = FakeClock()
    settings = ApplicationSettings(
        name="mme",
        clouds=names,
        types={"worker": {name: VmType(name="worker") for name in names}},
    )
    gateways = {name: _gateway(name, clock) for name in names}
    store = Mock(shared=False)
    ledger = Ledger(store, clock, "mme")
    fleet = Fleet(settings, gateways, ledger, clock)
    for name in names:
        fleet.take_listing(name, clock.monotonic(), [vm for vm in running if vm.cloud == name])
    for n in range(IN_FLIGHT):
        entry = ledger.entry(f"in-flight-{n}", names[n % len(names)], "worker", Phase.CREATING, 60)
        ledger.book.set(entry)
    placer = Placer(settings, gateways, fleet, ledger, policies, clock, NullMetrics())
    plan = Plan(id="new", type="worker", tags={}, request_digest="", near=names[0])
    return lambda: placer.rank(plan, ledger.book, {})


def _gateway(name: str, clock: FakeClock) -> CloudGateway:
    cloud = MockCloud(Schema(MockCloud.schema)({}), make_environment(name))
    return CloudGateway(CloudSettings(name=name, driver="mock"), cloud, clock, NullMetrics())


def _policies(names: Sequence[str], chosen: Sequence[str]) -> list[WeightedPolicy]:
    options: dict[str, dict[str, Any]] = {
        "latency-aware": {
            "links": [
                {"from": names[0], "to": name, "rtt_ms": 5.0 + n} for n, name in enumerate(names)
            ]
        },
        "cost-aware": {
            "currency": "EUR",
            "prices": {name: {"worker": 0.05 + n / 1000} for n, name in enumerate(names)},
        },
    }
    registry = Registry()
    made = []
    for policy in chosen:
        kind = registry.load("placement", policy)
        checked = Schema(kind.schema)(options.get(policy, {}))
        plugin: Any = kind(checked, make_environment(policy))
        plugin.start()
        made.append(WeightedPolicy(policy, plugin, 1.0))
    return made


def _vm(number: int, cloud: str) -> Vm:
    return Vm(
        id=f"vm-{number}",
        application="mme",
        type="worker",
        cloud=cloud,
        cloud_id=f"{cloud}-{number}",
        name=f"vm-{number}",
        state=VmState.ACTIVE,
    )


def main() -> None:
    """Print every size."""
    for clouds, vms in SIZES:
        figures = measure(clouds, vms)
        print(
            f"{clouds:4} clouds {vms:7} VMs: count-balance {figures.default * 1e3:.3f} ms, "
            f"four policies {figures.four_policies * 1e3:.3f} ms, "
            f"prototype {figures.prototype * 1e3:.3f} ms"
        )


if __name__ == "__main__":
    main()
