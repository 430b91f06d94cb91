"""Associations with the programs of lksctp-tools, which are not ours."""

from __future__ import annotations

import asyncio
import re
import socket

from isoneph.core.plugin import Transport
from isoneph.core.testing.associations import Door, RecordingHandler
from isoneph.core.traffic import Address, Ending, Message
from programs import program, read_until
from two_hosts import SOON

HERE = "127.0.0.1"
#: What sctp_test sends in its case 4.
SIZES = [1, 1000, 2000, 3000, 5000, 10000, 15000, 20000, 25000, 32768]


async def test_takes_what_sctp_test_sends(transport: Transport) -> None:
    listener = await transport.listen([Address(HERE, 0)], door := Door())
    port = str(listener.addresses[0].port)
    ends = ("-H", HERE, "-P", "6000", "-h", HERE, "-p", port)
    async with program("sctp_test", *ends, "-s", "-c", "4", "-x", "3") as sender:
        async with asyncio.timeout(SOON):
            printed = (await sender.communicate())[0].decode()
        await door.until(1, SOON)
        handler = door.handlers[0]
        await handler.until(lambda: handler.endings, SOON, "sctp_test has closed")
    assert handler.endings == [Ending.CLOSED]
    assert [len(message.data) for message in handler.messages] == SIZES * 3
    # It prints the payload protocol identifier as it hands it over: in the order of the network.
    ppids = [socket.ntohl(int(ppid)) for ppid in re.findall(r"ppid=(\d+)", printed)]
    assert [message.ppid for message in handler.messages] == ppids
    assert all(message.unordered for message in handler.messages)


async def test_sctp_darn_takes_what_is_sent(transport: Transport) -> None:
    async with program("stdbuf", "-oL", "sctp_darn", "-H", HERE, "-P", "6001", "-l") as darn:
        await read_until(darn, "listening")
        client = RecordingHandler()
        await transport.connect([Address(HERE, 6001)], client)
        client.up.send(Message(b"first\n", stream=2, ppid=socket.ntohl(18)))
        client.up.send(Message(b"second\n", stream=3))
        client.up.close()
        printed = await read_until(darn, "SHUTDOWN_COMP")
        await client.until(lambda: client.endings, SOON, "closed")
    assert client.endings == [Ending.CLOSED]
    assert re.findall(r"sinfo_stream +(\d+)", printed) == ["2", "3"]
    assert re.findall(r"sinfo_ppid +(\d+)", printed) == ["18", "0"]
    assert re.findall(r"DATA\(\d+\): +(\w+)", printed) == ["first", "second"]
