"""The relay's side of the worker link: it listens, lets workers in, and watches over them.

The life of a worker's connection, as the calls of its :class:`WorkerHandler`::

    accept -> opened -> (replied | failed | pushed | drain_wanted | writable_changed)* -> closed

What does not get as far as ``opened`` calls only ``refused``, with a reason to count. A worker
whose VM id is connected already takes the older connection's place, whose handler is told
``closed("replaced")`` between ``accept`` and ``opened``: after a cut network, the worker is back
before the relay has noticed that it was gone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Protocol

from isoneph.core.errors import LinkError, LinkRefused, ProtocolViolation
from isoneph.core.link.addresses import LinkAddress
from isoneph.core.link.frames import (
    DEFAULT_LIMITS,
    Bye,
    Drain,
    Ended,
    Failed,
    Frame,
    Hello,
    Limits,
    Ping,
    Pong,
    Push,
    Refused,
    Reply,
    encode_dispatch,
)
from isoneph.core.link.handshake import HANDSHAKE_BYTES, RelayHandshake, Stage
from isoneph.core.link.reader import FROM_WORKER
from isoneph.core.link.stream import FrameStream, Pulse
from isoneph.core.traffic import Message

#: After so many time-outs without an answer to a PING, a worker that sends but does not read is
#: lost as well.
STUCK_TIMEOUTS: Final = 10
#: How often a heartbeat's interval is looked at the clock: a loss is noticed so much later at most.
_TICKS: Final = 4
_SHORTEST_INTERVAL: Final = 0.001


class WorkerHandler(Protocol):
    """Who uses a worker. Called on the event loop; must return soon and raise nothing."""

    def opened(self) -> None:
        """The worker is there; it may be sent dispatches."""

    def replied(self, reply: Reply) -> None:
        """It has answered a dispatch. Whether there was such a dispatch is not known here."""

    def failed(self, failed: Failed) -> None:
        """It could not handle a dispatch."""

    def pushed(self, push: Push) -> None:
        """It has sent something by itself."""

    def drain_wanted(self, drain: Drain) -> None:
        """It wants to stop: send it nothing new, and say so by :meth:`WorkerConnection.drain`."""

    def writable_changed(self, writable: bool) -> None:
        """More is queued than should be, or little enough again."""

    def closed(self, reason: str, text: str) -> None:
        """It is gone: what it has not answered goes to others. ``reason`` is a word for a
        counter: ``left`` (it said BYE), ``broken`` (the connection ended without), ``lost`` (no
        sign of life), ``stuck`` (it does not read), ``replaced``, what was given to
        :meth:`WorkerConnection.close`, or that of a ProtocolViolation."""


class WorkerConnection(FrameStream):
    """A worker, from its connection on. For the callbacks of one event loop.

    Sending never waits and never raises; what is sent to a worker that is gone is dropped.
    """

    #: What it said of itself; there from ``accept`` on.
    hello: Hello
    #: Seconds between the last PING and its PONG; 0 when there was none yet.
    rtt: float = 0.0

    def __init__(self, server: LinkServer) -> None:
        super().__init__(FROM_WORKER)
        self._server = server
        self._handshake = server.make_handshake()
        #: Who uses it, once it is let in.
        self.handler: WorkerHandler | None = None
        self._received = 0
        self._reading_paused = False
        self._since_ping = 0.0
        self._asked: int | None = None

    def dispatch(
        self,
        sequence: int,
        conversation: int,
        client: int,
        message: Message,
        state: bytes = b"",
        redelivered: bool = False,
    ) -> None:
        """Send a :class:`~isoneph.core.link.frames.Dispatch`. No more than ``hello.window`` may
        be unanswered: the worker takes more for a violation."""
        self.write(encode_dispatch(sequence, conversation, client, message, state, redelivered))

    def forget(self, conversation: int) -> None:
        """Tell it that a conversation is over, or with another worker now."""
        self.write(Ended(conversation).encode())

    def drain(self) -> None:
        """Tell it that no dispatch will follow."""
        self.write(Drain().encode())

    def close(self, reason: str = "closed") -> None:
        """Say goodbye, with a word for the worker's log. The handler is told ``closed`` before
        this returns. Safe to call twice."""
        self.end(reason, "closed by the relay", bye=reason)

    def pause_reading(self) -> None:
        """Receive nothing from now on but what was read already. Meanwhile it is not lost."""
        if self._transport is not None and not self.over:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Receive again."""
        if self._transport is not None and not self.over and self._reading_paused:
            self._reading_paused = False
            self.silence = 0.0
            self._asked = None
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For the event loop."""
        super().connection_made(transport)
        self._server.came(self)

    def take(self, data: bytes) -> None:
        """Hand on what came; from a stranger only little is taken."""
        if self.handler is None:
            self._received += len(data)
            if self._received > HANDSHAKE_BYTES:
                raise ProtocolViolation("too_long", "it talks before it is let in")
        super().take(data)

    def untaken(self, frame: Frame) -> None:
        """Take a frame of the handshake, while that goes on."""
        if self.handler is not None:
            super().untaken(frame)
        try:
            answer = self._handshake.receive(frame)
            if answer:
                self.write(answer)
            if self._handshake.stage is Stage.PROVEN:
                self._open()
        except LinkRefused as refusal:
            self.write(Refused(refusal.reason, refusal.message).encode())
            self.end(refusal.reason, refusal.message)

    def beat(self, elapsed: float) -> None:
        """Let ``elapsed`` seconds pass: ask for a sign of life, miss one."""
        server = self._server
        self._since_ping += elapsed
        if self._reading_paused:
            self._asked = None
        else:
            self.silence += elapsed
        if self.silence >= server.timeout:
            self.cut("lost", f"no sign of life for {self.silence * 1000:.0f} ms")
        elif self._asked is None:
            if self._since_ping >= server.interval - server.tick / 2:
                self._since_ping = 0.0
                self._asked = int(self._loop.time() * 1e9)
                self.write(Ping(self._asked).encode())
        elif self._since_ping >= server.timeout * STUCK_TIMEOUTS:
            self.cut("stuck", f"no answer to a PING for {self._since_ping:.1f} s")

    def ended(self, reason: str, text: str) -> None:
        """Tell who is concerned."""
        self._server.went(self)
        if self.handler is not None:
            self.handler.closed(reason, text)
        else:
            self._server.refused(reason, f"{self.remote}: {text}")

    def pause_writing(self) -> None:
        """For the event loop."""
        super().pause_writing()
        if self.handler is not None and not self.over:
            self.handler.writable_changed(False)

    def resume_writing(self) -> None:
        """For the event loop."""
        super().resume_writing()
        if self.handler is not None and not self.over:
            self.handler.writable_changed(True)

    def _open(self) -> None:
        server = self._server
        self.hello = self._handshake.hello
        handler = server.accept(self)
        server.let_in(self)
        self.handler = handler
        self._reader.limits = server.limits
        self._takers |= {
            Pong: self._pong,
            Reply: handler.replied,
            Failed: handler.failed,
            Push: handler.pushed,
            Drain: handler.drain_wanted,
            Bye: self._bye,
        }
        self.write(self._handshake.welcome(server.interval, server.timeout, server.limits))
        handler.opened()

    def _pong(self, pong: Pong) -> None:
        if pong.token == self._asked:
            self.rtt = self._loop.time() - pong.token / 1e9
            self._asked = None

    def _bye(self, bye: Bye) -> None:
        self.end("left", f"it said {bye.reason}")


class LinkServer:
    """Listens for workers. For the callbacks and tasks of one event loop.

    ``accept`` is called for each worker that has proved itself, and returns who uses it, or
    raises LinkRefused with a reason that the worker is told. ``refused`` is called with a reason
    to count, and words for a log, for every connection that is not let in.

    ``interval`` and ``timeout`` are the heartbeat's, in seconds. ``handshake_timeout`` bounds
    the time until a worker is let in, and ``max_strangers`` the connections in which that is
    still going on. Beyond them one is closed: of those from the host that has most of them the
    oldest, for a worker is let in after one round trip.
    """

    def __init__(
        self,
        *,
        application: str,
        secret: bytes,
        accept: Callable[[WorkerConnection], WorkerHandler],
        refused: Callable[[str, str], Any],
        limits: Limits = DEFAULT_LIMITS,
        interval: float = 0.1,
        timeout: float = 0.3,
        handshake_timeout: float = 2.0,
        max_strangers: int = 64,
    ) -> None:
        if not _SHORTEST_INTERVAL <= interval < timeout:
            raise ValueError("expected an interval of at least 1 ms and a longer timeout")
        self.accept = accept
        self.refused = refused
        self.limits = limits
        self.interval = interval
        self.timeout = timeout
        self.tick = interval / _TICKS
        #: The workers that are let in, by the ids of their VMs.
        self.workers: dict[str, WorkerConnection] = {}
        self._application = application
        self._secret = secret
        self._handshake_timeout = handshake_timeout
        self._max_strangers = max_strangers
        self._strangers: dict[WorkerConnection, asyncio.TimerHandle] = {}
        self._listeners: list[asyncio.Server] = []
        self._beating: asyncio.TimerHandle | None = None

    async def listen(self, address: LinkAddress) -> LinkAddress:
        """Take workers here; returns where, with the port that was given out where port 0 was
        asked for. May be called for several addresses. Raises LinkError."""
        loop = asyncio.get_running_loop()
        try:
            if address.path:
                listener: asyncio.Server = await loop.create_unix_server(self._make, address.path)
            else:
                listener = await loop.create_server(self._make, address.host, address.port)
        except OSError as error:
            raise LinkError(f"no worker can be taken on {address}: {error}") from None
        self._listeners.append(listener)
        if self._beating is None:
            self._pulse = Pulse(self.tick, loop.time())
            self._beating = loop.call_later(self.tick, self._beat, loop)
        if address.path:
            return address
        return address._replace(port=listener.sockets[0].getsockname()[1])

    def close(self, reason: str = "closed") -> None:
        """Stop listening and say goodbye to all workers. Safe to call twice."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None
        for stranger in list(self._strangers):
            stranger.cut(reason, "closed by the relay")
        for worker in list(self.workers.values()):
            worker.close(reason)

    def make_handshake(self) -> RelayHandshake:
        """For a connection that is about to be made."""
        return RelayHandshake(self._secret, application=self._application)

    def came(self, stranger: WorkerConnection) -> None:
        """Watch that a new connection is let in before long."""
        deadline = asyncio.get_running_loop().call_later(
            self._handshake_timeout, stranger.cut, "slow", "it has not proved itself in time"
        )
        self._strangers[stranger] = deadline
        if len(self._strangers) > self._max_strangers:
            self._make_room()

    def let_in(self, worker: WorkerConnection) -> None:
        """Put a worker in its place, in that of an older one if need be."""
        self._strangers.pop(worker).cancel()
        older = self.workers.get(worker.hello.vm_id)
        if older is not None:
            older.end("replaced", "its VM has connected anew", bye="replaced")
        self.workers[worker.hello.vm_id] = worker

    def went(self, connection: WorkerConnection) -> None:
        """Forget a connection that is over."""
        deadline = self._strangers.pop(connection, None)
        if deadline is not None:
            deadline.cancel()
        elif self.workers.get(connection.hello.vm_id) is connection:
            del self.workers[connection.hello.vm_id]

    def _make_room(self) -> None:
        """Cut a stranger, so that neither many nor quick ones keep a worker out."""
        hosts = [stranger.host for stranger in self._strangers]
        crowd = Counter(hosts).most_common(1)[0][0]
        oldest = next(stranger for stranger in self._strangers if stranger.host == crowd)
        oldest.cut("crowded", "too many connections have not proved themselves")

    def _make(self) -> WorkerConnection:
        return WorkerConnection(self)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beating = loop.call_later(self.tick, self._beat, loop)
        elapsed = self._pulse.elapsed(loop.time())
        for worker in list(self.workers.values()):
            worker.beat(elapsed)
