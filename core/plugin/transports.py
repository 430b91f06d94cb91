"""The interface of message transports: SCTP of the kernel, SCTP in userland, and their like.

It is made for carrying many small messages: news come as calls, not through queues, and
nothing is awaited between a message's arrival and its way on. An association's life, as the
calls of its :class:`AssociationHandler`::

    opened -> (received | notified | writable_changed)* -> closed

``closed`` comes exactly once after ``opened``, and nothing after it. An association that cannot
be set up calls nothing: :meth:`Transport.connect` raises.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from isoneph.core.plugin.base import Plugin
from isoneph.core.traffic import (
    Address,
    AssociationStatistics,
    Ending,
    Message,
    Notification,
)


class AssociationHandler(Protocol):
    """Who uses an association. Called on the event loop; must return soon and raise nothing."""

    def opened(self, association: Association) -> None:
        """The association is up."""

    def received(self, message: Message) -> None:
        """A whole message has come. Those of one stream come in the order in which they were
        sent, but for unordered ones."""

    def writable_changed(self, writable: bool) -> None:
        """More is queued than should be, or little enough again; see
        :attr:`Association.writable`."""

    def notified(self, notification: Notification) -> None:
        """Something happened that the association survives."""

    def closed(self, ending: Ending, reason: str) -> None:
        """The association is over; ``reason`` in words for a log."""


_association_ids = itertools.count(1)


class Association(ABC):
    """One association. For the tasks and callbacks of one event loop."""

    #: Numbers the associations of a process; never used twice.
    id: int
    #: The peer's addresses, the primary one first; only those known where the transport cannot
    #: tell all.
    remote: Sequence[Address]
    #: Our own addresses.
    local: Sequence[Address]
    #: How many streams there are in each direction.
    streams_in: int
    streams_out: int
    #: Whether more may be sent. It is meant to be heeded: beyond twice the limit of queued bytes
    #: :meth:`send` raises.
    writable: bool

    def __init__(self) -> None:
        self.id = next(_association_ids)

    @abstractmethod
    def send(self, message: Message) -> None:
        """Queue a message for the peer; never waits.

        Raises AssociationClosed when the association is over or being closed, or when its peer has
        started anew and that is still to be told; MessageTooLarge when the message is larger than
        the transport's limit, BadStream when there is no such stream, QueueFull when what is
        queued exceeds the limit, and TransportError when it is empty: SCTP has no empty messages
        (RFC 9260, section 3.3.1). What is queued when a peer starts anew is dropped.
        """

    @abstractmethod
    def pause_reading(self) -> None:
        """Receive nothing from now on but what was read already: at most the messages of the
        read that is going on. The peer is held up in the end by its own window.

        An association that is broken off or lost meanwhile is told of all the same, and so is a
        peer that starts anew, at the latest after something is sent; what it sent before and was
        not read is thrown away then.
        """

    @abstractmethod
    def resume_reading(self) -> None:
        """Receive again."""

    @abstractmethod
    def close(self) -> None:
        """Close in order: what is queued is sent first, then SHUTDOWN. Safe to call twice. What
        the peer sends until then is thrown away: an association that closes with unread
        messages would be aborted."""

    @abstractmethod
    def abort(self, reason: str = "") -> None:
        """Break it off at once; ``closed`` is called before this returns."""

    @abstractmethod
    def statistics(self) -> AssociationStatistics:
        """What it has carried so far."""


class Listener(ABC):
    """Accepts associations."""

    #: Where it listens, with the port that was given out where port 0 was asked for.
    addresses: Sequence[Address]

    @abstractmethod
    def pause(self) -> None:
        """Accept none from now on: who tries waits, or is refused, as the transport has it."""

    @abstractmethod
    def resume(self) -> None:
        """Accept again."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening; associations that are up live on."""


class Transport(Plugin):
    """A way to carry messages (``isoneph.transports``). For the tasks of one event loop.

    Limits and timers are options of the plugin; every transport has at least ``max_message``
    (bytes), ``send_queue`` (bytes queued after which :attr:`Association.writable` is false) and
    ``streams``.
    """

    async def start(self) -> None:
        """Open what all associations share. Raises TransportUnavailable when this machine cannot
        carry such messages, saying why."""

    async def close(self) -> None:
        """Abort what is still up and let everything go. Safe to call twice, and without
        ``start``."""

    @property
    def summary(self) -> str:
        """What it is and why, for a log: ``kernel SCTP``."""
        return self.environment.name

    @abstractmethod
    async def listen(
        self,
        addresses: Sequence[Address],
        accept: Callable[[Association], AssociationHandler | None],
    ) -> Listener:
        """Listen on all of these addresses, which share one port. ``accept`` is called for every
        association that comes up and returns who uses it, or None to have it aborted.

        Raises ListenFailed.
        """

    @abstractmethod
    async def connect(
        self,
        remote: Sequence[Address],
        handler: AssociationHandler,
        local: Sequence[Address] = (),
    ) -> Association:
        """Set an association up to a peer that has all of these addresses; ``opened`` is called
        before this returns. ``environment.timeout`` bounds it.

        Raises ConnectFailed.
        """
