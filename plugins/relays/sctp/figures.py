"""What the relay counts: plain integers while messages pass, metrics once a second."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Final

from isoneph.core.plugin import Metrics

#: Sources of clients that have a label of their own; there may be far more over the years.
_MOST_SOURCES: Final = 1000
#: Reasons that are told apart: routers and workers make up their own.
_MOST_REASONS: Final = 200

#: What is told of a backend: what has come from it and gone to it, and been taken back from it.
COUNTERS: Final = ("messages_in", "messages_out", "bytes_in", "bytes_out", "redispatched")
_BACKEND_GAUGES: Final = ("ready", "sessions", "in_flight")


class Traffic:
    """What has come from somebody to the relay, and gone from it to them.

    ``rate`` is in messages a second, both ways, over the last second that was published.
    """

    __slots__ = ("_published", "bytes_in", "bytes_out", "messages_in", "messages_out", "rate")

    def __init__(self) -> None:
        self.messages_in = 0
        self.bytes_in = 0
        self.messages_out = 0
        self.bytes_out = 0
        self.rate = 0.0
        self._published = (0, 0, 0, 0)

    def news(self, elapsed: float) -> tuple[int, int, int, int] | None:
        """What was added since the last call, ``elapsed`` seconds ago: messages and bytes in,
        messages and bytes out; None for nothing."""
        now = (self.messages_in, self.bytes_in, self.messages_out, self.bytes_out)
        before = self._published
        if now == before:
            self.rate = 0.0
            return None
        self._published = now
        added = (now[0] - before[0], now[1] - before[1], now[2] - before[2], now[3] - before[3])
        self.rate = (added[0] + added[2]) / elapsed
        return added


class BackendTraffic(Traffic):
    """Of a backend; ``redispatched`` counts messages that were taken back from it for others."""

    __slots__ = ("_published_redispatched", "redispatched")

    def __init__(self) -> None:
        super().__init__()
        self.redispatched = 0
        self._published_redispatched = 0

    def counters(self) -> tuple[int, ...]:
        """The figures of a row for a person, in the order of :data:`COUNTERS`."""
        return (
            self.messages_in,
            self.messages_out,
            self.bytes_in,
            self.bytes_out,
            self.redispatched,
        )

    def redispatched_news(self) -> int:
        """How many more there are than at the last call."""
        added = self.redispatched - self._published_redispatched
        self._published_redispatched = self.redispatched
        return added


class Figures:
    """Everything that is counted, and how it gets into the metrics.

    ``refused`` counts, by a word for the reason, what was not carried on: messages that were
    dropped, clients that were refused or disconnected, workers that were refused.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.refused: Counter[str] = Counter()
        #: Answers that came when their message had been given to another worker, or nobody
        #: waited for them any more.
        self.late = 0
        #: Times that a client was not read from for a while: for its queue, for its rate.
        self.held_up = 0
        self._metrics = metrics
        self._published: Counter[str] = Counter()
        self._sources: set[str] = set()

    def refuse(self, reason: str, amount: int = 1) -> None:
        """Count something that is not carried on."""
        if reason not in self.refused and len(self.refused) >= _MOST_REASONS:
            reason = "other"
        self.refused[reason] += amount

    def publish(self) -> None:
        """Bring the counters into the metrics."""
        now = Counter(self.refused)
        for reason, total in now.items():
            self._count(
                "relay_refused", total - self._published[f"refused {reason}"], reason=reason
            )
            self._published[f"refused {reason}"] = total
        for name, total in (("relay_late_replies", self.late), ("relay_held_up", self.held_up)):
            self._count(name, total - self._published[name])
            self._published[name] = total

    def publish_client(self, source: str, added: tuple[int, int, int, int]) -> None:
        """Bring what a client has added into the metrics, under its address."""
        if source not in self._sources:
            if len(self._sources) < _MOST_SOURCES:
                self._sources.add(source)
            else:
                source = "other"
        self._count_traffic("relay_client", added, client=source)

    def publish_backend(
        self, backend: str, traffic: BackendTraffic, elapsed: float, **gauges: float
    ) -> None:
        """Bring a backend's traffic of the last ``elapsed`` seconds and its state into them.
        ``gauges`` are some of ``ready``, ``sessions`` and ``in_flight``."""
        added = traffic.news(elapsed)
        if added is not None:
            self._count_traffic("relay_backend", added, backend=backend)
        self._count("relay_redispatched", traffic.redispatched_news(), backend=backend)
        for name, value in gauges.items():
            self._metrics.gauge(f"relay_backend_{name}", value, backend=backend)

    def forget_backend(self, backend: str) -> None:
        """Drop all that the metrics have of a backend that is no more; else what there have ever
        been would add up."""
        for name in _BACKEND_GAUGES:
            self._metrics.forget(f"relay_backend_{name}", backend=backend)
        for name, direction in product(("messages", "bytes"), ("in", "out")):
            self._metrics.forget(f"relay_backend_{name}", backend=backend, direction=direction)
        self._metrics.forget("relay_redispatched", backend=backend)

    def publish_gauges(self, **gauges: float) -> None:
        """Set figures that have no label."""
        for name, value in gauges.items():
            self._metrics.gauge(f"relay_{name}", value)

    def _count_traffic(self, prefix: str, added: tuple[int, int, int, int], **label: str) -> None:
        for amount, figure, direction in zip(
            added, ("messages", "bytes") * 2, ("in", "in", "out", "out"), strict=True
        ):
            self._count(f"{prefix}_{figure}", amount, **label, direction=direction)

    def _count(self, name: str, amount: int, **labels: str) -> None:
        if amount:
            self._metrics.count(name, amount, **labels)
