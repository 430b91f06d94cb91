"""The ``sctp`` relay: its life, and what it tells of itself."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, cast

from isoneph.core.plugin import Environment, Listener, Part, Relay, Router, Transport
from isoneph.core.traffic import Backend, BackendStatus, RelayReport, Table
from isoneph.plugins.relays.sctp.figures import COUNTERS, Figures
from isoneph.plugins.relays.sctp.options import OPTIONS
from isoneph.plugins.relays.sctp.plain import Plain
from isoneph.plugins.relays.sctp.switch import Backends, Limits, Switch
from isoneph.plugins.relays.sctp.workers import Workers

#: Seconds between two publications of the figures.
_TICK: Final = 1.0
#: Bytes of a message that fits into a frame of the worker link, there and back, with all else.
_MOST_TO_WORKERS: Final = 1_000_000
#: Clients that are shown: the busiest.
_MOST_ROWS: Final = 200
_BACKEND_COLUMNS: Final = ("backend", "sessions", "in_flight", *COUNTERS)
_CLIENT_COUNTERS: Final = ("messages_in", "messages_out")
_CLIENT_COLUMNS: Final = ("client", *_CLIENT_COUNTERS, "pending", "queued", "seconds")


class SctpRelay(Relay):
    """Carries SCTP messages to VMs, each with its stream, payload protocol identifier and order.

    Clients connect to the relay; its router says which conversation a message belongs to, and a
    conversation stays with one backend. Backends are *plain* SCTP servers, which get an
    association for each client, or *workers*, which register themselves over the worker link,
    and whose work goes to others when they are lost.
    """

    schema = OPTIONS
    parts: ClassVar[Mapping[str, Part]] = {
        "transport": Part("transports", "auto", "what carries the messages"),
        "router": Part("routers", "sticky", "which backend gets a message"),
    }

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self._transport = cast("Transport", environment.parts["transport"])
        router = cast("Router", environment.parts["router"])
        self._figures = Figures(environment.metrics)
        self._switch = Switch(
            router, Limits.of(options), self._figures, environment.clock, environment.logger
        )
        self.backends: Backends
        if "plain" in options:
            self.backends = Plain(options["plain"], self._switch, self._transport)
        else:
            self.backends = Workers(options["workers"], self._switch, environment.name)
        self._switch.backends = self.backends
        self._listener: Listener | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._ticked = 0.0

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Sequence[str]:
        """One form of backends has to be there, and one port; workers are no servers."""
        problems = []
        if ("plain" in options) == ("workers" in options):
            problems.append("expected one of plain and workers")
        if len({address.port for address in options["listen"]}) > 1:
            problems.append("expected one port for all addresses of listen")
        if "workers" in options and options["max_message"] > _MOST_TO_WORKERS:
            problems.append(f"expected max_message of at most {_MOST_TO_WORKERS} with workers")
        if "workers" in options and options.get("servers"):
            problems.append("expected no servers with workers, which register themselves")
        return problems

    async def start(self) -> None:
        """Listen for clients, and for workers where backends are these. Raises RelayError and
        TransportError."""
        await self._transport.start()
        await self.backends.start()
        self._listener = await self._transport.listen(self.options["listen"], self._switch.accept)
        self._switch.draining = False
        self._ticked = self.environment.clock.monotonic()
        self._tick_later()

    async def drain(self) -> None:
        """Accept no clients, and wait until the last one has gone by itself."""
        self._switch.draining = True
        if self._listener is not None:
            self._listener.close()
        await self._switch.emptied()

    async def close(self) -> None:
        """Close what clients there are, and everything else."""
        self._switch.draining = True
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for client in tuple(self._switch.clients.values()):
            client.abort("relay_closed")
        await self.backends.close()
        await self._transport.close()

    async def update(self, backends: Sequence[Backend]) -> None:
        """These are the backends from now on."""
        self.backends.update(backends)

    async def status(self) -> Mapping[str, BackendStatus]:
        """How they stand."""
        return self.backends.status()

    async def report(self) -> RelayReport:
        """Backends, the busiest clients, and what was refused."""
        switch, figures = self._switch, self._figures
        listening = self._listener.addresses if self._listener is not None else ()
        refused = sorted(figures.refused.items())
        return RelayReport(
            listening=[str(address) for address in listening],
            facts={
                "transport": self._transport.summary,
                "router": switch.router.environment.name,
                "clients": str(len(switch.clients)),
                "conversations": str(self.backends.conversations),
                "pending": f"{switch.pending} bytes",
                "held_up": str(figures.held_up),
                "late_replies": str(figures.late),
            },
            tables=[
                Table(
                    name="traffic",
                    columns=_BACKEND_COLUMNS,
                    rows=self.backends.rows(),
                    counters=COUNTERS,
                ),
                Table(
                    name="clients",
                    columns=_CLIENT_COLUMNS,
                    rows=self._clients(),
                    counters=_CLIENT_COUNTERS,
                ),
                Table(
                    name="refused", columns=("reason", "count"), rows=refused, counters=("count",)
                ),
            ],
        )

    def _clients(self) -> Sequence[Sequence[Any]]:
        now = self.environment.clock.monotonic()
        clients = self._switch.clients.values()
        return [
            [
                str(client.source),
                client.messages_in,
                client.messages_out,
                client.pending,
                client.outbox_bytes,
                round(now - client.since),
            ]
            for client in heapq.nlargest(_MOST_ROWS, clients, key=lambda client: client.rate)
        ]

    def _tick_later(self) -> None:
        self._ticking = asyncio.get_running_loop().call_later(_TICK, self.tick)

    def tick(self) -> None:
        """Publish the figures of the time since the last tick, and give up what has waited too
        long; once a second."""
        if self._ticking is not None:
            self._tick_later()
        now = self.environment.clock.monotonic()
        elapsed = max(now - self._ticked, 1e-3)
        self._ticked = now
        for client in tuple(self._switch.clients.values()):
            added = client.news(elapsed)
            if added is not None:
                self._figures.publish_client(client.source.host, added)
        self.backends.tick(elapsed)
        self._figures.publish_gauges(
            clients=len(self._switch.clients),
            conversations=self.backends.conversations,
            pending_bytes=self._switch.pending,
        )
        self._figures.publish()
