from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from voluptuous import Invalid, Schema

from isoneph.core.errors import StoreUnavailable
from isoneph.core.testing import FakeClock, make_environment
from isoneph.plugins.stores.sqlite import SqliteStore


def make_store(path: Path, *, clock: FakeClock | None = None, timeout: float = 30.0) -> SqliteStore:
    options = Schema(SqliteStore.schema)({"path": str(path)})
    return SqliteStore(options, make_environment(clock=clock, timeout=timeout))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "store.sqlite"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    """A store that gives up after a fifth of a second."""
    store = make_store(path, timeout=0.2)
    await store.start()
    yield store
    await store.close()


async def test_only_the_owner_may_read_it(store: SqliteStore, path: Path) -> None:
    await store.put("k", b"secret")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    files = list(path.parent.iterdir())
    assert len(files) == 3, "the file, its log and its index"
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


async def test_everything_survives_a_restart(path: Path) -> None:
    clock = FakeClock()
    first = make_store(path, clock=clock)
    await first.start()
    version = await first.put("k", b"value")
    await first.put("short", b"", ttl=5.0)
    await first.put("long", b"", ttl=500.0)
    await first.close()
    clock.advance(10.0)
    second = make_store(path, clock=clock)
    await second.start()
    assert await second.get("k") == (b"value", version)
    assert sorted(await second.scan("")) == ["k", "long"]
    await second.close()


async def test_versions_grow_even_after_the_file_was_lost(path: Path) -> None:
    clock = FakeClock()
    store = make_store(path, clock=clock)
    await store.start()
    version = [await store.put("k", b"") for _ in range(1000)][-1]
    await store.close()
    path.unlink()  # noqa: ASYNC240 (quick)
    clock.advance(1.0)
    await store.start()
    assert await store.put("k", b"") > version
    await store.close()


async def test_what_expired_does_not_stay_in_the_file(path: Path) -> None:
    clock = FakeClock()
    store = make_store(path, clock=clock)
    await store.start()
    for number in range(100):
        await store.put(str(number), b"", ttl=1.0)
        clock.advance(0.5)
    await store.close()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM entry").fetchone() == (2,)
    db.close()


async def test_a_locked_file_is_unavailable_in_time_and_the_loop_goes_on(
    store: SqliteStore, path: Path
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    loop = asyncio.get_running_loop()
    began = loop.time()
    put = asyncio.ensure_future(store.put("k", b"value"))
    turns = 0
    while not put.done():
        await asyncio.sleep(0.01)
        turns += 1
    with pytest.raises(StoreUnavailable, match=str(path)):
        put.result()
    assert loop.time() - began < 0.5
    assert turns > 3
    assert await store.get("k") is None, "reading goes on"
    other.execute("ROLLBACK")
    other.close()
    assert await store.put("k", b"value", expect=0) > 0


async def test_what_has_not_begun_in_time_is_not_done_later(store: SqliteStore) -> None:
    assert store._worker is not None
    go_on = threading.Event()
    store._worker.submit(lambda database: go_on.wait())
    with pytest.raises(StoreUnavailable, match="did not answer within"):
        await store.put("k", b"late")
    go_on.set()
    assert await store.get("k") is None


async def test_close_waits_for_what_is_under_way_and_leaves_no_thread(path: Path) -> None:
    before = threading.active_count()
    store = make_store(path)
    await store.start()
    await store.start()
    puts = [asyncio.ensure_future(store.put(str(number), b"")) for number in range(20)]
    await asyncio.sleep(0)
    await store.close()
    assert len(await asyncio.gather(*puts)) == 20
    assert threading.active_count() == before


async def test_close_does_not_wait_for_a_hung_disk(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(path, timeout=0.1)
    await store.start()
    assert store._worker is not None
    worker, go_on = store._worker, threading.Event()
    worker.submit(lambda database: go_on.wait())
    await store.close()
    assert "left behind" in caplog.text
    go_on.set()
    worker.join(5.0)
    assert not worker.is_alive()
    assert worker._database._connection is None


async def test_it_says_that_it_is_not_open(path: Path) -> None:
    store = make_store(path)
    with pytest.raises(StoreUnavailable, match="is not open"):
        await store.get("k")


def test_a_file_that_is_none_of_ours_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "letter"
    path.write_text("something else entirely, " * 100)
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match=rf"{path}: file is not a database"):
        asyncio.run(make_store(path).start())
    assert path.read_bytes() == before


async def test_a_directory_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="file"):
        await make_store(tmp_path / "file" / "store.sqlite").start()


async def test_a_file_that_others_make_at_the_same_time_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [sqlite3.SQLITE_BUSY] * 3

    class Contested(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if "journal_mode" in sql and refusals:
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = refusals.pop()
                raise error
            return super().execute(sql, *parameters)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Contested))
    store = make_store(path)
    await store.start()
    assert not refusals
    await store.close()
    refusals += [sqlite3.SQLITE_CANTOPEN] * 2
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.start()
    assert len(refusals) == 1, "only what passes by itself is waited for"


async def test_a_file_of_a_later_layout_is_left_alone(store: SqliteStore, path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(StoreUnavailable, match="has layout 2"):
        await make_store(path).start()


def test_the_home_directory_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    options = Schema(SqliteStore.schema)({})
    store = SqliteStore(options, make_environment())
    assert store._path == tmp_path / ".local/state/isoneph/store.sqlite"


@pytest.mark.parametrize("value", ["store.sqlite", "", 7, None, ":memory:"])
def test_the_path_is_absolute(value: object) -> None:
    with pytest.raises(Invalid, match="expected the absolute path"):
        Schema(SqliteStore.schema)({"path": value})


def test_a_home_that_is_unknown_is_told() -> None:
    with pytest.raises(Invalid, match="expected a path whose ~ can be expanded"):
        Schema(SqliteStore.schema)({"path": "~nobody-of-that-name/store.sqlite"})
