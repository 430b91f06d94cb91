"""Deletes last: they reach every copy of a VM, and nothing brings back what was deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from unittest.mock import AsyncMock

import pytest

from isoneph.core.balancer import Balancer
from isoneph.core.engine import Healer
from isoneph.core.errors import CloudError, IsonephError, PlacementFailed
from isoneph.core.model import Vm, VmState
from isoneph.core.testing import NullMetrics
from shared_store import sharing
from two_clouds import TWO, Held, create, create_failing, live
from world import World, settle


async def fail_on_its_way_out(world: World, balancer: Balancer, vm: Vm) -> None:
    """A VM on uniform that is being deleted ends in ERROR, and the engine sees to it."""
    world.cloud("uniform").set_vm_state(vm.cloud_id, VmState.ERROR, "broken")
    world.clock.advance(5)
    await settle(balancer, world.clock, rounds=6)


async def test_a_failed_copy_whose_delete_was_ignored_goes_when_its_vm_is_deleted(
    world: World,
) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").inject("ignored", call="delete", count=1)
    vm = await create_failing(world, balancer)
    world.clock.advance(5)
    await Healer(balancer, world.clock, NullMetrics()).heal(1000)
    assert len(live(world)) == 2
    assert (await balancer.delete(vm.id)).vm is not None
    await settle(balancer, world.clock, rounds=6)
    assert live(world) == []


async def test_a_replica_with_an_old_listing_does_not_place_a_deleted_vm_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = sharing(world, patience=3.0)
    one, other = [(await world.start(settings)).applications["mme"].balancer for _ in range(2)]
    vm = await create_failing(world, one)
    world.clock.advance(1)
    await one.list()
    await other.fleet.ensure(0.0)
    answer = asyncio.Event()

    async def list_late(application: str) -> Sequence[Vm]:
        await answer.wait()
        return []

    monkeypatch.setattr(other.gateways["uniform"], "list_vms", list_late)
    world.clock.advance(3)
    listing = asyncio.create_task(other.fleet.ensure(0.0))
    await asyncio.sleep(0.01)
    await one.delete(vm.id)
    world.clock.advance(31)  # less than a listing may take
    await Healer(one, world.clock, NullMetrics()).heal(3)
    with suppress(IsonephError, TimeoutError):
        await asyncio.wait_for(other.wait(vm.id, VmState.ACTIVE, 1), 1)
    answer.set()
    await listing
    assert live(world) == []


async def test_a_delete_after_a_reload_removes_a_vm_that_is_being_placed_again_since_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = world.settings(TWO)
    deployment = await world.start(settings)
    before = deployment.applications["mme"].balancer
    vm = await create_failing(world, before)
    world.clock.advance(5)
    await before.list()
    creates = Held(monkeypatch, before.gateways["quebec"], "create_vm")
    replacing = asyncio.create_task(before.replace(vm.id))
    await creates.asked.wait()
    await deployment.reload(settings)
    after = deployment.applications["mme"].balancer
    deleting = asyncio.create_task(after.delete(vm.id))
    await asyncio.wait([deleting], timeout=0.1)
    creates.go.set()
    await asyncio.gather(replacing, return_exceptions=True)
    assert (await deleting).vm is not None
    await settle(after, world.clock, rounds=6)
    assert live(world) == []


async def test_a_deleted_vm_is_not_handed_out_when_all_refuse_its_keys_next_one(
    world: World,
) -> None:
    balancer = await world.balancer({"uniform": {}})
    vm = await create(balancer, key="k")
    world.cloud("uniform").inject("ignored", call="delete", count=1)
    await balancer.delete(vm.id)
    world.cloud("uniform").inject("quota", call="create", count=1)
    world.clock.advance(5)
    with pytest.raises(PlacementFailed):
        await create(balancer, key="k")


async def test_a_deleted_vm_that_fails_on_its_way_out_goes_though_its_key_was_refused_since(
    world: World,
) -> None:
    balancer = await world.balancer(TWO)
    uniform = world.cloud("uniform")
    uniform.inject("ignored", call="delete", count=1)
    vm = await create(balancer, key="k")
    await balancer.delete(vm.id)
    uniform.set_vm_state(vm.cloud_id, VmState.DELETING)
    world.clock.advance(5)
    for cloud in TWO:
        world.cloud(cloud).inject("quota", call="create", count=1)
    with pytest.raises(PlacementFailed):
        await create(balancer, key="k")
    uniform.set_vm_state(vm.cloud_id, VmState.ERROR, "broken")
    world.clock.advance(60)
    await settle(balancer, world.clock, rounds=6)
    assert live(world) == []


async def test_a_second_delete_that_fails_does_not_undo_the_first(world: World) -> None:
    balancer = await world.balancer(TWO)
    uniform = world.cloud("uniform")
    uniform.inject("ignored", call="delete", count=1)
    vm = await create(balancer)
    assert (await balancer.delete(vm.id)).vm is not None
    uniform.set_vm_state(vm.cloud_id, VmState.DELETING)
    world.clock.advance(3)
    await balancer.list()
    uniform.inject("throttle", call="delete", count=1)
    with pytest.raises(CloudError):
        await balancer.delete(vm.id)
    await fail_on_its_way_out(world, balancer, vm)
    assert live(world) == []


async def test_a_delete_whose_answer_is_lost_lasts(world: World) -> None:
    balancer = await world.balancer(TWO)
    uniform = world.cloud("uniform")
    vm = await create(balancer)
    # The cloud took the delete, and shows so to whoever asks after its lost answer.
    uniform.inject("timeout_before", call="delete", count=1)
    uniform.set_vm_state(vm.cloud_id, VmState.DELETING)
    await balancer.delete(vm.id)
    await fail_on_its_way_out(world, balancer, vm)
    assert live(world) == []


async def test_a_delete_that_takes_longer_than_a_day_lasts(world: World) -> None:
    balancer = await world.balancer(TWO)
    uniform = world.cloud("uniform")
    uniform.inject("ignored", call="delete")
    vm = await create(balancer)
    await balancer.delete(vm.id)
    uniform.set_vm_state(vm.cloud_id, VmState.DELETING)
    for _ in range(26):
        world.clock.advance(3600)
        await Healer(balancer, world.clock, NullMetrics()).heal(1000)
    uniform.clear_faults()
    await fail_on_its_way_out(world, balancer, vm)
    assert live(world) == []


async def test_a_delete_before_a_listing_shows_the_vm_lasts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer = await world.balancer(TWO)
    vm = await create(balancer)
    with monkeypatch.context() as not_yet:
        gateway = balancer.gateways["uniform"]
        not_yet.setattr(gateway, "list_vms", AsyncMock(return_value=[]))
        not_yet.setattr(gateway, "get_vm", AsyncMock(return_value=None))
        world.clock.advance(3)
        await balancer.list()
        await balancer.delete(vm.id)
    world.clock.advance(10)
    await settle(balancer, world.clock, rounds=6)
    assert live(world) == []


async def test_the_ledger_forgets_deletes_though_no_engine_runs(world: World) -> None:
    balancer = await world.balancer(TWO)
    for _ in range(50):
        vm = await create(balancer)
        await balancer.delete(vm.id)
        world.clock.advance(60)
        await balancer.list()
    assert len(balancer.ledger.book.entries) < 10
