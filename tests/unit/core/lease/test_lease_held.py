"""Leases that are held: renewed while they are needed, lost in time, released at the end."""

from __future__ import annotations

import asyncio

import pytest

from isoneph.core.errors import LeaseTaken, StoreUnavailable
from isoneph.core.lease import KEY_PREFIX, Lease
from isoneph.core.plugin import Store
from isoneph.core.testing import FakeClock
from lease_pieces import TTL, FlakyStore, MakeLease, SteppedClock, settle


async def test_held_renews_while_it_is_needed_and_then_releases(
    make_lease: MakeLease, store: Store, clock: SteppedClock
) -> None:
    other = make_lease("other")
    async with make_lease("one").held() as lease:
        for _ in range(50):
            clock.advance(TTL / 4)
            await settle()
            assert not lease.is_lost()
            assert not await other.acquire()
    assert lease.is_lost()
    assert all(task.get_name() != "lease leader" for task in asyncio.all_tasks())
    assert await store.scan("") == []
    assert await other.acquire()


async def test_held_tells_who_has_it(make_lease: MakeLease) -> None:
    assert await make_lease("host-1").acquire()
    with pytest.raises(LeaseTaken, match=r"lease 'leader' is held by host-1 .* within 0 s"):
        async with make_lease("other").held():
            pytest.fail("two hold it")


async def test_held_passes_on_that_the_store_is_unavailable(
    make_lease: MakeLease, store: FlakyStore
) -> None:
    store.down = True
    with pytest.raises(StoreUnavailable):
        async with make_lease("one").held(timeout=5.0):
            pytest.fail("nobody can know")


async def test_held_knows_at_once_that_another_took_it(
    make_lease: MakeLease, store: Store, clock: SteppedClock
) -> None:
    other = make_lease("other")
    async with make_lease("one").held() as lease:
        waiter = asyncio.ensure_future(lease.wait_lost())
        await settle()
        await store.delete(KEY_PREFIX + "leader")
        assert await other.acquire()
        clock.advance(TTL / 3)
        await settle()
        assert lease.is_lost()
        assert waiter.done()
    assert await other.renew(), "its release left the other's alone"


async def test_held_outlives_a_store_that_is_down_for_a_while(
    make_lease: MakeLease, store: FlakyStore, clock: SteppedClock
) -> None:
    async with make_lease("one").held() as lease:
        store.down = True
        clock.advance(TTL / 2)
        await settle()
        store.down = False
        for _ in range(10):
            clock.advance(TTL / 8)
            await settle()
        assert not lease.is_lost()


async def test_held_is_lost_when_the_store_stays_down(
    make_lease: MakeLease, store: FlakyStore, clock: SteppedClock
) -> None:
    async with make_lease("one").held() as lease:
        store.down = True
        for _ in range(8):
            clock.advance(TTL / 9)
            await settle()
        assert not lease.is_lost()
        clock.advance(TTL / 9)
        await settle()
        assert lease._lost.is_set(), "without being asked"
        assert lease.is_lost()


async def test_held_is_lost_in_time_when_the_store_hangs(
    store: FlakyStore, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()

    class LoopClock(FakeClock):
        def monotonic(self) -> float:
            return loop.time()

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    lease = Lease(store, LoopClock(), "leader", "one", 0.15)
    async with lease.held():
        store.hangs = True
        began = loop.time()
        await asyncio.wait_for(lease.wait_lost(), 5.0)
        assert 0.1 < loop.time() - began < 0.3
        await asyncio.sleep(0.02)
        assert "lease 'leader' is lost: the store did not answer" in caplog.text


async def test_who_stalled_sees_it_before_anything_else(
    make_lease: MakeLease, store: FlakyStore, clock: SteppedClock
) -> None:
    async with make_lease("one").held() as lease:
        clock.advance(TTL + 1)  # no task had a turn
        assert lease.is_lost()
        writes = store.writes
        await settle()
        assert store.writes == writes, "and does not take it back unasked"


async def test_held_releases_when_its_body_fails_or_is_cancelled(
    make_lease: MakeLease, store: Store
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with make_lease("one").held():
            raise ZeroDivisionError
    assert await store.scan("") == []

    async def hold() -> None:
        async with make_lease("two").held():
            await asyncio.Event().wait()

    task = asyncio.ensure_future(hold())
    await settle()
    assert len(await store.scan("")) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.scan("") == []


async def test_held_is_lost_when_the_store_breaks_its_contract(
    make_lease: MakeLease,
    store: FlakyStore,
    clock: SteppedClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with make_lease("one").held() as lease:
        await settle()
        monkeypatch.setattr(store, "_fail", lambda whether: 1 / 0)
        clock.advance(TTL / 2)
        await settle()
        assert lease.is_lost()
        assert "ZeroDivisionError" in caplog.text
        monkeypatch.undo()


async def test_held_ends_well_when_the_store_is_gone(
    make_lease: MakeLease, store: FlakyStore, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_lease("one").held():
        store.down = True
    assert "lease 'leader' is not released, it expires in 9 s" in caplog.text
