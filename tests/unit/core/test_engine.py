"""What the engine places again, and that it goes on when something fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from unittest.mock import AsyncMock, Mock

import pytest

from isoneph.core.balancer import Balancer
from isoneph.core.clock import SystemClock
from isoneph.core.engine import Engine
from isoneph.core.lease import Lease
from isoneph.core.model import VmState
from isoneph.core.settings import HealingSettings
from isoneph.core.testing import NullMetrics, make_environment
from isoneph.plugins.stores.memory import MemoryStore
from two_clouds import TWO, create, live
from world import GRACE, World, settle


async def test_a_failed_boot_is_placed_again_under_its_id(world: World) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").inject("error_after_accept", call="create")
    vm = await create(balancer)
    await settle(balancer, world.clock)
    assert live(world) == [("quebec", vm.id)]
    again = await balancer.get(vm.id)
    assert (again.state, again.attempt) == (VmState.ACTIVE, 2)


async def test_a_boot_that_takes_too_long_counts_as_failed(world: World) -> None:
    healing = HealingSettings(boot_timeout=100, grace=GRACE)
    balancer = await world.balancer(
        {"uniform": {"boot_seconds": 1e6}, "quebec": {}}, healing=healing
    )
    vm = await create(balancer)
    world.clock.advance(90)
    await settle(balancer, world.clock, rounds=1)
    assert live(world) == [("uniform", vm.id)]
    world.clock.advance(20)
    await settle(balancer, world.clock)
    assert live(world) == [("quebec", vm.id)]


async def test_what_fails_everywhere_is_left_to_be_seen_after_its_attempts(world: World) -> None:
    balancer = await world.balancer(TWO)
    for cloud in TWO:
        world.cloud(cloud).inject("error_after_accept", call="create")
    vm = await create(balancer)
    await settle(balancer, world.clock, rounds=10)
    assert len(live(world)) == 1
    left = await balancer.get(vm.id)
    assert (left.state, left.attempt, left.fault) == (VmState.ERROR, 3, "No valid host was found.")


async def test_with_nowhere_to_go_the_failed_vm_stays_until_there_is(world: World) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("quebec").begin_outage()
    world.cloud("uniform").inject("error_after_accept", call="create", count=1)
    vm = await create(balancer)
    await settle(balancer, world.clock, rounds=1)
    assert live(world) == [("uniform", vm.id)]
    world.cloud("quebec").end_outage()
    world.clock.advance(60)
    await settle(balancer, world.clock)
    assert live(world) in ([("quebec", vm.id)], [("uniform", vm.id)])
    assert (await balancer.get(vm.id)).state is VmState.ACTIVE


async def test_one_dead_cloud_does_not_stop_the_healing_elsewhere(world: World) -> None:
    balancer = await world.balancer({**TWO, "tango": {}})
    await create(balancer, cloud="uniform")
    vm = await create(balancer)
    assert vm.cloud == "quebec"
    record = world.cloud("quebec").vms()[0]
    world.cloud("uniform").begin_outage()
    world.cloud("quebec").set_vm_state(record.cloud_id, VmState.ERROR, "died")
    await settle(balancer, world.clock)
    again = await balancer.get(vm.id)
    assert (again.cloud, again.state) == ("tango", VmState.ACTIVE)


async def test_the_engine_outlives_errors_and_works_only_while_it_holds_the_lease() -> None:
    clock = SystemClock()
    store = MemoryStore({}, make_environment(clock=clock))
    other = Lease(store, clock, "engine", "other", ttl=30)
    assert await other.acquire()
    rounds: list[int] = []

    def balancers() -> list[Balancer]:
        rounds.append(1)
        raise RuntimeError("a bug")

    lease = Lease(store, clock, "engine", "this", ttl=30)
    engine = Engine(balancers, lease, clock, NullMetrics(), interval=0.01)
    running = asyncio.create_task(engine.run())
    await asyncio.sleep(0.1)
    assert (engine.leading, rounds) == (False, [])
    await other.release()
    await asyncio.sleep(0.2)
    assert engine.leading
    assert len(rounds) > 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await other.acquire()  # the lead was given back


async def test_a_failing_healer_does_not_stop_the_others(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").inject("error_after_accept", call="create", count=1)
    vm = await create(balancer)

    broken = Mock()
    broken.settings.name = "broken"
    broken.fleet.ensure = AsyncMock(side_effect=RuntimeError("a bug"))
    lease = Mock()
    engine = Engine(lambda: [broken, balancer], lease, world.clock, NullMetrics(), interval=1)
    world.clock.advance(1)
    await engine.cycle()
    assert (await balancer.get(vm.id)).cloud == "quebec"
    assert "broken: a round failed" in caplog.text


async def test_a_failed_boot_holds_its_cloud_off_once_however_often_it_is_seen(
    world: World,
) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").inject("error_after_accept", call="create")
    await create(balancer)
    (failed,), _errors = await balancer.list()
    avoidance = balancer.gateways["uniform"].avoidance
    for _ in range(4):
        balancer.placer.note_failure(failed)
        world.clock.advance(8)
    assert avoidance.reason("worker") is None
    assert len(balancer.placer.story(failed.id).refusals) == 1


async def test_removing_a_failed_boot_does_not_count_as_room_on_its_cloud(world: World) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").inject("error_after_accept", call="create", count=1)
    vm = await create(balancer)
    world.clock.advance(5)
    await balancer.list()
    await balancer.replace(vm.id)
    assert live(world) == [("quebec", vm.id)]
    assert "boot_failed" in (balancer.gateways["uniform"].avoidance.reason("worker") or "")


@pytest.mark.parametrize(
    ("fault_code", "told"),
    [
        ("no_capacity", "no_capacity"),
        ("quota_exceeded", "quota_exceeded"),
        ("invalid_request", "boot_failed"),
        (None, "boot_failed"),
    ],
)
async def test_a_failed_boot_tells_what_its_fault_amounts_to(
    world: World, fault_code: str | None, told: str
) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("uniform").inject("error_after_accept", call="create")
    await create(balancer)
    (failed,), _errors = await balancer.list()
    balancer.placer.note_failure(replace(failed, fault_code=fault_code))
    assert [refusal.code for refusal in balancer.placer.story(failed.id).refusals] == [told]
    assert told in (balancer.gateways["uniform"].avoidance.reason("worker") or "")


async def test_a_vm_that_broke_down_may_be_placed_on_its_cloud_again(world: World) -> None:
    balancer = await world.balancer({"uniform": {}})
    vm = await create(balancer)
    world.clock.advance(3)
    await balancer.list()
    record = world.cloud("uniform").vms()[0]
    world.cloud("uniform").set_vm_state(record.cloud_id, VmState.ERROR, "died")
    world.clock.advance(1)
    await settle(balancer, world.clock, rounds=1)
    again = await balancer.get(vm.id)
    assert (again.cloud, again.state, again.attempt) == ("uniform", VmState.ACTIVE, 2)
    assert [r.code for r in balancer.placer.story(vm.id).refusals] == ["broke_down"]


async def test_a_vm_that_was_wanted_on_one_cloud_is_placed_again_on_that_one(
    world: World,
) -> None:
    balancer = await world.balancer(TWO)
    world.cloud("quebec").inject("error_after_accept", call="create", count=1)
    vm = await create(balancer, cloud="quebec")
    await settle(balancer, world.clock)
    assert live(world) == [("quebec", vm.id)]
    assert (await balancer.get(vm.id)).attempt == 2
