"""The first steps of a VM's process, run as a script by its path.

::

    python -I -S launch.py BOOT WORKING_DIRECTORY PROGRAM ARGUMENTS...

It imports nothing but the standard library, stands in the VM's directory, and leaves a small
shell in charge. The process that was started ends at once; its child, which no one waits for,
leads a session of its own and records itself before it does anything. The record is a symbolic
link, because making one is atomic and fails when it is there: however many launches are tried,
one runs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: Waits for the command and records how it ended. It sets no trap: between its fork and the
#: command the child would inherit it, and lose a signal.
SUPERVISOR = """
"$@"
echo $? >"$ISONEPH_DIRECTORY/exit"
"""
_START_TIME = 19  # in /proc/PID/stat, counted from behind the program's name


def main(boot: str, working_directory: str, *command: str) -> None:
    """Leave the caller, record who we are, and become the supervisor of ``command``."""
    if os.fork():
        return
    os.setsid()
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[_START_TIME]
    try:
        Path("process").symlink_to(f"{os.getpid()}:{started}:{boot}")
        # A directory that is being removed was renamed first: then nothing may start in it.
        if not Path().samefile(os.environ["ISONEPH_DIRECTORY"]):
            return
    except (FileExistsError, FileNotFoundError):
        return
    try:
        os.chdir(working_directory)
    except OSError as error:
        sys.exit(f"working directory: {error.strerror}: {working_directory}")
    os.execv("/bin/sh", ["sh", "-c", SUPERVISOR, "sh", *command])  # noqa: S606 (no other way)


if __name__ == "__main__":
    main(*sys.argv[1:])
