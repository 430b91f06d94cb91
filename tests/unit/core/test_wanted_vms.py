"""What is wanted stays, once, and what is not wanted leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from isoneph.core.engine import Healer
from isoneph.core.errors import IsonephError, NoCapacity, PlacementFailed, StoreUnavailable
from isoneph.core.model import CreateRequest, Deletion, Vm, VmRequest, VmState
from isoneph.core.settings import HealingSettings
from isoneph.core.testing import NullMetrics
from shared_store import before_puts, sharing
from two_clouds import TWO, Held, create, create_failing, live
from world import World, settle


async def test_one_key_before_and_after_a_reload_gives_one_vm(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = world.settings(TWO)
    deployment = await world.start(settings)
    before = deployment.applications["mme"].balancer
    creates = Held(monkeypatch, before.gateways["uniform"], "create_vm")
    first = asyncio.create_task(create(before, key="k"))
    await creates.asked.wait()
    await deployment.reload(settings)
    second = asyncio.create_task(create(deployment.applications["mme"].balancer, key="k"))
    await asyncio.wait([second], timeout=0.1)
    creates.go.set()
    assert (await first).cloud_id == (await second).cloud_id


async def test_a_vm_that_recovers_while_another_place_is_sought_for_it_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer = await world.balancer(TWO)
    uniform, quebec = balancer.gateways["uniform"], balancer.gateways["quebec"]
    vm = await create(balancer)
    world.clock.advance(3600)
    await balancer.list()
    world.cloud("uniform").set_vm_state(vm.cloud_id, VmState.ERROR, "host down")
    world.clock.advance(5)
    await balancer.list()
    uniform.avoidance.note(NoCapacity("full"), "worker")
    world.cloud("quebec").inject("no_capacity", call="create")
    create_vm = quebec.create_vm

    async def refuse_when_the_host_is_back(request: VmRequest) -> Vm:
        world.clock.advance(30)
        world.cloud("uniform").set_vm_state(vm.cloud_id, VmState.ACTIVE)
        return await create_vm(request)

    monkeypatch.setattr(quebec, "create_vm", refuse_when_the_host_is_back)
    await balancer.replace(vm.id)
    assert live(world) == [("uniform", vm.id)]


async def test_a_create_that_fails_when_it_is_repeated_leaves_what_it_made_before(
    world: World,
) -> None:
    request = CreateRequest(type="worker", count=2, key="k")
    made = await (await world.balancer(TWO)).create(request)
    (here,) = (one.vm for one in made.placed if one.vm.cloud == "uniform")
    world.cloud("quebec").begin_outage()
    world.cloud("uniform").inject("outage", call="list", count=2)
    world.cloud("uniform").inject("quota", call="create")
    balancer = await world.balancer(TWO)
    with pytest.raises(IsonephError):
        await balancer.create(request)
    assert ("uniform", here.id) in live(world)


async def test_a_replacement_that_appears_late_stays_when_it_is_in_use(world: World) -> None:
    balancer = await world.balancer(TWO)
    vm = await create_failing(world, balancer)
    world.cloud("uniform").inject("quota", call="create", lasts=600)
    world.cloud("quebec").inject("timeout_after", call="create", visible_after=3, count=1)
    healer = Healer(balancer, world.clock, NullMetrics())
    world.clock.advance(1)
    await healer.heal(1000)
    world.clock.advance(5)
    await healer.heal(1000)
    up = await balancer.wait(vm.id, VmState.ACTIVE, 10)
    for _ in range(12):
        await healer.heal(1000)
        world.clock.advance(10)
    assert [record.cloud_id for record in world.cloud("quebec").vms()] == [up.cloud_id]


async def test_waiting_outlasts_a_look_that_the_cloud_throttles(world: World) -> None:
    balancer = await world.balancer(TWO)
    vm = await create_failing(world, balancer)
    world.clock.advance(5)
    await balancer.list()
    world.cloud("uniform").inject("throttle", call="get", count=1)
    up = await balancer.wait(vm.id, VmState.ACTIVE, 30)
    assert up.state is VmState.ACTIVE


async def test_what_is_made_again_while_the_engine_removes_an_old_copy_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = sharing(world, {"uniform": {}})
    leader, other = [(await world.start(settings)).applications["mme"].balancer for _ in range(2)]
    uniform = world.cloud("uniform")
    # A create that is given up; its VM appears later, and the engine removes it.
    uniform.inject("timeout_after", call="create", visible_after=20, count=1)
    with pytest.raises(PlacementFailed):
        await create(other, key="k")
    world.clock.advance(31)
    healer = Healer(leader, world.clock, NullMetrics())
    await healer.heal(1000)
    world.clock.advance(61)
    deletes = Held(monkeypatch, leader.gateways["uniform"], "delete_vm")
    healing = asyncio.create_task(healer.heal(1000))
    await deletes.asked.wait()
    vm = await create(other, key="k")
    deletes.go.set()
    await healing
    assert [record.cloud_id for record in uniform.vms()] == [vm.cloud_id]
    await settle(leader, world.clock)
    assert [record.cloud_id for record in uniform.vms()] == [vm.cloud_id]


async def test_a_create_given_up_is_removed_though_its_key_was_refused_before_it_appeared(
    world: World,
) -> None:
    balancer = await world.balancer({"uniform": {}})
    world.cloud("uniform").inject("timeout_after", call="create", visible_after=300, count=1)
    with pytest.raises(PlacementFailed):
        await create(balancer, key="k")
    world.cloud("uniform").inject("quota", call="create", count=1)
    with pytest.raises(PlacementFailed):
        await create(balancer, key="k")
    await settle(balancer, world.clock, rounds=2)
    world.clock.advance(300)
    await settle(balancer, world.clock, rounds=6)
    assert world.cloud("uniform").vms() == []


async def test_what_could_not_be_taken_back_at_once_is_removed_later(world: World) -> None:
    balancer = await world.balancer({"uniform": {}})
    world.cloud("uniform").inject("throttle", call="delete", count=1)
    world.cloud("uniform").override(capacity={"worker": 1})
    with pytest.raises(IsonephError):
        await balancer.create(CreateRequest(type="worker", count=2))
    assert len(world.cloud("uniform").vms()) == 1
    await settle(balancer, world.clock, rounds=6)
    assert world.cloud("uniform").vms() == []


async def test_a_create_tells_why_it_failed_though_the_store_fails_as_the_rest_is_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = sharing(world, {"uniform": {}})
    balancer = (await world.start(settings)).applications["mme"].balancer
    world.cloud("uniform").override(capacity={"worker": 1})
    delete = balancer.remover.delete

    async def fail(_key: str) -> None:
        raise StoreUnavailable("the store is gone")

    async def delete_without_a_store(vm_id: str) -> Deletion:
        before_puts(monkeypatch, fail)
        return await delete(vm_id)

    monkeypatch.setattr(balancer.remover, "delete", delete_without_a_store)
    with pytest.raises(PlacementFailed):
        await balancer.create(CreateRequest(type="worker", count=2))


async def test_a_vm_placed_again_stays_though_a_listing_during_its_old_copys_delete_misses_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer = await world.balancer({"uniform": {}})
    uniform, gateway = world.cloud("uniform"), balancer.gateways["uniform"]
    vm = await create(balancer)
    world.clock.advance(3600)
    await balancer.list()
    uniform.set_vm_state(vm.cloud_id, VmState.ERROR, "power cut")
    world.clock.advance(5)
    await balancer.list()
    delete_vm, list_vms = gateway.delete_vm, gateway.list_vms

    async def list_the_old(application: str) -> Sequence[Vm]:
        return [one for one in await list_vms(application) if one.cloud_id == vm.cloud_id]

    async def list_then_delete(copy: Vm, *, makes_room: bool = True) -> None:
        world.clock.advance(2)
        with monkeypatch.context() as not_yet:
            not_yet.setattr(gateway, "list_vms", list_the_old)
            await balancer.fleet.ensure(0.0)
        await delete_vm(copy, makes_room=makes_room)

    with monkeypatch.context() as slow:
        slow.setattr(gateway, "delete_vm", list_then_delete)
        placed = await balancer.replace(vm.id)
    assert placed is not None
    world.clock.advance(5)
    await settle(balancer, world.clock, rounds=6)
    assert [record.cloud_id for record in uniform.vms()] == [placed.vm.cloud_id]


async def test_what_is_placed_again_on_its_own_cloud_counts_there_once(world: World) -> None:
    balancer = await world.balancer(TWO)
    made = (await balancer.create(CreateRequest(type="worker", count=16))).placed
    world.clock.advance(3600)
    await balancer.list()
    for one in made:
        if one.vm.cloud == "quebec":
            await balancer.delete(one.vm.id)
        else:
            world.cloud("uniform").set_vm_state(one.vm.cloud_id, VmState.ERROR, "power cut")
    world.clock.advance(61)
    await Healer(balancer, world.clock, NullMetrics()).heal(1000)
    assert Counter(cloud for cloud, _id in live(world)) == {"uniform": 4, "quebec": 4}


async def test_the_refusals_of_a_vm_that_finds_no_place_do_not_grow_for_ever(
    world: World,
) -> None:
    balancer = await world.balancer({"uniform": {}})
    vm = await create(balancer)
    world.cloud("uniform").set_vm_state(vm.cloud_id, VmState.ERROR, "broken")
    world.cloud("uniform").inject("quota", call="create")
    healer = Healer(balancer, world.clock, NullMetrics())
    for _ in range(200):
        world.clock.advance(60)
        await healer.heal(1000)
    assert len(balancer.placer.story(vm.id).refusals) < 100


async def test_hopeless_vms_that_are_gone_are_forgotten(world: World) -> None:
    balancer = await world.balancer({"uniform": {}}, healing=HealingSettings(attempts=1))
    world.cloud("uniform").inject("error_after_accept", call="create")
    healer = Healer(balancer, world.clock, NullMetrics())
    for _ in range(10):
        vm = await create(balancer)
        world.clock.advance(61)
        await healer.heal(1000)
        await balancer.delete(vm.id)
        world.clock.advance(61)
        await healer.heal(1000)
    assert world.cloud("uniform").vms() == []
    assert len(healer._hopeless) < 2
