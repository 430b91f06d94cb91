"""Starts programs and ends them again, by what it wrote down of them: pid and start time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import proc
from .report import Failure

#: Of what a person has in the environment, this would lead the testbed's programs astray.
_FOREIGN = ("OS_", "PYTHON", "UWSGI", "RABBITMQ", "MYSQL", "MARIADB")
_TAIL = 3000
#: Bytes after which a log is begun anew when its process starts.
_LARGE_LOG = 20_000_000


class Stopped(Exception):
    """The work was given up because `Processes.stop_working` was called."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is written down of a process that was started."""

    pid: int
    #: The kernel's word for when, see `proc.start_time`.
    start: str
    #: The same in seconds since the epoch.
    began: float


class Processes:
    """The processes of one testbed, each under a name; every one leads a session of its own.

    Thread-safe, as long as no two threads work on the same name.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._records = directory / "run"
        self._logs = directory / "log"
        self._stopping = threading.Event()
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def started(self) -> list[str]:
        """The names of what this very program has started and not ended."""
        return list(self._children)

    def stop_working(self) -> None:
        """Let `run` and `wait_for`, in whichever thread, raise `Stopped`."""
        self._stopping.set()

    def log(self, name: str) -> Path:
        """Where a process writes what it has to say."""
        return self._logs / f"{name}.log"

    def tail(self, name: str) -> str:
        """The end of a process's log."""
        with contextlib.suppress(OSError):
            return self.log(name).read_text(errors="replace")[-_TAIL:]
        return ""

    def recorded(self) -> list[str]:
        """The names of all that was started and not ended through here."""
        return sorted(path.stem for path in self._records.glob("*.json"))

    def alive(self, name: str) -> Record | None:
        """What is known of a process when it lives."""
        try:
            record = Record(**json.loads(self._record(name).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return record if proc.start_time(record.pid) == record.start else None

    def spawn(self, name: str, command: Sequence[object], env: Mapping[str, str]) -> bool:
        """Start a process that is to stay, or let it go on if it lives; whether it was started."""
        if self.thaw(name):
            return False
        for directory in (self._logs, self._records):
            directory.mkdir(parents=True, exist_ok=True)
        log_file = self.log(name)
        if log_file.exists() and log_file.stat().st_size > _LARGE_LOG:
            log_file.unlink()
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                env=_environment(env),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children[name] = process
        start = proc.start_time(process.pid) or ""
        record = {"pid": process.pid, "start": start, "began": time.time()}
        self._record(name).write_text(json.dumps(record))
        return True

    def run(
        self,
        command: Sequence[object],
        log: str,
        env: Mapping[str, str] | None = None,
        *,
        terminal: bool = False,
    ) -> None:
        """Run a program to its end; what it says goes to a log.

        Args:
            command: The program and its arguments.
            log: The name of the log.
            env: Added to its environment.
            terminal: It may ask the person something (``sudo`` a password).

        Raises:
            Failure: It ended with another code than 0; with the end of the log.
            Stopped: See `stop_working`; the program is ended.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        with self.log(log).open("ab") as out:
            process = subprocess.Popen(
                [str(word) for word in command],
                env=_environment(env or {}),
                cwd=self._directory,
                stdin=None if terminal else subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=not terminal,
            )
        while process.poll() is None:
            if self._stopping.wait(0.05):
                _end_command(process, whole_group=not terminal)
                raise Stopped
        if self._stopping.is_set():
            raise Stopped
        if process.returncode:
            words = " ".join(str(word) for word in command)
            raise Failure(f"{words}: exit code {process.returncode}\n{self.tail(log).rstrip()}")

    def wait_for(
        self, what: str, check: Callable[[], bool], *names: str, seconds: float = 180
    ) -> None:
        """Return as soon as ``check`` does.

        Raises:
            Failure: Not within the time, or one of the processes ``names`` is no more.
            Stopped: See `stop_working`.
        """
        until = time.monotonic() + seconds
        while not check():
            for name in names:
                if not self.alive(name):
                    said = self.tail(name).rstrip()
                    raise Failure(f"{name} ended by itself; the end of {self.log(name)}:\n{said}")
            if time.monotonic() > until:
                raise Failure(f"{what}: not ready after {seconds:g} s; see {self._logs}")
            if self._stopping.wait(0.1):
                raise Stopped

    def end(self, name: str, grace: float = 20) -> bool:
        """End a process with SIGTERM, and with SIGKILL after ``grace`` seconds; whether it lived.

        Raises:
            Failure: It does not end.
        """
        record = self.alive(name)
        if record:
            self._end(name, record.pid, grace)
        self._forget(name)
        return record is not None

    def kill(self, name: str) -> bool:
        """SIGKILL for all of a process's session, at once; whether it lived.

        Raises:
            Failure: It does not end.
        """
        record = self.alive(name)
        if record and not _kill(record.pid, {}):
            raise Failure(_immortal(name, record.pid))
        self._forget(name)
        return record is not None

    def freeze(self, name: str) -> bool:
        """SIGSTOP for all of a process's session: it hangs, its port still accepts."""
        return self._signal_all(name, signal.SIGSTOP)

    def thaw(self, name: str) -> bool:
        """SIGCONT for all of a process's session."""
        return self._signal_all(name, signal.SIGCONT)

    def _record(self, name: str) -> Path:
        return self._records / f"{name}.json"

    def _signal_all(self, name: str, number: signal.Signals) -> bool:
        record = self.alive(name)
        if record:
            _signal(proc.session(record.pid), number)
        return record is not None

    def _end(self, name: str, pid: int, grace: float) -> None:
        family = proc.session(pid)
        # The first signal is for the parent alone, who ends its children.
        _signal({pid: family.get(pid, "")}, signal.SIGTERM)
        _signal(family, signal.SIGCONT)
        if not _gone(pid, grace) and not _kill(pid, family):
            raise Failure(_immortal(name, pid))

    def _forget(self, name: str) -> None:
        """Remove what is known of a process that is no more."""
        self._record(name).unlink(missing_ok=True)
        if child := self._children.pop(name, None):
            child.wait()


def _gone(pid: int, seconds: float) -> bool:
    """Whether all of a session is gone within the time."""
    until = time.monotonic() + seconds
    while proc.session(pid):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _immortal(name: str, pid: int) -> str:
    return f"{name} (pid {pid}) does not end"


def _kill(pid: int, family: Mapping[int, str]) -> bool:
    """End ``family`` and all of a session without mercy; whether they are gone.

    Again and again: a process that is just being forked is in no list of processes yet.
    """
    until = time.monotonic() + 10
    _signal(family, signal.SIGKILL)
    while living := proc.session(pid):
        if time.monotonic() > until:
            return False
        _signal(living, signal.SIGKILL)
        time.sleep(0.01)
    return True


def _signal(family: Mapping[int, str], number: signal.Signals) -> None:
    for pid, start in family.items():
        if proc.start_time(pid) == start:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _end_command(process: subprocess.Popen[bytes], *, whole_group: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        if whole_group:
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    process.kill()
    process.wait()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """That of this program without what is not meant for the testbed's, and ``more``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return kept | dict(more)
