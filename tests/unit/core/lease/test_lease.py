"""Who gets a lease and for how long, and waiting for it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from isoneph.core.errors import StoreUnavailable
from isoneph.core.lease import KEY_PREFIX, MAX_NAME, Lease, new_owner
from isoneph.core.plugin import Store
from isoneph.core.testing import FakeClock, make_environment
from isoneph.plugins.stores.memory import MemoryStore
from lease_pieces import TTL, FlakyStore, MakeLease, SteppedClock, settle

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
