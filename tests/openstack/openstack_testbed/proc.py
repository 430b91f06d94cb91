"""What Linux says of processes, from ``/proc``."""

from __future__ import annotations

import re
from pathlib import Path

_PROC = Path("/proc")


def start_time(pid: int) -> str | None:
    """The kernel's start time of a living process: with the pid it names it for ever."""
    fields = _fields(pid)
    return None if fields is None or fields[0] == "Z" else fields[19]


def frozen(pid: int) -> bool:
    """Whether a signal has stopped the process."""
    fields = _fields(pid)
    return fields is not None and fields[0] == "T"


def session(pid: int) -> dict[int, str]:
    """The living processes of the session that ``pid`` leads, each with its start time."""
    found = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            fields = _fields(int(entry.name))
            if fields and fields[0] != "Z" and int(fields[3]) == pid:
                found[int(entry.name)] = fields[19]
    return found


def memory(pid: int) -> int:
    """Proportional set size of a session in bytes: pages shared by several count once."""
    total = 0
    for member in session(pid):
        try:
            text = (_PROC / str(member) / "smaps_rollup").read_text()
        except OSError:  # it has just ended, or it is somebody else's
            continue
        if size := re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE):
            total += int(size[1]) * 1024
    return total


def available_memory() -> int:
    """Bytes that programs can have without swapping."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", (_PROC / "meminfo").read_text())
    return int(found[1]) * 1024 if found else 0


def _fields(pid: int) -> list[str] | None:
    """The fields of ``/proc/PID/stat`` from the third, the state, on."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()
