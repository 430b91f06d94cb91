"""A cloud's directory: the homes of its VMs, and what several processes agree on through it.

::

    DIRECTORY/cloud          the cloud's name; whoever adds a VM holds a lock on this file
    DIRECTORY/<cloud_id>/    a VM's home
    DIRECTORY/logs/          logs of VMs that are gone, if they are kept
    DIRECTORY/.new-*         a home in the making, by who holds the lock
    DIRECTORY/.gone-*        a home that is being removed

A home appears and vanishes by a rename, so that nobody ever sees half of one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from isoneph.core.errors import ConfigInvalid, NoCapacity, Unreachable
from isoneph.core.plugin import Environment
from isoneph.plugins.clouds.local.home import Home, Record, RecordUnreadable

_CLOUD_ID = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-\d+")
_LOCK_POLL = 0.005
_LOCK_SHARE = 0.4  # of the time of a call
_OTHERS_WRITE = 0o022


class Directory:
    """The directory of one cloud.

    Methods raise OSError when the file system refuses, also when the directory is not there:
    an empty one in its place must not pass for a cloud without VMs. Safe for threads and for
    several processes at once.
    """

    def __init__(self, path: Path, network: str, environment: Environment) -> None:
        self._path = path
        self._network = ipaddress.IPv4Network(network)
        self._environment = environment
        self._complained: set[str] = set()

    def prepare(self) -> None:
        """Make the directory ours, and finish what somebody left half done.

        Raises ConfigInvalid when it is another cloud's, or others may write to it.
        """
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._path.stat().st_mode & _OTHERS_WRITE:
                raise self._invalid(f"others may write to {self._path}; chmod 700 it")
            self._stamp.touch(mode=0o600)
            with self.locked():
                self._take_over()
        except OSError as error:
            raise self._invalid(f"{error.strerror}: {error.filename}") from error

    def _take_over(self) -> None:
        owner = self._stamp.read_text()
        if not owner:
            self._stamp.write_text(self._environment.name)
        elif owner != self._environment.name:
            raise self._invalid(
                f"{self._path} belongs to the cloud '{owner}'; give each cloud its own"
            )
        for entry in [*self._path.glob(".new-*"), *self._path.glob(".gone-*")]:
            discard(entry)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process and thread from adding VMs meanwhile.

        Raises Unreachable when the lock is not to be had in time.
        """
        clock = self._environment.clock
        patience = clock.monotonic() + self._environment.timeout * _LOCK_SHARE
        with self._stamp.open("r+") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if clock.monotonic() >= patience:
                        raise Unreachable(f"another process keeps {self._stamp} locked") from None
                    clock.pause(_LOCK_POLL)
            yield  # closing the file lets the lock go

    def check(self) -> None:
        """Raise OSError when the directory is not there."""
        self._stamp.stat()

    def home(self, cloud_id: str) -> Home | None:
        """Where the VM of that name lives or would live; None when it cannot be one of ours."""
        return Home(self._path / cloud_id) if _CLOUD_ID.fullmatch(cloud_id) else None

    def records(self) -> Iterator[tuple[Home, Record]]:
        """All VMs. A record that cannot be read is left out, untouched, and logged once."""
        self.check()
        for path in sorted(self._path.iterdir()):
            home = self.home(path.name)
            if home is None:
                continue
            try:
                record = home.record()
            except RecordUnreadable as error:
                self._complain(str(error))
                continue
            if record is not None:
                yield home, record

    def free_address(self, cloud_id: str, records: list[Record]) -> str:
        """An address that no VM has. Raises NoCapacity when there is none left.

        The search begins where the VM's name says, so that the address of a VM that is gone
        is not given out again at once.
        """
        taken = {record.address for record in records}
        usable = self._network.num_addresses - 2
        start = int.from_bytes(hashlib.sha256(cloud_id.encode()).digest()[:8])
        for step in range(min(usable, len(taken) + 1)):
            address = str(self._network[1 + (start + step) % usable])
            if address not in taken:
                return address
        raise NoCapacity(f"all {usable} addresses of {self._network} are taken")

    def add(self, home: Home, record: Record) -> None:
        """Let ``home`` come into being. For who holds the lock.

        The record is on disk before it has its name. The name may be lost in a power cut, but
        then so is all that ran there.
        """
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=self._path))
        try:
            with (new / "vm.json").open("xb") as file:
                file.write(msgspec.json.encode(record))
                file.flush()
                os.fsync(file.fileno())
            new.rename(home.path)
        except OSError:
            discard(new)
            raise

    def retire(self, home: Home, *, keep_log: bool) -> Path:
        """Take away a home in which nothing runs and nothing will; what remains of it is to be
        discarded."""
        if keep_log:
            logs = self._path / "logs"
            logs.mkdir(mode=0o700, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                home.log.rename(logs / f"{home.name}.log")
        remains = self._path / f".gone-{home.name}-{secrets.token_hex(4)}"
        return home.path.rename(remains)

    @property
    def _stamp(self) -> Path:
        return self._path / "cloud"

    def _complain(self, message: str) -> None:
        if message not in self._complained:
            self._complained.add(message)
            self._environment.logger.warning("left out, its record cannot be read: %s", message)

    def _invalid(self, problem: str) -> ConfigInvalid:
        return ConfigInvalid([f"cloud '{self._environment.name}': directory: {problem}"])


def discard(remains: Path) -> None:
    """Remove what nobody looks at any more; what resists is left for the next start."""
    for _ in range(2):  # a launcher that comes too late may leave its mark during the first
        shutil.rmtree(remains, ignore_errors=True)
