"""Runs a command in a kernel that has SCTP: User-mode Linux, a Linux that is a process.

Its root is the file system of the host, so the command finds every program and the virtualenv
where they are, and writes its results where the caller can read them; within it, the command is
root: it may load modules, make network namespaces and set sysctls, whoever runs it outside. Root
outside is not needed. What only the host's root may read or write, however, an ordinary user's
command cannot either.

By hand::

    python tests/support/uml.py [-t SECONDS] COMMAND ARGUMENT...

prints what the command prints as it comes, and exits with its status. The command has no input;
its output is a terminal, however, so what shows itself anew there for ever is told not to
(``isoneph relay status --once``).
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Self

#: The modules that the tests use, beside those that these need. The hashes are for the cookies of
#: SCTP: without one of them listen() fails with ENOSYS.
MODULES = (
    "hmac",
    "sha1_generic",
    "md5",
    "crc32c_generic",
    "sctp",
    "sctp_diag",
    "veth",
    "sch_netem",
)
#: Of the caller's environment, what the command gets too.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV", "PYTHONPATH", "TZ")

_INIT = """\
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /dev/shm /dev/pts /run/root/lib
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
ip link set lo up
ln -s /usr/lib/uml/modules /run/root/lib/modules
modprobe -d /run/root -a {modules}
{environment}
stty -F /dev/tty1 -opost
cd {working}
{command} >/dev/tty1 2>&1 </dev/null
echo $? >{status}
sync
{power_off}
"""
#: reboot(2) with RB_POWER_OFF: not every system has a poweroff that works without an init.
_POWER_OFF = "import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)"


class MachineFailed(Exception):
    """The machine did not boot, or ended without saying how the command did."""


class Machine:
    """A User-mode Linux that runs one command and powers off.

    ``directory`` is the machine's own: its logs are kept there. To be ended with :meth:`stop`,
    whatever happens; it is a context manager for that.
    """

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        *,
        working: Path | None = None,
        environment: Mapping[str, str] | None = None,
        memory: str = "512M",
    ) -> None:
        self._directory = directory
        self._status = directory / "status"
        self._output = directory / "output"
        self._console = directory / "console"
        self._memory = memory
        self._process: subprocess.Popen[bytes] | None = None
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self._init = _INIT.format(
            modules=" ".join(MODULES),
            environment="\n".join(
                f"export {name}={shlex.quote(value)}"
                for name, value in {**kept, **(environment or {})}.items()
            ),
            working=shlex.quote(str(working or Path.cwd())),
            command=shlex.join(command),
            status=shlex.quote(str(self._status)),
            power_off=shlex.join([sys.executable, "-ISc", _POWER_OFF]),
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Boot; returns at once."""
        kernel = shutil.which("linux.uml")
        if kernel is None:
            raise MachineFailed("linux.uml is not installed; tools/test installs user-mode-linux")
        init = self._directory / "init"
        init.write_text(self._init)
        init.chmod(0o755)
        with self._console.open("wb") as console, self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    kernel,
                    *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "quiet"),
                    *(f"mem={self._memory}", f"init={init}", f"uml_dir={self._directory}"),
                    *("con=null", "con0=null,fd:1", f"con1=null,fd:{output.fileno()}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=[output.fileno()],
                start_new_session=True,  # a group of its own: the kernel has processes as well
            )

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """What the command has printed so far."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    @property
    def console(self) -> str:
        """What the kernel and the start-up script have printed so far."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def wait(self, timeout: float, copy: BinaryIO) -> int:
        """The command's status, when it has ended and the machine is off. What it prints on
        either stream is written to ``copy`` as it comes.

        Raises MachineFailed when that takes more than ``timeout`` seconds, or the command's
        status is unknown in the end.
        """
        deadline = time.monotonic() + timeout
        with self._output.open("rb") as output:
            running = True
            while running:
                running = self.running  # if not, all that it printed is there to be read
                copy.write(output.read())
                copy.flush()
                if running and time.monotonic() > deadline:
                    self.stop()
                    raise MachineFailed(f"still running after {timeout:g} s")
                time.sleep(0.02)
        try:
            return int(self._status.read_text())
        except (OSError, ValueError):
            raise MachineFailed(f"the machine ended early\n{self.console}") from None

    def stop(self) -> None:
        """End it at once, with all that runs in it. Safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> int:
    """The program: run the command that the arguments are."""
    parser = argparse.ArgumentParser(description="Run a command in User-mode Linux.")
    parser.add_argument("-t", "--timeout", type=float, default=600.0, metavar="SECONDS")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if not arguments.command:
        parser.error("no command")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="uml-") as directory,
            Machine(arguments.command, Path(directory)) as machine,
        ):
            return machine.wait(arguments.timeout, sys.stdout.buffer)
    except MachineFailed as error:
        print(error, file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main())
