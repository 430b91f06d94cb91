from __future__ import annotations

from isoneph.core.testing import FakeClock, make_environment
from isoneph.plugins.stores.memory import MemoryStore


async def test_it_works_before_start_and_forgets_at_close() -> None:
    store = MemoryStore({}, make_environment())
    await store.put("k", b"value")
    assert await store.get("k") is not None
    await store.close()
    assert await store.get("k") is None


async def test_what_expired_does_not_stay_in_memory() -> None:
    clock = FakeClock()
    store = MemoryStore({}, make_environment(clock=clock))
    await store.put("stays", b"")
    for number in range(20_000):
        await store.put(f"lease/{number}", b"", ttl=10.0)
        clock.advance(0.125)
    assert len(store._entries) < 2_000
    assert await store.get("stays") is not None
    assert len(await store.scan("lease/")) == 79


async def test_many_keys_that_live_are_all_kept() -> None:
    store = MemoryStore({}, make_environment())
    for number in range(5_000):
        await store.put(str(number), b"", ttl=10.0)
    assert len(await store.scan("")) == 5_000
