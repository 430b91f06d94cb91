"""One association on a socket of its own: the data path.

Its states, from :class:`_State`; what is queued is that which the kernel had no room for::

    UP --close--> FLUSHING --nothing queued--> CLOSING --SHUTDOWN complete--> OVER
     |                |                            |                            ^
     +----------------+----------------------------+-- abort, lost, time-out ---+

Reading is by a reader of the event loop, at most :data:`_READS` messages at a time; pausing takes
the reader away, so that the kernel's window closes. The kernel tells the end of an association as
the last notification behind its messages. Between a peer's SHUTDOWN and that end the socket is
readable though nothing is there: it is then looked at by a timer.

While reading is paused, an association that was broken off or lost is found by its error, and a
peer that has started anew by the verification tag, before something is sent to it. The association
is *stale* until that is read, and sends nothing; found while reading is paused, it is *deaf* as
well: what is unread is read and thrown away, up to the notification that tells of it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from isoneph.core.errors import AssociationClosed, BadStream
from isoneph.core.plugin import Association, AssociationHandler
from isoneph.core.traffic import (
    Address,
    AssociationStatistics,
    Ending,
    Message,
    Notice,
    Notification,
)
from isoneph.plugins.transports.kernel import abi, notifications
from isoneph.plugins.transports.kernel.beginning import take_up
from isoneph.plugins.transports.kernel.news import News
from isoneph.plugins.transports.kernel.outgoing import NO_ROOM, Outgoing, misfit

if TYPE_CHECKING:
    from isoneph.plugins.transports.kernel.control import Control
    from isoneph.plugins.transports.kernel.owner import Owner

#: Messages read before others on the loop have their turn.
_READS: Final = 64
#: Bytes read at once; a longer message comes in parts.
_READ_SIZE: Final = 65536
#: Seconds between two looks for the end of an association that its peer is shutting down.
_END_INTERVAL: Final = 0.02


class _State(Enum):
    UP = auto()
    FLUSHING = auto()
    CLOSING = auto()
    OVER = auto()


class KernelAssociation(Association):
    """An association that is up; :meth:`begin` gives it its handler.

    Making one raises OSError when the association could not be set up.
    """

    def __init__(self, owner: Owner, control: Control) -> None:
        super().__init__()
        self.writable = True
        self.remote: Sequence[Address] = (control.peer,)
        self.local: Sequence[Address] = ()
        self._owner = owner
        self._control = control
        self._sock = control.sock
        self._state = _State.UP
        self._reading = True
        self._stale = self._deaf = False
        #: Our verification tag, 0 where it is not known; and how many control chunks had come when
        #: it was last compared: a restart begins with two.
        self._tag = self._controls = 0
        self._handler: AssociationHandler
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._news = News(owner, self)
        self._outgoing = Outgoing(owner, self._sock, self)
        #: Here as well, because it is looked at for each message that is sent.
        self._queue = self._outgoing.queue
        self._parts = bytearray()
        self._gone = False
        self._error = 0
        self._sent = self._sent_bytes = 0
        self._received = self._received_bytes = 0
        self.streams_in, self.streams_out = take_up(self._sock)
        self._tag = self._find()

    def begin(self, handler: AssociationHandler) -> None:
        """Tell ``handler`` that it is open, and all that follows."""
        self._handler = handler
        self._watch()
        handler.opened(self)

    def _find(self) -> int:
        """Ask the kernel for the addresses, most of which it has forgotten when the association
        is over, and for the tag."""
        try:
            primary = abi.read_status(self._sock).primary
            remote = self._control.remote()
            self.local = self._control.local()
        except OSError:
            self.local = self.local or (Address(*self._sock.getsockname()[:2]),)
            return 0
        self.remote = tuple(sorted(remote, key=lambda address: address != primary))
        return self._owner.watch.tag(self.local[0], self.remote[0])

    # Sending.

    def send(self, message: Message) -> None:
        """Hand the message to the kernel, or queue it when that has no room."""
        if self._state is not _State.UP or self._error:
            raise AssociationClosed("the association is over, or being closed")
        if (self._stale or not self._reading) and self.renewed():
            raise AssociationClosed("the peer is gone, or has started anew")
        data, stream, ppid, unordered = message
        size = len(data)
        if not 0 < size <= self._owner.settings.max_message:
            raise misfit(size, self._owner.settings.max_message)
        if not 0 <= stream < self.streams_out:
            raise BadStream(f"there is no stream {stream}: there are {self.streams_out}")
        if self._queue:
            self._outgoing.put(message, size)
        else:
            info = abi.send_info(stream, ppid, abi.UNORDERED if unordered else 0)
            try:
                self._sock.sendmsg((data,), info)
            except OSError as error:
                if error.errno not in NO_ROOM:
                    self.on_failure(error)
                    raise AssociationClosed(f"the association is over: {error}") from error
                self._outgoing.put(message, size)
        self._sent += 1
        self._sent_bytes += size

    def on_writable(self, writable: bool) -> None:
        """More is queued than should be, or little enough again."""
        self.writable = writable
        if self._state is _State.UP:
            self._handler.writable_changed(writable)

    def on_flushed(self) -> None:
        """Nothing is queued any more."""
        if self._state is _State.FLUSHING:
            self._shut()

    def on_failure(self, error: OSError) -> None:
        """Nothing more can be sent: reading will tell the end. Where the socket had an error, that
        is taken now, and who waits for it while reading is paused would wait in vain."""
        self._error = error.errno or 0
        if not self._reading and error.errno != errno.EPIPE:
            self._read_on()

    # Reading.

    def pause_reading(self) -> None:
        """Read no more from the kernel, whose window closes in the end."""
        if self._state is _State.UP and self._reading:
            self._reading = False
            if not self._deaf:
                self._rest()

    def resume_reading(self) -> None:
        """Read again."""
        if self._state is _State.UP and not self._reading:
            self.renewed()
            self._reading = True
            self._watch()

    def _rest(self) -> None:
        self._unwatch()
        self._owner.watch.add(self._sock, self._read_on)

    def _read_on(self) -> None:
        """Throw away what is unread, up to what became of the association."""
        self._stale = self._deaf = True
        self._outgoing.stop()
        self._watch()

    def renewed(self) -> bool:
        """Whether the peer has started anew and that is not read yet; it is soon."""
        if not self._stale:
            with suppress(OSError):
                controls = abi.read_controls(self._sock)
                if controls != self._controls:
                    self._controls = controls
                    self._stale = self._tag != 0 and self._find() not in (0, self._tag)
        if self._stale and not (self._reading or self._deaf):
            self._read_on()
        return self._stale

    def _watch(self) -> None:
        self._owner.watch.remove(self._sock)
        self._owner.loop.add_reader(self._sock, self._read)

    def _unwatch(self) -> None:
        self._owner.loop.remove_reader(self._sock)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _read(self) -> None:
        """Take what has come, a bounded number of messages."""
        receive, limit = self._sock.recvmsg, self._owner.settings.max_message
        for _ in range(_READS):
            try:
                data, ancillary, flags, _source = receive(_READ_SIZE, abi.ANCILLARY_SIZE)
            except BlockingIOError:
                return
            except OSError as error:
                self._error = error.errno or 0
                self.on_lost(b"")
                return
            if flags & abi.MSG_NOTIFICATION:
                self._news.take(data, bool(flags & abi.MSG_EOR))
            elif not data:
                self._await_end()
                return
            elif self._deaf:
                continue
            elif flags & abi.MSG_EOR and not self._parts and len(data) <= limit:
                self._deliver(data, ancillary[0][2])
            else:
                self._assemble(data, bool(flags & abi.MSG_EOR), ancillary[0][2])
            if not self._reading and not self._deaf:
                return
        self.renewed()  # that may be behind what is left to be read

    def _deliver(self, data: bytes, info: bytes) -> None:
        stream, flags, ppid = abi.RCVINFO_HEAD.unpack_from(info)
        self._received += 1
        self._received_bytes += len(data)
        if self._state is _State.UP:
            message = Message(data, stream, socket.ntohl(ppid), bool(flags & abi.UNORDERED))
            self._handler.received(message)

    def _assemble(self, part: bytes, last: bool, info: bytes) -> None:
        """Put a message together that comes in parts, with nothing between them."""
        self._parts += part
        limit = self._owner.settings.max_message
        if len(self._parts) > limit:
            self._owner.environment.metrics.count("messages_refused", reason="too_large")
            self.abort(f"a message of more than {limit} bytes")
        elif last:
            data = bytes(self._parts)
            self._parts.clear()
            self._deliver(data, info)

    # What the kernel tells.

    def on_restart(self, streams_in: int, streams_out: int) -> None:
        """The peer has started anew: what was meant for its former life is dropped, and told."""
        self.streams_in, self.streams_out = streams_in, streams_out
        self._parts.clear()
        dropped = self._outgoing.clear()
        self._tag = self._find()
        self._stale = False
        if self._deaf:
            self._deaf = False
            if not self._reading:
                self._rest()
        self.tell(Notice.RESTARTED)
        if dropped:
            self.tell(Notice.SEND_FAILED, f"{dropped} messages, never sent: it has started anew")
        if self._state is not _State.OVER:
            self._outgoing.relieve()

    def on_address_change(self) -> None:
        """An address of the peer's has come, gone or changed."""
        self._find()

    def on_given_up(self) -> None:
        """The rest of the message that comes in parts will never come."""
        self._parts.clear()

    def tell(self, notice: Notice, text: str = "") -> None:
        """Notify the handler, as long as it is up."""
        if self._state is _State.UP:
            self._handler.notified(Notification(notice, text))

    # The end.

    def close(self) -> None:
        """Send what is queued, then SHUTDOWN; read and throw away until the peer has agreed."""
        if self._state is not _State.UP:
            return
        self._state = _State.FLUSHING
        seconds = self._owner.settings.close_timeout
        reason = f"the peer has not agreed to close in {seconds:g} s"
        self._deadline = self._owner.loop.call_later(seconds, self.abort, reason)
        if not self._reading:
            self._reading = True
            self._watch()
        if not self._queue:
            self._shut()

    def _shut(self) -> None:
        self._state = _State.CLOSING
        with suppress(OSError):  # the peer was faster: reading will tell the end
            self._sock.shutdown(socket.SHUT_WR)

    def abort(self, reason: str = "") -> None:
        """Send ABORT. The reason stays here."""
        if self._state is _State.OVER:
            return
        self._break_off()
        self._end(Ending.ABORTED, reason or "aborted here")

    def refuse(self) -> None:
        """Abort it before anybody uses it."""
        self._break_off()
        self._state = _State.OVER
        self._sock.close()

    def _break_off(self) -> None:
        """Have the socket's closing abort the association. On a socket of the one-to-one style
        Linux takes no ABORT with a reason."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abi.LINGER.pack(1, 0))

    def _await_end(self) -> None:
        """Nothing more will come but the end; look for it now and then."""
        if self._gone:
            self._end(*notifications.ending_of(0, b""))
            return
        try:
            abi.read_status(self._sock)
        except OSError:
            self._gone = True
        self._unwatch()
        self._timer = self._owner.loop.call_later(_END_INTERVAL, self._watch)

    def on_complete(self) -> None:
        """Both sides have closed it; what is queued was never sent."""
        if self._queue:
            count = len(self._queue)
            self._end(Ending.ABORTED, f"the peer closed it when {count} messages were queued")
        else:
            self._end(Ending.CLOSED, "closed")

    def on_lost(self, causes: bytes) -> None:
        """It was aborted, by the peer or by the kernel here, or the peer does not answer."""
        error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or self._error
        self._end(*notifications.ending_of(error, causes))

    def _end(self, ending: Ending, reason: str) -> None:
        self._state = _State.OVER
        self._reading = self._deaf = False
        self._unwatch()
        self._owner.watch.remove(self._sock)
        self._outgoing.stop()
        if self._deadline is not None:
            self._deadline.cancel()
        self._outgoing.clear()
        self._sock.close()
        self._owner.ended(self)
        self._handler.closed(ending, reason)

    def statistics(self) -> AssociationStatistics:
        """What it has carried; what the kernel counts is 0 when it is over."""
        retransmitted, queued, rtt = 0, self._outgoing.bytes, 0.0
        with suppress(OSError):
            retransmitted = abi.read_retransmitted(self._sock)
            queued += abi.read_unacknowledged(self._sock)
            rtt = abi.read_status(self._sock).rtt
        return AssociationStatistics(
            sent=self._sent,
            sent_bytes=self._sent_bytes,
            received=self._received,
            received_bytes=self._received_bytes,
            retransmitted=retransmitted,
            queued=queued,
            rtt=rtt,
        )
