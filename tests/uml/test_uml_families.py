"""Listeners of both address families."""

from __future__ import annotations

import pytest

from isoneph.core.plugin import Transport
from isoneph.core.testing.associations import Door, RecordingHandler
from isoneph.core.traffic import Address, Message
from two_hosts import SOON


@pytest.mark.parametrize("hosts_listened_on", [["::"], ["::1", "127.0.0.1"], ["127.0.0.1", "::1"]])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_one_listener_takes_peers_of_both_families(
    transport: Transport, hosts_listened_on: list[str], host: str
) -> None:
    at = [Address(listened_on, 0) for listened_on in hosts_listened_on]
    listener = await transport.listen(at, door := Door())
    port = listener.addresses[0].port
    client = RecordingHandler()
    await transport.connect([Address(host, port)], client)
    await door.until(1, SOON)
    server = door.handlers[0]
    client.up.send(Message(b"hello", 1, 18))
    await server.until(lambda: server.messages, SOON, "it came")
    assert server.messages == [Message(b"hello", 1, 18)]
    assert client.up.remote[0] == Address(host, port)
    assert server.up.remote[0].host == host, "an IPv4 address is told as one"
    assert {address.host for address in client.up.local} == {host}


async def test_a_wildcard_of_ipv4_takes_ipv4(transport: Transport) -> None:
    anywhere = "0.0.0.0"  # noqa: S104 (that is the test)
    listener = await transport.listen([Address(anywhere, 0)], Door())
    client = RecordingHandler()
    await transport.connect([Address("127.0.0.1", listener.addresses[0].port)], client)
    assert client.up.remote[0].host == "127.0.0.1"
    assert [address.host for address in listener.addresses] == [anywhere]
