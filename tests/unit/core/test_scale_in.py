"""Scale-in takes one VM each time: the one that is chosen, with all its copies, and no other."""

from __future__ import annotations

import asyncio

import pytest

from isoneph.core.engine import Healer
from isoneph.core.errors import StoreUnavailable
from isoneph.core.model import CreateRequest, Vm, VmState
from isoneph.core.testing import NullMetrics
from shared_store import before_puts, sharing
from two_clouds import TWO, Held, create, create_failing, live
from world import World, settle


async def test_scale_in_removes_the_failed_copy_of_its_victim_too(world: World) -> None:
    balancer = await world.balancer(TWO)
    vm = await create_failing(world, balancer)
    world.clock.advance(5)
    world.cloud("uniform").inject("throttle", call="delete", count=1)
    await Healer(balancer, world.clock, NullMetrics()).heal(1000)
    assert len(live(world)) == 2
    world.clock.advance(5)
    await balancer.list()
    deletion = await balancer.delete_any()
    assert deletion.vm is not None
    assert deletion.vm.id == vm.id
    await settle(balancer, world.clock, rounds=6)
    assert live(world) == []


async def test_scale_in_removes_a_victim_that_is_being_placed_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer = await world.balancer(TWO)
    vm = await create_failing(world, balancer)
    world.clock.advance(5)
    await balancer.list()
    creates = Held(monkeypatch, balancer.gateways["quebec"], "create_vm")
    replacing = asyncio.create_task(balancer.replace(vm.id))
    await creates.asked.wait()
    deleting = asyncio.create_task(balancer.delete_any())
    await asyncio.wait([deleting], timeout=0.1)
    creates.go.set()
    await asyncio.gather(replacing, return_exceptions=True)
    victim = (await deleting).vm
    assert victim is not None
    assert victim.id == vm.id
    await settle(balancer, world.clock, rounds=6)
    assert live(world) == []


async def test_scale_in_three_times_at_once_under_one_key_takes_one_vm(world: World) -> None:
    balancer = await world.balancer(TWO)
    await balancer.create(CreateRequest(type="worker", count=6))
    world.clock.advance(30)  # listings are due: the calls wait for them
    await asyncio.gather(*(balancer.delete_any(key="in") for _ in range(3)))
    await settle(balancer, world.clock)
    assert len(live(world)) == 5


async def test_scale_in_whose_deletes_answer_is_lost_takes_one_vm(world: World) -> None:
    balancer = await world.balancer(TWO)
    await balancer.create(CreateRequest(type="worker", count=6))
    world.cloud("uniform").inject("timeout_after", call="delete", count=1)
    await balancer.delete_any(key="in")
    await settle(balancer, world.clock)
    assert len(live(world)) == 5


async def test_scale_in_that_the_store_failed_takes_one_vm_when_it_is_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer = (await world.start(sharing(world))).applications["mme"].balancer
    await balancer.create(CreateRequest(type="worker", count=6))
    down = False

    async def fail_from_the_choice_on(key: str) -> None:
        nonlocal down
        down = down or key.startswith("choice/")
        if down:
            raise StoreUnavailable("the store is gone")

    with monkeypatch.context() as outage:
        before_puts(outage, fail_from_the_choice_on)
        with pytest.raises(StoreUnavailable):
            await balancer.delete_any(key="in")
    world.clock.advance(35)
    await balancer.list()
    await balancer.delete_any(key="in")
    await settle(balancer, world.clock, rounds=6)
    assert len(live(world)) == 5


async def test_scale_in_lasts_though_the_store_fails_after_its_delete(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer = (await world.start(sharing(world))).applications["mme"].balancer
    vm = await create(balancer)
    uniform, gateway = world.cloud("uniform"), balancer.gateways["uniform"]
    uniform.inject("ignored", call="delete", count=1)
    delete_vm = gateway.delete_vm
    fails = False

    async def delete_then_fail(vm: Vm, *, makes_room: bool = True) -> None:
        nonlocal fails
        await delete_vm(vm, makes_room=makes_room)
        fails = True

    async def fail_once(key: str) -> None:
        nonlocal fails
        if fails and key.startswith("ledger"):
            fails = False
            raise StoreUnavailable("the store is gone")

    with monkeypatch.context() as outage:
        outage.setattr(gateway, "delete_vm", delete_then_fail)
        before_puts(outage, fail_once)
        with pytest.raises(StoreUnavailable):
            await balancer.delete_any(key="in")
    uniform.set_vm_state(vm.cloud_id, VmState.DELETING)
    world.clock.advance(5)
    await balancer.list()
    uniform.set_vm_state(vm.cloud_id, VmState.ERROR, "broken")
    await settle(balancer, world.clock, rounds=6)
    assert live(world) == []


async def test_scale_in_takes_one_other_vm_when_its_victims_new_place_refuses_the_delete(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer = await world.balancer(TWO)
    uniform = world.cloud("uniform")
    victim = await create(balancer, cloud="uniform")
    world.clock.advance(3600)
    await balancer.list()
    uniform.set_vm_state(victim.cloud_id, VmState.ERROR, "power cut")
    other = await create(balancer, cloud="quebec")
    world.clock.advance(61)
    await balancer.list()
    creates = Held(monkeypatch, balancer.gateways["uniform"], "create_vm")
    replacing = asyncio.create_task(balancer.replace(victim.id))
    await creates.asked.wait()
    deleting = asyncio.create_task(balancer.delete_any(drain=False))
    await asyncio.wait([deleting], timeout=0.1)
    uniform.inject("throttle", call="delete", count=2)
    creates.go.set()
    await asyncio.gather(replacing, return_exceptions=True)
    taken = (await deleting).vm
    assert taken is not None
    assert taken.id == other.id
    await settle(balancer, world.clock, rounds=6)
    assert live(world) == [("uniform", victim.id)]


async def test_scale_in_by_a_process_that_dies_before_its_choice_is_written_takes_one_vm(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = sharing(world)
    dying, balancer = [(await world.start(settings)).applications["mme"].balancer for _ in range(2)]
    await balancer.create(CreateRequest(type="worker", count=6))
    reached = asyncio.Event()

    async def hang_at_the_choice(key: str) -> None:
        if key.startswith("choice/"):
            reached.set()
            await asyncio.Event().wait()

    with monkeypatch.context() as last_moment:
        before_puts(last_moment, hang_at_the_choice)
        # A cancelled call of the balancer would be finished all the same.
        killed = asyncio.create_task(dying.remover.delete_any(None, None, "in"))
        await reached.wait()
        killed.cancel()
        await asyncio.gather(killed, return_exceptions=True)
    world.clock.advance(20)
    await balancer.list()
    await balancer.delete_any(key="in")
    await settle(balancer, world.clock, rounds=6)
    assert len(live(world)) == 5
