"""What the engine removes, and what it must leave alone."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock

import pytest

from isoneph.core import identity
from isoneph.core.balancer import Balancer
from isoneph.core.engine import Healer
from isoneph.core.errors import PlacementFailed, VmLeaving
from isoneph.core.gateway import CloudGateway
from isoneph.core.ledger import Phase
from isoneph.core.model import CreateRequest, Leftover, Vm, VmState
from isoneph.core.sightings import Sightings
from isoneph.core.testing import FakeClock, NullMetrics
from two_clouds import TWO, create, live
from world import GRACE, World, settle


async def test_a_double_goes_after_two_sightings_and_the_last_placed_stays(world: World) -> None:
    balancer = await world.balancer(TWO)
    vm = await create(balancer, cloud="quebec")
    older = {**world.cloud("quebec").vms()[0].tags, identity.TAG_PLACED_AT: "0000000001.000000"}
    world.cloud("uniform").add_vm("late", type="worker", tags=older)
    healer = Healer(balancer, world.clock, NullMetrics())
    await healer.heal(5)
    world.clock.advance(GRACE / 2)
    await healer.heal(5)
    assert len(live(world)) == 2
    world.clock.advance(GRACE)
    await healer.heal(5)
    assert live(world) == [("quebec", vm.id)]


async def test_a_double_stays_while_the_winners_cloud_cannot_be_asked(world: World) -> None:
    balancer = await world.balancer(TWO)
    vm = await create(balancer, cloud="quebec")
    older = {**world.cloud("quebec").vms()[0].tags, identity.TAG_PLACED_AT: "0000000001.000000"}
    world.cloud("uniform").add_vm("late", type="worker", tags=older)
    await balancer.list()
    world.cloud("quebec").begin_outage()
    await settle(balancer, world.clock)
    assert ("uniform", vm.id) in live(world)


async def test_a_create_given_up_that_appears_late_is_removed(world: World) -> None:
    balancer = await world.balancer({"uniform": {}})
    world.cloud("uniform").inject("timeout_after", call="create", visible_after=30)
    with pytest.raises(PlacementFailed):
        await create(balancer)
    world.cloud("uniform").clear_faults()
    world.clock.advance(40)
    assert len((await balancer.list())[0]) == 1
    await settle(balancer, world.clock)
    assert world.cloud("uniform").vms() == []


async def test_a_create_given_up_is_taken_back_when_its_key_comes_again(world: World) -> None:
    balancer = await world.balancer({"uniform": {}})
    world.cloud("uniform").inject("timeout_after", call="create", visible_after=30)
    with pytest.raises(PlacementFailed):
        await create(balancer, key="k")
    world.cloud("uniform").clear_faults()
    world.clock.advance(40)
    vm = await create(balancer, key="k")
    await settle(balancer, world.clock)
    assert [record.tags[identity.TAG_ID] for record in world.cloud("uniform").vms()] == [vm.id]


async def test_a_late_answer_of_a_deleted_vm_is_removed_too(world: World) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").inject("timeout_after", call="create", visible_after=30, count=1)
    vm = await create(balancer)
    assert vm.cloud == "quebec"
    await balancer.delete(vm.id)
    world.clock.advance(40)
    assert [cloud for cloud, _id in live(world)] == ["uniform"]
    await settle(balancer, world.clock)
    assert live(world) == []


async def ends_in_error(world: World, balancer: Balancer, vm: Vm) -> None:
    record = world.cloud("uniform").vms()[0]
    world.cloud("uniform").set_vm_state(record.cloud_id, VmState.ERROR, "Build aborted")
    world.clock.advance(1)
    await balancer.list()


@pytest.mark.parametrize("seconds", [1, 3600])
async def test_a_deleted_vm_that_ends_in_error_is_deleted_again_and_never_placed_again(
    seconds: float, world: World
) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").inject("ignored", call="delete", count=1)
    vm = await create(balancer)
    await balancer.delete(vm.id)
    world.clock.advance(seconds)
    await settle(balancer, world.clock, rounds=1)
    await ends_in_error(world, balancer, vm)
    with pytest.raises(VmLeaving):
        await balancer.wait(vm.id, VmState.ACTIVE, 10)
    await settle(balancer, world.clock)
    assert live(world) == []
    assert balancer.placer.story(vm.id).refusals == []
    assert list(balancer.ledger.book) == []


async def test_a_create_given_up_that_appears_in_error_is_not_placed_again(world: World) -> None:
    balancer = await world.balancer({"uniform": {}})
    world.cloud("uniform").inject("timeout_after", call="create", visible_after=30)
    with pytest.raises(PlacementFailed):
        await create(balancer)
    world.cloud("uniform").clear_faults()
    world.clock.advance(40)
    ((vm,), _errors) = await balancer.list()
    await ends_in_error(world, balancer, vm)
    await settle(balancer, world.clock)
    assert live(world) == []
    assert [refusal.code for refusal in balancer.placer.story(vm.id).refusals] == [
        "outcome_unknown"
    ]


async def test_what_is_not_tagged_as_ours_is_never_touched(world: World) -> None:
    balancer = await world.balancer(TWO)
    strangers = world.cloud("uniform")
    strangers.add_vm("no tags at all")
    strangers.add_vm("tags of others", tags={"owner": "somebody"})
    other = {identity.TAG_APPLICATION: "other", identity.TAG_ID: identity.new_id()}
    strangers.add_vm("another application's", tags=other)
    mangled = {identity.TAG_APPLICATION: "mme", identity.TAG_ID: "not-an-id"}
    strangers.add_vm("mangled", tags=mangled)
    for record in strangers.vms():
        strangers.set_vm_state(record.cloud_id, VmState.ERROR, "broken")
    vm = await create(balancer, cloud="uniform")
    await settle(balancer, world.clock)
    await balancer.delete(vm.id)
    await settle(balancer, world.clock)
    assert len(strangers.vms()) == 4
    assert strangers.calls()["delete"] == 1


async def test_leftovers_go_after_two_sightings_once_their_vm_is_gone(world: World) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").inject("leave_port", call="delete")
    vm = await create(balancer)
    await balancer.delete(vm.id)
    assert len(world.cloud("uniform").ports()) == 1
    await settle(balancer, world.clock, rounds=1)
    assert len(world.cloud("uniform").ports()) == 1
    world.clock.advance(GRACE)
    await settle(balancer, world.clock)
    assert world.cloud("uniform").ports() == []


async def test_many_leftovers_go_side_by_side_not_one_slow_removal_after_the_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").inject("leave_port", call="delete")
    for vm in [await create(balancer, "uniform") for _ in range(5)]:
        await balancer.delete(vm.id)
    gateway = balancer.gateways["uniform"]
    all_asked = asyncio.Barrier(5)

    async def slow_removal(leftover: Leftover) -> None:
        await asyncio.wait_for(all_asked.wait(), timeout=5)
        await CloudGateway.delete_leftover(gateway, leftover)

    monkeypatch.setattr(gateway, "delete_leftover", slow_removal)
    await settle(balancer, world.clock)
    assert world.cloud("uniform").ports() == []


async def test_what_vms_share_stays_while_one_is_being_made_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer = await world.balancer(TWO)
    group = Leftover(cloud="uniform", kind="server group", cloud_id="g-1", vm_id="")
    gateway, removal = balancer.gateways["uniform"], AsyncMock()
    monkeypatch.setattr(gateway, "list_leftovers", AsyncMock(return_value=[group]))
    monkeypatch.setattr(gateway, "delete_leftover", removal)
    vm_id = identity.new_id()
    being_made = balancer.ledger.entry(vm_id, "uniform", "worker", Phase.CREATING, 1e6)
    await balancer.ledger.update(lambda book: book.set(being_made))
    await settle(balancer, world.clock)
    removal.assert_not_awaited()
    await balancer.ledger.update(lambda book: book.drop(vm_id, "uniform"))
    await settle(balancer, world.clock)
    removal.assert_awaited_with(group)


async def test_leftovers_are_looked_for_twice_in_a_grace_not_in_every_round(world: World) -> None:
    balancer = await world.balancer(TWO)
    healer = Healer(balancer, world.clock, NullMetrics())
    for _ in range(20):
        await healer.heal(1)
        world.clock.advance(GRACE / 10)
    assert world.cloud("uniform").calls()["list_leftovers"] == 4


def test_a_thing_must_be_seen_twice_with_the_grace_between() -> None:
    clock = FakeClock()
    sightings: Sightings[str] = Sightings(clock)
    assert sightings.ripe(["a"], 0) == set()
    clock.advance(5)
    assert sightings.ripe(["a", "b"], 5) == {"a"}
    clock.advance(5)
    assert sightings.ripe(["b"], 5) == {"b"}
    assert sightings.ripe(["a"], 5) == set()


async def test_a_vm_taken_back_outlives_an_abandoned_copy_placed_later(world: World) -> None:
    balancer = await world.balancer(TWO)
    for cloud in TWO:
        world.cloud(cloud).inject("timeout_after", call="create", visible_after=30, count=1)
    with pytest.raises(PlacementFailed):
        await create(balancer, key="k")
    world.clock.advance(20)
    world.cloud("uniform").inject("outage", call="list", lasts=60)
    world.clock.advance(40)
    vm = await create(balancer, key="k")
    await settle(balancer, world.clock, rounds=8)
    assert [vm_id for _cloud, vm_id in live(world)] == [vm.id]


async def test_what_shows_up_between_two_tries_is_taken_back_for_good(world: World) -> None:
    balancer = await world.balancer(TWO)
    uniform, quebec = world.cloud("uniform"), world.cloud("quebec")
    uniform.inject("timeout_after", call="create", visible_after=30, count=1)
    quebec.inject("quota", call="create", count=1)
    with pytest.raises(PlacementFailed):
        await create(balancer, key="k")
    quebec.begin_outage(seconds=65)
    world.clock.advance(31)
    uniform.inject("outage", call="list", count=1)  # the first look misses it, the next does not
    creation = await balancer.create(CreateRequest(type="worker", key="k"))
    assert creation.placed[0].existed
    await settle(balancer, world.clock, rounds=8)
    assert live(world) == [("uniform", creation.placed[0].vm.id)]


async def test_a_leftover_goes_though_its_vm_lives_again_on_the_same_cloud(world: World) -> None:
    balancer = await world.balancer({"uniform": {}})
    world.cloud("uniform").inject("leave_port", call="delete")
    vm = await create(balancer)
    record = world.cloud("uniform").vms()[0]
    world.cloud("uniform").set_vm_state(record.cloud_id, VmState.ERROR, "died")
    world.clock.advance(40)
    await settle(balancer, world.clock, rounds=5)
    assert [r.tags[identity.TAG_ID] for r in world.cloud("uniform").vms()] == [vm.id]
    assert world.cloud("uniform").ports() == []
