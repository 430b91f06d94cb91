"""Deletes of VMs that a relay brings traffic to: at once, or when they have drained."""

from __future__ import annotations

import pytest

from isoneph.core.engine import Healer
from isoneph.core.errors import PlacementFailed, UnknownVm, VmLeaving
from isoneph.core.model import CreateRequest, VmState
from isoneph.core.testing import NullMetrics
from relayed_site import RelayedSite
from scripted_relay import RELAY
from two_clouds import live
from world import GRACE


async def test_a_vm_without_sessions_is_removed_at_once(site: RelayedSite) -> None:
    vm = await site.create()
    deletion = await site.balancer.delete(vm.id)
    assert not deletion.draining
    assert site.ids() == []
    await site.rounds(1)
    assert site.relay.backends == {}


async def test_a_vm_that_is_not_up_is_removed_at_once(site: RelayedSite) -> None:
    await site.start()
    settings = site.world.settings({"uniform": {"boot_seconds": 1e6}}, relay=RELAY)
    balancer = (await site.world.start(settings)).applications["mme"].balancer
    vm = (await balancer.create(CreateRequest(type="worker"))).placed[0].vm
    assert not (await balancer.delete(vm.id)).draining
    assert site.ids() == []


async def test_a_delete_that_does_not_drain_is_carried_out_at_once(site: RelayedSite) -> None:
    vm = await site.create()
    site.relay.sessions[vm.id] = 3
    assert not (await site.balancer.delete(vm.id, drain=False)).draining
    assert site.ids() == []


async def test_one_that_drains_can_still_be_removed_at_once(site: RelayedSite) -> None:
    vm = await site.create()
    site.relay.sessions[vm.id] = 3
    assert (await site.balancer.delete(vm.id)).draining
    assert not (await site.balancer.delete(vm.id, drain=False)).draining
    assert site.ids() == []


async def test_a_drain_has_a_deadline_that_a_second_delete_does_not_move(site: RelayedSite) -> None:
    vm = await site.create()
    site.relay.sessions[vm.id] = 3
    began = site.world.clock.time()
    await site.balancer.delete(vm.id)
    await site.rounds(1, 60)
    again = await site.balancer.delete(vm.id)
    assert again.draining
    assert again.vm is not None
    assert again.vm.relay is not None
    assert again.vm.relay.draining_since == began
    await site.rounds(1, 30)
    assert site.ids() == [vm.id]
    await site.rounds(1, 15)
    assert site.ids() == []


async def test_a_drain_outlives_isoneph_which_learns_of_it_from_the_relay(
    site: RelayedSite,
) -> None:
    vm = await site.create()
    site.relay.sessions[vm.id] = 3
    began = site.world.clock.time()
    await site.balancer.delete(vm.id)
    await site.start()
    found = await site.shown(vm)
    assert found.relay is not None
    assert (found.state, found.relay.draining_since) == (VmState.DRAINING, began)
    await site.rounds(2)
    assert site.relay.backends[vm.id].draining
    site.relay.sessions.clear()
    await site.rounds(1)
    assert site.ids() == []


async def test_the_deadline_outlives_isoneph_too(site: RelayedSite) -> None:
    vm = await site.create()
    site.relay.sessions[vm.id] = 3
    await site.balancer.delete(vm.id)
    site.world.clock.advance(90)
    await site.start()
    await site.rounds(1)
    assert site.ids() == [vm.id]
    await site.rounds(1, 10)
    assert site.ids() == []


async def test_what_breaks_down_while_it_drains_is_removed_and_not_placed_again(
    site: RelayedSite,
) -> None:
    vm = await site.create("uniform")
    site.relay.sessions[vm.id] = 3
    await site.balancer.delete(vm.id)
    (record,) = site.world.cloud("uniform").vms()
    site.world.cloud("uniform").set_vm_state(record.cloud_id, VmState.ERROR, "broken")
    site.world.clock.advance(3)
    await Healer(site.balancer, site.world.clock, NullMetrics()).heal(1000)
    assert site.ids() == [vm.id]
    await site.rounds(1)
    assert site.ids() == []


async def test_a_draining_vm_neither_attracts_nor_repels_new_ones(site: RelayedSite) -> None:
    first, second = await site.create("uniform"), await site.create("uniform")
    await site.create("quebec")
    site.relay.sessions = {first.id: 1, second.id: 1}
    for vm in (first, second):
        assert (await site.balancer.delete(vm.id)).draining
    assert (await site.create()).cloud == "uniform"
    assert len(site.ids()) == 4


async def test_scale_in_picks_no_vm_twice_and_prefers_those_with_fewest_sessions(
    site: RelayedSite,
) -> None:
    await site.start(victims=("fewest-sessions",))
    vms = [await site.create() for _ in range(3)]
    site.relay.sessions = {vm.id: 9 - n for n, vm in enumerate(vms)}
    site.world.clock.advance(2)
    picked = []
    for _ in vms:
        deletion = await site.balancer.delete_any()
        assert deletion.draining
        assert deletion.vm is not None
        picked.append(deletion.vm.id)
    assert picked == [vm.id for vm in reversed(vms)]
    with pytest.raises(UnknownVm):
        await site.balancer.delete_any()


async def test_scale_in_repeated_under_its_key_finds_the_same_vm_draining(
    site: RelayedSite,
) -> None:
    vms = [await site.create() for _ in range(2)]
    site.relay.sessions = {vm.id: 1 for vm in vms}
    first = await site.balancer.delete_any(key="in-1")
    again = await site.balancer.delete_any(key="in-1")
    assert first.draining
    assert again.draining
    assert first.vm is not None
    assert again.vm is not None
    assert first.vm.id == again.vm.id


async def test_a_cloud_that_does_not_answer_keeps_a_drained_vm_for_later(site: RelayedSite) -> None:
    vm = await site.create("uniform")
    site.world.cloud("uniform").inject("outage", call="delete", count=3)
    deletion = await site.balancer.delete(vm.id)
    assert deletion.draining
    await site.rounds(1)
    assert site.ids() == [vm.id]
    site.world.cloud("uniform").clear_faults()
    await site.rounds(3, 60)
    assert site.ids() == []


async def test_the_deadline_counts_while_the_relay_does_not_answer(site: RelayedSite) -> None:
    vm = await site.create()
    site.elsewhere.reachable = False
    assert (await site.balancer.delete(vm.id)).draining
    await site.rounds(1, 90)
    assert site.ids() == [vm.id]
    await site.rounds(1, 10)
    assert site.ids() == []
    site.elsewhere.reachable = True
    await site.rounds(2, GRACE)
    assert site.relay.backends == {}


async def test_a_key_whose_vm_drains_makes_no_other(site: RelayedSite) -> None:
    vm = await site.create(key="attach-7")
    site.relay.sessions[vm.id] = 1
    await site.balancer.delete(vm.id)
    with pytest.raises(VmLeaving, match="repeat the request when it is gone"):
        await site.create(key="attach-7")
    site.relay.sessions.clear()
    await site.rounds(2)
    again = await site.create(key="attach-7")
    assert again.id == vm.id
    assert not site.relay.backends[vm.id].draining


async def test_a_drain_that_only_the_ledger_knows_is_told_to_the_relay(site: RelayedSite) -> None:
    vm = await site.create()
    site.relay.sessions[vm.id] = 1
    site.elsewhere.reachable = False
    await site.balancer.delete(vm.id)
    site.elsewhere.reachable = True
    assert not site.relay.backends[vm.id].draining
    await site.rounds(1)
    assert site.relay.backends[vm.id].draining


async def test_a_drain_that_is_finished_leaves_the_next_vm_of_its_key(site: RelayedSite) -> None:
    site.share_a_store()
    await site.start()
    vm = await site.create(key="attach-7")
    await site.rounds(1)
    site.relay.sessions[vm.id] = 3
    assert (await site.balancer.delete(vm.id)).draining
    await site.rounds(1)
    uniform = site.world.cloud("uniform")
    uniform.begin_outage()
    await site.start()
    request = CreateRequest(type="worker", key="attach-7")
    (next_one,) = (await site.balancer.create(request)).placed
    assert next_one.vm.cloud == "quebec"
    uniform.end_outage()
    await site.rounds(8, GRACE + 1)
    assert [cloud for cloud, _id in live(site.world)] == ["quebec"]


async def test_what_was_given_up_has_no_sessions_or_drains_before_it_is_removed(
    site: RelayedSite,
) -> None:
    site.world.cloud("quebec").inject("quota", call="create", count=1)
    site.world.cloud("uniform").inject("timeout_after", call="create", count=1, visible_after=5)
    with pytest.raises(PlacementFailed):
        await site.balancer.create(CreateRequest(type="worker"))
    site.world.clock.advance(6)
    healer, drained = Healer(site.balancer, site.world.clock, NullMetrics()), False
    for _ in range(40):
        await site.rounds(1)
        site.relay.sessions |= dict.fromkeys(site.relay.backends, 9)
        drained = drained or any(backend.draining for backend in site.relay.backends.values())
        await healer.heal(1000)
    assert site.ids() == []
    assert drained or not site.relay.sessions
