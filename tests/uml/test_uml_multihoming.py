"""Peers with two addresses each, over two cables of which one is cut."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from isoneph.core.plugin import Transport
from isoneph.core.testing.associations import Door, EchoHandler
from isoneph.core.traffic import Ending, Message, Notice
from two_hosts import SOON, TwoHosts

BOTH = (1, 2)


async def test_both_ends_know_all_addresses(hosts: TwoHosts, transport: Transport) -> None:
    server, client = await hosts.join(transport, Door(), BOTH)
    assert {address.host for address in client.up.remote} == {"10.0.1.2", "10.0.2.2"}
    assert {address.host for address in client.up.local} == {"10.0.1.1", "10.0.2.1"}
    assert set(server.up.remote) == set(client.up.local)
    assert set(server.up.local) == set(client.up.remote)


async def test_connects_over_the_path_that_is_left(hosts: TwoHosts, transport: Transport) -> None:
    with hosts.left.cut("right1"):
        server, client = await hosts.join(transport, Door(), BOTH)
        client.up.send(Message(b"over the other"))
        await server.until(lambda: server.messages, SOON, "it came")


async def test_nothing_is_lost_when_a_path_is_cut(hosts: TwoHosts, transport: Transport) -> None:
    server, client = await hosts.join(transport, Door(EchoHandler), BOTH)
    sent = [Message(b"%d" % number, number % 4, 18) for number in range(400)]
    primary = client.up.remote[0]
    with ExitStack() as stack:
        for number, message in enumerate(sent):
            if number == 200:
                stack.enter_context(hosts.left.cut(f"right{primary.host.split('.')[2]}"))
            client.up.send(message)
            await asyncio.sleep(0.002)
        await client.until(lambda: len(client.messages) == len(sent), SOON, "every echo came")
        for handler in (server, client):
            for stream in range(4):
                expected = [message for message in sent if message.stream == stream]
                assert [m for m in handler.messages if m.stream == stream] == expected
        what = (Notice.ADDRESS_CHANGED, f"{primary} is unreachable")
        await client.until(lambda: what in client.notifications, SOON, "the path is given up")
    what = (Notice.ADDRESS_CHANGED, f"{primary} is available")
    await client.until(lambda: what in client.notifications, SOON, "the path is back")
    client.up.close()
    await server.until(lambda: server.endings, SOON, "closed in order")
    assert server.endings == client.endings == [Ending.CLOSED]
