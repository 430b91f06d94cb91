"""HAProxies that a killed relay left behind: each finishes its sessions, and ends.

While it does so it answers at its stats socket no more. What sessions it still has is seen from
outside, by what Linux tells of a process and its sockets (proc(5)); elsewhere none are found.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from errno import ECONNREFUSED
from pathlib import Path

from isoneph.core.errors import RelayUnreachable
from isoneph.core.traffic import Address

#: A HAProxy's private directory begins with this, and its stats socket there has this name; its
#: configuration there has the application's.
PREFIX = "isoneph-haproxy-"
SOCKET = "runtime.sock"

_WORD = 8  # hexadecimal digits: addresses are printed in words, each in the host's byte order


class Predecessors:
    """Those of one application. The methods block, for milliseconds."""

    def __init__(self, application: str, proc: Path = Path("/proc")) -> None:
        self._file = f"{application}.cfg"
        self._proc = proc
        #: The ids of the processes, as last seen.
        self.processes: Sequence[int] = ()

    def find(self) -> None:
        """Look for them among all processes."""
        numbers = [int(each.name) for each in self._proc.glob("[0-9]*")]
        self.processes = [each for each in numbers if self._is_one(each)]

    def connections(self) -> Mapping[Address, int]:
        """How many connections they have, by the address at the other end. Raises
        RelayUnreachable when that cannot be seen."""
        self.processes = [each for each in self.processes if self._is_one(each)]
        found: Counter[Address] = Counter()
        for each in self.processes:
            try:
                found.update(_connections(self._proc / str(each)))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
            except OSError as error:
                raise RelayUnreachable(
                    f"the sessions of HAProxy {each}, which an earlier relay left behind, cannot "
                    f"be counted: {error}"
                ) from error
        return found

    def _is_one(self, process: int) -> bool:
        """Whether it runs, with a configuration of this application, and no relay has it."""
        try:
            words = (self._proc / str(process) / "cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        files = (Path(os.fsdecode(word)) for word in words)
        return any(
            file.name == self._file
            and file.parent.name.startswith(PREFIX)
            and _refuses(file.with_name(SOCKET))
            for file in files
        )


def _refuses(path: Path) -> bool:
    """Whether nobody listens at a socket that is there."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) == ECONNREFUSED


def _connections(process: Path) -> Iterator[Address]:
    """The other ends of a process's TCP connections."""
    own = set()
    for descriptor in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            own.add(str(descriptor.readlink()))
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):  # without IPv6
            for line in (process / "net" / table).read_text().splitlines()[1:]:
                columns = line.split()
                if f"socket:[{columns[9]}]" in own:
                    yield _address(columns[2])


def _address(text: str) -> Address:
    digits, _, port = text.partition(":")
    words = (digits[at : at + _WORD] for at in range(0, len(digits), _WORD))
    packed = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    family = socket.AF_INET if len(digits) == _WORD else socket.AF_INET6
    return Address(socket.inet_ntop(family, packed), int(port, 16))
