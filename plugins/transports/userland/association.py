r"""The associations of the ``userland`` transport.

::

    connecting --> up --> closing --> over
        |          |  \              ^ ^
        |          |   peer closing --+ |
        +----------+--------------------+

``connecting`` until the handshake is done, which only the side that connects sees; ``closing``
from our :meth:`~UserlandAssociation.close` on, while what is queued is sent and SHUTDOWN is
answered; ``peer closing`` from the peer's SHUTDOWN on.

Outgoing messages wait in the stack's send buffer, which holds ``send_queue`` bytes; what it does
not take waits in a backlog of our own (:mod:`.outgoing`), which holds as much again. The
association is writable while that one is empty. Incoming messages wait in the stack until they are
read, and its receive window closes while they are not.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from enum import Enum, auto
from socket import SHUT_WR, ntohl
from typing import Any, Final

from isoneph.core.errors import (
    AssociationClosed,
    BadStream,
    ConnectFailed,
    MessageTooLarge,
    TransportError,
)
from isoneph.core.plugin import Association, AssociationHandler, Environment
from isoneph.core.traffic import (
    Address,
    AssociationStatistics,
    Ending,
    Message,
    Notice,
    Notification,
)
from isoneph.plugins.transports.userland import sockets
from isoneph.plugins.transports.userland.assembly import Assembly
from isoneph.plugins.transports.userland.carrier import Peer
from isoneph.plugins.transports.userland.library import (
    EVENT_ERROR,
    EVENT_READ,
    MSG_EOR,
    MSG_NOTIFICATION,
    UNORDERED,
)
from isoneph.plugins.transports.userland.notifications import (
    AssociationChange,
    DeliveryAborted,
    State,
    parse,
)
from isoneph.plugins.transports.userland.options import Settings
from isoneph.plugins.transports.userland.outgoing import Outgoing
from isoneph.plugins.transports.userland.stack import RECEIVE_SIZE, Stack

#: Messages that are read before other associations get their turn.
_BATCH: Final = 64
#: So many times the stack is asked whether there is a message; then it is read until none is.
_ASKED: Final = 2
_RCVINFO_SIZE: Final = 28
_new = tuple.__new__  # makes a Message in half of its own constructor's time


class Phase(Enum):
    """Where an association is in its life."""

    CONNECTING = auto()
    UP = auto()
    CLOSING = auto()
    PEER_CLOSING = auto()
    OVER = auto()


class UserlandAssociation(Association):
    """An association of the stack, with a socket of its own."""

    def __init__(
        self,
        stack: Stack,
        so: Any,
        peer: Peer,
        *,
        local: Address,
        remote: Address,
        settings: Settings,
        environment: Environment,
        accepted: bool,
        on_over: Callable[[UserlandAssociation], None],
    ) -> None:
        super().__init__()
        self.number = stack.next_number()
        self.pending = False
        self.local: Sequence[Address] = (local,)
        self.remote: Sequence[Address] = (remote,)
        self.streams_in = self.streams_out = 0
        self.writable = True
        self._stack = stack
        self._so = so
        self._peer = peer
        self._settings = settings
        self._environment = environment
        self._on_over = on_over
        self._handler: AssociationHandler | None = None
        self._phase = Phase.UP if accepted else Phase.CONNECTING
        self._reading = True
        #: Whether it is broken, or has a peer that has started anew, and that is not read yet:
        #: nothing is sent.
        self._stale = False
        #: Whether what comes is thrown away: until the end, or until the restart that is behind it.
        self._deaf = False
        #: Messages that were dropped because the peer has started anew, and not told of yet.
        self._dropped = 0
        self._connected: asyncio.Future[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._outgoing = Outgoing(stack, so, self, settings, remote)
        self._assembly = Assembly(settings.max_message)
        #: Whether a notification was read of which more comes.
        self._mid_news = False
        self._sent = self._sent_bytes = self._received = self._received_bytes = 0
        self._tag = 0
        peer.uses += 1
        stack.add_association(self, so)

    # Setting up.

    async def connect(self, handler: AssociationHandler) -> None:
        """Set it up; ``opened`` is called before this returns. Raises ConnectFailed."""
        try:
            sockets.connect(self._stack, self._so, self._peer.id, self.remote[0].port)
        except (OSError, OverflowError) as error:
            self.abort()
            raise ConnectFailed(f"cannot connect to {self.remote[0]}: {error}") from error
        self.learn()
        self._handler = handler
        self._connected = asyncio.get_running_loop().create_future()
        try:
            await self._connected
        except BaseException:
            self.abort("given up")
            raise

    def learn(self) -> None:
        """Look up what the handshake has agreed on."""
        status = sockets.status(self._stack, self._so)
        self.streams_in, self.streams_out = status.sstat_instrms, status.sstat_outstrms
        self._stack.tags.pop(self._tag, None)
        if tag := sockets.local_tag(self._stack, self._so):
            self._stack.tags[tag] = self._peer
        self._tag = tag

    def come_up(self, handler: AssociationHandler) -> None:
        """The handshake is done."""
        self._handler = handler
        self._phase = Phase.UP
        self._stack.note(self)
        try:
            handler.opened(self)
        except Exception:
            self.on_failure()
            raise

    # Sending.

    def send(self, message: Message) -> None:
        """Queue a message."""
        size = len(message.data)
        if self._phase is not Phase.UP:
            raise AssociationClosed(f"the association with {self.remote[0]} is closed")
        if (self._stale or not self._reading) and self._renewed():
            raise AssociationClosed(f"{self.remote[0]} is gone, or has started anew")
        if not 0 <= message.stream < self.streams_out:
            raise BadStream(f"there are {self.streams_out} streams, none is {message.stream}")
        if not 0 < size <= self._settings.max_message:
            raise self._unfit(size)
        self._outgoing.put(message, size)
        self._sent += 1
        self._sent_bytes += size

    def _unfit(self, size: int) -> TransportError:
        if not size:
            return TransportError("SCTP carries no empty messages")
        most = self._settings.max_message
        return MessageTooLarge(f"a message of {size} bytes: max_message is {most}")

    def on_backlog(self, waiting: bool) -> None:
        """The stack is full, or has taken all that it was full for."""
        if self._phase is Phase.CLOSING:
            if not waiting:
                self._shut_down()
        elif self.writable is waiting:
            self.writable = not waiting
            if self._handler is not None:
                self._handler.writable_changed(not waiting)

    def on_given_up(self, count: int, why: str) -> None:
        """Messages were dropped."""
        if self._handler is not None:
            text = f"{count} messages were never sent: {why}"
            self._handler.notified(Notification(Notice.SEND_FAILED, text))

    # Receiving.

    def pause_reading(self) -> None:
        """Read nothing from now on but that it is broken off, lost or started anew."""
        if self._phase is not Phase.CLOSING:
            self._reading = False

    def resume_reading(self) -> None:
        """Read again."""
        if self._phase is not Phase.OVER:
            self._reading = True
            self._stack.note(self)

    def on_news(self) -> None:
        """Read what there is, and send what there is room for."""
        if self._phase is Phase.OVER:
            return
        if not self._reading and not self._deaf:
            # Whoever paused it could not learn otherwise that it is broken, or another one.
            if self._stack.get_events(self._so) & EVENT_ERROR:
                self._stale = True
            self._deaf = self._renewed()
        if self._reading or self._deaf:
            self._read()
        if self._outgoing.backlog:
            self._outgoing.flush()

    def _renewed(self) -> bool:
        """Whether it is stale. Nothing that was meant for a peer's former life goes to the new."""
        if not self._stale and sockets.local_tag(self._stack, self._so) not in (0, self._tag):
            self._stale = True
            self._dropped += self._outgoing.clear()
        return self._stale

    def on_failure(self) -> None:
        """The handler raised what it must not."""
        self._outgoing.clear()
        self.abort("internal error")

    def _read(self) -> None:
        stack = self._stack
        so, events, receive = self._so, stack.get_events, stack.recvv
        buffer, info, flags, null = stack.data, stack.rcvinfo, stack.flags, stack.null
        info_size, info_type, came = stack.rcvinfo_size, stack.info_type, stack.data_view
        for count in range(_BATCH):
            # To ask costs less than to read in vain; with much to read, asking costs more.
            if count < _ASKED and not events(so) & EVENT_READ:
                return
            flags[0] = 0
            info_size[0] = _RCVINFO_SIZE
            size = receive(so, buffer, RECEIVE_SIZE, null, null, info, info_size, info_type, flags)
            if size <= 0:
                self._unreadable(size)
                return
            data = came[:size]
            state = flags[0]
            if state & MSG_NOTIFICATION:
                self._take_news(data, whole=state & MSG_EOR)
            elif self._deaf:
                continue
            elif state & MSG_EOR:
                self._take(data, info)
            elif not self._assembly.add(data):
                self._refuse()
            if not self._reading and not self._deaf:
                return
        self._renewed()  # that may be behind what is left to be read
        stack.note(self)

    def _take(self, data: bytes, info: Any) -> None:
        """A message has come, or its last part."""
        whole = self._assembly.finish(data)
        if whole is None or self._handler is None:
            self._refuse()
            return
        self._received += 1
        self._received_bytes += len(whole)
        unordered = info.rcv_flags & UNORDERED != 0
        self._handler.received(
            _new(Message, (whole, info.rcv_sid, ntohl(info.rcv_ppid), unordered))
        )

    def _refuse(self) -> None:
        self._environment.metrics.count("refused_messages", reason="too_large")
        self.abort(f"a message of more than {self._settings.max_message} bytes came")

    def _unreadable(self, size: int) -> None:
        """The socket gives nothing, although it said that there was something."""
        number = self._stack.ffi.errno
        if size < 0 and number == errno.EWOULDBLOCK:
            return
        self._end(Ending.LOST, os.strerror(number) if size < 0 else "the stack closed it")

    def _take_news(self, data: bytes, *, whole: int) -> None:
        """A notification has come; of a large one only the first part matters."""
        first, self._mid_news = not self._mid_news, not whole
        event = parse(data) if first else None
        if isinstance(event, AssociationChange):
            self._change(event)
        elif isinstance(event, DeliveryAborted):
            self._assembly.clear()
        elif event is not None:
            if event.notice is Notice.SHUTDOWN and self._phase is Phase.UP:
                self._phase = Phase.PEER_CLOSING
            self._notify(event)

    def _change(self, event: AssociationChange) -> None:
        if event.state is State.COMM_UP:
            if self._phase is Phase.CONNECTING and self._handler and self._connected:
                self.learn()
                self._connected.set_result(None)
                self.come_up(self._handler)
        elif event.state is State.RESTART:
            self._restart()
        elif event.state is State.SHUTDOWN_COMP:
            self._end(Ending.CLOSED, "closed in order")
        else:
            self._end(Ending.ABORTED if event.aborted else Ending.LOST, event.reason)

    def _restart(self) -> None:
        """The peer has started anew: what was meant for its former life is dropped, and told."""
        why = "the peer has started anew"
        self._assembly.clear()
        self._stale, self._deaf = False, self._phase is Phase.CLOSING
        dropped, self._dropped = self._dropped + self._outgoing.clear(), 0
        self.learn()
        self._notify(Notification(Notice.RESTARTED, why))
        if dropped and self._phase is not Phase.OVER:
            self.on_given_up(dropped, why)
            if not self._outgoing.backlog:
                self.on_backlog(False)

    def _notify(self, notification: Notification) -> None:
        if self._handler is not None and self._phase is not Phase.CLOSING:
            self._handler.notified(notification)

    # The end.

    def close(self) -> None:
        """Close in order, within ``close_timeout``."""
        if self._phase not in (Phase.UP, Phase.PEER_CLOSING):
            return
        self._phase = Phase.CLOSING
        self._reading = self._deaf = True
        self._deadline = asyncio.get_running_loop().call_later(
            self._settings.close_timeout, self.abort, "it could not be closed in time"
        )
        self._outgoing.end_turn()
        if not self._outgoing.backlog:
            self._shut_down()

    def _shut_down(self) -> None:
        self._stack.lib.usrsctp_shutdown(self._so, SHUT_WR)
        self._stack.note(self)  # what is unread already is thrown away

    def abort(self, reason: str = "") -> None:
        """Break it off at once; what was sent before has gone."""
        if self._phase is Phase.OVER:
            return
        if self._phase is not Phase.CONNECTING:
            self._phase = Phase.CLOSING
            self._outgoing.end_turn()
            sockets.send_abort(self._stack, self._so, reason)
        self._end(Ending.ABORTED, reason or "broken off")

    def _end(self, ending: Ending, reason: str) -> None:
        """It is over: let everything go, and tell."""
        was_up = self._phase is not Phase.CONNECTING
        self._phase = Phase.OVER
        self._reading = self._deaf = self.writable = False
        if self._deadline is not None:
            self._deadline.cancel()
        sockets.close(self._stack, self._so)
        self._stack.tags.pop(self._tag, None)
        self._stack.remove_association(self)
        self._peer.carrier.release(self._peer)
        self._outgoing.clear()
        self._assembly.clear()
        self._on_over(self)
        if self._connected is not None and not self._connected.done():
            text = f"cannot connect to {self.remote[0]}: {reason}"
            self._connected.set_exception(ConnectFailed(text))
        if was_up and self._handler is not None:
            self._environment.metrics.count("ended_associations", ending=ending)
            self._handler.closed(ending, reason)

    def statistics(self) -> AssociationStatistics:
        """What it has carried. ``queued`` is an estimate: the stack tells how many messages it
        holds, not how long they are; it does not tell either what was sent again."""
        queued, rtt = self._outgoing.bytes, 0
        if self._phase is not Phase.OVER:
            status = sockets.status(self._stack, self._so)
            held = status.sstat_unackdata + status.sstat_penddata
            queued += held * self._sent_bytes // max(self._sent, 1)
            rtt = status.sstat_primary.spinfo_srtt
        return AssociationStatistics(
            sent=self._sent,
            sent_bytes=self._sent_bytes,
            received=self._received,
            received_bytes=self._received_bytes,
            queued=queued,
            rtt=rtt / 1000,
        )
