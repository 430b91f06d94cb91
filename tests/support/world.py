"""Deployments over simulated clouds, on a clock that the test holds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from voluptuous import Schema

from isoneph.core.application import Deployment
from isoneph.core.balancer import Balancer
from isoneph.core.engine import Healer
from isoneph.core.model import VmType
from isoneph.core.plugin import OptionSchema
from isoneph.core.registry import Registry
from isoneph.core.settings import (
    ApplicationSettings,
    CloudSettings,
    HealingSettings,
    PolicySettings,
    Settings,
)
from isoneph.core.testing import FakeClock, NullMetrics
from isoneph.plugins.clouds.mock import Simulation

GRACE = 60.0


def checked(schema: OptionSchema, options: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = Schema(schema)(dict(options))
    return result


class World:
    """Two or more simulated clouds in one file, and deployments over them.

    ``start`` makes a new process's worth of isoneph: it knows nothing of those before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path / "clouds.db"
        self.clock = FakeClock()
        self.registry = Registry()
        self._stack = AsyncExitStack()
        self._simulations: dict[str, Simulation] = {}

    def cloud(self, name: str) -> Simulation:
        if name not in self._simulations:
            simulation = Simulation(self.path, name, time=self.clock.time)
            self._simulations[name] = self._stack.enter_context(simulation)
        return self._simulations[name]

    def settings(
        self,
        clouds: Mapping[str, Mapping[str, Any]],
        *,
        types: Mapping[str, Mapping[str, float]] | None = None,
        placement: tuple[str, ...] = ("count-balance",),
        victims: tuple[str, ...] = ("largest-cloud",),
        cloud_settings: Mapping[str, Any] | None = None,
        **application: Any,
    ) -> Settings:
        # The clock jumps while threads list clouds: what takes a moment must not look like hanging.
        application.setdefault("patience", 1000.0)
        return Settings(
            clouds={
                name: CloudSettings(
                    name=name,
                    driver="mock",
                    options=self._options("clouds", "mock", {"state": str(self.path), **options}),
                    **(cloud_settings or {}),
                )
                for name, options in clouds.items()
            },
            applications={
                "mme": ApplicationSettings(
                    name="mme",
                    clouds=tuple(clouds),
                    types={
                        name: {cloud: VmType(name=name, resources=needs) for cloud in clouds}
                        for name, needs in (types or {"worker": {"instances": 1}}).items()
                    },
                    placement=self._policies("placement", placement),
                    victims=self._policies("victims", victims),
                    healing=application.pop("healing", HealingSettings(grace=GRACE)),
                    **application,
                )
            },
        )

    async def start(self, settings: Settings) -> Deployment:
        deployment = Deployment(settings, registry=self.registry, clock=self.clock)
        await deployment.start(engine=False, background=False)
        self._stack.push_async_callback(deployment.close)
        return deployment

    async def balancer(self, clouds: Mapping[str, Mapping[str, Any]], **more: Any) -> Balancer:
        deployment = await self.start(self.settings(clouds, **more))
        return deployment.applications["mme"].balancer

    async def close(self) -> None:
        await self._stack.aclose()

    def _options(self, kind: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return checked(self.registry.load(kind, name).schema, options)

    def _policies(self, kind: str, names: tuple[str, ...]) -> tuple[PolicySettings, ...]:
        return tuple(
            PolicySettings(policy=name, options=self._options(kind, name, {})) for name in names
        )


async def settle(balancer: Balancer, clock: FakeClock, rounds: int = 4) -> None:
    """Let the engine work until nothing can be left to do."""
    healer = Healer(balancer, clock, NullMetrics())
    for _ in range(rounds):
        await healer.heal(patience=1000.0)
        clock.advance(GRACE + 1)
    await balancer.drain()
