"""Random faults at every step, processes that die between any two: what must hold all the same.

A scenario follows from its seed. Clients create VMs under idempotency keys over clouds that
refuse, lose answers, show VMs late and fail boots; again and again isoneph dies at some step
(every call of a cloud and of the store is two steps, before it and after it) and starts anew.
When the clouds have come to rest, each key must have exactly one VM, and nothing else of ours
may be left.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from isoneph.core import identity
from isoneph.core.application import Deployment
from isoneph.core.balancer import Balancer
from isoneph.core.errors import IsonephError
from isoneph.core.model import CreateRequest, VmState
from isoneph.core.plugin import Plugin
from isoneph.core.registry import Registry
from isoneph.core.settings import Settings, StoreSettings
from isoneph.core.testing import FakeClock
from world import GRACE, World, settle

CLOUD_VERBS = ("create_vm", "get_vm", "list_vms", "delete_vm", "get_limits", "list_leftovers")
STORE_VERBS = ("get", "put", "delete")
#: Tries of one client before the scenario counts as stuck.
PATIENCE = 60


class Killed(BaseException):
    """The process is dead: nothing that was on its way goes on."""


class Steps:
    """Counts the steps of one process and ends it at the chosen one."""

    def __init__(self, fatal: int | None) -> None:
        self.left = fatal
        self.dead = False
        #: Whether a cloud has failed to list its VMs to this process.
        self.unlisted = False

    def step(self) -> None:
        if self.left is not None:
            self.left -= 1
            self.dead = self.dead or self.left <= 0
        if self.dead:
            raise Killed


class MortalRegistry(Registry):
    """Loads plugins whose every call passes through the process's steps."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    def load(self, kind: str, name: str) -> type[Plugin]:
        plugin = super().load(kind, name)
        if kind == "clouds":
            return _mortal(plugin, CLOUD_VERBS, self._blocking)
        if kind == "stores":
            return _mortal(plugin, STORE_VERBS, self._awaiting)
        return plugin

    def _blocking(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            self._steps.step()
            try:
                result = verb(*arguments, **keywords)
            except IsonephError:
                self._steps.unlisted = self._steps.unlisted or verb.__name__ == "list_vms"
                raise
            self._steps.step()
            return result

        return call

    def _awaiting(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any, **keywords: Any) -> Any:
            self._steps.step()
            result = await verb(*arguments, **keywords)
            self._steps.step()
            return result

        return call


def _mortal(
    plugin: type[Plugin],
    verbs: Sequence[str],
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> type[Plugin]:
    return type(plugin.__name__, (plugin,), {verb: wrap(getattr(plugin, verb)) for verb in verbs})


class HastyClock(FakeClock):
    """Runs by itself, many times faster than the machine's; sleeping takes its short time."""

    def __init__(self, factor: float = 500.0) -> None:
        super().__init__()
        self._factor = factor
        self._began = time.monotonic()

    def time(self) -> float:
        return super().time() + (time.monotonic() - self._began) * self._factor

    def monotonic(self) -> float:
        return self.time()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds / self._factor)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._factor)


class Process:
    """One isoneph after another: when one has died the next begins, knowing nothing of it."""

    def __init__(self) -> None:
        self.deployment: Deployment | None = None
        self.steps = Steps(None)
        self.starting = asyncio.Lock()

    @property
    def balancer(self) -> Balancer:
        assert self.deployment is not None
        return self.deployment.applications["mme"].balancer


class Chaos:
    """One scenario. ``store`` is ``memory`` (one process at a time, which forgets all) or
    ``sqlite`` (two side by side, coordinated by what the store holds)."""

    def __init__(self, seed: int, path: Path, *, store: str = "memory") -> None:
        self.random = random.Random(seed)
        self.world = World(path)
        if store != "memory":
            self.world.clock = HastyClock()
        self._store = StoreSettings(driver=store, options=self._store_options(store, path))
        self._clouds = ["uniform", "quebec", "tango"][: self.random.randint(2, 3)]
        self._keys = [f"key-{n}" for n in range(self.random.randint(1, 4))]
        self._deaths = self.random.randint(0, 4)
        self._processes = [Process() for _ in range(1 if store == "memory" else 2)]

    async def run(self) -> None:
        """Play the scenario through; AssertionError when what must hold does not."""
        try:
            self._inject()
            ids = await asyncio.gather(*(self._client(key) for key in self._keys))
            assert len(set(ids)) == len(self._keys)
            await self._come_to_rest()
            gone = await self._delete_some(ids)
            await self._verify(set(ids) - gone)
        finally:
            for process in self._processes:
                await self._bury(process)
            await self.world.close()

    def _store_options(self, store: str, path: Path) -> dict[str, Any]:
        return {} if store == "memory" else {"path": str(path / "store.db")}

    def _settings(self) -> Settings:
        clouds = {name: {"boot_seconds": 2.0} for name in self._clouds}
        settings = self.world.settings(clouds)
        return replace(settings, store=self._store)

    def _inject(self) -> None:
        menu: list[tuple[str, str, dict[str, Any]]] = [
            ("timeout_after", "create", {"visible_after": self.random.choice([0, 0, 5, 100])}),
            ("timeout_before", "create", {}),
            ("error_after_accept", "create", {}),
            ("quota", "create", {}),
            ("no_capacity", "create", {}),
            ("throttle", "any", {"retry_after": 3}),
            ("unauthorized", "create", {}),
            ("outage", "list", {}),
            ("outage", "any", {"lasts": 40}),
            ("timeout_before", "delete", {}),
            ("timeout_after", "delete", {}),
            ("leave_port", "delete", {}),
        ]
        for cloud in self._clouds:
            for fault, call, details in self.random.sample(menu, self.random.randint(0, 6)):
                self.world.cloud(cloud).inject(
                    fault,
                    call=call,
                    count=self.random.randint(1, 3),
                    probability=self.random.choice([0.3, 0.7, 1.0]),
                    **details,
                )

    async def _client(self, key: str) -> str:
        """Asks until it gets an answer, as an application does, and once more to be sure."""
        request = CreateRequest(type="worker", key=key)
        for _ in range(PATIENCE):
            try:
                process = await self._living()
                answering = process.steps
                creation = await process.balancer.create(request)
            except IsonephError:
                self.world.clock.advance(self.random.uniform(1, 20))
            except Killed:
                await asyncio.sleep(0)
            else:
                (placed,) = creation.placed
                assert placed.vm.id == identity.id_of_key("mme", key, 0)
                await self._ask_again(request, answering)
                return placed.vm.id
        raise AssertionError(f"{key}: no answer after {PATIENCE} tries")

    async def _ask_again(self, request: CreateRequest, answered: Steps) -> None:
        """A process that answered a key once never places it anew, nor does one after it to which
        all clouds have listed their VMs. (Another beside it that never saw the VM may, when just
        then it cannot ask the VM's cloud.)"""
        try:
            process = await self._living()
            asked = process.steps
            (placed,) = (await process.balancer.create(request)).placed
        except (IsonephError, Killed):
            return
        forgot = asked is not answered and asked.unlisted
        assert placed.existed or forgot or len(self._processes) > 1

    async def _balancer(self) -> Balancer:
        return (await self._living()).balancer

    async def _living(self) -> Process:
        """Any process; when it has died, a new one in its place."""
        process = self.random.choice(self._processes)
        async with process.starting:
            if process.deployment is None or process.steps.dead:
                await self._bury(process)
                fatal = self.random.randint(1, 60) if self._deaths > 0 else None
                self._deaths -= 1
                process.steps = Steps(fatal)
                await self._begin(process)
            return process

    async def _begin(self, process: Process) -> None:
        process.deployment = Deployment(
            self._settings(), registry=MortalRegistry(process.steps), clock=self.world.clock
        )
        await process.deployment.start(engine=False, background=False)

    async def _bury(self, process: Process) -> None:
        """Let go of what a dead process held in this one: threads and files."""
        dead, process.deployment = process.deployment, None
        process.steps.dead = True
        if dead is not None:
            with suppress(Killed, IsonephError):
                await dead.close()

    async def _come_to_rest(self) -> None:
        """The faults end, what was late appears, a last process finds it all."""
        for cloud in self._clouds:
            self.world.cloud(cloud).clear_faults()
        self.world.clock.advance(300)
        self._deaths = 0
        for process in self._processes:
            process.steps.dead = True
        await settle(await self._balancer(), self.world.clock, rounds=6)

    async def _delete_some(self, ids: Sequence[str]) -> set[str]:
        balancer = await self._balancer()
        gone = set(self.random.sample(sorted(ids), self.random.randint(0, len(ids))))
        unwanted = set(gone)
        for cloud in self._clouds:
            self.world.cloud(cloud).inject("leave_port", call="delete", probability=0.5)
            self.world.cloud(cloud).inject("error_after_accept", call="create")
            self.world.cloud(cloud).inject("ignored", call="delete", count=1, probability=0.5)
        for _ in range(self.random.randint(0, 2)):
            creation = await balancer.create(CreateRequest(type="worker"))
            unwanted.add(creation.placed[0].vm.id)
        for vm_id in sorted(unwanted):
            await balancer.delete(vm_id)
        self.world.clock.advance(GRACE)
        await settle(balancer, self.world.clock)
        return gone

    async def _verify(self, expected: set[str]) -> None:
        records = [
            (cloud, record) for cloud in self._clouds for record in self.world.cloud(cloud).vms()
        ]
        found = sorted(record.tags[identity.TAG_ID] for _cloud, record in records)
        assert found == sorted(expected), [(c, r.cloud_id, r.tags) for c, r in records]
        vms, errors = await (await self._balancer()).list()
        assert not errors
        assert {vm.state for vm in vms} <= {VmState.ACTIVE}
        for cloud in self._clouds:
            assert self.world.cloud(cloud).ports() == []
