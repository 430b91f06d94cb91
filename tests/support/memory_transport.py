"""A transport within one process, whose network the test holds in its hands."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from isoneph.core.errors import (
    AssociationClosed,
    BadStream,
    ConnectFailed,
    ListenFailed,
    MessageTooLarge,
    QueueFull,
)
from isoneph.core.plugin import Association, AssociationHandler, Listener, Transport
from isoneph.core.testing import make_environment
from isoneph.core.traffic import (
    Address,
    AssociationStatistics,
    Ending,
    Message,
    Notice,
    Notification,
)

Accept = Callable[[Association], AssociationHandler | None]
_BATCH: Final = 16
_numbers = itertools.count(1)


class MemoryNetwork:
    """Where the transports of a test meet.

    ``unreachable`` addresses refuse to be connected to, ``silent`` ones never answer.
    """

    def __init__(self) -> None:
        self.listeners: dict[Address, MemoryListener] = {}
        self.associations: list[MemoryAssociation] = []
        self.unreachable: set[Address] = set()
        self.silent: set[Address] = set()
        self._ports = itertools.count(40000)

    def free_port(self) -> int:
        return next(self._ports)

    def lose(self, host: str) -> None:
        """Everything from and to that host is lost: each side takes the other for dead."""
        for association in tuple(self.associations):
            if host in {association.local[0].host, association.remote[0].host}:
                association.end(Ending.LOST, "the network was cut")


class MemoryListener(Listener):
    def __init__(
        self, transport: MemoryTransport, addresses: Sequence[Address], accept: Accept
    ) -> None:
        self.transport = transport
        self.addresses = addresses
        self.accept = accept
        self.accepting = True

    def pause(self) -> None:
        self.accepting = False

    def resume(self) -> None:
        self.accepting = True

    def close(self) -> None:
        self.accepting = False
        for address in self.addresses:
            self.transport.network.listeners.pop(address, None)


class MemoryAssociation(Association):
    """One side of an association. What its peer has not taken yet counts as queued."""

    peer: MemoryAssociation
    handler: AssociationHandler

    def __init__(self, transport: MemoryTransport, local: Address, remote: Address) -> None:
        self.id = next(_numbers)
        self.local, self.remote = (local,), (remote,)
        self.streams_in = self.streams_out = transport.streams
        self.writable = True
        self.reading = True
        self.over = False
        self.closing = False
        self.queued = 0
        self.sent = self.received = 0
        self._transport = transport
        self._outgoing: deque[Message] = deque()
        self._pumping = False

    def send(self, message: Message) -> None:
        if self.over or self.closing:
            raise AssociationClosed("the association is over")
        if len(message.data) > self._transport.max_message:
            raise MessageTooLarge("the message is too large")
        if message.stream >= self.streams_out:
            raise BadStream(f"there is no stream {message.stream}")
        if self.queued > 2 * self._transport.send_queue:
            raise QueueFull("more is queued than may be")
        self._outgoing.append(message)
        self.queued += len(message.data)
        self.sent += 1
        self._set_writable()
        self.wake()

    def wake(self) -> None:
        """What is queued goes to the peer soon, if that takes it."""
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        for _ in range(_BATCH):
            if self.over or not self._outgoing or not self.peer.reading:
                break
            message = self._outgoing.popleft()
            self.queued -= len(message.data)
            if not self.peer.closing:
                self.peer.received += 1
                self.peer.handler.received(message)
        if self.over:
            return
        self._set_writable()
        if self._outgoing and self.peer.reading:
            self.wake()
        elif self.closing and not self._outgoing:
            self.peer.handler.notified(Notification(Notice.SHUTDOWN))
            self.end(Ending.CLOSED, "closed")

    def _set_writable(self) -> None:
        writable = self.queued <= self._transport.send_queue
        if writable != self.writable and not self.over:
            self.writable = writable
            self.handler.writable_changed(writable)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self.peer.wake()

    def close(self) -> None:
        if not (self.over or self.closing):
            self.closing = True
            self.resume_reading()
            self.wake()

    def abort(self, reason: str = "") -> None:
        self.end(Ending.ABORTED, reason or "aborted")

    def end(self, ending: Ending, reason: str) -> None:
        """Both sides hear of it, this one first."""
        for side in (self, self.peer):
            if not side.over:
                side.over = True
                self._transport.network.associations.remove(side)
                side.handler.closed(ending, reason)

    def statistics(self) -> AssociationStatistics:
        return AssociationStatistics(sent=self.sent, received=self.received, queued=self.queued)


class MemoryTransport(Transport):
    """Carries messages within the process; its limits may be changed while it runs."""

    def __init__(self, network: MemoryNetwork, host: str = "127.0.0.1") -> None:
        super().__init__({}, make_environment("memory"))
        self.network = network
        self.host = host
        self.max_message = 1 << 20
        self.send_queue = 1 << 16
        self.streams = 16

    async def close(self) -> None:
        for association in tuple(self.network.associations):
            if association._transport is self:
                association.abort("the transport is closed")

    async def listen(self, addresses: Sequence[Address], accept: Accept) -> Listener:
        port = addresses[0].port or self.network.free_port()
        own = tuple(Address(address.host, port) for address in addresses)
        if not self.network.listeners.keys().isdisjoint(own):
            raise ListenFailed(f"{own[0]} is in use")
        listener = MemoryListener(self, own, accept)
        self.network.listeners.update(dict.fromkeys(own, listener))
        return listener

    async def connect(
        self,
        remote: Sequence[Address],
        handler: AssociationHandler,
        local: Sequence[Address] = (),
    ) -> Association:
        await asyncio.sleep(0)
        address = remote[0]
        if address in self.network.silent:
            await asyncio.sleep(3600)
        listener = self.network.listeners.get(address)
        if listener is None or not listener.accepting or address in self.network.unreachable:
            raise ConnectFailed(f"{address} refused")
        here = local[0] if local else Address(self.host, self.network.free_port())
        ours = MemoryAssociation(self, here, address)
        theirs = MemoryAssociation(listener.transport, address, here)
        ours.peer, theirs.peer, ours.handler = theirs, ours, handler
        taker = listener.accept(theirs)
        if taker is None:
            raise ConnectFailed(f"{address} refused")
        theirs.handler = taker
        self.network.associations += [ours, theirs]
        taker.opened(theirs)
        if not theirs.over:
            handler.opened(ours)
        return ours
