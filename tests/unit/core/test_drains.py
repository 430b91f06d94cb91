"""Deletes that were accepted are carried out, and nothing else is, whatever dies on the way."""

from __future__ import annotations

import random

import pytest

from isoneph.core.errors import IsonephError
from isoneph.core.model import CreateRequest
from relayed_site import TWO, RelayedSite
from scripted_relay import Elsewhere
from world import World

STEPS = 40


class Play:
    """Random deletes, sessions, cuts and restarts; ``wanted`` is what must be left."""

    def __init__(self, site: RelayedSite, seed: int) -> None:
        self._site = site
        self._random = random.Random(seed)
        self.wanted: set[str] = set()
        #: Deletes that were accepted while the relay was cut off; and those of them that only a
        #: process's own memory held when it ended.
        self._untold: set[str] = set()
        self.forgotten: set[str] = set()

    async def run(self) -> None:
        site = self._site
        await site.start()
        for _ in range(STEPS):
            step = self._random.choice(
                [self._create, self._delete, self._scale_in, self._sessions, self._restart,
                 self._cut, self._outage, self._rounds, self._rounds]
            )  # fmt: skip
            try:
                await step()
            except IsonephError:
                site.world.clock.advance(1)
            assert self.wanted <= set(site.ids())
        await self._come_to_rest()
        assert set(site.ids()) - self.forgotten == self.wanted
        assert set(site.relay.backends) == set(site.ids())
        assert not any(backend.draining for backend in site.relay.backends.values())

    async def _create(self) -> None:
        if len(self.wanted) < 6:
            made = await self._site.balancer.create(CreateRequest(type="worker"))
            self.wanted.add(made.placed[0].vm.id)

    async def _delete(self) -> None:
        if self.wanted:
            vm_id = self._random.choice(sorted(self.wanted))
            self.wanted.discard(vm_id)
            deletion = await self._again_until_accepted(vm_id)
            if deletion and not self._site.elsewhere.reachable:
                self._untold.add(vm_id)

    async def _again_until_accepted(self, vm_id: str) -> bool:
        """Whether it drains; as a client does, asks until the answer is not an error."""
        while True:
            try:
                return (await self._site.balancer.delete(vm_id)).draining
            except IsonephError:
                for cloud in TWO:
                    self._site.world.cloud(cloud).clear_faults()
                self._site.world.clock.advance(60)

    async def _scale_in(self) -> None:
        if self.wanted:
            vm = (await self._site.balancer.delete_any()).vm
            assert vm is not None
            # Who was started while the relay was cut off cannot know what drains already.
            known = self._site.elsewhere.reachable
            assert vm.id in self.wanted | self.forgotten or not known
            self.wanted.discard(vm.id)
            if not self._site.elsewhere.reachable:
                self._untold.add(vm.id)

    async def _sessions(self) -> None:
        for vm_id in self._site.ids():
            self._site.relay.sessions[vm_id] = self._random.choice([0, 0, 1, 5])

    async def _restart(self) -> None:
        if self._site.store.driver == "memory":
            backends = self._site.relay.backends
            marked = {key for key, backend in backends.items() if backend.draining}
            self.forgotten |= self._untold - marked
        await self._site.start()

    async def _cut(self) -> None:
        self._site.elsewhere.reachable = not self._site.elsewhere.reachable

    async def _outage(self) -> None:
        cloud = self._site.world.cloud(self._random.choice(sorted(TWO)))
        cloud.inject("outage", call=self._random.choice(["delete", "list"]), count=2)

    async def _rounds(self) -> None:
        await self._site.rounds(self._random.randint(1, 3), self._random.choice([1.0, 30.0]))

    async def _come_to_rest(self) -> None:
        site = self._site
        await self._restart()
        site.elsewhere.reachable = True
        for cloud in TWO:
            site.world.cloud(cloud).clear_faults()
        await site.rounds(8, 61.0)


@pytest.mark.parametrize(
    ("seed", "store"), [*((seed, "memory") for seed in range(4)), (4, "sqlite"), (5, "sqlite")]
)
async def test_drains_are_finished_whatever_happens(
    world: World, monkeypatch: pytest.MonkeyPatch, seed: int, store: str
) -> None:
    site = RelayedSite(world, Elsewhere().take_the_place_of_processes(monkeypatch))
    if store == "sqlite":
        site.share_a_store()
    await Play(site, seed).run()
