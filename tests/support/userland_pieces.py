"""Userland transports over the loopback address, and associations between them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from isoneph.core.clock import SystemClock
from isoneph.core.plugin import Listener
from isoneph.core.testing import Door, RecordingHandler, build_plugin
from isoneph.core.testing.environment import NullMetrics, make_environment
from isoneph.core.traffic import Address, Ending, Message
from isoneph.plugins.transports.userland import UserlandTransport

HOST = "127.0.0.1"
ANYWHERE = "0.0.0.0"  # noqa: S104 (in tests, of loopback addresses)
SECONDS = 5.0


class Figures(NullMetrics):
    """What was counted."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        self.counts[name, *labels.values()] += int(amount)


def make(udp_port: int, peer_port: int, figures: Figures, **options: Any) -> UserlandTransport:
    environment = make_environment("t", clock=SystemClock(), metrics=figures, timeout=SECONDS)
    values = {"udp_port": udp_port, "remote_udp_port": peer_port, **options}
    return build_plugin(UserlandTransport, values, environment=environment)


async def listening(server: UserlandTransport, door: Door, host: str = HOST) -> Listener:
    return await server.listen([Address(host, 0)], door)


async def joined(client: UserlandTransport, listener: Listener) -> RecordingHandler:
    handler = RecordingHandler()
    await client.connect(listener.addresses, handler)
    return handler


async def echoes(client: RecordingHandler) -> None:
    count = len(client.messages) + 1
    client.up.send(Message(b"ping", 1, 18))
    await client.until(lambda: len(client.messages) == count, SECONDS, "the echo is here")


async def ended(handler: RecordingHandler) -> Ending:
    await handler.until(lambda: handler.endings, SECONDS, "it is over")
    return handler.endings[0]
