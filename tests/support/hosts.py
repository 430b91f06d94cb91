"""Hosts and cables between them: network namespaces and veth pairs, for tests in User-mode Linux.

A process may be on several hosts at once: a socket stays on the host that it was made on::

    with Host("left") as left, Host("right") as right:
        connect(left, right, "10.0.1")   # 10.0.1.1 is on the left, 10.0.1.2 on the right
        with right.here():
            listener = await transport.listen([Address("10.0.1.2", 5000)], door)
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Self

_CLONE_NEWNET: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Host:
    """A network namespace, from entering the context to leaving it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._path = Path("/run/netns", name)

    def __enter__(self) -> Self:
        _run("ip", "netns", "add", self.name)
        _run("ip", "-netns", self.name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_error: object) -> None:
        _run("ip", "netns", "delete", self.name)

    def run(self, *command: str) -> str:
        """Run a command there; gives back what it printed."""
        return _run("ip", "netns", "exec", self.name, *command)

    @contextmanager
    def impaired(self, interface: str, *how: str) -> Iterator[None]:
        """What an interface sends is delayed or lost as netem has it: ``delay``, ``20ms``."""
        queue = ("dev", interface, "root")
        _run("tc", "-netns", self.name, "qdisc", "add", *queue, "netem", *how)
        try:
            yield
        finally:
            _run("tc", "-netns", self.name, "qdisc", "del", *queue)

    def cut(self, interface: str) -> AbstractContextManager[None]:
        """Nothing that the interface sends arrives, and nobody is told."""
        return self.impaired(interface, "loss", "100%")

    @contextmanager
    def here(self) -> Iterator[None]:
        """The sockets that this thread makes are there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(self._path, os.O_RDONLY)
        try:
            _enter(there)
            yield
        finally:
            _enter(home)
            os.close(home)
            os.close(there)


@contextmanager
def cut_loopback() -> Iterator[None]:
    """Nothing arrives that is sent to an address of this thread's own host."""
    queue = ("dev", "lo", "root")
    _run("tc", "qdisc", "add", *queue, "netem", "loss", "100%")
    try:
        yield
    finally:
        _run("tc", "qdisc", "del", *queue)


def connect(one: Host, other: Host, network: str) -> None:
    """Lay a cable: ``network``.1 is on ``one``, ``network``.2 on ``other``, each at an interface
    that has the other's name and the network's last number: ``right1``."""
    number = network.rpartition(".")[2]
    ends = (other.name + number, one.name + number)
    peer = ("type", "veth", "peer", "name", ends[1], "netns", other.name)
    _run("ip", "-netns", one.name, "link", "add", "name", ends[0], *peer)
    for host, interface, last in ((one, ends[0], 1), (other, ends[1], 2)):
        to = ("ip", "-netns", host.name)
        _run(*to, "address", "add", f"{network}.{last}/24", "dev", interface)
        _run(*to, "link", "set", interface, "up")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
