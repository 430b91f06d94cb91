"""One isoneph after another over the same simulated clouds and the same relay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from isoneph.core import identity
from isoneph.core.balancer import Balancer
from isoneph.core.carrying import Carrier
from isoneph.core.model import CreateRequest, Vm
from isoneph.core.settings import RelaySettings, StoreSettings
from isoneph.core.testing import NullMetrics
from scripted_relay import RELAY, Elsewhere, ScriptedRegistry
from world import World

TWO: Mapping[str, Mapping[str, Any]] = {"uniform": {}, "quebec": {}}


class RelayedSite:
    """What stays is the clouds and the relay; ``start`` makes a new isoneph each time."""

    def __init__(self, world: World, elsewhere: Elsewhere) -> None:
        self.world = world
        self.elsewhere = elsewhere
        self.relay = elsewhere.relay
        self.store = StoreSettings()
        world.registry = ScriptedRegistry()

    def share_a_store(self) -> None:
        """Let what starts from now on share a store that outlives it."""
        path = self.world.path.with_name("store.db")
        self.store = StoreSettings(driver="sqlite", options={"path": str(path)})

    async def start(self, relay: RelaySettings = RELAY, **options: Any) -> Balancer:
        """A new isoneph, which knows nothing of those before it."""
        settings = self.world.settings(TWO, relay=relay, **options)
        deployment = await self.world.start(replace(settings, store=self.store))
        self.balancer = deployment.applications["mme"].balancer
        assert self.balancer.relayed is not None
        self.carrier = Carrier(
            self.balancer, self.balancer.relayed, self.world.clock, NullMetrics()
        )
        return self.balancer

    async def create(self, cloud: str | None = None, **request: Any) -> Vm:
        """A VM that is up and known to the relay."""
        wanted = CreateRequest(**{"type": "worker", "cloud": cloud, **request})
        vm = (await self.balancer.create(wanted)).placed[0].vm
        await self.rounds(1)
        return vm

    async def rounds(self, count: int, pause: float = 2.5) -> None:
        """Rounds of the engine with the relay, each after a pause and a listing."""
        for _ in range(count):
            self.world.clock.advance(pause)
            await self.balancer.fleet.ensure(0.0)
            await self.carrier.carry()

    async def shown(self, vm: Vm) -> Vm:
        """A VM as it is listed a little later."""
        self.world.clock.advance(2.5)
        return next(each for each in (await self.balancer.list())[0] if each.id == vm.id)

    def ids(self) -> list[str]:
        """The ids of the VMs that the clouds have."""
        return sorted(
            record.tags[identity.TAG_ID]
            for cloud in TWO
            for record in self.world.cloud(cloud).vms()
        )
