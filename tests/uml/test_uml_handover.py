"""A listening socket that outlives the relay: who connects while it is replaced is served then."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from isoneph.core.clock import SystemClock
from isoneph.core.errors import ListenFailed
from isoneph.core.testing import EchoHandler, RecordingHandler, build_plugin, make_environment
from isoneph.core.traffic import Address, Message
from isoneph.plugins.transports.kernel import KernelTransport
from programs import SOON, program, read_until

RELAY = Address("127.0.0.1", 36412)
SERVER = Address("127.0.0.2", 7001)
FRONT = Path(__file__).parents[2] / "doc" / "examples" / "front"
ISONEPH = str(Path(sys.executable).parent / "isoneph")
#: What systemd does: the sockets from descriptor 3 on, and the process that they are for.
TAKE_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def listening() -> socket.socket:
    """The socket of a service manager."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    sock.bind(RELAY)
    sock.listen(16)
    return sock


@asynccontextmanager
async def transport_with(*sockets: socket.socket) -> AsyncIterator[KernelTransport]:
    environment = replace(make_environment("kernel", clock=SystemClock()), sockets=sockets)
    transport = build_plugin(KernelTransport, {}, environment=environment)
    await transport.start()
    try:
        yield transport
    finally:
        await transport.close()


@pytest.mark.timeout(200)
async def test_who_connects_while_the_relay_is_replaced_is_served_by_the_next(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        manager = stack.enter_context(listening())
        own = await stack.enter_async_context(transport_with())
        await own.listen([SERVER], lambda _: EchoHandler())
        take_over = (sys.executable, "-c", TAKE_OVER, str(manager.fileno()))
        relay = (ISONEPH, "relay", "front", "--config-dir", str(FRONT), "--state", str(tmp_path))
        runtime = {"XDG_RUNTIME_DIR": str(tmp_path)}
        os.set_inheritable(manager.fileno(), True)
        for generation in (b"first", b"second"):
            client = RecordingHandler()
            await own.connect([RELAY], client)  # nobody accepts it yet
            client.up.send(Message(generation, stream=3, ppid=18))
            running = await stack.enter_async_context(
                program(*take_over, *relay, environment=runtime, close_fds=False)
            )
            await read_until(running, "127.0.0.2 is ready")
            await client.until(partial(getattr, client, "messages"), SOON, "served")
            assert client.messages == [Message(generation, stream=3, ppid=18)]
            client.up.close()
            running.terminate()
            async with asyncio.timeout(SOON):
                assert await running.wait() == 0


async def test_only_the_socket_of_these_very_addresses_is_taken() -> None:
    with listening() as manager:
        async with transport_with(manager.dup()) as transport:
            with pytest.raises(ListenFailed, match=r"127\.0\.0\.1:36412"):
                await transport.listen(
                    [RELAY, RELAY._replace(host="127.0.0.4")], lambda _: EchoHandler()
                )
            listener = await transport.listen([RELAY], lambda _: EchoHandler())
            assert list(listener.addresses) == [RELAY]
