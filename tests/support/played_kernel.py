"""An association on a socket whose kernel the test plays: what a real one does too seldom."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, cast

from voluptuous import Schema

from isoneph.core.plugin import AssociationHandler, Metrics
from isoneph.core.testing import RecordingHandler, make_environment
from isoneph.core.testing.environment import NullMetrics
from isoneph.core.traffic import Address
from isoneph.plugins.transports.kernel import abi
from isoneph.plugins.transports.kernel.association import KernelAssociation
from isoneph.plugins.transports.kernel.control import Control
from isoneph.plugins.transports.kernel.listener import KernelListener
from isoneph.plugins.transports.kernel.options import OPTIONS, Settings
from isoneph.plugins.transports.kernel.owner import Owner

Received = tuple[bytes, list[tuple[int, int, bytes]], int, None]
EOR, NOTIFICATION = 0x80, 0x8000
END_OF_FILE: Received = (b"", [], 0, None)


def change(state: int, *, error: int = 0, streams: int = 16) -> bytes:
    return struct.pack("=HHIHHHHi", 0x8001, 0, 20, state, error, streams, streams, 1)


UP, LOST, RESTARTED, COMPLETE = (change(state) for state in range(4))
SHUTDOWN = struct.pack("=HHIi", 0x8005, 0, 12, 1)
GIVEN_UP = struct.pack("=HHIIi", 0x8006, 0, 16, 0, 1)
SEND_FAILED = struct.pack("=HHIIH14xi", 0x800D, 0, 32, 0, 3, 1)


def told(data: bytes, *, whole: bool = True) -> Received:
    return data, [], NOTIFICATION | (EOR if whole else 0), None


def part(data: bytes, *, last: bool = True, stream: int = 1, ppid: int = 18) -> Received:
    info = struct.pack("=HHHxxIIIIi", stream, 7, 0, socket.htonl(ppid), 1, 1, 0, 1)
    return data, [(132, 3, info)], EOR if last else 0, None


class Counts(NullMetrics):
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        self.counts[" ".join([name, *labels.values()])] += int(amount)


class Timer:
    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Notes what is asked of the event loop."""

    def __init__(self) -> None:
        self.reader: Callable[[], None] | None = None
        self.writer: Callable[[], None] | None = None
        self.timers: list[Timer] = []

    def add_reader(self, _sock: object, act: Callable[[], None]) -> None:
        self.reader = act

    def remove_reader(self, _sock: object) -> None:
        self.reader = None

    def add_writer(self, _sock: object, act: Callable[[], None]) -> None:
        self.writer = act

    def remove_writer(self, _sock: object) -> None:
        self.writer = None

    def call_later(self, _seconds: float, act: Callable[..., None], *arguments: Any) -> Timer:
        self.timers.append(Timer(lambda: act(*arguments)))
        return self.timers[-1]


class Watch:
    """Notes what is watched for errors; ``tags`` is what the kernel tells of tags."""

    def __init__(self) -> None:
        self.act: Callable[[], None] | None = None
        self.current = 7
        self.asked = 0

    def add(self, _sock: object, act: Callable[[], None]) -> None:
        self.act = act

    def remove(self, _sock: object) -> None:
        self.act = None

    def tag(self, _local: Address, _remote: Address) -> int:
        self.asked += 1
        return self.current

    def tell(self) -> None:
        """The socket has an error."""
        act, self.act = self.act, None
        assert act is not None
        act()


class Kernel:
    """The socket: what is to be received, how often there is room to send, what is over.

    ``controls`` is how many control chunks have come.
    """

    def __init__(self) -> None:
        self.incoming: deque[Received | OSError] = deque([told(UP)])
        self.sent: list[bytes] = []
        self.room = 1000
        self.failure: OSError | None = None
        self.error = 0
        self.controls = 1
        self.over = False
        self.closed = self.lingers = False
        self.shutdowns: list[int] = []

    def recvmsg(self, _size: int, _ancillary: int = 0, flags: int = 0) -> Received:
        if not self.incoming:
            raise BlockingIOError
        what = self.incoming[0] if flags else self.incoming.popleft()
        if isinstance(what, OSError):
            raise what
        return what

    def sendmsg(self, buffers: tuple[bytes], _info: object) -> None:
        if self.failure:
            raise self.failure
        if self.room == 0:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        self.room -= 1
        self.sent += buffers

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            return self.error
        if self.over:
            raise OSError(errno.EINVAL, "Invalid argument")
        if option == abi.STATUS:
            return bytes(28) + abi.sockaddrs([Address("192.0.2.8", 5)]).ljust(148, b"\0")
        if option == abi.GET_ASSOC_STATS:
            return self.controls.to_bytes(8, sys.byteorder).rjust(size, b"\0")
        return bytes(size)

    def setsockopt(self, *_arguments: object) -> None:
        self.lingers = True

    def shutdown(self, how: int) -> None:
        self.shutdowns.append(how)

    def fileno(self) -> int:
        return -1 if self.closed else 5

    def close(self) -> None:
        self.closed = True


class World:
    """An association, its kernel, its loop and who uses it."""

    def __init__(self, handler: RecordingHandler | None = None, **options: int) -> None:
        self.settings = Settings(**Schema(OPTIONS)(options))
        self.metrics = Counts()
        self.environment = make_environment(metrics=cast("Metrics", self.metrics))
        self.loop = Loop()
        self.watch = Watch()
        self.peer = Address("192.0.2.7", 5)
        self.kernel = Kernel()
        self.sock = self.kernel
        self.handler = handler or RecordingHandler()
        self.association = KernelAssociation(cast("Owner", self), cast("Control", self))
        self.association.begin(self.handler)

    def restart(self) -> None:
        """The peer starts anew; that is behind what is to be received."""
        self.watch.current += 1
        self.kernel.controls += 2
        self.kernel.incoming.append(told(RESTARTED))

    def remote(self) -> tuple[Address, ...]:
        return Address("192.0.2.7", 5), Address("192.0.2.8", 5)

    def local(self) -> tuple[Address, ...]:
        return (Address("192.0.2.1", 6),)

    def begin(self, association: KernelAssociation, handler: AssociationHandler) -> None:
        association.begin(handler)

    def ended(self, _association: KernelAssociation) -> None:
        self.loop.timers = [timer for timer in self.loop.timers if not timer.cancelled]

    def stopped(self, _listener: KernelListener) -> None:
        raise AssertionError("nothing listens here")

    def flush(self) -> None:
        """The kernel has room, and the loop tells of it."""
        assert self.loop.writer, "nothing is to be written"
        self.loop.writer()

    def receive(self, *what: Received | OSError) -> None:
        """The kernel has this, and the loop tells of it once."""
        self.kernel.incoming += what
        assert self.loop.reader, "nobody reads"
        self.loop.reader()
