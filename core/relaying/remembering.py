"""What outlives a relay's host: its backends, which of them drain, and that it is the only one.

A relay with a process of its own has a file for that. It is written whole beside the old one and
put in its place, so that whatever ends the process leaves the old state or the new one. A relay in
the engine has it in the store, where whoever leads next finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from isoneph.core.errors import RelayRefused, RelayUnreachable, StoreError
from isoneph.core.plugin import Store
from isoneph.core.relaying.places import private
from isoneph.core.relaying.values import Member

LOG = logging.getLogger("isoneph.relay")

VERSION = 1
_MODE = 0o600


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """The last backends, and since when those drain that do."""

    version: int = VERSION
    members: tuple[Member, ...] = ()
    draining: dict[str, float] = {}


class _Version(msgspec.Struct):
    """What every version has."""

    version: int = VERSION


class Memory(Protocol):
    """Where that outlives the relay's host."""

    async def read(self) -> Remembered | None:
        """What was written last; None when nobody knows what the relay's backends were. Raises
        RelayError."""

    async def write(self, remembered: Remembered) -> None:
        """Keep this. Raises RelayRefused."""


class StateFile:
    """The file of one application's relay."""

    def __init__(self, directory: Path, application: str) -> None:
        self.path = directory / f"relay-{application}.json"

    async def read(self) -> Remembered:
        """What was written last; nothing when there is no file. One that cannot be read is set
        aside and told of: the engine brings the backends again, and the drains that it knows."""
        return await asyncio.to_thread(self._read)

    async def write(self, remembered: Remembered) -> None:
        """Keep this, safe from a crash of the machine too. Raises RelayRefused."""
        try:
            await asyncio.to_thread(self._write, remembered)
        except OSError as error:
            raise RelayRefused(f"{self.path} cannot be written: {error}") from error

    def _read(self) -> Remembered:
        try:
            return _decode(self.path.read_bytes(), str(self.path))
        except FileNotFoundError:
            return Remembered()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            LOG.error("%s cannot be read and is set aside: %s", self.path, error)  # noqa: TRY400 (one line tells it)
            with contextlib.suppress(OSError):
                self.path.replace(self.path.with_suffix(".unreadable"))
            return Remembered()

    def _write(self, remembered: Remembered) -> None:
        fresh = self.path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(remembered))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class StoredState:
    """The same in the store, for a relay that runs in the engine."""

    def __init__(self, store: Store, application: str) -> None:
        self._store = store
        self._key = f"relay-state/{application}"

    async def read(self) -> Remembered | None:
        """See :class:`Memory`. Raises RelayUnreachable while the store does not answer."""
        try:
            stored = await self._store.get(self._key)
        except StoreError as error:
            raise RelayUnreachable(f"its backends are not known: {error.message}") from error
        if stored is None:
            return None
        try:
            return _decode(stored.value, f"{self._key} of the store")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            LOG.error("%s of the store cannot be read: %s", self._key, error)  # noqa: TRY400 (one line tells it)
            return None

    async def write(self, remembered: Remembered) -> None:
        """As above."""
        try:
            await self._store.put(self._key, msgspec.json.encode(remembered))
        except StoreError as error:
            raise RelayRefused(f"its backends are not remembered: {error.message}") from error


def _decode(content: bytes, what: str) -> Remembered:
    """Raises RelayRefused for what another version wrote, which may look quite different, and
    MsgspecError for what none did."""
    version = msgspec.json.decode(content, type=_Version).version
    if version != VERSION:
        raise RelayRefused(
            f"{what} is of version {version}, written by another release; "
            f"this one reads version {VERSION}"
        )
    return msgspec.json.decode(content, type=Remembered)


@contextmanager
def only_one(directory: Path, application: str) -> Iterator[None]:
    """Be the only relay of an application with this directory, until the process ends, however
    it ends. Raises RelayRefused when there is one."""
    private(directory)
    path = directory / f"relay-{application}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RelayRefused(
                f"a relay of application {application} is running already (it holds {path})"
            ) from None
        yield
    finally:
        os.close(descriptor)
