"""Cables that lose and delay, peers that vanish, start anew or break off."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from isoneph.core.errors import ConnectFailed, ListenFailed, TransportUnavailable
from isoneph.core.plugin import Transport
from isoneph.core.testing.associations import Door, EchoHandler
from isoneph.core.traffic import Address, Ending, Message, Notice
from two_hosts import SOON, TwoHosts

EVERY_BYTE = bytes(range(256))


async def test_every_message_arrives_in_order_over_a_bad_cable(
    hosts: TwoHosts, transport: Transport
) -> None:
    sent = [
        Message(EVERY_BYTE * (400 if number % 50 == 7 else 1) + b"%d" % number, number % 4, number)
        for number in range(300)
    ]
    bad = ("loss", "5%", "delay", "20ms")
    with ExitStack() as stack:
        stack.enter_context(hosts.left.impaired("right1", *bad))
        stack.enter_context(hosts.right.impaired("left1", *bad))
        server, client = await hosts.join(transport, Door(EchoHandler))
        for message in sent:
            client.up.send(message)
            await asyncio.sleep(0.001)
        await client.until(lambda: len(client.messages) == len(sent), SOON, "every echo came")
        figures = [end.up.statistics() for end in (server, client)]
    for handler in (server, client):
        for stream in range(4):
            expected = [message for message in sent if message.stream == stream]
            assert [m for m in handler.messages if m.stream == stream] == expected
    assert sum(end.retransmitted for end in figures) > 0
    assert all(end.rtt >= 0.02 for end in figures)


async def test_a_peer_that_vanishes_is_lost_in_time(hosts: TwoHosts, transport: Transport) -> None:
    server, client = await hosts.join(transport, Door())
    with hosts.left.cut("right1"), hosts.right.cut("left1"):
        begun = time.monotonic()
        client.up.send(Message(b"anybody there?"))
        await client.until(lambda: client.endings, SOON, "who sends notices")
        await server.until(lambda: server.endings, SOON, "who only listens, by its heartbeats")
        passed = time.monotonic() - begun
    assert client.endings == server.endings == [Ending.LOST]
    assert 0.5 < passed < 8.0, "seven time-outs of at most 0.2 s, and as many heartbeats"


async def test_a_restart_is_told_and_the_association_lives_on(
    hosts: TwoHosts, make_transport: Callable[..., Any]
) -> None:
    transport, again = [await make_transport(heartbeat=60) for _ in range(2)]
    server, client = await hosts.join(transport, Door(EchoHandler), port=5001)
    remote = client.up.remote
    with hosts.left.cut("right1"):
        client.up.abort("nobody will hear this")
    client = await hosts.call(again, remote, port=5001)
    client.up.send(Message(b"after the restart", 3, 18))
    await client.until(lambda: client.messages, SOON, "the echo")
    assert [notification.notice for notification in server.notifications] == [Notice.RESTARTED]
    assert server.messages == client.messages == [Message(b"after the restart", 3, 18)]
    assert server.endings == []


@pytest.mark.parametrize("broken_off", [False, True])
async def test_who_has_left_before_it_is_accepted_has_sent_all_the_same(
    hosts: TwoHosts, transport: Transport, broken_off: bool
) -> None:
    with hosts.right.here():
        listener = await transport.listen([Address("10.0.1.2", 0)], door := Door())
    with hosts.left.here(), socket.socket(proto=socket.IPPROTO_SCTP) as client:
        client.connect((listener.addresses[0].host, listener.addresses[0].port))
        own = Address(*client.getsockname())
        client.send(b"one shot")
        if broken_off:
            time.sleep(0.2)  # noqa: ASYNC251 (the loop is busy; what was sent arrives)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(0.2)  # noqa: ASYNC251 (and so does the end)
    await door.until(1, SOON)
    server = door.handlers[0]
    await server.until(lambda: server.endings, SOON, "the end")
    assert [message.data for message in server.messages] == [b"one shot"]
    assert server.endings == [Ending.ABORTED if broken_off else Ending.CLOSED]
    assert server.up.remote == (own,)
    assert server.up.local == tuple(listener.addresses)


async def test_a_close_that_the_peer_holds_up_ends_in_an_abort(
    hosts: TwoHosts, make_transport: Callable[..., Any]
) -> None:
    transport = await make_transport(close_timeout=0.5)
    server, client = await hosts.join(transport, Door())
    server.up.pause_reading()
    while client.up.writable:
        client.up.send(Message(EVERY_BYTE * 256))
    client.up.close()
    await client.until(lambda: client.endings, SOON, "given up")
    assert client.endings == [Ending.ABORTED]


async def test_a_message_beyond_the_limit_ends_its_association(
    hosts: TwoHosts, transport: Transport, make_transport: Callable[..., Any]
) -> None:
    small = await make_transport(max_message=100_000)
    with hosts.right.here():
        listener = await small.listen([Address("10.0.1.2", 0)], door := Door())
    good = await hosts.call(transport, listener.addresses)
    bad = await hosts.call(transport, listener.addresses)
    await door.until(2, SOON)
    bad.up.send(Message(b"x" * 100_001))
    good.up.send(Message(b"x" * 100_000))
    await bad.until(lambda: bad.endings, SOON, "broken off")
    assert bad.endings == [Ending.ABORTED]
    await door.handlers[0].until(lambda: door.handlers[0].messages, SOON, "undisturbed")
    assert good.endings == []


@pytest.mark.parametrize(
    "addresses",
    [[], [Address("localhost", 5000)], [Address("127.0.0.1", 1), Address("127.0.0.1", 2)]],
)
async def test_addresses_that_make_no_sense(transport: Transport, addresses: list[Address]) -> None:
    with pytest.raises(ListenFailed):
        await transport.listen(addresses, Door())
    with pytest.raises(ConnectFailed):
        await transport.connect(addresses, EchoHandler())


async def test_a_limit_beyond_the_kernels_is_told_at_the_start(
    make_transport: Callable[..., Any],
) -> None:
    with pytest.raises(TransportUnavailable, match=r"sysctl net\.core\.wmem_max=100000000"):
        await make_transport(max_message=100_000_000, send_queue=100_000_000)
