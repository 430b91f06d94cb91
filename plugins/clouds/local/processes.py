"""Processes as the Linux kernel shows them: who is who, beyond doubt.

A process id is given out again once its process is gone. A process is therefore known by its
id, its start time in kernel ticks and the boot of the machine (:class:`Leader`), and signals
go through a pidfd that was checked after it was opened, so that they can never reach a
successor.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_DEAD = "ZX"


class Process(NamedTuple):
    """One line of ``/proc``: ``started`` is in kernel ticks since boot."""

    pid: int
    state: str
    session: int
    started: int

    @property
    def stopped(self) -> bool:
        """Whether it stands still after SIGSTOP."""
        return self.state == "T"


class Leader(NamedTuple):
    """The process that leads a VM's session, as it recorded itself."""

    pid: int
    started: int
    boot: str

    @classmethod
    def parse(cls, text: str) -> Leader | None:
        """The leader that ``pid:started:boot`` names, or None when it names none."""
        parts = text.split(":")
        if len(parts) != len(cls._fields) or not all(map(str.isdecimal, parts[:2])):
            return None
        return cls(int(parts[0]), int(parts[1]), parts[2])


@functools.cache
def boot_id() -> str:
    """What the kernel calls the time since it last started."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def read(pid: int) -> Process | None:
    """The living process ``pid``, or None; a zombie is dead."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in brackets and may itself hold anything.
    fields = text.rpartition(")")[2].split()
    if fields[0] in _DEAD:
        return None
    return Process(pid, fields[0], session=int(fields[3]), started=int(fields[19]))


def find(leader: Leader) -> Process | None:
    """The leader itself, if it still lives."""
    if leader.boot != boot_id():
        return None
    process = read(leader.pid)
    return process if process is not None and process.started == leader.started else None


def members(leader: Leader, marker: str) -> list[Process]:
    """All living processes of the leader's session.

    When the leader is gone its session's number could be somebody else's by now: the session
    is then only taken for ours if the environment of a member holds ``marker``. (While a
    member lives, the kernel does not give the number to another session.)
    """
    if leader.boot != boot_id():
        return []
    found = [process for process in _all() if process.session == leader.pid]
    if find(leader) is not None or any(_carries(process.pid, marker) for process in found):
        return found
    return []


def send(process: Process, *signals: signal.Signals) -> None:
    """Send ``signals``, unless the process is gone.

    Raises PermissionError when the kernel does not let us.
    """
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(process.pid)
        try:
            now = read(process.pid)
            if now is not None and now.started == process.started:
                for number in signals:
                    signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def _all() -> Iterator[Process]:
    for entry in os.scandir(_PROC):
        if entry.name.isdecimal():
            process = read(int(entry.name))
            if process is not None:
                yield process


def _carries(pid: int, marker: str) -> bool:
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:  # gone, or not ours to read: then it is not ours to signal either
        return False
    return os.fsencode(marker) in environment.split(b"\0")
