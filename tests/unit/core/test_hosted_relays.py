"""Relays that run in the engine: what they go on with after a restart, a failover, a reload."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from isoneph.core.application import Deployment
from isoneph.core.engine import Engine
from isoneph.core.errors import RelayRefused, RelayUnreachable, StoreUnavailable
from isoneph.core.lease import Lease
from isoneph.core.model import CreateRequest, Vm, VmState
from isoneph.core.relaying import Member, RelayHost
from isoneph.core.relaying.remembering import StoredState
from isoneph.core.testing import NullMetrics, make_environment
from isoneph.plugins.stores.memory import MemoryStore
from relayed_site import TWO, RelayedSite
from scripted_relay import RELAY, Elsewhere, ScriptedRelay
from world import World

HOSTED = replace(RELAY, driver="hosted")


@pytest.fixture
async def site(world: World) -> RelayedSite:
    """With a relay in the engine; what runs as a process is not used."""
    made = RelayedSite(world, Elsewhere())
    await made.start(HOSTED)
    return made


def relay_of(site: RelayedSite) -> ScriptedRelay:
    """The plugin of the isoneph that was started last."""
    assert site.balancer.relayed is not None
    way: Any = site.balancer.relayed.way
    return way.relay  # type: ignore[no-any-return]


def told(relay: ScriptedRelay) -> list[list[str]]:
    """The ids of the backends, for each time that the relay was told of them."""
    return [sorted(backend.id for backend in backends) for backends in relay.updates]


async def rounds(site: RelayedSite, count: int) -> None:
    """Rounds as the engine makes them, which do not wait for listings."""
    for _ in range(count):
        site.world.clock.advance(5)
        await site.carrier.carry()


async def test_started_anew_it_is_told_nothing_until_every_cloud_was_listed(
    site: RelayedSite, caplog: pytest.LogCaptureFixture
) -> None:
    vms = sorted([(await site.create("uniform")).id, (await site.create("quebec")).id])
    await site.carrier.retire()
    site.world.cloud("quebec").begin_outage()
    await site.start(HOSTED)
    await rounds(site, 5)
    assert told(relay_of(site)) == []
    assert caplog.text.count("until each cloud has been listed: quebec") == 1
    site.world.cloud("quebec").end_outage()
    site.world.cloud("uniform").begin_outage()
    site.world.clock.advance(60)
    await site.rounds(2)
    assert told(relay_of(site)) == [vms]


async def test_what_is_deleted_before_that_waits(site: RelayedSite) -> None:
    vm = await site.create("uniform")
    await site.carrier.retire()
    site.world.cloud("quebec").begin_outage()
    await site.start(HOSTED)
    await rounds(site, 2)
    found = await site.shown(vm)
    assert (found.state, found.relay and found.relay.stale) == (VmState.ACTIVE, True)
    assert (await site.balancer.delete(vm.id)).draining
    await rounds(site, 2)
    assert site.ids() == [vm.id]
    site.world.cloud("quebec").end_outage()
    site.world.clock.advance(60)
    await site.rounds(3)
    assert told(relay_of(site))[0] == [vm.id]
    assert relay_of(site).updates[0][0].draining
    assert site.ids() == []


async def test_started_anew_without_vms_it_is_told_that_there_are_none(site: RelayedSite) -> None:
    await site.rounds(2)
    assert told(relay_of(site)) == [[]]


async def test_servers_alone_do_not_take_the_place_of_the_vms(site: RelayedSite) -> None:
    vm = await site.create("quebec")
    await site.carrier.retire()
    site.world.cloud("quebec").begin_outage()
    await site.start(replace(HOSTED, servers=("192.0.2.9",)))
    await rounds(site, 3)
    assert told(relay_of(site)) == []
    site.world.cloud("quebec").end_outage()
    site.world.clock.advance(60)
    await site.rounds(1)
    assert told(relay_of(site)) == [sorted(["192.0.2.9", vm.id])]


@pytest.mark.parametrize("listed", [True, False], ids=["listed once", "never listed"])
async def test_who_leads_next_goes_on_with_what_the_store_remembers(
    site: RelayedSite, listed: bool
) -> None:
    site.share_a_store()
    await site.start(HOSTED)
    vms = [await site.create("uniform"), await site.create("quebec")]
    relay_of(site).sessions[vms[1].id] = 3
    assert (await site.balancer.delete(vms[1].id)).draining
    first = site.carrier
    if not listed:
        site.world.cloud("quebec").begin_outage()
    await site.start(HOSTED)
    site.world.cloud("quebec").begin_outage()
    site.world.clock.advance(5)
    await site.balancer.fleet.ensure(0.0)
    await first.retire()
    await rounds(site, 3)
    assert told(relay_of(site)) == [sorted(vm.id for vm in vms)]
    draining = {key for key, backend in relay_of(site).backends.items() if backend.draining}
    assert draining == {vms[1].id}


async def test_a_relay_that_has_changed_goes_on_with_the_backends_of_the_one_before(
    site: RelayedSite,
) -> None:
    deployment = await site.world.start(site.world.settings(TWO, relay=HOSTED))
    engine = engine_of(deployment, site.world)

    async def create(cloud: str) -> Vm:
        balancer = deployment.applications["mme"].balancer
        created = await balancer.create(CreateRequest(type="worker", cloud=cloud))
        site.world.clock.advance(5)
        await balancer.fleet.ensure(0.0)
        await asyncio.gather(*await engine.carry())
        return created.placed[0].vm

    vms = sorted([(await create("uniform")).id, (await create("quebec")).id])
    site.world.cloud("quebec").begin_outage()
    await deployment.reload(site.world.settings(TWO, relay=replace(HOSTED, drain=50.0)))
    for _ in range(3):
        site.world.clock.advance(2)
        await asyncio.gather(*await engine.carry())
    way: Any = deployment.applications["mme"].way
    assert told(way.relay) == [vms]


def engine_of(deployment: Deployment, world: World) -> Engine:
    lease = Lease(MemoryStore({}, make_environment()), world.clock, "lock/engine", "x", 60)
    return Engine(
        lambda: [each.balancer for each in deployment.applications.values()],
        lease,
        world.clock,
        NullMetrics(),
        1.0,
    )


class CutOffStore(MemoryStore):
    """Answers nothing while it is ``cut``."""

    cut = False

    async def get(self, key: str) -> Any:
        if self.cut:
            raise StoreUnavailable("cut off")
        return await super().get(key)

    async def put(self, key: str, value: bytes, **how: Any) -> int:
        if self.cut:
            raise StoreUnavailable("cut off")
        return await super().put(key, value, **how)


async def test_a_store_that_does_not_answer_neither_remembers_nor_tells() -> None:
    store = CutOffStore({}, make_environment())
    one = Member(id="a", placement="uniform/1", addresses=("10.0.0.1",))

    def make_host() -> tuple[RelayHost, ScriptedRelay]:
        relay = ScriptedRelay({}, make_environment("mme"))
        return RelayHost(relay, StoredState(store, "mme")), relay

    host, relay = make_host()
    assert not (await host.status()).settled
    store.cut = True
    with pytest.raises(RelayRefused, match="not remembered: cut off"):
        await host.update([one])
    standing = await host.status()
    assert (dict(standing.members), standing.settled) == ({"a": one}, False)
    assert told(relay) == [["a"]]
    other, relay = make_host()
    with pytest.raises(RelayUnreachable, match="cut off"):
        await other.status()
    assert told(relay) == []
    store.cut = False
    assert (await host.status()).settled
    assert dict((await other.status()).members) == {"a": one}


async def test_what_cannot_be_read_in_the_store_is_not_known() -> None:
    store = MemoryStore({}, make_environment())
    await store.put("relay-state/mme", b"{half")
    assert await StoredState(store, "mme").read() is None
    await store.put("relay-state/mme", b'{"version": 2}')
    with pytest.raises(RelayRefused, match="version 2"):
        await StoredState(store, "mme").read()
