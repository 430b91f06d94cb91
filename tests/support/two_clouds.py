"""Two simulated clouds: VMs that are made there, and what lives on them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from isoneph.core import identity
from isoneph.core.balancer import Balancer
from isoneph.core.gateway import CloudGateway
from isoneph.core.model import CreateRequest, Vm
from world import World

TWO: dict[str, dict[str, Any]] = {"uniform": {}, "quebec": {}}


def live(world: World) -> list[tuple[str, str | None]]:
    """The VMs that the clouds have: each one's cloud and id."""
    return [
        (cloud, record.tags.get(identity.TAG_ID))
        for cloud in TWO
        for record in world.cloud(cloud).vms()
    ]


async def create(balancer: Balancer, cloud: str | None = None, key: str | None = None) -> Vm:
    """A new VM, wherever the balancer puts it or on ``cloud``."""
    creation = await balancer.create(CreateRequest(type="worker", cloud=cloud, key=key))
    return creation.placed[0].vm


async def create_failing(world: World, balancer: Balancer) -> Vm:
    """A new VM whose boot fails on uniform."""
    world.cloud("uniform").inject("error_after_accept", call="create", count=1)
    return await create(balancer)


class Held:
    """Calls of a ``verb`` that a cloud is ``asked`` for and carries out only when it may ``go``
    on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gateway: CloudGateway, verb: str) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self._call = getattr(gateway, verb)
        monkeypatch.setattr(gateway, verb, self._hold)

    async def _hold(self, *arguments: Any, **more: Any) -> Any:
        self.asked.set()
        await self.go.wait()
        return await self._call(*arguments, **more)
