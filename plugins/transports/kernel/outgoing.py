"""What an association sends and the kernel has no room for: queued until it has."""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from isoneph.core.errors import MessageTooLarge, QueueFull, TransportError
from isoneph.core.traffic import Message
from isoneph.plugins.transports.kernel import abi

if TYPE_CHECKING:
    from isoneph.plugins.transports.kernel.owner import Owner

#: The errors of sending that pass.
NO_ROOM: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})
#: Queued messages sent before others on the loop have their turn.
_WRITES: Final = 64


class Sender(Protocol):
    """Whose messages they are."""

    writable: bool

    def on_writable(self, writable: bool) -> None:
        """More is queued than should be, or little enough again."""

    def on_flushed(self) -> None:
        """Nothing is queued any more."""

    def on_failure(self, error: OSError) -> None:
        """Nothing more can be sent."""

    def renewed(self) -> bool:
        """Whether nothing may be sent: the peer is gone, or has started anew, and what is queued
        is not for its new life."""


class Outgoing:
    """The messages of one association that the kernel had no room for.

    ``queue`` has them, and ``bytes`` counts theirs; at most twice ``send_queue`` are queued.
    """

    __slots__ = ("_owner", "_sender", "_sock", "bytes", "queue")

    def __init__(self, owner: Owner, sock: socket.socket, sender: Sender) -> None:
        self.bytes = 0
        self.queue: deque[Message] = deque()
        self._owner = owner
        self._sock = sock
        self._sender = sender

    def put(self, message: Message, size: int) -> None:
        """Queue a message of ``size`` bytes. Raises QueueFull."""
        queue, total = self.queue, self.bytes + size
        limit = self._owner.settings.send_queue
        if total > 2 * limit:
            raise QueueFull(f"{self.bytes} bytes are queued already")
        if not queue:
            self._owner.loop.add_writer(self._sock, self._flush)
        queue.append(message)
        self.bytes = total
        if total > limit and self._sender.writable:
            self._sender.on_writable(False)

    def _flush(self) -> None:
        """Hand queued messages to the kernel, as long as it takes them."""
        if self._sender.renewed():
            self.stop()
            return
        try:
            for _ in range(min(_WRITES, len(self.queue))):
                message = self.queue[0]
                flags = abi.UNORDERED if message.unordered else 0
                info = abi.send_info(message.stream, message.ppid, flags)
                self._sock.sendmsg((message.data,), info)
                self.queue.popleft()
                self.bytes -= len(message.data)
        except OSError as error:
            if error.errno not in NO_ROOM:
                self.stop()
                self._sender.on_failure(error)
                return
        self.relieve()

    def relieve(self) -> None:
        """Tell that less is queued than before."""
        if not self.queue:
            self.stop()
            self._sender.on_flushed()
        if not self._sender.writable and self.bytes <= self._owner.settings.send_queue // 2:
            self._sender.on_writable(True)

    def stop(self) -> None:
        """Hand nothing to the kernel any more; what is queued stays."""
        self._owner.loop.remove_writer(self._sock)

    def clear(self) -> int:
        """Drop what is queued; how many messages that is."""
        count = len(self.queue)
        self.queue.clear()
        self.bytes = 0
        return count


def misfit(size: int, limit: int) -> TransportError:
    """Why a message of ``size`` bytes cannot be sent where at most ``limit`` are allowed."""
    if size:
        return MessageTooLarge(f"the message has {size} bytes; at most {limit} are allowed")
    return TransportError("SCTP carries no empty messages")
