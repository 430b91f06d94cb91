"""The other end of an association, as a process of its own that tests start and kill.

    python userland_peer.py listen hasty UDP_PORT PEER_UDP_PORT SCTP_PORT
    python userland_peer.py connect patient UDP_PORT PEER_UDP_PORT SCTP_PORT OWN_SCTP_PORT

It sends back every message, and ends when its standard input does. ``listening`` is printed when
it listens, and each time a line comes in what it holds: peers that it remembers, and kibibytes
of memory.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from isoneph.core.clock import SystemClock
from isoneph.core.testing import EchoHandler, build_plugin, make_environment
from isoneph.core.traffic import Address, Message
from isoneph.plugins.transports.userland import UserlandTransport
from isoneph.plugins.transports.userland.stack import the_stack

HOST = "127.0.0.1"
#: How soon a peer is taken for dead: within two seconds or so, and by default.
TIMERS: dict[str, dict[str, Any]] = {
    "hasty": {
        "rto_initial": 0.1,
        "rto_min": 0.05,
        "rto_max": 0.2,
        "heartbeat": 0.2,
        "max_retransmissions": 3,
    },
    "patient": {},
}


def make_transport(timers: str, udp_port: int, peer_udp_port: int) -> UserlandTransport:
    return build_plugin(
        UserlandTransport,
        {**TIMERS[timers], "udp_port": udp_port, "remote_udp_port": peer_udp_port},
        environment=make_environment("peer", clock=SystemClock(), timeout=5.0),
    )


class Forgetful(EchoHandler):
    """Keeps nothing of what it sent back."""

    def received(self, message: Message) -> None:
        super().received(message)
        self.messages.clear()
        self.calls.clear()


async def main(
    mode: str, timers: str, udp_port: int, peer_udp_port: int, port: int, own_port: int = 0
) -> None:
    transport = make_transport(timers, udp_port, peer_udp_port)
    await transport.start()
    if mode == "listen":
        await transport.listen([Address(HOST, port)], lambda _association: Forgetful())
        print("listening", flush=True)
    else:
        client = Forgetful()
        association = await transport.connect(
            [Address(HOST, port)], client, [Address(HOST, own_port)]
        )
        association.send(Message(b"hello", 1, 18))
    while await asyncio.to_thread(sys.stdin.readline):
        held = psutil.Process().memory_info().rss // 1024
        print(len(the_stack().peers), held, flush=True)
    await transport.close()


@contextmanager
def running(mode: str, timers: str, *ports: int) -> Iterator[subprocess.Popen[str]]:
    """The process, until the end of the block."""
    command = [sys.executable, str(Path(__file__)), mode, timers, *map(str, ports)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            if mode == "listen":
                assert process.stdout is not None
                assert process.stdout.readline() == "listening\n"
            yield process
        finally:
            process.kill()


def held(process: subprocess.Popen[str]) -> tuple[int, int]:
    """The peers that it remembers, and its kibibytes."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    peers, kibibytes = process.stdout.readline().split()
    return int(peers), int(kibibytes)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
