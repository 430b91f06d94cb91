"""The life of VMs that a relay brings traffic to: ready, serving, draining, gone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from isoneph.core.balancer import REACHED
from isoneph.core.engine import Engine, Healer
from isoneph.core.errors import (
    BadRequest,
    RelayRefused,
    RelayUnreachable,
    UnknownVm,
    VmLeaving,
    WaitTimeout,
)
from isoneph.core.lease import Lease
from isoneph.core.model import CreateRequest, VmState
from isoneph.core.testing import NullMetrics, make_environment
from isoneph.plugins.stores.memory import MemoryStore
from relayed_site import TWO, RelayedSite
from scripted_relay import RELAY
from world import GRACE, World

CHOICES = {"worker": {"instances": 1.0}, "front": {"instances": 1.0}}


async def test_a_vm_becomes_ready_serving_and_draining(site: RelayedSite) -> None:
    vm = (await site.balancer.create(CreateRequest(type="worker"))).placed[0].vm
    await site.balancer.get(vm.id)
    found = await site.shown(vm)
    assert (found.state, found.relay and found.relay.text) == (
        VmState.ACTIVE,
        "the relay does not know it yet",
    )
    site.relay.unwell.add(vm.id)
    await site.rounds(1)
    found = await site.shown(vm)
    assert (found.state, found.relay and found.relay.text) == (VmState.ACTIVE, "it coughs")
    site.relay.unwell.clear()
    assert (await site.shown(vm)).state is VmState.READY
    site.relay.sessions[vm.id] = 3
    site.world.clock.advance(1)
    found = await site.balancer.get(vm.id)
    assert (found.state, found.relay and found.relay.sessions) == (VmState.SERVING, 3)
    deletion = await site.balancer.delete(vm.id)
    began = site.world.clock.time()
    assert deletion.draining
    assert deletion.vm is not None
    assert deletion.vm.relay is not None
    assert deletion.vm.state is VmState.DRAINING
    assert deletion.vm.relay.draining_since == began
    assert deletion.vm.relay.drain_deadline == began + 100
    assert site.relay.backends[vm.id].draining
    await site.rounds(3)
    assert (await site.balancer.get(vm.id)).state is VmState.DRAINING
    site.relay.sessions.clear()
    await site.rounds(2)
    assert site.ids() == []
    assert site.relay.backends == {}
    with pytest.raises(UnknownVm):
        await site.balancer.get(vm.id)


async def test_the_relay_gets_the_addresses_on_its_network(site: RelayedSite) -> None:
    vm = await site.create()
    backend = site.relay.backends[vm.id]
    current = await site.balancer.get(vm.id)
    assert list(backend.addresses) == list(next(iter(current.addresses.values())))
    assert (backend.name, backend.cloud) == (vm.name, vm.cloud)
    await site.start(replace(RELAY, network="nowhere"))
    vm = await site.create()
    assert vm.id not in site.relay.backends
    found = await site.shown(vm)
    assert found.relay is not None
    assert found.relay.text == "it has no address on network nowhere"


async def test_only_the_types_that_are_named_get_traffic(site: RelayedSite) -> None:
    await site.start(replace(RELAY, types=("front",)), types=CHOICES)
    worker, front = await site.create(), await site.create(type="front")
    assert list(site.relay.backends) == [front.id]
    assert (await site.shown(worker)).relay is None
    site.relay.sessions = {worker.id: 5}
    assert not (await site.balancer.delete(worker.id)).draining
    with pytest.raises(BadRequest, match="never READY"):
        site.balancer.check_carried("worker")


async def test_isoneph_started_anew_takes_no_backend_away_that_it_does_not_know(
    site: RelayedSite,
) -> None:
    first, second = await site.create("uniform"), await site.create("quebec")
    site.world.cloud("quebec").begin_outage()
    await site.start()
    updates = len(site.relay.updates)
    for _ in range(40):
        site.world.clock.advance(5)
        await site.carrier.carry()
    assert sorted(site.relay.backends) == sorted([first.id, second.id])
    assert len(site.relay.updates) == updates
    site.world.cloud("quebec").end_outage()
    await site.rounds(20, 10)
    assert sorted(site.relay.backends) == sorted([first.id, second.id])


async def test_what_somebody_else_removed_is_taken_away_after_a_while(site: RelayedSite) -> None:
    vm = await site.create("uniform")
    (record,) = site.world.cloud("uniform").vms()
    site.world.cloud("uniform").remove_vm(record.cloud_id)
    await site.rounds(2)
    assert list(site.relay.backends) == [vm.id]
    await site.rounds(2, GRACE)
    assert site.relay.backends == {}


async def test_a_vm_placed_again_keeps_its_id_and_gets_its_new_address(site: RelayedSite) -> None:
    vm = await site.create("uniform")
    before = site.relay.backends[vm.id]
    (record,) = site.world.cloud("uniform").vms()
    site.world.cloud("uniform").set_vm_state(record.cloud_id, VmState.ERROR, "broken")
    await site.rounds(1)
    assert site.relay.backends == {}
    healer = Healer(site.balancer, site.world.clock, NullMetrics())
    await healer.heal(1000)
    await site.rounds(1)
    after = site.relay.backends[vm.id]
    assert after.id == before.id
    assert list(after.addresses) != list(before.addresses)


async def test_a_relay_that_does_not_answer_leaves_what_it_said_last(site: RelayedSite) -> None:
    vm = await site.create()
    site.relay.sessions[vm.id] = 3
    await site.rounds(1)
    site.elsewhere.reachable = False
    found = await site.shown(vm)
    assert found.relay is not None
    assert (found.state, found.relay.sessions, found.relay.stale) == (VmState.SERVING, 3, True)
    assert (await site.balancer.delete(vm.id)).draining
    await site.rounds(3)
    assert (await site.shown(vm)).state is VmState.DRAINING
    assert not site.relay.backends[vm.id].draining
    site.elsewhere.reachable = True
    await site.rounds(1)
    assert site.relay.backends[vm.id].draining
    site.relay.sessions.clear()
    await site.rounds(1)
    assert site.ids() == []


async def test_an_update_that_the_relay_refuses_is_tried_again(site: RelayedSite) -> None:
    site.relay.fault = RelayRefused("no")
    vm = await site.create()
    assert site.relay.backends == {}
    site.relay.fault = None
    await site.rounds(1)
    assert list(site.relay.backends) == [vm.id]


async def test_waiting_for_ready(site: RelayedSite) -> None:
    vm = await site.create()
    site.relay.unwell.add(vm.id)
    await site.rounds(1)
    assert (await site.balancer.wait(vm.id, VmState.ACTIVE, 5)).state is VmState.ACTIVE
    with pytest.raises(WaitTimeout, match="it coughs"):
        await site.balancer.wait(vm.id, VmState.READY, 5)
    site.relay.unwell.clear()
    assert (await site.balancer.wait(vm.id, VmState.READY, 5)).state is VmState.READY
    site.relay.sessions[vm.id] = 1
    for state in (VmState.READY, VmState.ACTIVE):
        assert (await site.balancer.wait(vm.id, state, 5)).state in REACHED[state]
    await site.balancer.delete(vm.id)
    with pytest.raises(VmLeaving):
        await site.balancer.wait(vm.id, VmState.READY, 5)


async def test_without_a_relay_nothing_is_waited_for_to_be_ready(world: World) -> None:
    balancer = await world.balancer(TWO)
    vm = (await balancer.create(CreateRequest(type="worker"))).placed[0].vm
    with pytest.raises(BadRequest, match="mme has no relay"):
        await balancer.wait(vm.id, VmState.READY, 5)


async def test_a_listing_is_the_same_until_something_changes(site: RelayedSite) -> None:
    vm = await site.create()
    first, _ = await site.balancer.list()
    assert (await site.balancer.list())[0] is first
    site.relay.sessions[vm.id] = 1
    await site.rounds(1)
    assert (await site.balancer.list())[0] is not first


HOSTED = replace(RELAY, driver="hosted")


async def test_a_relay_without_a_process_runs_where_the_engine_leads(site: RelayedSite) -> None:
    await site.start(HOSTED)
    vm = await site.create()
    relay: Any = site.balancer.relayed and site.balancer.relayed.way
    assert (relay.relay.running, list(relay.relay.backends)) == (True, [vm.id])
    relay.relay.sessions[vm.id] = 2
    assert (await site.balancer.delete(vm.id)).draining
    relay.relay.sessions.clear()
    await site.rounds(1)
    assert site.ids() == []
    await site.carrier.retire()
    assert not relay.relay.running


async def test_where_a_drain_would_be_forgotten_it_is_refused(site: RelayedSite) -> None:
    await site.start(HOSTED)
    vm = await site.create()
    await site.start(HOSTED)
    with pytest.raises(RelayUnreachable, match="runs in the engine of a service"):
        await site.balancer.delete(vm.id)
    assert site.ids() == [vm.id]
    assert not (await site.balancer.delete(vm.id, drain=False)).draining


async def test_other_replicas_hear_of_the_relay_and_drain_through_the_leader(
    site: RelayedSite,
) -> None:
    site.share_a_store()
    other = await site.start()
    await site.start()
    vm = await site.create()
    site.relay.sessions[vm.id] = 4
    await site.rounds(1)
    assert other.relayed is not None
    assert not other.relayed.talks
    found = await other.get(vm.id)
    assert found.relay is not None
    assert (found.state, found.relay.sessions, found.relay.stale) == (VmState.SERVING, 4, False)
    assert (await other.delete(vm.id)).draining
    assert not site.relay.backends[vm.id].draining
    await site.rounds(1)
    assert site.relay.backends[vm.id].draining
    site.relay.sessions.clear()
    await site.rounds(1)
    assert site.ids() == []
    site.world.clock.advance(60)
    await other.list()
    assert other.relayed.error is not None


async def test_a_reload_keeps_the_way_to_the_relay_unless_its_settings_change(
    site: RelayedSite,
) -> None:
    settings = site.world.settings(TWO, relay=HOSTED)
    deployment = await site.world.start(settings)
    lease = Lease(MemoryStore({}, make_environment()), site.world.clock, "lock/engine", "x", 60)
    engine = Engine(
        lambda: [each.balancer for each in deployment.applications.values()],
        lease,
        site.world.clock,
        NullMetrics(),
        1.0,
    )
    await asyncio.gather(*await engine.carry())

    def way() -> Any:
        return deployment.applications["mme"].way

    first = way()
    assert first.relay.running
    await deployment.reload(site.world.settings(TWO, relay=HOSTED, freshness=1.0))
    await asyncio.gather(*await engine.carry())
    assert way() is first
    assert first.relay.running
    await deployment.reload(site.world.settings(TWO, relay=replace(HOSTED, drain=5.0)))
    await asyncio.gather(*await engine.carry())
    second = way()
    assert (second is first, second.relay.running) == (False, True)
    assert not first.relay.running
    await deployment.reload(site.world.settings(TWO))
    await asyncio.gather(*await engine.carry())
    assert not second.relay.running
