"""What the conformance suite of message transports is made of."""
# ruff: noqa: S101 (asserts speak)

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, NamedTuple

import pytest
import pytest_asyncio

from isoneph.core.clock import SystemClock
from isoneph.core.plugin import Association, Environment, Listener, Transport
from isoneph.core.testing.associations import Door, RecordingHandler
from isoneph.core.testing.environment import make_environment
from isoneph.core.traffic import Address, Ending, Message

KIBIBYTE = bytes(range(256)) * 4
#: Looks, one after another, that find nothing more to be sent.
IDLE_LOOKS = 5


class Ends(NamedTuple):
    """The two ends of one association."""

    server: RecordingHandler
    client: RecordingHandler


class TransportFixtures(ABC):
    """Two transports, and associations between them."""

    #: Where both transports are.
    host: ClassVar[str] = "127.0.0.1"
    #: Seconds in which anything that is waited for must happen.
    timeout: ClassVar[float] = 10.0
    #: Seconds that connecting may take where it must fail.
    connect_timeout: ClassVar[float] = 1.0
    #: Seconds in which that which must not happen would have happened.
    settle: ClassVar[float] = 0.2
    #: How many associations there are at once, and how many messages in a row.
    many: ClassVar[int] = 50
    messages: ClassVar[int] = 1000
    #: The options of the transports.
    max_message: ClassVar[int] = 65536
    send_queue: ClassVar[int] = 131072
    streams: ClassVar[int] = 16
    #: Bytes that may at most be on the way between two ends, in all buffers together, when the
    #: reader has stopped.
    buffered: ClassVar[int] = 8 * 1024 * 1024

    @abstractmethod
    def make_transport(self, options: Mapping[str, Any], environment: Environment) -> Transport:
        """A transport that is not started."""

    def make_peer(self, options: Mapping[str, Any], environment: Environment) -> Transport:
        """The transport at the other end; another of the same kind by default."""
        return self.make_transport(options, environment)

    def cut(self) -> AbstractContextManager[object]:
        """Within the context nothing arrives that either transport sends, and neither is told.
        Skips the test where it is not overridden."""
        pytest.skip("cut is not overridden: this network cannot be cut without a side being told")

    @property
    def options(self) -> dict[str, Any]:
        """The options that every transport has, as the suite wants them."""
        return {
            "max_message": self.max_message,
            "send_queue": self.send_queue,
            "streams": self.streams,
        }

    def environment(self, name: str, seconds: float | None = None) -> Environment:
        """What a transport is handed; its calls may take ``seconds``, or ``timeout``."""
        return make_environment(name, clock=SystemClock(), timeout=seconds or self.timeout)

    @pytest_asyncio.fixture
    async def transport(self) -> AsyncIterator[Transport]:
        """The transport that listens, started."""
        transport = self.make_transport(self.options, self.environment("server"))
        await transport.start()
        yield transport
        await transport.close()

    @pytest_asyncio.fixture
    async def peer(self, transport: Transport) -> AsyncIterator[Transport]:
        """The transport that connects, started."""
        peer = self.make_peer(self.options, self.environment("client"))
        await peer.start()
        yield peer
        await peer.close()

    async def listen(self, transport: Transport, door: Door) -> Listener:
        """A listener on a free port."""
        return await transport.listen([Address(self.host, 0)], door)

    async def join(self, listener: Listener, door: Door, peer: Transport) -> Ends:
        """A new association through ``listener``."""
        before = len(door.handlers)
        client = RecordingHandler()
        await peer.connect(listener.addresses, client)
        return Ends(await self.accepted(door, before), client)

    async def join_anew(
        self,
        transport: Transport,
        peer: Transport,
        make: Callable[[], RecordingHandler] = RecordingHandler,
    ) -> Ends:
        """An association through a listener of its own; ``make`` makes who uses the end that
        was connected to."""
        door = Door(make)
        return await self.join(await self.listen(transport, door), door, peer)

    async def start_anew(self, ends: Ends, peer: Transport) -> Ends:
        """The client forgets the association without a word, and sets it up again."""
        old, client = ends.client.up, RecordingHandler()
        with self.cut():
            old.abort("nobody will hear this")
        await peer.connect(old.remote[:1], client, old.local[:1])
        return Ends(ends.server, client)

    async def accepted(self, door: Door, before: int = 0) -> RecordingHandler:
        """Who uses the association that comes after ``before`` others."""
        await door.until(before + 1, self.timeout)
        handler = door.handlers[before]
        await self.until(handler, lambda: handler.association, "the association is up")
        return handler

    async def until(
        self, handler: RecordingHandler, condition: Callable[[], object], what: str
    ) -> None:
        """Return when ``condition`` holds."""
        await handler.until(condition, self.timeout, what)

    async def received(self, handler: RecordingHandler, count: int) -> None:
        """Return when ``handler`` has got ``count`` messages; fail if it got more."""
        what = f"{count} messages have come"
        await self.until(handler, lambda: len(handler.messages) >= count, what)
        assert len(handler.messages) == count

    async def carries(self, ends: Ends) -> None:
        """The association carries messages both ways."""
        for end, other in (ends, ends[::-1]):
            count = len(other.messages)
            end.up.send(Message(b"still there?", stream=1, ppid=7))
            await self.received(other, count + 1)
            assert other.messages[-1] == Message(b"still there?", stream=1, ppid=7)

    async def fill(self, handler: RecordingHandler) -> list[Message]:
        """Send, to a peer that does not read, until nothing more should be sent."""
        sent: list[Message] = []
        idle = 0
        while idle < IDLE_LOOKS:  # what is queued may still move on into the peer's buffers
            while handler.up.writable and len(sent) * len(KIBIBYTE) <= self.buffered:
                handler.up.send(message := Message(KIBIBYTE, ppid=len(sent)))
                sent.append(message)
                idle = 0
            await asyncio.sleep(self.settle / IDLE_LOOKS)
            idle += 1
        del handler.writable[:-1]
        return sent

    def overfill(self, association: Association, sent: list[Message]) -> None:
        """Send more than any queue may hold; add what was taken to ``sent``."""
        for _ in range(2 * self.send_queue // len(KIBIBYTE) + 1):
            association.send(message := Message(KIBIBYTE, ppid=len(sent)))
            sent.append(message)

    async def ended(self, handler: RecordingHandler, ending: Ending) -> None:
        """Return when the association is over, as it should."""
        await self.until(handler, lambda: handler.endings, "it is over")
        assert handler.endings == [ending], handler.reasons

    async def nothing_follows(self, ends: Sequence[RecordingHandler]) -> None:
        """Both ends are over, and are told nothing more."""
        await asyncio.sleep(self.settle)
        for end in ends:
            assert end.calls.count("opened") == end.calls.count("closed") == 1
            assert (end.calls[0], end.calls[-1]) == ("opened", "closed")
