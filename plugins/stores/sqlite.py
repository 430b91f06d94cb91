"""A store in a file, for the processes of one host."""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

from voluptuous import Invalid, Optional

from isoneph.core.errors import StoreUnavailable, VersionConflict
from isoneph.core.plugin import Clock, Environment, OptionSchema, Store, Versioned

T = TypeVar("T")

#: Written to the file, so that a later layout can tell what it finds.
_LAYOUT = 1
# Keys are UTF-8 bytes, not text: they then compare byte by byte, and a prefix is a range.
_TABLES = (
    """CREATE TABLE IF NOT EXISTS entry (
           key BLOB PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL, expires REAL)""",
    "CREATE INDEX IF NOT EXISTS entry_expires ON entry (expires) WHERE expires IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY, version INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO counter VALUES (1, 0)",
    f"PRAGMA user_version = {_LAYOUT}",
)


def _path(value: object) -> str:
    try:
        if isinstance(value, str) and Path(value).expanduser().is_absolute():
            return value
    except RuntimeError as error:  # no such user, or no home directory
        raise Invalid(f"expected a path whose ~ can be expanded ({error})") from None
    raise Invalid("expected the absolute path of a file, or one that begins with ~/")


class SqliteStore(Store):
    """In an SQLite file: for several processes of one host, and across restarts.

    The file must be on a local disk, and stay there while a replica runs. Expiry is judged by
    the host's wall clock, which all its processes share. A task never waits for the disk: a
    thread of the store's own does, and when that takes too long the task gets StoreUnavailable.
    """

    schema: ClassVar[OptionSchema] = {
        Optional(
            "path",
            default="~/.local/state/isoneph/store.sqlite",
            description=(
                "The file, made (mode 0600) when it is not there, as is its directory (0700). "
                "All replicas on this host name the same."
            ),
        ): _path,
    }

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self._path = Path(options["path"]).expanduser()
        self._worker: _Worker | None = None

    async def start(self) -> None:
        """Open the file, and make it when it is not there."""
        if self._worker is not None:
            return
        timeout = self.environment.timeout
        database = _Database(self._path, self.environment.clock, timeout * 0.8)
        worker = _Worker(database)
        worker.start()
        try:
            await self._wait(worker.submit(_Database.open))
        except BaseException:
            worker.stop()
            raise
        self._worker = worker

    async def close(self) -> None:
        """Finish what is under way, and close the file."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        try:
            await self._wait(worker.stop())
        except StoreUnavailable as error:
            self.environment.logger.warning("closing: %s; its thread is left behind", error)
        else:
            worker.join()

    async def get(self, key: str) -> Versioned | None:
        """The value under ``key``."""
        return await self._do(lambda database: database.get(key.encode()))

    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, ttl: float | None = None
    ) -> int:
        """Write ``value``. After StoreUnavailable it may or may not have been written."""
        return await self._do(lambda database: database.put(key.encode(), value, expect, ttl))

    async def delete(self, key: str, *, expect: int | None = None) -> None:
        """Remove ``key``. After StoreUnavailable it may or may not have been removed."""
        await self._do(lambda database: database.delete(key.encode(), expect))

    async def scan(self, prefix: str) -> Sequence[str]:
        """The keys that begin with ``prefix``."""
        return await self._do(lambda database: database.scan(prefix.encode()))

    async def _do(self, job: Callable[[_Database], T]) -> T:
        if self._worker is None:
            raise StoreUnavailable(f"the store in {self._path} is not open")
        return await self._wait(self._worker.submit(job))

    async def _wait(self, result: Future[T]) -> T:
        """What the thread makes of a job; a job that has not begun in time is not done at all."""
        timeout = self.environment.timeout * 0.9
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.wrap_future(result)
        except TimeoutError:
            raise StoreUnavailable(
                f"the store in {self._path} did not answer within {timeout:g} s"
            ) from None
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"the store in {self._path}: {error}") from error


class _Job(NamedTuple):
    do: Callable[[_Database], Any]
    result: Future[Any]


class _Worker(threading.Thread):
    """The only thread that touches a database.

    It is a daemon, unlike the threads of an executor: the interpreter does not wait for a hung
    disk when it exits.
    """

    def __init__(self, database: _Database) -> None:
        super().__init__(name="isoneph-sqlite", daemon=True)
        self._database = database
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    def submit(self, job: Callable[[_Database], T]) -> Future[T]:
        """Have ``job`` done after those before it."""
        result: Future[T] = Future()
        self._jobs.put(_Job(job, result))
        return result

    def stop(self) -> Future[None]:
        """Have the database closed and the thread end, after the jobs before."""
        closed = self.submit(_Database.close)
        self._jobs.put(None)
        return closed

    def run(self) -> None:
        """Do job after job."""
        while (job := self._jobs.get()) is not None:
            if not job.result.set_running_or_notify_cancel():
                continue
            try:
                job.result.set_result(job.do(self._database))
            except BaseException as error:  # noqa: BLE001 (handed to the task that waits for it)
                job.result.set_exception(error)
        # Again, for when nobody waited any more for the job that does it.
        self._database.close()


class _Database:
    """The SQL of it, blocking; everything but the constructor in one thread."""

    def __init__(self, path: Path, clock: Clock, busy_timeout: float) -> None:
        self._path = path
        self._clock = clock
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite would make it readable for others; its side files take this file's mode. Made
        # without opening it: to close it would drop the locks of other connections in here.
        with suppress(FileExistsError):
            os.mknod(self._path, stat.S_IFREG | 0o600)
        db = sqlite3.connect(self._path, timeout=self._busy_timeout, isolation_level=None)
        self._connection = db
        self._write_ahead(db)
        with db:
            db.execute("BEGIN IMMEDIATE")
            (layout,) = db.execute("PRAGMA user_version").fetchone()
            if layout not in (0, _LAYOUT):
                raise sqlite3.DatabaseError(f"has layout {layout}; this isoneph knows {_LAYOUT}")
            for statement in _TABLES:
                db.execute(statement)

    def _write_ahead(self, db: sqlite3.Connection) -> None:
        """Let readers not wait for writers, nor writers for the disk.

        Of several processes that do so at first at the same time all but one may be told that
        the file is busy, at once and whatever the connection's time-out is.
        """
        deadline = self._clock.monotonic() + self._busy_timeout
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
                if not busy or self._clock.monotonic() >= deadline:
                    raise
                self._clock.pause(0.01)
            else:
                db.execute("PRAGMA synchronous = NORMAL")
                return

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._connection is not None  # noqa: S101 (open is the first job of the thread)
        return self._connection

    def get(self, key: bytes) -> Versioned | None:
        row = self._db.execute(
            "SELECT value, version FROM entry WHERE key = ? AND (expires IS NULL OR expires > ?)",
            (key, self._clock.time()),
        ).fetchone()
        return Versioned(*row) if row else None

    def put(self, key: bytes, value: bytes, expect: int | None, ttl: float | None) -> int:
        with self._db as db:
            now = self._begin(key, expect)
            # One counter for all keys, so that a key that comes back never repeats a version;
            # with the time as its floor, not even after the file was lost.
            db.execute("UPDATE counter SET version = max(version + 1, ?)", (int(now * 1e6),))
            db.execute(
                "INSERT OR REPLACE INTO entry SELECT ?, ?, version, ? FROM counter",
                (key, value, None if ttl is None else now + ttl),
            )
            (version,) = db.execute("SELECT version FROM counter").fetchone()
        return int(version)

    def delete(self, key: bytes, expect: int | None) -> None:
        with self._db as db:
            self._begin(key, expect)
            db.execute("DELETE FROM entry WHERE key = ?", (key,))

    def scan(self, prefix: bytes) -> list[str]:
        # No UTF-8 contains the byte 0xff, so it stands behind whatever follows the prefix.
        rows = self._db.execute(
            "SELECT key FROM entry WHERE key >= ? AND key < ? AND (expires IS NULL OR expires > ?)",
            (prefix, prefix + b"\xff", self._clock.time()),
        )
        return [key.decode() for (key,) in rows]

    def _begin(self, key: bytes, expect: int | None) -> float:
        """Begin to write: purge what has expired, then check the version; the time it is."""
        self._db.execute("BEGIN IMMEDIATE")
        now = self._clock.time()
        self._db.execute("DELETE FROM entry WHERE expires <= ?", (now,))
        if expect is not None:
            row = self._db.execute("SELECT version FROM entry WHERE key = ?", (key,)).fetchone()
            version = row[0] if row else 0
            if version != expect:
                raise VersionConflict(
                    f"expected version {expect} of {key.decode()!r}, found {version}"
                )
        return now
