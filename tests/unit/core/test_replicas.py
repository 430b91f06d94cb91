"""Several isoneph over the same clouds, coordinating through one store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from chaos import HastyClock
from isoneph.core.balancer import Balancer
from isoneph.core.engine import Engine, Healer
from isoneph.core.errors import PlacementFailed
from isoneph.core.lease import Lease
from isoneph.core.model import CreateRequest
from isoneph.core.settings import Settings, StoreSettings
from isoneph.core.testing import NullMetrics
from isoneph.plugins.clouds.mock import Simulation
from world import GRACE, World

CLOUDS = {"uniform": {"latency": {"create": 0.02}}, "quebec": {"latency": {"create": 0.02}}}


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[list[Balancer]]:
    world = World(tmp_path)
    world.clock = HastyClock(factor=1.0)
    settings: Settings = replace(
        world.settings(CLOUDS),
        store=StoreSettings(driver="sqlite", options={"path": str(tmp_path / "store.db")}),
    )
    deployments = [await world.start(settings) for _ in range(3)]
    yield [deployment.applications["mme"].balancer for deployment in deployments]
    await world.close()


async def test_a_burst_over_all_replicas_balances_as_if_one_by_one(
    replicas: list[Balancer],
) -> None:
    creations = await asyncio.gather(
        *(
            replicas[n % 3].create(CreateRequest(type="worker", cloud="uniform" if n < 6 else None))
            for n in range(30)
        )
    )
    places = Counter(one.vm.cloud for creation in creations for one in creation.placed)
    assert places == {"uniform": 15, "quebec": 15}


async def test_one_key_at_all_replicas_at_once_gives_one_vm(replicas: list[Balancer]) -> None:
    request = CreateRequest(type="worker", count=2, key="same")
    creations = await asyncio.gather(*(replica.create(request) for replica in replicas * 2))
    assert len({one.vm.id for creation in creations for one in creation.placed}) == 2
    vms, _errors = await replicas[0].list()
    assert len(vms) == 2


async def test_victims_picked_by_all_replicas_at_once_differ(replicas: list[Balancer]) -> None:
    await replicas[0].create(CreateRequest(type="worker", count=9))
    await asyncio.gather(*(replica.list() for replica in replicas))
    deletions = await asyncio.gather(*(replica.delete_any() for replica in replicas * 2))
    assert len({deletion.vm.id for deletion in deletions if deletion.vm}) == 6


async def test_one_engine_leads_and_another_takes_over_when_it_stops(
    replicas: list[Balancer],
) -> None:
    def engine(replica: Balancer, owner: str) -> Engine:
        lease = Lease(replica.ledger._store, replica._clock, "lock/engine", owner, ttl=5)
        return Engine(lambda: [replica], lease, replica._clock, NullMetrics(), interval=0.02)

    engines = [engine(replica, f"replica-{n}") for n, replica in enumerate(replicas)]
    tasks = [asyncio.create_task(one.run()) for one in engines]
    await asyncio.sleep(0.15)
    assert [one.leading for one in engines].count(True) == 1
    leader = [one.leading for one in engines].index(True)
    tasks[leader].cancel()
    await asyncio.sleep(0.15)
    assert not engines[leader].leading
    assert [one.leading for one in engines].count(True) == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def settled(replicas: list[Balancer]) -> None:
    """All have run for long, and have just listed the clouds."""
    clock = replicas[0]._clock
    assert isinstance(clock, HastyClock)
    clock.advance(100)
    await asyncio.gather(*(replica.fleet.ensure(0.0) for replica in replicas))


async def test_what_one_replica_made_a_moment_ago_another_does_not_make_again(
    replicas: list[Balancer],
) -> None:
    await settled(replicas)
    request = CreateRequest(type="worker", key="same")
    (first,) = (await replicas[0].create(request)).placed
    (second,) = (await replicas[1].create(request)).placed
    assert (second.existed, second.vm.id) == (True, first.vm.id)
    assert len((await replicas[2].list())[0]) == 1


async def test_one_replica_explains_with_what_another_decided(replicas: list[Balancer]) -> None:
    await settled(replicas)
    await replicas[0].create(CreateRequest(type="worker"))
    ranking = await replicas[1].explain(CreateRequest(type="worker"))
    assert ranking.best is not None
    assert ranking.best.candidate == "quebec"
    (uniform, quebec) = await replicas[2].clouds()
    assert (uniform.vms, quebec.vms) == (1, 0)


async def test_one_replicas_engine_removes_what_another_gave_up(
    replicas: list[Balancer], tmp_path: Path
) -> None:
    await settled(replicas)
    clock = replicas[0]._clock
    assert isinstance(clock, HastyClock)
    with Simulation(tmp_path / "clouds.db", "uniform", time=clock.time) as uniform:
        uniform.inject("timeout_after", call="create", visible_after=30, count=1)
        with pytest.raises(PlacementFailed):
            await replicas[0].create(CreateRequest(type="worker", cloud="uniform"))
        clock.advance(40)
        healer = Healer(replicas[1], clock, NullMetrics())
        for _ in range(3):
            await healer.heal(patience=1000)
            clock.advance(GRACE + 1)
        assert uniform.vms() == []


async def failed_vm(replicas: list[Balancer], path: Path) -> str:
    """A VM whose boot failed on uniform, as every replica has just seen."""
    with Simulation(path / "clouds.db", "uniform", time=replicas[0]._clock.time) as uniform:
        uniform.inject("error_after_accept", call="create", count=1)
        creation = await replicas[0].create(CreateRequest(type="worker"))
    await settled(replicas)
    return creation.placed[0].vm.id


async def test_deleting_at_one_replica_finds_what_another_placed_again(
    replicas: list[Balancer], tmp_path: Path
) -> None:
    vm_id = await failed_vm(replicas, tmp_path)
    await replicas[0].replace(vm_id)
    assert (await replicas[1].delete(vm_id)).vm is not None
    for name in CLOUDS:
        with Simulation(tmp_path / "clouds.db", name) as cloud:
            assert cloud.vms() == []


async def test_a_failed_vm_is_placed_again_once_whoever_sees_it(
    replicas: list[Balancer], tmp_path: Path
) -> None:
    vm_id = await failed_vm(replicas, tmp_path)
    placed = await asyncio.gather(*(replica.replace(vm_id) for replica in replicas))
    assert sum(one is not None for one in placed) == 1
    await settled(replicas)
    assert [vm.attempt for vm in replicas[0].fleet.copies(vm_id)] == [2]
