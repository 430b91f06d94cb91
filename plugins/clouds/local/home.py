"""A VM's home: the directory that holds its record, what became of it, and its log.

==============  =============================================================================
``vm.json``     the record: tags, name, address; written once, there before the home has its name
``log``         what the process prints; ``log.old`` is what it printed before that
``exit``        the status that the command ended with
``process``     who runs it (``pid:started:boot``), or ``cancelled``: nobody ever will
``ready``       its port has accepted a connection
``deleting``    it is to be removed; when to use force, in seconds since the epoch
``terminated``  it was asked to end
==============  =============================================================================

The last four are facts: symbolic links whose target is a text, as some editors lock their
files. Making one is atomic, needs no room on a full disk, and only the first to make it succeeds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isoneph.core.model import VmState
from isoneph.plugins.clouds.local import processes
from isoneph.plugins.clouds.local.processes import Leader, Process

#: Seconds that a claimed VM may take until its process has recorded itself.
START_SECONDS = 10.0

_CANCELLED = "cancelled"
_PROBE_SECONDS = 0.1
_LAST_LINE = 200
_TAIL_BYTES = 4096
_SIGNALLED = 128  # a shell's exit status for a command that a signal ended, less its number


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a VM from the moment that it exists."""

    tags: Mapping[str, str]
    name: str
    address: str
    created_at: float
    ready_port: int | None = None


class RecordUnreadable(Exception):
    """A record is there and cannot be read; the message names the file."""


@dataclass(frozen=True, slots=True)
class Home:
    """A VM's directory at ``path``; it may come into being or vanish at any time.

    Methods raise OSError when the file system or the kernel refuses. Safe for threads and for
    several processes at once.
    """

    path: Path

    @property
    def name(self) -> str:
        """The directory's name: the VM's ``cloud_id``."""
        return self.path.name

    @property
    def log(self) -> Path:
        """The file that the process prints to."""
        return self.path / "log"

    def exists(self) -> bool:
        """Whether the VM is there: its record is, under its name."""
        return (self.path / "vm.json").exists()

    def record(self) -> Record | None:
        """The VM's record, or None when there is no such VM. Raises RecordUnreadable."""
        path = self.path / "vm.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RecordUnreadable(f"{path}: {error.strerror}") from error
        except msgspec.DecodeError as error:
            raise RecordUnreadable(f"{path}: {error}") from error

    def note(self, fact: str, value: str = "yes") -> bool:
        """Record a fact; False when it was known already, or the home is gone."""
        try:
            (self.path / fact).symlink_to(value)
        except (FileExistsError, FileNotFoundError):
            return False
        return True

    def noted(self, fact: str) -> str | None:
        """What was recorded of a fact, if it was."""
        try:
            return str((self.path / fact).readlink())
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.EINVAL:  # somebody put something else there
                return ""
            raise

    @property
    def claimed(self) -> bool:
        """Whether somebody runs or ran here, or nobody ever will."""
        return self.noted("process") is not None

    def cancel(self) -> bool:
        """Make sure that no process will start here; False when one did."""
        return self.note("process", _CANCELLED)

    @property
    def leader(self) -> Leader | None:
        """The process that recorded itself here; it may have ended."""
        return Leader.parse(self.noted("process") or "")

    @property
    def deleting(self) -> bool:
        """Whether the VM is to be removed."""
        return self.noted("deleting") is not None

    def state(self, record: Record, now: float) -> tuple[VmState, str | None]:
        """What the VM does and, in ERROR, why."""
        if self.deleting:
            return VmState.DELETING, None
        leader = self.leader
        if leader is None:
            if now - record.created_at < START_SECONDS:
                return VmState.BUILDING, None
            return VmState.ERROR, self._fault(f"did not start within {START_SECONDS:.0f} seconds")
        return self._state_of(leader, record)

    def advance_deletion(self, now: float) -> bool:
        """Take a deletion that was noted one step on; True when nothing runs here any more.

        Each step can be taken again, by anybody: asked to end, killed when that is overdue.
        """
        self.cancel()
        leader = self.leader
        if leader is None:
            return True
        overdue = now >= self._deadline()
        asked = self.noted("terminated") is not None
        if asked and not overdue and processes.find(leader) is not None:
            return False
        members = processes.members(leader, f"ISONEPH_DIRECTORY={self.path}")
        if overdue:
            for process in members:
                processes.send(process, signal.SIGKILL)
        elif not asked:
            self._ask_to_end(leader, members)
        return not members

    def _ask_to_end(self, leader: Leader, members: Sequence[Process]) -> None:
        """Send SIGTERM to all but the leader, which ends on its own after the command.

        When the leader is still alone, it is about to start the command: asked for next time.
        """
        for process in members:
            # A process that stands still takes SIGTERM only after SIGCONT.
            if process.pid == leader.pid:
                processes.send(process, signal.SIGCONT)
            else:
                processes.send(process, signal.SIGTERM, signal.SIGCONT)
        if any(process.pid != leader.pid for process in members):
            self.note("terminated")

    def bound_log(self, limit: int) -> None:
        """Begin the log anew when it is longer than ``limit`` bytes, keeping one old one if
        there is room. What the process prints at that very moment may be lost."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > limit:
                old = self.path / "log.old"
                try:
                    shutil.copyfile(self.log, old)
                except OSError:
                    old.unlink(missing_ok=True)
                os.truncate(self.log, 0)

    def last_line(self) -> str:
        """The last line of the log that is not blank: at most 200 printable characters."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        lines = ("".join(filter(str.isprintable, line)).strip() for line in text.splitlines())
        return ([line for line in lines if line] or [""])[-1][:_LAST_LINE]

    def _state_of(self, leader: Leader, record: Record) -> tuple[VmState, str | None]:
        # The exit status is written before the process ends, so it is looked for afterwards.
        process = processes.find(leader)
        status = self._exit_status()
        if status is not None:
            return VmState.ERROR, self._fault(f"exited with status {status}")
        if process is None:
            rebooted = leader.boot != processes.boot_id()
            why = "ended when the machine restarted" if rebooted else "was killed"
            return VmState.ERROR, self._fault(why)
        if process.stopped:
            return VmState.STOPPED, None
        ready = record.ready_port is None or self._ready(record.address, record.ready_port)
        return (VmState.ACTIVE if ready else VmState.BUILDING), None

    def _deadline(self) -> float:
        with contextlib.suppress(ValueError):
            return float(self.noted("deleting") or "")
        return 0.0

    def _fault(self, what: str) -> str:
        line = self.last_line()
        return f"{what}: {line}" if line else what

    def _exit_status(self) -> str | None:
        try:
            text = (self.path / "exit").read_text().strip()
        except FileNotFoundError:
            return None
        if not text.isdecimal():  # being written
            return None
        with contextlib.suppress(ValueError):
            return f"{text} ({signal.Signals(int(text) - _SIGNALLED).name})"
        return text

    def _ready(self, address: str, port: int) -> bool:
        """Whether the port accepts connections, or once did."""
        if self.noted("ready") is not None:
            return True
        try:
            socket.create_connection((address, port), timeout=_PROBE_SECONDS).close()
        except OSError:
            return False
        self.note("ready")
        return True
