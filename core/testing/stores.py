"""The conformance suite of stores."""
# ruff: noqa: D102, PLR2004, S101 (as in any test: names tell, figures are literal, asserts speak)

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Iterable
from pathlib import Path

import pytest
import pytest_asyncio

from isoneph.core.errors import VersionConflict
from isoneph.core.plugin import Store

#: Keys that some encoding, pattern or query language could stumble over.
ODD_KEYS = (
    "k",
    "two words",
    " padded ",
    "line\nbreak\ttab",
    "quote'\"`; DROP TABLE entry; --",
    "glob*?[a-z]{x}\\",
    "like%_",
    "../up/./and//down/",
    "Ünïcödé ключ 鍵 🗝",
    "e\u0301",
    "\u00e9",
    "nul\0byte",
    "\U0010ffff",
    "x" * 200,
    "鍵" * 200,
)
EVERY_BYTE = bytes(range(256))
MEBIBYTE = EVERY_BYTE * 4096


@pytest.mark.asyncio
class StoreConformance(ABC):
    """What every store must do.

    Inherit, and say how to make one::

        class TestMyStore(StoreConformance):
            def make_store(self, tmp_path):
                return MyStore({"option": 1}, make_environment("store"))

    A store whose time is that of a :class:`~isoneph.core.testing.FakeClock` also overrides
    :meth:`pass_time`, to advance it. One test makes all its stores with the same ``tmp_path``;
    each test must find the store empty.
    """

    #: Seconds after which keys expire here: long enough that none does by mistake.
    ttl = 1.0

    @abstractmethod
    def make_store(self, tmp_path: Path) -> Store:
        """A store that is not started."""

    def make_peer(self, tmp_path: Path) -> Store:
        """Another one, of another replica, that shares its state; for ``shared`` stores."""
        return self.make_store(tmp_path)

    async def pass_time(self, seconds: float) -> None:
        """Let ``seconds`` pass on the clock that the store judges expiry by."""
        await asyncio.sleep(seconds)

    @pytest_asyncio.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        """The store under test, started."""
        store = self.make_store(tmp_path)
        await store.start()
        yield store
        await store.close()

    @pytest_asyncio.fixture
    async def peer(self, store: Store, tmp_path: Path) -> AsyncIterator[Store]:
        """The store of another replica, started."""
        if not store.shared:
            pytest.skip("shared is False: no other process sees what this store holds")
        peer = self.make_peer(tmp_path)
        await peer.start()
        yield peer
        await peer.close()

    # Reading and writing.

    async def test_what_was_never_written_is_not_there(self, store: Store) -> None:
        assert await store.get("k") is None

    async def test_what_was_written_is_there_with_its_version(self, store: Store) -> None:
        version = await store.put("k", b"value")
        assert version > 0
        assert await store.get("k") == (b"value", version)
        assert await store.get("other") is None

    async def test_a_write_replaces_and_versions_grow(self, store: Store) -> None:
        first = await store.put("k", b"1")
        second = await store.put("k", b"2")
        assert second > first
        assert await store.get("k") == (b"2", second)

    async def test_delete_removes_and_may_be_repeated(self, store: Store) -> None:
        await store.put("k", b"value")
        await store.put("other", b"stays")
        await store.delete("k")
        assert await store.get("k") is None
        await store.delete("k")
        await store.delete("k", expect=0)
        assert await store.get("other") is not None

    @pytest.mark.parametrize("value", [b"", EVERY_BYTE, MEBIBYTE], ids=["empty", "bytes", "1MiB"])
    async def test_values_are_any_bytes(self, store: Store, value: bytes) -> None:
        version = await store.put("k", value)
        assert await store.get("k") == (value, version)

    async def test_keys_are_any_text(self, store: Store) -> None:
        for number, key in enumerate(ODD_KEYS):
            await store.put(key, str(number).encode(), expect=0)
        for number, key in enumerate(ODD_KEYS):
            held = await store.get(key)
            assert held is not None, key
            assert held.value == str(number).encode()
        assert sorted(await store.scan("")) == sorted(ODD_KEYS)
        await store.delete(ODD_KEYS[-1])
        assert len(await store.scan("")) == len(ODD_KEYS) - 1

    # Compare-and-set.

    async def test_expect_zero_writes_only_where_nothing_is(self, store: Store) -> None:
        version = await store.put("k", b"first", expect=0)
        with pytest.raises(VersionConflict):
            await store.put("k", b"second", expect=0)
        assert await store.get("k") == (b"first", version)

    async def test_expect_replaces_only_the_version_named(self, store: Store) -> None:
        first = await store.put("k", b"1")
        second = await store.put("k", b"2", expect=first)
        for stale in (first, second + 1):
            with pytest.raises(VersionConflict):
                await store.put("k", b"3", expect=stale)
        assert await store.get("k") == (b"2", second)

    async def test_expect_of_what_is_gone_conflicts(self, store: Store) -> None:
        version = await store.put("k", b"1")
        await store.delete("k")
        with pytest.raises(VersionConflict):
            await store.put("k", b"2", expect=version)
        with pytest.raises(VersionConflict):
            await store.delete("k", expect=version)
        assert await store.get("k") is None

    async def test_delete_removes_only_the_version_named(self, store: Store) -> None:
        first = await store.put("k", b"1")
        second = await store.put("k", b"2")
        for wrong in (0, first, second + 1):
            with pytest.raises(VersionConflict):
                await store.delete("k", expect=wrong)
        assert await store.get("k") == (b"2", second)
        await store.delete("k", expect=second)
        assert await store.get("k") is None

    async def test_a_key_made_again_does_not_repeat_a_version(self, store: Store) -> None:
        first = await store.put("k", b"same")
        await store.delete("k")
        second = await store.put("k", b"same", expect=0)
        assert second > first
        with pytest.raises(VersionConflict):
            await store.put("k", b"stale", expect=first)

    async def test_only_one_of_many_creates_a_key(self, store: Store) -> None:
        assert await _winners(store.put("k", b"", expect=0) for _ in range(20)) == 1

    async def test_only_one_of_many_deletes_a_version(self, store: Store) -> None:
        version = await store.put("k", b"")
        assert await _winners(store.delete("k", expect=version) for _ in range(20)) == 1

    async def test_concurrent_increments_lose_nothing(self, store: Store) -> None:
        await asyncio.gather(*(_increment(store) for _ in range(50)))
        assert await _count(store) == 50

    # Time to live.

    async def test_a_key_is_there_until_its_ttl_and_then_gone(self, store: Store) -> None:
        version = await store.put("k", b"value", ttl=self.ttl)
        await store.put("stays", b"value")
        assert await store.get("k") == (b"value", version)
        assert sorted(await store.scan("")) == ["k", "stays"]
        await self.pass_time(self.ttl * 1.1)
        assert await store.get("k") is None
        assert await store.scan("") == ["stays"]

    async def test_what_expired_counts_as_nothing(self, store: Store) -> None:
        version = await store.put("k", b"1", ttl=self.ttl)
        await self.pass_time(self.ttl * 1.1)
        with pytest.raises(VersionConflict):
            await store.put("k", b"2", expect=version)
        with pytest.raises(VersionConflict):
            await store.delete("k", expect=version)
        await store.delete("k", expect=0)
        assert await store.put("k", b"2", expect=0) > version

    async def test_a_write_sets_the_ttl_anew(self, store: Store) -> None:
        for key in ("forever", "longer", "shorter"):
            await store.put(key, b"", ttl=None if key == "shorter" else self.ttl)
        await store.put("forever", b"")
        await store.put("longer", b"", ttl=self.ttl * 100)
        await store.put("shorter", b"", ttl=self.ttl)
        await self.pass_time(self.ttl * 1.1)
        assert sorted(await store.scan("")) == ["forever", "longer"]

    # Scanning.

    async def test_scan_finds_exactly_the_prefix(self, store: Store) -> None:
        keys = ["a", "a/", "a/1", "a/1/2", "A/1", "ab", "b/a/1", "\u00e4/1"]
        for key in keys:
            await store.put(key, b"")
        assert sorted(await store.scan("a/")) == ["a/", "a/1", "a/1/2"]
        assert sorted(await store.scan("A")) == ["A/1"]
        assert sorted(await store.scan("\u00e4")) == ["\u00e4/1"]
        assert await store.scan("c") == []
        assert sorted(await store.scan("")) == sorted(keys)

    @pytest.mark.parametrize("sign", ["*", "?", "[ab]", "[^x]", "\\", "\\*", "%", "_", "{a}", "["])
    async def test_scan_takes_the_prefix_literally(self, store: Store, sign: str) -> None:
        literal = f"p{sign}q"
        for key in (literal, f"{literal}/1", "paq", "pq", "p\\q", "pxxq", "p\\aq"):
            await store.put(key, b"")
        expected = [literal, f"{literal}/1"]
        assert sorted(await store.scan(literal)) == expected
        assert set(expected) <= set(await store.scan(f"p{sign}"))

    async def test_scan_finds_each_of_many_keys_once(self, store: Store) -> None:
        keys = [f"many/{number:04}" for number in range(1500)]
        await asyncio.gather(*(store.put(key, b"") for key in keys))
        assert sorted(await store.scan("many/")) == keys

    # Several replicas.

    async def test_replicas_see_what_each_other_writes(self, store: Store, peer: Store) -> None:
        version = await store.put("k", b"1")
        assert await peer.get("k") == (b"1", version)
        assert await peer.scan("") == ["k"]
        newer = await peer.put("k", b"2", expect=version)
        assert newer > version
        with pytest.raises(VersionConflict):
            await store.put("k", b"3", expect=version)
        await store.delete("k", expect=newer)
        assert await peer.get("k") is None
        assert await peer.put("k", b"4", expect=0) > newer

    async def test_replicas_see_a_key_expire(self, store: Store, peer: Store) -> None:
        await store.put("k", b"", ttl=self.ttl)
        await self.pass_time(self.ttl * 1.1)
        assert await peer.get("k") is None
        await peer.put("k", b"", expect=0)

    async def test_only_one_replica_creates_a_key(self, store: Store, peer: Store) -> None:
        replicas = [store, peer] * 10
        assert await _winners(replica.put("k", b"", expect=0) for replica in replicas) == 1

    async def test_increments_of_replicas_lose_nothing(self, store: Store, peer: Store) -> None:
        await asyncio.gather(*(_increment(replica) for replica in [store, peer] * 25))
        assert await _count(store) == 50

    # Coming and going.

    async def test_close_needs_no_start_and_may_be_repeated(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        await store.close()
        await store.start()
        await store.close()
        await store.close()

    async def test_versions_grow_over_a_restart(self, store: Store) -> None:
        version = await store.put("k", b"1")
        await store.close()
        await store.start()
        assert await store.put("k", b"2") > version

    async def test_a_shared_store_keeps_what_a_closed_one_wrote(
        self, store: Store, peer: Store
    ) -> None:
        version = await store.put("k", b"1")
        await store.close()
        assert await peer.get("k") == (b"1", version)
        await peer.close()
        await store.start()
        assert await store.get("k") == (b"1", version)

    async def test_a_cancelled_call_harms_no_other(self, store: Store) -> None:
        version = await store.put("k", b"1")
        calls = [asyncio.ensure_future(store.get("k")) for _ in range(10)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        await asyncio.wait(calls)
        assert all(call.result() == (b"1", version) for call in calls[1::2])
        assert await store.get("k") == (b"1", version)


async def _winners(attempts: Iterable[Awaitable[object]]) -> int:
    """How many of ``attempts``, made at the same time, met no conflict."""
    answers = await asyncio.gather(*attempts, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, VersionConflict):
            raise answer
    return sum(not isinstance(answer, VersionConflict) for answer in answers)


async def _increment(store: Store) -> None:
    """Add one to a counter that others add to at the same time."""
    while True:
        held = await store.get("counter")
        await asyncio.sleep(0)  # let others come between, also where the store never waits
        value, version = held or (b"0", 0)
        try:
            await store.put("counter", str(int(value) + 1).encode(), expect=version)
        except VersionConflict:
            continue
        return


async def _count(store: Store) -> int:
    held = await store.get("counter")
    return int(held.value) if held else 0
