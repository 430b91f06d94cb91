"""Plain SCTP servers: whether they are ready, and the associations to them."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from isoneph.core.errors import AssociationClosed, QueueFull, TransportError
from isoneph.core.plugin import Association, Clock, Transport
from isoneph.core.traffic import (
    Address,
    Backend,
    BackendStatus,
    Ending,
    Message,
    Notice,
    Notification,
)
from isoneph.plugins.relays.sctp.clients import Client, cost
from isoneph.plugins.relays.sctp.figures import BackendTraffic, Figures


class Owner(Protocol):
    """Who is told what happens to servers and upstreams."""

    figures: Figures

    def server_ready(self, server: Server) -> None:
        """A server has become ready."""

    def server_unready(self, server: Server) -> None:
        """A server that was ready is not any more, or a new one cannot be reached;
        ``server.text`` says why."""

    def upstream_failed(self, upstream: Upstream) -> None:
        """It could not be connected; nothing was sent."""

    def upstream_over(self, upstream: Upstream, ending: Ending) -> None:
        """It is over, after it was up."""


class Server:
    """One backend. It is ready when the last attempt to connect to it succeeded.

    An association of the relay's own is kept to it, and set up anew when it ends: at once after
    it was lost or aborted, so that a dead server shows; else, and after a failure, when
    ``interval`` seconds have passed.
    """

    def __init__(
        self,
        backend: Backend,
        port: int,
        *,
        transport: Transport,
        timeout: float,
        interval: float,
        clock: Clock,
        owner: Owner,
    ) -> None:
        self.backend = backend
        self.addresses: Sequence[Address] = [Address(host, port) for host in backend.addresses]
        self.ready = False
        self.text = _trouble_with(backend.addresses) or "it has not been reached yet"
        self.traffic = BackendTraffic()
        self.upstreams: set[Upstream] = set()
        self.conversations = 0
        self._transport = transport
        self._timeout = timeout
        self._interval = interval
        self._clock = clock
        self._owner = owner
        self._probe: _Probe | None = None
        self._watch: asyncio.Task[None] | None = None
        if not _trouble_with(backend.addresses):
            self._watch = asyncio.create_task(self._keep_watch())

    @property
    def status(self) -> BackendStatus:
        """How it stands; a session is a client's association to it."""
        return BackendStatus(ready=self.ready, sessions=len(self.upstreams), text=self.text)

    async def connect(self, handler: Upstream | _Probe) -> None:
        """Set an association up. Raises TransportError when that fails or takes too long."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._transport.connect(self.addresses, handler)
        except TimeoutError:
            raise TransportError(f"no answer within {self._timeout:g} s") from None

    def doubt(self, text: str) -> None:
        """A client could not be connected to it: it is not ready until that is tried anew."""
        self._failed(text)
        self._abort_probe("doubt")

    def close(self) -> None:
        """It is a backend no more: break off what belongs to it."""
        if self._watch is not None:
            self._watch.cancel()
        self._failed("it is no backend any more")
        self._abort_probe("removed")
        for upstream in tuple(self.upstreams):
            upstream.break_off("backend_removed")

    def _failed(self, text: str, *, first: bool = False) -> None:
        was_ready, self.ready, self.text = self.ready, False, text
        if was_ready or first:
            self._owner.server_unready(self)

    def _abort_probe(self, reason: str) -> None:
        if self._probe is not None and self._probe.association is not None:
            self._probe.association.abort(reason)

    async def _keep_watch(self) -> None:
        for attempt in itertools.count():
            self._probe = probe = _Probe()
            began = self._clock.monotonic()
            try:
                await self.connect(probe)
            except TransportError as error:
                self._failed(error.message, first=attempt == 0)
            else:
                if not self.ready:
                    self.ready, self.text = True, ""
                    self._owner.server_ready(self)
                ending = await probe.ended
                if ending is not Ending.CLOSED:
                    self._failed(f"its association is {ending.value}")
            lasted = self._clock.monotonic() - began
            if lasted < self._interval:
                await self._clock.sleep(self._interval - lasted)


def _trouble_with(hosts: Sequence[str]) -> str:
    """Why these cannot be connected to; empty when they can be tried."""
    for host in hosts:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return f"{host!r} is not a numeric address"
    return "" if hosts else "it has no address"


class _Probe:
    """The handler of an association that carries nothing; ``ended`` tells how it ended."""

    def __init__(self) -> None:
        self.association: Association | None = None
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    def opened(self, association: Association) -> None:
        """It is up."""
        self.association = association

    def received(self, message: Message) -> None:
        """A server that speaks first is not answered."""

    def writable_changed(self, writable: bool) -> None:
        """Nothing is sent."""

    def notified(self, notification: Notification) -> None:
        """It lives on."""

    def closed(self, ending: Ending, reason: str) -> None:
        """It is over."""
        if not self.ended.done():
            self.ended.set_result(ending)


class Upstream:
    """The association to a server for one client (its AssociationHandler).

    ::

        connecting --- opened ---> up --- close ---> closing --- closed ---> over
             |                      `--------- abort, lost -------------------^
             `--- failed: other servers are tried

    What cannot be sent yet waits in the outbox, and counts as the client's. ``ours`` is true
    when it ends because the relay wants it to: the client lives on, or is gone already.
    """

    def __init__(self, server: Server, client: Client, owner: Owner) -> None:
        self.server = server
        self.client = client
        #: The numbers of those pinned to it, in order.
        self.conversations: dict[int, None] = {}
        self.outbox: deque[tuple[int, Message]] = deque()
        self.ours = False
        self.over = False
        self._association: Association | None = None
        self._writable = False
        self._owner = owner
        self._task = asyncio.create_task(self._connect())
        server.upstreams.add(self)

    # What the transport calls.

    def opened(self, association: Association) -> None:
        """What has waited goes."""
        self._association = association
        if not self.client.writable:
            association.pause_reading()
        self.writable_changed(association.writable)

    def received(self, message: Message) -> None:
        """On to the client, as it is."""
        traffic = self.server.traffic
        traffic.messages_in += 1
        traffic.bytes_in += len(message.data)
        if not self.client.send(message):
            self.break_off("reply_not_carried")

    def writable_changed(self, writable: bool) -> None:
        """What waits for the server goes, as far as it takes it."""
        self._writable = writable
        while self.outbox and self._writable and not self.over:
            number, message = self.outbox.popleft()
            if not self._send(message):
                self.outbox.appendleft((number, message))
                break
            self.client.settle(cost(message))
        if writable and self.ours and not (self.outbox or self.over or self._association is None):
            self._association.close()

    def notified(self, notification: Notification) -> None:
        """A server that has started anew has forgotten the client."""
        if notification.notice is Notice.RESTARTED:
            self.break_off("backend_restarted")

    def closed(self, ending: Ending, reason: str) -> None:
        """It is over."""
        self.over = True
        self._give_up("backend_gone")
        self._owner.upstream_over(self, ending)

    # What the relay calls.

    def send(self, number: int, message: Message) -> None:
        """Send a conversation's message now, or when it can be."""
        if not (self._writable and not self.outbox and self._send(message)):
            self.outbox.append((number, message))
            self.client.charge(cost(message))

    def pause_reading(self) -> None:
        """The client is slow."""
        if self._association is not None and not self.over:
            self._association.pause_reading()

    def resume_reading(self) -> None:
        """The client is not slow any more."""
        if self._association is not None and not self.over:
            self._association.resume_reading()

    def drop(self, number: int, reason: str) -> None:
        """Forget what waits of a conversation."""
        kept = deque(item for item in self.outbox if item[0] != number)
        self._owner.figures.refuse(reason, len(self.outbox) - len(kept))
        for dropped, message in self.outbox:
            if dropped == number:
                self.client.settle(cost(message))
        self.outbox = kept

    def close(self) -> None:
        """Close it in order, after what waits."""
        self.ours = True
        if not self.outbox:
            if self._association is None:
                self.abort()
            elif not self.over:
                self._association.close()

    def abort(self) -> None:
        """Break it off; the client has nothing to do with it any more."""
        self.ours = True
        if self._association is None:
            self._task.cancel()
            self.closed(Ending.ABORTED, "given up")
        elif not self.over:
            self._association.abort("client_gone")

    def break_off(self, reason: str) -> None:
        """Break it off, and with it the client's association."""
        self.abort()
        self.client.abort(reason)

    async def _connect(self) -> None:
        try:
            await self.server.connect(self)
        except TransportError as error:
            if self._association is None:
                self.over = True
                self.server.doubt(error.message)
                self._owner.upstream_failed(self)

    def _send(self, message: Message) -> bool:
        """Send it now; false when the association has no room for it."""
        association = self._association
        if association is None:
            return False
        try:
            association.send(message)
        except QueueFull:
            self._writable = False
            return False
        except AssociationClosed:
            self._owner.figures.refuse("backend_gone")
        except TransportError as error:
            self.client.abort(error.code)
        else:
            traffic = self.server.traffic
            traffic.messages_out += 1
            traffic.bytes_out += len(message.data)
        return True

    def _give_up(self, reason: str) -> None:
        if self.outbox:
            self._owner.figures.refuse(reason, len(self.outbox))
            for _, message in self.outbox:
                self.client.settle(cost(message))
            self.outbox.clear()
