"""Clients: their associations, and what is pending of each.

What a client has sent is *pending* while it waits for a backend or is at a worker. Beyond its
share nothing more is read from the client until half of that is settled; beyond its rate, until
more is due. What the client is slow to take waits in its outbox; beyond the limit it is
disconnected. Nothing is dropped in between::

    opened ---> up --- close ---> closing (its outbox goes first) --- closed ---> over
                 `--------------------- abort, lost --------------------------------^
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from isoneph.core.errors import AssociationClosed, QueueFull, TransportError
from isoneph.core.plugin import Association
from isoneph.core.traffic import Ending, Message, Notice, Notification
from isoneph.plugins.relays.sctp.figures import Traffic

if TYPE_CHECKING:  # they hold one another
    from isoneph.plugins.relays.sctp.switch import Switch

#: What a message that waits takes besides its data, in bytes: the objects around it.
OVERHEAD: Final = 250

#: Why a client is not read from for a while; bits of a mask.
_QUEUE, _RATE = 1, 2
#: Seconds of its rate that a client saves up before it is read from again.
_RATE_STEP: Final = 0.02


def cost(message: Message) -> int:
    """The bytes that a message which waits is taken for."""
    return len(message.data) + OVERHEAD


class Client(Traffic):
    """A client's association (its AssociationHandler).

    ``writable`` is false while it is slow to take what is sent to it: nothing that would make
    more should be begun. ``source`` is the address it has come from.
    """

    __slots__ = (
        "_allowance",
        "_closing",
        "_held",
        "_outbox",
        "_refilled",
        "_switch",
        "association",
        "number",
        "outbox_bytes",
        "over",
        "pending",
        "since",
        "source",
        "writable",
    )

    def __init__(self, number: int, association: Association, switch: Switch) -> None:
        super().__init__()
        self.number = number
        self.association = association
        self.source = association.remote[0]
        self.since = self._refilled = switch.clock.monotonic()
        self.pending = 0
        self.writable = True
        self.over = False
        #: The bytes that wait for the client here, besides those in its transport.
        self.outbox_bytes = 0
        self._switch = switch
        self._allowance = switch.limits.burst
        self._closing = False
        self._held = 0
        self._outbox: deque[Message] = deque()

    # What the transport calls.

    def opened(self, association: Association) -> None:
        """The router hears of it."""
        self._switch.client_up(self)

    def received(self, message: Message) -> None:
        """On to the router, within the client's limits."""
        size = len(message.data)
        self._switch.polling.note()
        self.messages_in += 1
        self.bytes_in += size
        self._allowance -= 1
        if self._allowance < 0:
            self._slow_down()
        if size > self._switch.limits.max_message:
            self.abort("message_too_large")
        elif self._closing:
            self._switch.figures.refuse("client_closing")
        else:
            self._switch.message(self, message)

    def writable_changed(self, writable: bool) -> None:
        """What waits for it goes on, as far as it takes it."""
        if writable:
            self._flush()
        elif not self.over:
            self.writable = False
            self._switch.client_writable(self)

    def notified(self, notification: Notification) -> None:
        """A peer that has started anew has lost what belongs to the association, and shall set
        up another one."""
        if notification.notice is Notice.RESTARTED:
            self.abort("client_restarted")

    def closed(self, ending: Ending, reason: str) -> None:
        """It is over; what still waits for it is dropped and counted."""
        if self.over:
            return
        self.over = self.writable = True
        if self._outbox:
            self._switch.figures.refuse("client_gone", len(self._outbox))
            self._outbox.clear()
            self._switch.queued -= self.outbox_bytes
            self.outbox_bytes = 0
        self._switch.client_gone(self, ending)

    # What the relay calls.

    def send(self, message: Message) -> bool:
        """Send it now, or when the client takes it; false for a message that the association
        cannot carry: it is dropped, and counted."""
        if not self.writable:
            self._put_off(message)
            return True
        try:
            self.association.send(message)
        except AssociationClosed:
            self._switch.figures.refuse("client_gone")
        except QueueFull:
            self.writable = False
            self._put_back(message)
            self._switch.client_writable(self)
        except TransportError as error:
            self._switch.figures.refuse(f"reply_{error.code}")
            return False
        else:
            self._switch.polling.note()
            self.messages_out += 1
            self.bytes_out += len(message.data)
        return True

    def close(self) -> None:
        """Close in order, after what waits in the outbox."""
        self._closing = True
        if not (self._outbox or self.over):
            self.association.close()

    def abort(self, reason: str) -> None:
        """Break the association off, counted under ``reason``, a word."""
        if not self.over:
            self._switch.figures.refuse(reason)
            self.association.abort(reason)

    def charge(self, amount: int) -> None:
        """Add to what is pending."""
        self.pending += amount
        self._switch.pending += amount
        if self.pending > self._switch.share and not self._held & _QUEUE:
            self._hold(_QUEUE)

    def settle(self, amount: int) -> None:
        """Take from what is pending."""
        self.pending -= amount
        self._switch.pending -= amount
        if self._held & _QUEUE and 2 * self.pending <= self._switch.share:
            self._release(_QUEUE)

    def _put_off(self, message: Message) -> None:
        if self.over or self._closing:
            self._switch.figures.refuse("client_gone")
            return
        self._outbox.append(message)
        self._queue(cost(message))

    def _put_back(self, message: Message) -> None:
        """It is older than what is in the outbox, from which it may just have come."""
        self._outbox.appendleft(message)
        self._queue(cost(message))

    def _queue(self, amount: int) -> None:
        self.outbox_bytes += amount
        self._switch.queued += amount
        if self.outbox_bytes > self._switch.limits.reply_queue:
            self.abort("client_too_slow")
        elif self._switch.queued > self._switch.limits.memory:
            self._switch.relieve()

    def _flush(self) -> None:
        outbox = self._outbox
        self.writable = True
        while outbox and self.writable and not self.over:
            message = outbox.popleft()
            amount = cost(message)
            self.outbox_bytes -= amount
            self._switch.queued -= amount
            self.send(message)
        if self.over:
            return
        if outbox:
            self.writable = False
        elif self._closing:
            self.association.close()
        elif self.writable:
            self._switch.client_writable(self)

    def _slow_down(self) -> None:
        switch = self._switch
        now, rate = switch.clock.monotonic(), switch.limits.rate
        due = min(self._allowance + 1 + (now - self._refilled) * rate, switch.limits.burst) - 1
        self._allowance, self._refilled = due, now
        if due < 0 and not self._held & _RATE:
            self._hold(_RATE)
            pause = -due / rate + _RATE_STEP
            asyncio.get_running_loop().call_later(pause, self._release, _RATE)

    def _hold(self, why: int) -> None:
        if not (self._held or self.over):
            self._switch.figures.held_up += 1
            self.association.pause_reading()
        self._held |= why

    def _release(self, why: int) -> None:
        self._held &= ~why
        if not (self._held or self.over):
            self.association.resume_reading()
