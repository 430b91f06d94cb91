"""Relays that hang, that refuse, or that are taken away from under VMs that drain."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest

from isoneph.core import engine as engines
from isoneph.core.balancer import Balancer
from isoneph.core.engine import Engine, Healer
from isoneph.core.errors import CloudError, RelayRefused, VmLeaving
from isoneph.core.model import Vm, VmState
from isoneph.core.testing import NullMetrics
from relayed_site import TWO, RelayedSite
from scripted_relay import RELAY
from two_clouds import create
from world import GRACE, settle

CHOICES = {"worker": {"instances": 1.0}, "front": {"instances": 1.0}}
PATIENCE = 0.5


async def test_deletes_do_not_wait_one_behind_the_other_for_a_relay_that_hangs(
    site: RelayedSite,
) -> None:
    vms = [await site.create() for _ in range(4)]
    await site.start(patience=PATIENCE)
    site.elsewhere.answers.clear()
    try:
        async with asyncio.timeout(3.5 * PATIENCE):
            deletions = await asyncio.gather(*(site.balancer.delete(vm.id) for vm in vms[:3]))
            assert all(deletion.draining for deletion in deletions)
            assert (await site.balancer.delete(vms[3].id)).draining
    finally:
        site.elsewhere.answers.set()
    await site.rounds(2)
    assert site.ids() == []


async def test_a_delete_asks_a_relay_that_answers_again(site: RelayedSite) -> None:
    vm = await site.create()
    site.elsewhere.reachable = False
    assert (await site.shown(vm)).state is VmState.READY
    site.elsewhere.reachable = True
    site.world.clock.advance(2.5)
    assert not (await site.balancer.delete(vm.id)).draining
    assert site.ids() == []


async def test_a_round_that_hangs_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = {"slow": 0, "quick": 0}
    retired: list[str] = []

    class CountingCarrier:
        def __init__(self, balancer: Any, *_: Any) -> None:
            self.balancer, self.way = balancer, balancer.relayed.way
            self._name = balancer.settings.name

        async def carry(self) -> None:
            rounds[self._name] += 1
            if self._name == "slow":
                await asyncio.Event().wait()

        async def retire(self) -> None:
            retired.append(self._name)

    monkeypatch.setattr(engines, "Carrier", CountingCarrier)
    balancers = {name: Mock() for name in rounds}
    for name, balancer in balancers.items():
        balancer.settings.name = name
    clock = Mock()
    engine = Engine(lambda: list(balancers.values()), Mock(), clock, NullMetrics(), 1.0)
    async with asyncio.timeout(5):
        for _ in range(3):
            begun = await engine.carry()
            await asyncio.wait(begun, timeout=0.01)
        assert rounds == {"slow": 1, "quick": 3}
        del balancers["slow"]
        await engine.carry()
    assert retired == ["slow"]


async def test_what_was_refused_is_told_again_when_nothing_else_is_wanted(
    site: RelayedSite,
) -> None:
    first = await site.create()
    site.relay.refusal = RelayRefused("half of it is done")
    second = await site.create()
    await site.balancer.delete(second.id, drain=False)
    # What was refused may have been done in part, though it is none of the backends.
    await site.start()
    await site.rounds(1)
    assert [backend.id for backend in site.relay.tried[-1]] == [first.id]
    site.relay.refusal = None
    await site.rounds(1)
    assert list(site.relay.backends) == [first.id]


async def drained(site: RelayedSite, **request: Any) -> Vm:
    """A VM that drains."""
    vm = await site.create(**request)
    site.relay.sessions[vm.id] = 3
    await site.rounds(1)
    assert (await site.balancer.delete(vm.id)).draining
    return vm


async def without_relay(site: RelayedSite) -> Balancer:
    """A new isoneph, from whose configuration the relay was taken away."""
    settings = replace(site.world.settings(TWO), store=site.store)
    return (await site.world.start(settings)).applications["mme"].balancer


async def test_what_drains_is_removed_when_the_application_has_no_relay_any_more(
    site: RelayedSite,
) -> None:
    site.share_a_store()
    await site.start()
    vm = await drained(site, cloud="uniform")
    balancer = await without_relay(site)
    site.world.cloud("uniform").inject("outage", call="delete", count=3)
    healer = Healer(balancer, site.world.clock, NullMetrics())
    with pytest.raises(CloudError):
        await balancer.delete(vm.id)
    for _ in range(2):
        await healer.heal(1000)
        site.world.clock.advance(GRACE)
    assert site.ids() == [vm.id]
    site.world.cloud("uniform").clear_faults()
    await healer.heal(1000)
    assert site.ids() == []


async def test_a_drained_vm_that_is_gone_is_forgotten_without_a_relay_too(
    site: RelayedSite,
) -> None:
    site.share_a_store()
    await site.start()
    await drained(site, cloud="uniform")
    (record,) = site.world.cloud("uniform").vms()
    site.world.cloud("uniform").remove_vm(record.cloud_id)
    balancer = await without_relay(site)
    await Healer(balancer, site.world.clock, NullMetrics()).heal(1000)
    assert not list(balancer.ledger.book)


async def test_what_drained_is_not_handed_out_again_without_a_relay_and_is_removed(
    site: RelayedSite,
) -> None:
    site.share_a_store()
    await site.start()
    await drained(site, key="attach-7")
    balancer = await without_relay(site)
    with pytest.raises(VmLeaving):
        await create(balancer, key="attach-7")
    await settle(balancer, site.world.clock, rounds=6)
    assert site.ids() == []


async def test_what_drained_and_breaks_down_without_a_relay_is_not_placed_again(
    site: RelayedSite,
) -> None:
    site.share_a_store()
    await site.start()
    vm = await drained(site)
    assert vm.cloud == "uniform"
    site.world.cloud("uniform").set_vm_state(vm.cloud_id, VmState.ERROR, "broken")
    site.world.cloud("uniform").inject("throttle", call="delete", lasts=30)
    balancer = await without_relay(site)
    site.world.clock.advance(2)
    await Healer(balancer, site.world.clock, NullMetrics()).heal(1000)
    assert site.world.cloud("quebec").vms() == []


async def test_a_vm_of_a_type_that_is_carried_no_more_drains_too(site: RelayedSite) -> None:
    await site.start(types=CHOICES)
    front = await site.create("uniform", type="front")
    site.relay.sessions[front.id] = 3
    await site.rounds(1)
    await site.start(replace(RELAY, types=("worker",)), types=CHOICES)
    await site.rounds(1)
    assert (await site.balancer.delete(front.id)).draining
    assert (await site.shown(front)).state is VmState.DRAINING
    await site.rounds(2, GRACE / 2)
    assert site.relay.backends[front.id].draining
    assert site.ids() == [front.id]
    site.relay.sessions.clear()
    await site.rounds(1)
    assert site.ids() == []


async def test_backends_have_the_weight_of_their_type(site: RelayedSite) -> None:
    await site.start(replace(RELAY, weights={"front": 4.0}), types=CHOICES)
    worker, front = await site.create(), await site.create(type="front")
    weights = {key: backend.weight for key, backend in site.relay.backends.items()}
    assert weights == {worker.id: 1.0, front.id: 4.0}
    await site.start(replace(RELAY, weights={"worker": 0.5}), types=CHOICES)
    await site.rounds(1)
    weights = {key: backend.weight for key, backend in site.relay.backends.items()}
    assert weights == {worker.id: 0.5, front.id: 1.0}
