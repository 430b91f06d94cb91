from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from isoneph.core.errors import LeaseTaken, StoreUnavailable
from isoneph.core.lease import KEY_PREFIX, MAX_NAME, Lease, new_owner
from isoneph.core.plugin import Store, Versioned
from isoneph.core.testing import FakeClock, make_environment
from isoneph.plugins.stores.memory import MemoryStore

TTL = 9.0


class SteppedClock(FakeClock):
    """Sleeps last until the test lets that much time pass."""

    async def sleep(self, seconds: float) -> None:
        end = self.time() + seconds
        while self.time() < end:  # noqa: ASYNC110 (the test has no event to set)
            await asyncio.sleep(0)


class FlakyStore(MemoryStore):
    """Fails, loses answers or hangs when told so."""

    down = False
    loses_answers = False
    hangs = False
    writes = 0

    async def get(self, key: str) -> Versioned | None:
        self._fail(self.down)
        return await super().get(key)

    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, ttl: float | None = None
    ) -> int:
        if self.hangs:
            await asyncio.Event().wait()
        self._fail(self.down)
        version = await super().put(key, value, expect=expect, ttl=ttl)
        self.writes += 1
        self._fail(self.loses_answers)
        return version

    async def delete(self, key: str, *, expect: int | None = None) -> None:
        self._fail(self.down)
        await super().delete(key, expect=expect)

    def _fail(self, whether: bool) -> None:
        if whether:
            raise StoreUnavailable("no answer")


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def store(clock: SteppedClock) -> FlakyStore:
    return FlakyStore({}, make_environment(clock=clock))


MakeLease = Callable[[str], Lease]


@pytest.fixture
def make_lease(store: Store, clock: SteppedClock) -> MakeLease:
    return lambda owner: Lease(store, clock, "leader", owner, TTL)


async def settle() -> None:
    """Let the other tasks do all that they can."""
    for _ in range(50):
        await asyncio.sleep(0)


# Acquire, renew, release.


async def test_only_one_holds_it(make_lease: MakeLease) -> None:
    one, other = make_lease("one"), make_lease("other")
    assert one.is_lost()
    assert one.fence == 0
    assert await one.acquire()
    assert not one.is_lost()
    assert not await other.acquire()
    assert other.is_lost()
    assert other.holder == "one"


async def test_it_is_free_after_release(make_lease: MakeLease, store: Store) -> None:
    one, other = make_lease("one"), make_lease("other")
    assert await one.acquire()
    await one.release()
    assert one.is_lost()
    assert await store.scan("") == []
    assert await other.acquire()


async def test_fences_grow_with_each_acquisition_and_not_with_renewals(
    make_lease: MakeLease, clock: SteppedClock
) -> None:
    one, other = make_lease("one"), make_lease("other")
    fences = []
    for lease in (one, other, one, one, other):
        assert await lease.acquire()
        fences.append(lease.fence)
        assert await lease.renew()
        assert lease.fence == fences[-1]
        if len(fences) % 2:
            await lease.release()
        else:
            clock.advance(TTL)
    assert fences == sorted(set(fences))


async def test_it_expires_unless_renewed(make_lease: MakeLease, clock: SteppedClock) -> None:
    one, other = make_lease("one"), make_lease("other")
    assert await one.acquire()
    for _ in range(10):
        clock.advance(TTL * 0.9)
        assert await one.renew()
        assert not await other.acquire()
    clock.advance(TTL * 0.9)
    assert not one.is_lost()
    clock.advance(TTL * 0.2)
    assert one.is_lost()
    assert not await one.renew()
    assert await other.acquire()


async def test_who_stalled_cannot_renew_or_release_what_another_took(
    make_lease: MakeLease, clock: SteppedClock
) -> None:
    one, other = make_lease("one"), make_lease("other")
    assert await one.acquire()
    clock.advance(TTL + 1)
    assert await other.acquire()
    assert not await one.renew()
    await one.release()
    assert await other.renew()
    assert other.fence > one.fence


async def test_losing_the_key_before_its_time_is_noticed_by_renew(
    make_lease: MakeLease, store: Store
) -> None:
    one, other = make_lease("one"), make_lease("other")
    assert await one.acquire()
    await store.delete(KEY_PREFIX + "leader")
    assert await other.acquire()
    assert not one.is_lost(), "nothing told it yet"
    assert not await one.renew()
    assert one.is_lost()
    assert one.holder == "other"


async def test_once_seen_lost_it_stays_lost_until_acquired_again(
    make_lease: MakeLease, store: FlakyStore, clock: SteppedClock
) -> None:
    lease = make_lease("one")
    assert await lease.acquire()
    first = lease.fence
    clock.advance(TTL)
    assert lease.is_lost()
    writes = store.writes
    assert not await lease.renew()
    assert store.writes == writes
    assert await lease.acquire()
    assert not lease.is_lost()
    assert lease.fence > first


async def test_a_slow_acquisition_counts_from_before_the_store_was_asked(
    make_lease: MakeLease, store: FlakyStore, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = store.put

    async def slow_put(*args: object, **kwargs: object) -> int:
        version: int = await put(*args, **kwargs)  # type: ignore[arg-type]  # passed on as it came
        clock.advance(TTL * 0.6)
        return version

    monkeypatch.setattr(store, "put", slow_put)
    lease = make_lease("one")
    assert await lease.acquire()
    clock.advance(TTL * 0.5)
    assert lease.is_lost()
    # The store still has the key, but who was told of the loss may have acted on it.
    writes = store.writes
    assert not await lease.renew()
    assert store.writes == writes


async def test_release_without_acquire_harms_nobody(make_lease: MakeLease) -> None:
    one, other = make_lease("one"), make_lease("same owner")
    await other.release()
    assert await one.acquire()
    await other.release()
    assert await one.renew()


async def test_two_leases_of_one_owner_exclude_each_other(make_lease: MakeLease) -> None:
    one, other = make_lease("me"), make_lease("me")
    assert await one.acquire()
    assert not await other.acquire()
    await other.release()
    assert await one.renew()


@pytest.mark.parametrize("action", [Lease.acquire, Lease.renew])
async def test_a_lost_answer_is_made_good(
    make_lease: MakeLease, store: FlakyStore, action: Callable[[Lease], Awaitable[bool]]
) -> None:
    one, other = make_lease("one"), make_lease("other")
    if action is Lease.renew:
        assert await one.acquire()
    store.loses_answers = True
    with pytest.raises(StoreUnavailable):
        await action(one)
    store.loses_answers = False
    assert not await other.acquire()
    assert await action(one)
    assert not one.is_lost()
    await one.release()
    assert await other.acquire()


async def test_release_after_a_lost_answer_frees_it(
    make_lease: MakeLease, store: FlakyStore
) -> None:
    one, other = make_lease("one"), make_lease("other")
    store.loses_answers = True
    with pytest.raises(StoreUnavailable):
        await one.acquire()
    store.loses_answers = False
    assert not await other.acquire()
    await one.release()
    assert await other.acquire()


# Waiting.


async def test_wait_gives_up_in_time(make_lease: MakeLease, store: Store) -> None:
    clock = FakeClock()
    assert await make_lease("one").acquire()
    began = clock.monotonic()
    assert not await Lease(store, clock, "leader", "other", TTL).wait(5.0)
    assert clock.monotonic() - began == pytest.approx(5.0)


async def test_wait_gets_it_when_the_holder_dies() -> None:
    clock = FakeClock()
    store = MemoryStore({}, make_environment(clock=clock))
    assert await Lease(store, clock, "leader", "one", TTL).acquire()
    began = clock.monotonic()
    other = Lease(store, clock, "leader", "other", TTL)
    assert await other.wait(60.0)
    assert TTL <= clock.monotonic() - began < TTL + 1.0
    assert not other.is_lost()


async def test_waiters_get_it_one_after_the_other(
    make_lease: MakeLease, clock: SteppedClock
) -> None:
    inside = 0
    most = 0

    async def work(number: int) -> None:
        nonlocal inside, most
        async with make_lease(f"task {number}").held(timeout=60.0):
            inside += 1
            most = max(most, inside)
            await clock.sleep(0.5)
            inside -= 1

    tasks = [asyncio.ensure_future(work(number)) for number in range(5)]
    while not all(task.done() for task in tasks):
        clock.advance(0.25)
        await settle()
    await asyncio.gather(*tasks)
    assert most == 1


async def test_wait_lost_wakes_when_it_expires(store: Store) -> None:
    clock = FakeClock()
    lease = Lease(store, clock, "leader", "one", 0.05)
    assert await lease.acquire()
    waiter = asyncio.ensure_future(lease.wait_lost())
    await settle()
    assert not waiter.done()
    clock.advance(1.0)
    await asyncio.wait_for(waiter, 5.0)
    await lease.wait_lost()


# Held.


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


# Names.


def test_owners_differ_and_say_where_they_are() -> None:
    assert new_owner() != new_owner()
    assert re.fullmatch(r".+-\d+-[0-9a-f]{8}", new_owner())


@pytest.mark.parametrize(
    ("name", "ttl"), [("", 1.0), ("x" * (MAX_NAME + 1), 1.0), ("x", 0.0), ("x", float("inf"))]
)
async def test_a_name_or_ttl_that_cannot_be_is_refused(
    store: Store, clock: SteppedClock, name: str, ttl: float
) -> None:
    with pytest.raises(ValueError, match="a lease's"):
        Lease(store, clock, name, "me", ttl)
