"""The conformance suite of message transports."""
# ruff: noqa: D102, PLR2004, S101 (as in any test: names tell, figures are literal, asserts speak)

from __future__ import annotations

import asyncio

import pytest

from isoneph.core.errors import (
    BadStream,
    ConnectFailed,
    ListenFailed,
    MessageTooLarge,
    QueueFull,
    TransportError,
)
from isoneph.core.plugin import Transport
from isoneph.core.testing.associations import Door, EchoHandler, OneByOne, RecordingHandler
from isoneph.core.testing.schemas import undescribed_options, unfit_defaults
from isoneph.core.testing.transport_endings import TransportEndings
from isoneph.core.testing.transport_fixtures import KIBIBYTE
from isoneph.core.traffic import Address, Ending, Message

EVERY_BYTE = bytes(range(256))


@pytest.mark.asyncio
class TransportConformance(TransportEndings):
    """What every transport must do.

    Inherit it in a class whose name begins with ``Test`` and say how to make one::

        class TestMyTransport(TransportConformance):
            def make_transport(self, options, environment):
                return build_plugin(MyTransport, options, environment=environment)

    ``options`` are those that every transport has; add others as needed. The suite listens with
    one transport and connects with another of the same process; both are on ``host``. Say in
    ``cut`` how to cut the network between them; without it the tests of peers that start anew are
    skipped. Where machines are slow, give it more time through the attributes.
    """

    # Options and life.

    async def test_has_a_summary(self) -> None:
        transport = self.make_transport(self.options, self.environment("t"))
        summary = (type(transport).__doc__ or "").strip().partition("\n")[0]
        assert summary, "the first line of the class's docstring is its summary in lists"

    async def test_options_are_described_and_their_defaults_valid(self) -> None:
        schema = type(self.make_transport(self.options, self.environment("t"))).schema
        assert undescribed_options(schema) == []
        assert unfit_defaults(schema) == []

    async def test_close_needs_no_start_and_may_be_repeated(self) -> None:
        transport = self.make_transport(self.options, self.environment("t"))
        await transport.close()
        await transport.start()
        await transport.close()
        await transport.close()

    async def test_tells_what_it_is(self, transport: Transport) -> None:
        assert transport.summary

    # Setting up.

    async def test_both_ends_are_opened(self, transport: Transport, peer: Transport) -> None:
        listener = await self.listen(transport, door := Door())
        client = RecordingHandler()
        association = await peer.connect(listener.addresses, client)
        assert client.calls == ["opened"], "opened is called before connect returns"
        assert client.up is association
        server = await self.accepted(door)
        assert door.accepted == [server.up]
        for end in (server.up, client.up):
            assert (end.streams_in, end.streams_out) == (self.streams, self.streams)
            assert end.writable
        assert server.up.id != client.up.id

    async def test_both_ends_know_the_addresses(
        self, transport: Transport, peer: Transport
    ) -> None:
        listener = await self.listen(transport, door := Door())
        client = RecordingHandler()
        await peer.connect(listener.addresses, client)
        server = await self.accepted(door)
        assert [str(address) for address in listener.addresses] == [
            str(Address(self.host, listener.addresses[0].port))
        ]
        assert listener.addresses[0].port
        assert client.up.remote[0] == server.up.local[0] == listener.addresses[0]
        assert client.up.local[0] == server.up.remote[0]
        assert client.up.local[0].host == self.host

    async def test_connects_from_where_it_is_told(
        self, transport: Transport, peer: Transport
    ) -> None:
        listener = await self.listen(transport, door := Door())
        passing = await self.listen(peer, Door())
        port = passing.addresses[0].port
        passing.close()
        client = RecordingHandler()
        await peer.connect(listener.addresses, client, [Address(self.host, port)])
        server = await self.accepted(door)
        assert client.up.local[0] == server.up.remote[0] == Address(self.host, port)

    async def test_a_taken_address_cannot_be_listened_on(
        self, transport: Transport, peer: Transport
    ) -> None:
        listener = await self.listen(transport, door := Door())
        with pytest.raises(ListenFailed):
            await transport.listen(listener.addresses, Door())
        await self.join(listener, door, peer)

    async def test_a_strange_address_cannot_be_listened_on(self, transport: Transport) -> None:
        with pytest.raises(ListenFailed):
            await transport.listen([Address("192.0.2.1", 0)], Door())

    async def test_connecting_to_nobody_fails_in_time(self, transport: Transport) -> None:
        listener = await self.listen(transport, Door())
        listener.close()
        peer = self.make_peer(self.options, self.environment("hasty", self.connect_timeout))
        await peer.start()
        client = RecordingHandler()
        try:
            async with asyncio.timeout(self.connect_timeout + self.timeout):
                with pytest.raises(ConnectFailed):
                    await peer.connect(listener.addresses, client)
        finally:
            await peer.close()
        assert client.calls == [], "who never was opened is never closed"

    async def test_a_cancelled_connect_leaves_nothing(
        self, transport: Transport, peer: Transport
    ) -> None:
        listener = await self.listen(transport, door := Door())
        listener.pause()
        client = RecordingHandler()
        attempt = asyncio.ensure_future(peer.connect(listener.addresses, client))
        await asyncio.sleep(0)
        attempt.cancel()
        await asyncio.wait([attempt])
        listener.resume()
        ends = await self.join(listener, door, peer)
        await self.carries(ends)
        if attempt.cancelled():
            assert client.calls in ([], ["opened", "closed"])

    async def test_who_is_not_accepted_is_aborted(
        self, transport: Transport, peer: Transport
    ) -> None:
        listener = await self.listen(transport, door := Door(lambda: None))
        client = RecordingHandler()
        try:
            await peer.connect(listener.addresses, client)
        except ConnectFailed:
            assert client.calls == []
        else:
            await self.ended(client, Ending.ABORTED)
        door.make = RecordingHandler
        await self.carries(await self.join(listener, door, peer))

    async def test_a_paused_listener_accepts_none(
        self, transport: Transport, peer: Transport
    ) -> None:
        listener = await self.listen(transport, door := Door())
        before = await self.join(listener, door, peer)
        listener.pause()
        attempt = asyncio.ensure_future(peer.connect(listener.addresses, RecordingHandler()))
        await asyncio.sleep(self.settle)
        assert len(door.accepted) == 1
        await self.carries(before)
        listener.resume()
        await asyncio.wait([attempt])
        if attempt.exception() is not None:
            assert isinstance(attempt.exception(), ConnectFailed)
            await peer.connect(listener.addresses, RecordingHandler())
        await self.carries(await self.join(listener, door, peer))

    async def test_a_closed_listener_leaves_what_is_up(
        self, transport: Transport, peer: Transport
    ) -> None:
        listener = await self.listen(transport, door := Door())
        ends = await self.join(listener, door, peer)
        listener.close()
        listener.close()
        await self.carries(ends)
        assert ends.server.endings == ends.client.endings == []

    async def test_many_associations_at_once(self, transport: Transport, peer: Transport) -> None:
        listener = await self.listen(transport, door := Door(EchoHandler))
        clients = [RecordingHandler() for _ in range(self.many)]
        await asyncio.gather(*(peer.connect(listener.addresses, client) for client in clients))
        for number, client in enumerate(clients):
            client.up.send(Message(b"%d" % number))
        for number, client in enumerate(clients):
            await self.received(client, 1)
            assert client.messages[0].data == b"%d" % number
        ids = {handler.up.id for handler in (*clients, *door.handlers)}
        assert len(ids) == 2 * self.many
        clients[0].up.abort()
        await asyncio.sleep(self.settle)
        assert sum(len(handler.endings) for handler in (*clients, *door.handlers)) == 2

    # Messages.

    @pytest.mark.parametrize(
        "message",
        [
            Message(b"\0"),
            Message(EVERY_BYTE, stream=3, ppid=18),
            Message(KIBIBYTE, stream=15, ppid=2**32 - 1),
            Message(KIBIBYTE, stream=1, ppid=1, unordered=True),
        ],
        ids=["least", "ordered", "last-stream", "unordered"],
    )
    async def test_a_message_arrives_as_it_was_sent(
        self, transport: Transport, peer: Transport, message: Message
    ) -> None:
        ends = await self.join_anew(transport, peer, EchoHandler)
        ends.client.up.send(message)
        await self.received(ends.client, 1)
        assert ends.server.messages == ends.client.messages == [message]
        assert type(ends.server.messages[0].data) is bytes

    async def test_each_stream_keeps_its_order(self, transport: Transport, peer: Transport) -> None:
        ends = await self.join_anew(transport, peer, EchoHandler)
        sent = [
            Message(b"%d" % number * (number % 40 + 1), stream=number % self.streams, ppid=number)
            for number in range(self.messages)
        ]
        for message in sent:
            ends.client.up.send(message)
            if not ends.client.up.writable:
                await self.until(ends.client, lambda: ends.client.up.writable, "writable again")
        await self.received(ends.client, len(sent))
        for handler in ends:
            for stream in range(self.streams):
                of_stream = [message for message in sent if message.stream == stream]
                assert [m for m in handler.messages if m.stream == stream] == of_stream

    async def test_large_messages_arrive_whole(self, transport: Transport, peer: Transport) -> None:
        ends = await self.join_anew(transport, peer, EchoHandler)
        whole = (EVERY_BYTE * (self.max_message // 256 + 1))[: self.max_message]
        sizes = (self.max_message, 1, 1453, self.max_message // 2, self.max_message)
        for stream, size in enumerate(sizes):
            ends.client.up.send(Message(whole[-size:], stream=stream))
            await self.received(ends.client, stream + 1)
        assert [len(message.data) for message in ends.client.messages] == list(sizes)
        for message in ends.client.messages:
            assert message.data == whole[-len(message.data) :]

    async def test_what_cannot_be_sent_is_refused(
        self, transport: Transport, peer: Transport
    ) -> None:
        ends = await self.join_anew(transport, peer)
        with pytest.raises(MessageTooLarge):
            ends.client.up.send(Message(b"x" * (self.max_message + 1)))
        with pytest.raises(TransportError):
            ends.client.up.send(Message(b""))
        for stream in (self.streams, 65535, 65536, -1):
            with pytest.raises(BadStream):
                ends.client.up.send(Message(b"x", stream=stream))
        await self.carries(ends)
        assert ends.client.up.statistics().sent == 1

    async def test_messages_cross(self, transport: Transport, peer: Transport) -> None:
        ends = await self.join_anew(transport, peer)
        for number in range(100):
            for end in ends:
                end.up.send(Message(b"%d" % number))
        for end in ends:
            await self.received(end, 100)
            assert [message.data for message in end.messages] == [b"%d" % n for n in range(100)]

    async def test_statistics_count(self, transport: Transport, peer: Transport) -> None:
        ends = await self.join_anew(transport, peer, EchoHandler)
        for size in (1, 10, 1000):
            ends.client.up.send(Message(b"x" * size))
        await self.received(ends.client, 3)
        for end in ends:
            figures = end.up.statistics()
            assert (figures.sent, figures.sent_bytes) == (3, 1011)
            assert (figures.received, figures.received_bytes) == (3, 1011)
            assert figures.retransmitted >= 0
            assert 0 <= figures.rtt < self.timeout

    # Too much at once.

    async def test_a_full_queue_is_told_and_refused(
        self, transport: Transport, peer: Transport
    ) -> None:
        ends = await self.join_anew(transport, peer)
        ends.server.up.pause_reading()
        sent = await self.fill(ends.client)
        assert len(sent) * len(KIBIBYTE) <= self.buffered
        assert ends.client.writable == [False]
        assert not ends.client.up.writable
        assert ends.client.up.statistics().queued > 0
        with pytest.raises(QueueFull):
            self.overfill(ends.client.up, sent)
        ends.server.up.resume_reading()
        await self.received(ends.server, len(sent))
        assert ends.server.messages == sent, "what send took arrives, in its order"
        await self.until(ends.client, lambda: ends.client.up.writable, "writable again")
        assert ends.client.writable == [False, True]
        await self.carries(ends)

    async def test_who_pauses_reading_gets_nothing(
        self, transport: Transport, peer: Transport
    ) -> None:
        ends = await self.join_anew(transport, peer)
        ends.server.up.pause_reading()
        ends.server.up.pause_reading()
        ends.client.up.send(Message(b"one"))
        ends.client.up.send(Message(b"two"))
        await asyncio.sleep(self.settle)
        assert ends.server.messages == []
        ends.server.up.send(Message(b"he may send"))
        await self.received(ends.client, 1)
        ends.server.up.resume_reading()
        await self.received(ends.server, 2)
        assert [message.data for message in ends.server.messages] == [b"one", b"two"]

    async def test_reading_can_be_paused_at_any_message(
        self, transport: Transport, peer: Transport
    ) -> None:
        ends = await self.join_anew(transport, peer, OneByOne)
        for number in range(100):
            ends.client.up.send(Message(b"%d" % number))
        for number in range(1, 101):
            await self.received(ends.server, number)
            ends.server.up.resume_reading()
        assert [message.data for message in ends.server.messages] == [b"%d" % n for n in range(100)]

    async def test_what_came_before_the_end_is_read_first(
        self, transport: Transport, peer: Transport
    ) -> None:
        ends = await self.join_anew(transport, peer)
        ends.server.up.pause_reading()
        for number in range(10):
            ends.client.up.send(Message(b"%d" % number))
        ends.client.up.close()
        await asyncio.sleep(self.settle)
        assert ends.server.messages == []
        ends.server.up.resume_reading()
        await self.ended(ends.server, Ending.CLOSED)
        assert [message.data for message in ends.server.messages] == [b"%d" % n for n in range(10)]
        await self.ended(ends.client, Ending.CLOSED)
