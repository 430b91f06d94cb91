r"""What an association sends: gathered into packets, and kept while the stack has no room.

Small messages of one turn of the event loop share packets (RFC 9260, section 6.10). The stack
sends each at once, or, with Nagle's algorithm, keeps back what fills no packet until something is
acknowledged. So the algorithm is on while a packet is filled, and off for the message that ends
it, with which the stack sends all that it has. To know which one that is, each message is held
until the next one comes, or the turn ends::

    put --> held --> the stack's send buffer --> packets
      |        \       ^
      |  or full v     |
      `-----> backlog -'
"""

from __future__ import annotations

import errno
import os
from collections import deque
from socket import htonl
from struct import Struct
from typing import Any, Final, Protocol

from isoneph.core.errors import AssociationClosed, QueueFull
from isoneph.core.traffic import Address, Message
from isoneph.plugins.transports.userland.library import (
    IPPROTO_SCTP,
    SCTP_NODELAY,
    SENDV_SNDINFO,
    UNORDERED,
)
from isoneph.plugins.transports.userland.options import Settings
from isoneph.plugins.transports.userland.stack import Stack

#: The common header, and that of a DATA chunk: RFC 9260, sections 3.1 and 3.3.1.
_PACKET_HEADER: Final = 12
_CHUNK_HEADER: Final = 16
#: Sets ``snd_sid``, ``snd_flags`` and ``snd_ppid`` at once, in half the time of each by its name.
_SNDINFO: Final = Struct("=HHI").pack_into
#: Bytes of a turn whose messages are held; who sends more meets the congestion window, which
#: has the stack fill its packets anyhow.
_GATHERED: Final = 32768


class Sender(Protocol):
    """Whose messages they are."""

    def on_backlog(self, waiting: bool) -> None:
        """Messages wait for the stack, or none do any more."""

    def on_given_up(self, count: int, why: str) -> None:
        """So many messages were dropped: the stack takes no more of this association."""

    def on_failure(self) -> None:
        """One of the others raised what it must not."""


class Outgoing:
    """The messages of one association on their way to the stack.

    The backlog holds ``send_queue`` bytes, as many as the stack's buffer. ``bytes`` counts what
    the stack does not have yet.
    """

    __slots__ = (
        "_at_once",
        "_gathered",
        "_held",
        "_limit",
        "_packet",
        "_remote",
        "_room",
        "_sender",
        "_so",
        "_stack",
        "backlog",
        "bytes",
    )

    def __init__(
        self, stack: Stack, so: Any, sender: Sender, settings: Settings, remote: Address
    ) -> None:
        self.bytes = 0
        self.backlog: deque[Message] = deque()
        self._stack = stack
        self._so = so
        self._sender = sender
        self._remote = remote
        self._limit = settings.send_queue
        #: Bytes of chunks that a packet takes, and that still fit into the one being filled.
        self._packet = self._room = settings.mtu - _PACKET_HEADER
        #: Whether Nagle's algorithm is off, as it is at first.
        self._at_once = True
        self._held: Message | None = None
        #: Bytes that came in this turn.
        self._gathered = 0

    def put(self, message: Message, size: int) -> None:
        """Take a message of ``size`` bytes. Raises QueueFull and AssociationClosed."""
        if self.backlog:
            self._queue(message, size)
            return
        if not self._gathered:
            self._stack.gather(self)
        self._gathered += size
        if self._gathered > _GATHERED:
            self._release(True)
            if not self.backlog and self._hand_over(message, True):
                return
        else:
            need = _CHUNK_HEADER + (size + 3 & ~3)
            room = self._room - need
            self._room = room if room >= 0 else self._packet - need
            if self._held is not None:
                self._release(room < 0)
            if not self.backlog:
                self._held = message
                self.bytes += size
                return
        try:
            self._queue(message, size)
        finally:
            self._sender.on_backlog(True)

    def end_turn(self) -> None:
        """No more comes in this turn: what is held goes."""
        self._gathered = 0
        self._room = self._packet
        try:
            self._release(True)
        except AssociationClosed:
            return  # that it was dropped is told
        if self.backlog:
            self._sender.on_backlog(True)

    def on_failure(self) -> None:
        """Sending has made a handler raise what it must not."""
        self._sender.on_failure()

    def flush(self) -> None:
        """Give the stack as much of the backlog as it has room for."""
        backlog = self.backlog
        try:
            while backlog:
                if not self._hand_over(backlog[0], True):
                    return
                self.bytes -= len(backlog.popleft().data)
        except AssociationClosed as error:
            self._sender.on_given_up(self.clear(), error.message)
        else:
            self._sender.on_backlog(False)

    def clear(self) -> int:
        """Drop what is here; how many messages that is."""
        count = len(self.backlog) + (self._held is not None)
        self._held = None
        self.backlog.clear()
        self.bytes = 0
        return count

    def _queue(self, message: Message, size: int) -> None:
        if self.bytes + size > self._limit:
            raise QueueFull(f"the peer {self._remote} does not take what is queued for it")
        self.backlog.append(message)
        self.bytes += size

    def _release(self, at_once: bool) -> None:
        """Give the stack what is held; without room for it, it begins the backlog."""
        message, self._held = self._held, None
        if message is None:
            return
        size = len(message.data)
        self.bytes -= size
        try:
            taken = self._hand_over(message, at_once)
        except AssociationClosed as error:
            self._sender.on_given_up(1, error.message)
            raise
        if not taken:
            self._queue(message, size)

    def _hand_over(self, message: Message, at_once: bool) -> bool:
        """Give a message to the stack; False when it has no room now."""
        data, stream, ppid, unordered = message
        stack, so = self._stack, self._so
        if at_once is not self._at_once:
            self._at_once = at_once
            value = stack.yes if at_once else stack.no
            stack.setsockopt(so, IPPROTO_SCTP, SCTP_NODELAY, value, stack.int_size)
        _SNDINFO(stack.sndinfo_view, 0, stream, UNORDERED if unordered else 0, htonl(ppid))
        info, size, null = stack.sndinfo, stack.sndinfo_size, stack.null
        if stack.sendv(so, data, len(data), null, 0, info, size, SENDV_SNDINFO, 0) >= 0:
            return True
        if (number := stack.ffi.errno) == errno.EWOULDBLOCK:
            return False
        why = os.strerror(number)
        raise AssociationClosed(f"the association with {self._remote} takes nothing more: {why}")
