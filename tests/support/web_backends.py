"""Web servers in processes of their own: the VMs of tests that have none."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

from isoneph.core.traffic import Backend

STARTED_WITHIN = 10.0
PROGRAM = Path(__file__).with_name("web_server.py")


class WebBackends:
    """Web servers on loopback addresses that share a port. ``close`` ends them all."""

    def __init__(self) -> None:
        self.port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def backend(self, number: int) -> Backend:
        """The backend of a number, whether it is there or not."""
        key = f"8c8ba10a-0000-4000-8000-{number:012}"
        return Backend(id=key, name=f"web-{number}", addresses=[f"127.0.3.{number + 1}"])

    def start(self, number: int) -> Backend:
        """Start one, and return when it listens."""
        backend = self.backend(number)
        address = backend.addresses[0]
        command = [sys.executable, "-I", "-S", str(PROGRAM), address, str(self.port)]
        self._processes[backend.id] = subprocess.Popen(command)
        deadline = time.monotonic() + STARTED_WITHIN
        while not listens(address, self.port):
            assert time.monotonic() < deadline, "the web server does not listen"
            time.sleep(0.01)
        return backend

    def kill(self, backend: Backend) -> None:
        """End one at once."""
        process = self._processes.pop(backend.id)
        process.kill()
        process.wait()

    def close(self) -> None:
        """End all."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
        self._processes.clear()


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(address: str, port: int) -> bool:
    """Whether somebody does."""
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0
