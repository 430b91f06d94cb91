"""What is known of clouds that do not tell: that owe a listing, or cannot be asked at all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import pytest

from isoneph.core.balancer import Balancer
from isoneph.core.model import CreateRequest, Placed, Vm
from world import World

TWO: dict[str, dict[str, Any]] = {"uniform": {}, "quebec": {}}
WORKER = CreateRequest(type="worker")
LEFT_OUT = "quebec left out: unreachable: no answer to the listing for"


@asynccontextmanager
async def owing(balancer: Balancer, cloud: str) -> AsyncIterator[None]:
    """Let a cloud owe every listing that is asked for; then it answers."""
    gateway, answers = balancer.gateways[cloud], asyncio.Event()
    list_vms = gateway.list_vms

    async def late(application: str) -> Sequence[Vm]:
        await answers.wait()
        return await list_vms(application)

    with patch.object(gateway, "list_vms", late):
        yield
        answers.set()
        await balancer.fleet.ensure(0.0)


async def later(world: World, balancer: Balancer, seconds: float) -> Placed:
    """A VM that is asked for after so many seconds, of which *uniform* is listed at the end."""
    world.clock.advance(seconds)
    await balancer.fleet.ensure(0.0, ["uniform"])
    (placed,) = (await balancer.create(WORKER)).placed
    return placed


async def listed_balancer(world: World) -> Balancer:
    balancer = await world.balancer(TWO, patience=3.0)
    await balancer.list()
    return balancer


async def test_within_the_patience_a_cloud_gets_its_share_by_its_last_listing(
    world: World,
) -> None:
    balancer = await listed_balancer(world)
    async with owing(balancer, "quebec"):
        placed = [await later(world, balancer, seconds) for seconds in (2.5, 2.5, 0, 0.4, 0, 0)]
    assert Counter(one.vm.cloud for one in placed) == {"uniform": 3, "quebec": 3}


async def test_a_cloud_that_hangs_is_left_out_and_that_is_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    balancer = await listed_balancer(world)
    async with owing(balancer, "quebec"):
        await later(world, balancer, 2.5)
        placed = [await later(world, balancer, seconds) for seconds in (8.0, 0, 1.0)]
        assert {one.vm.cloud for one in placed} == {"uniform"}
        assert f"1 VM here; {LEFT_OUT} 8.0 s" in caplog.text
        ranking = placed[0].ranking
        assert ranking is not None
        assert ranking.verdicts[1].reasons[0].text.startswith("unreachable: no answer")
    told = [r.getMessage() for r in caplog.records if r.name == "isoneph.core.fleet"]
    assert told == [
        "mme: cloud quebec is not listed: unreachable: no answer to the listing for 8.0 s",
        "mme: cloud quebec is listed again",
    ]
    placed = [await later(world, balancer, 0) for _ in range(2)]
    assert {one.vm.cloud for one in placed} == {"quebec"}


async def test_a_cloud_that_the_request_excludes_is_not_told_as_left_out(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    balancer = await listed_balancer(world)
    await balancer.create(CreateRequest(type="worker", cloud="uniform"))
    assert "placed on uniform: no VMs here" in caplog.text
    assert "left out" not in caplog.text


async def test_a_cloud_that_refused_is_told_once_and_as_left_out_of_what_comes_next(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    balancer = await listed_balancer(world)
    world.cloud("uniform").inject("quota", call="create")
    await balancer.create(WORKER)
    assert "uniform refused: quota_exceeded" in caplog.text
    assert "left out" not in caplog.text
    await balancer.create(WORKER)
    assert "uniform left out: left alone for 30 s more: quota_exceeded" in caplog.text


async def test_as_many_vms_are_counted_as_are_shown_however_long_nothing_is_listed(
    world: World,
) -> None:
    balancer = await world.balancer({"uniform": {}})
    placed = (await balancer.create(CreateRequest(type="worker", count=3))).placed
    await balancer.fleet.ensure(0.0)
    await balancer.create(CreateRequest(type="worker", count=2))
    await balancer.delete(placed[0].vm.id)
    world.cloud("uniform").begin_outage()
    for seconds in (1, 40, 400):
        world.clock.advance(seconds)
        await balancer.ledger.update(lambda book: None)
        (uniform,) = await balancer.clouds()
        assert uniform.vms == len((await balancer.list())[0]) == 4
