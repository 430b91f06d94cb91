"""Associations with the programs of lksctp-tools, which are not ours."""

from __future__ import annotations

import asyncio
import re
import socket
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from isoneph.core.plugin import Transport
from isoneph.core.testing.associations import Door, RecordingHandler
from isoneph.core.traffic import Address, Ending, Message
from two_hosts import SOON

HERE = "127.0.0.1"
#: What sctp_test sends in its case 4.
SIZES = [1, 1000, 2000, 3000, 5000, 10000, 15000, 20000, 25000, 32768]


@asynccontextmanager
async def program(*command: str) -> AsyncIterator[Process]:
    """A running program, which is ended in any case."""
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def read_until(process: Process, text: str) -> str:
    """What the program prints, up to a line that contains ``text``."""
    assert process.stdout is not None
    printed = ""
    async with asyncio.timeout(SOON):
        while text not in printed:
            line = await process.stdout.readline()
            assert line, f"it ended without {text!r}:\n{printed}"
            printed += line.decode()
    return printed


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
