"""What outlives a relay's process: its backends, which of them drain, and that it is the only one.

The file is written whole beside the old one and put in its place, so that whatever ends the
process leaves the old state or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from isoneph.core.errors import RelayRefused
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


class StateFile:
    """The file of one application's relay; the methods block."""

    def __init__(self, directory: Path, application: str) -> None:
        self.path = directory / f"relay-{application}.json"

    def read(self) -> Remembered:
        """What was written last; nothing when there is no file. One that cannot be read is set
        aside and told of: the engine brings the backends again, and the drains that it knows."""
        try:
            remembered = msgspec.json.decode(self.path.read_bytes(), type=Remembered)
        except FileNotFoundError:
            return Remembered()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            LOG.error("%s cannot be read and is set aside: %s", self.path, error)  # noqa: TRY400 (one line tells it)
            with contextlib.suppress(OSError):
                self.path.replace(self.path.with_suffix(".unreadable"))
            return Remembered()
        if remembered.version != VERSION:
            raise RelayRefused(
                f"{self.path} is of version {remembered.version}, written by another release; "
                f"this one reads version {VERSION}"
            )
        return remembered

    def write(self, remembered: Remembered) -> None:
        """Keep this, safe from a crash of the machine too. Raises OSError."""
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
