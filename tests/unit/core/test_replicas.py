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
from isoneph.core.engine import Engine
from isoneph.core.lease import Lease
from isoneph.core.model import CreateRequest
from isoneph.core.settings import Settings, StoreSettings
from isoneph.core.testing import NullMetrics
from world import World

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
    def engine(replica: Balancer) -> Engine:
        lease = Lease(replica._store, replica._clock, "lock/engine", replica._owner, ttl=5)
        return Engine(lambda: [replica], lease, replica._clock, NullMetrics(), interval=0.02)

    engines = [engine(replica) for replica in replicas]
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
