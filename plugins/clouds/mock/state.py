"""The SQLite database that simulated clouds live in."""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isoneph.core.errors import Unreachable
from isoneph.plugins.clouds.mock.options import PRIVATE

_VERSION = 1
_BUSY_SECONDS = 20.0
_OPEN_PAUSE = 0.01
_KIND = 0xFF

_TABLES = (
    """CREATE TABLE cloud (
        name TEXT PRIMARY KEY,
        options TEXT,                         -- JSON of the last driver started, NULL: none yet
        overrides TEXT NOT NULL DEFAULT '{}', -- JSON, set at run time
        vms INTEGER NOT NULL DEFAULT 0        -- all VMs ever: what ids and addresses come from
    )""",
    """CREATE TABLE call (
        cloud TEXT, name TEXT, count INTEGER NOT NULL, PRIMARY KEY (cloud, name)
    ) WITHOUT ROWID""",
    """CREATE TABLE fault (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        cloud TEXT NOT NULL,
        configured INTEGER NOT NULL,          -- whether it came from the options
        kind TEXT NOT NULL, spec TEXT NOT NULL, -- JSON
        remaining INTEGER,                    -- NULL: no end
        hits INTEGER NOT NULL DEFAULT 0,
        begins_at REAL NOT NULL, ends_at REAL -- NULL: never
    )""",
    "CREATE INDEX fault_cloud ON fault (cloud)",
    """CREATE TABLE vm (
        cloud TEXT, cloud_id TEXT,
        number INTEGER NOT NULL,
        name TEXT NOT NULL, type TEXT NOT NULL, application TEXT NOT NULL,
        address TEXT NOT NULL, tags TEXT NOT NULL, resources TEXT NOT NULL, -- the last two JSON
        created_at REAL NOT NULL, visible_at REAL NOT NULL, boots_at REAL NOT NULL,
        gone_at REAL,                         -- NULL: nobody deleted it
        state TEXT,                           -- set by hand, NULL: follows from the times
        fault TEXT,
        PRIMARY KEY (cloud, cloud_id)
    ) WITHOUT ROWID""",
    "CREATE INDEX vm_application ON vm (cloud, application, number)",
    "CREATE INDEX vm_gone ON vm (cloud, gone_at) WHERE gone_at IS NOT NULL",
    """CREATE TABLE port (
        cloud TEXT, cloud_id TEXT,
        vm_id TEXT NOT NULL, application TEXT NOT NULL, left_at REAL NOT NULL,
        PRIMARY KEY (cloud, cloud_id)
    ) WITHOUT ROWID""",
)


class State:
    """One state file, or a private database in memory; opened when first used.

    Safe for threads, a file also for processes; a process may die at any instant. What is in
    memory lives as long as this object, over :meth:`close` too. Whatever SQLite objects to is
    raised as :class:`~isoneph.core.errors.Unreachable`, with nothing done.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._private = path == PRIVATE
        self._lock = threading.Lock()
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        self._finalizer: weakref.finalize[..., State] | None = None

    def open(self) -> None:
        """Open the database now, and let it be used again after :meth:`close`."""
        with self._lock, self._as_unreachable():
            self._closed = False
            self._connected()

    def close(self) -> None:
        """Close the file; what comes after it is refused until :meth:`open`."""
        with self._lock:
            if not self._private:
                self._closed = True
                self._release()

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        """The database, all that is done in the block being done at once or not at all."""
        with self._lock, self._as_unreachable():
            db = self._connected()
            db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    @contextmanager
    def _as_unreachable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise Unreachable(f"mock state file {self._path}: {error}") from error

    def _connected(self) -> sqlite3.Connection:
        if self._closed:
            raise Unreachable(f"mock state file {self._path}: it is closed")
        if self._connection is None:
            self._connection = _connect(self._path)
            self._finalizer = weakref.finalize(self, self._connection.close)
        return self._connection

    def _release(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._connection = self._finalizer = None


def _connect(path: str) -> sqlite3.Connection:
    if path != PRIVATE:
        file = Path(path).expanduser()
        file.parent.mkdir(parents=True, exist_ok=True)
        path = str(file)
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _enter_wal(db)
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("BEGIN IMMEDIATE")
        _lay_out(db)
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def _enter_wal(db: sqlite3.Connection) -> None:
    # When several open a new file at once, SQLite fails one rather than have them wait for each
    # other. An error code's lowest byte is its kind, the rest says more.
    end = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _KIND != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(_OPEN_PAUSE)
        else:
            return


def _lay_out(db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        for statement in _TABLES:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {_VERSION}")
    elif version != _VERSION:
        raise sqlite3.DatabaseError(
            f"it has version {version}, this driver needs {_VERSION}; remove the file"
        )
