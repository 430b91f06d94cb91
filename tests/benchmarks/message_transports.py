"""Measures a message transport between two processes: round trips, and messages one way.

    python tests/benchmarks/message_transports.py userland
    python tests/benchmarks/message_transports.py kernel --seconds 5 --size 1000 --uvloop

Round trips are in lockstep: a message is sent when the last has come back. One way, as many are
sent as the association takes. It ends with what each process took of CPU and memory.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import socket
import time
from collections.abc import Coroutine
from multiprocessing.connection import Connection
from typing import Any

from isoneph.core.clock import SystemClock
from isoneph.core.plugin import Association, Transport
from isoneph.core.registry import Registry
from isoneph.core.testing import build_plugin, make_environment
from isoneph.core.traffic import Address, Ending, Message, Notification

HOST = "127.0.0.1"
PPID_ECHO, PPID_DROP, PPID_END = 1, 2, 3


class End:
    """One end of the measurement; what it is told and does not need, it forgets.

    Each kind of end takes its messages (``received``) in its own way.
    """

    def __init__(self) -> None:
        self.association: Association | None = None
        self.over = asyncio.Event()

    def opened(self, association: Association) -> None:
        self.association = association

    def writable_changed(self, writable: bool) -> None:
        pass

    def notified(self, notification: Notification) -> None:
        pass

    def closed(self, ending: Ending, reason: str) -> None:
        self.over.set()


class Server(End):
    """Echoes, drops, or tells that the last has come, as a message's ppid says."""

    def received(self, message: Message) -> None:
        if message.ppid != PPID_DROP and self.association is not None:
            self.association.send(message)


class Client(End):
    """Measures round trips, then messages one way."""

    def __init__(self, size: int, seconds: float) -> None:
        super().__init__()
        self.size = size
        self.seconds = seconds
        self.trips: list[float] = []
        self.began = self.sent_at = 0.0
        self.writable = asyncio.Event()
        self.answered = asyncio.Event()

    def received(self, message: Message) -> None:
        now = time.perf_counter()
        if message.ppid == PPID_ECHO:
            self.trips.append(now - self.sent_at)
            if now - self.began < self.seconds:
                self._ping()
                return
        self.answered.set()

    def writable_changed(self, writable: bool) -> None:
        if writable:
            self.writable.set()

    def _ping(self) -> None:
        assert self.association is not None
        self.sent_at = time.perf_counter()
        self.association.send(Message(b"x" * self.size, 1, PPID_ECHO))

    async def round_trips(self) -> None:
        self.began = time.perf_counter()
        self._ping()
        await self.answered.wait()
        trips = sorted(self.trips)
        figures = {share: trips[int(len(trips) * share / 100)] * 1e6 for share in (50, 90, 99)}
        words = ", ".join(f"p{share} {figure:.1f} us" for share, figure in figures.items())
        print(f"round trips of {self.size} bytes: {len(trips)}, {words}", flush=True)

    async def one_way(self) -> None:
        association = self.association
        assert association is not None
        self.answered.clear()
        message = Message(b"x" * self.size, 1, PPID_DROP)
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < self.seconds:
            self.writable.clear()
            for _ in range(100):
                if not association.writable:
                    await self.writable.wait()
                    break
                association.send(message)
                count += 1
            await asyncio.sleep(0)
        if not association.writable:
            await self.writable.wait()
        association.send(Message(b"end", 1, PPID_END))
        await self.answered.wait()
        seconds = time.perf_counter() - began
        print(
            f"one way: {count / seconds:,.0f} messages/s, "
            f"{count * self.size / seconds / 1e6:,.1f} MB/s",
            flush=True,
        )


def make(driver: str, own_port: int, peer_port: int) -> Transport:
    plugin: Any = Registry().load("transports", driver)
    options = {"udp_port": own_port, "remote_udp_port": peer_port} if driver == "userland" else {}
    environment = make_environment(driver, clock=SystemClock())
    transport: Transport = build_plugin(plugin, options, environment=environment)
    return transport


async def serve(arguments: argparse.Namespace, ports: list[int], ready: Connection) -> None:
    transport = make(arguments.driver, ports[0], ports[1])
    await transport.start()
    server = Server()
    listener = await transport.listen([Address(HOST, 0)], lambda _association: server)
    ready.send(listener.addresses[0].port)
    await server.over.wait()
    await transport.close()
    told("server")


async def measure(arguments: argparse.Namespace, ports: list[int], port: int) -> None:
    transport = make(arguments.driver, ports[1], ports[0])
    await transport.start()
    print(transport.summary, flush=True)
    client = Client(arguments.size, arguments.seconds)
    association = await transport.connect([Address(HOST, port)], client)
    await client.round_trips()
    await client.one_way()
    association.close()
    await client.over.wait()
    await transport.close()
    told("client")


def told(name: str) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"{name}: {used.ru_utime:.1f} s user, {used.ru_stime:.1f} s system, "
        f"{used.ru_maxrss / 1024:.0f} MB",
        flush=True,
    )


def run(work: Coroutine[Any, Any, None], *, uvloop: bool) -> None:
    if uvloop:
        import uvloop as loops  # noqa: PLC0415 (an extra)

        loops.run(work)
    else:
        asyncio.run(work)


def run_server(arguments: argparse.Namespace, ports: list[int], ready: Connection) -> None:
    run(serve(arguments, ports, ready), uvloop=arguments.uvloop)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("driver")
    parser.add_argument("--size", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--uvloop", action="store_true")
    arguments = parser.parse_args()
    probes = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for probe in probes:
        probe.bind((HOST, 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    ours, theirs = multiprocessing.Pipe()
    processes = multiprocessing.get_context("spawn")
    server = processes.Process(target=run_server, args=(arguments, ports, theirs), daemon=True)
    server.start()
    if not ours.poll(10):
        raise SystemExit("the server did not start")
    run(measure(arguments, ports, ours.recv()), uvloop=arguments.uvloop)
    server.join(10)


if __name__ == "__main__":
    main()
