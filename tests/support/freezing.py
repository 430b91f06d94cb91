"""Processes that stand still, as hanging ones do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

STANDS_WITHIN = 10.0


def freeze(process: int) -> None:
    """Stop a process, and return when all of it stands still."""
    os.kill(process, signal.SIGSTOP)
    deadline = time.monotonic() + STANDS_WITHIN
    while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, "it does not stand still"
        time.sleep(0.005)


def thaw(process: int) -> None:
    """Have a stopped process go on."""
    os.kill(process, signal.SIGCONT)
