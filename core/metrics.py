"""Figures for Prometheus: the core's own and, through :class:`Metrics`, those of plugins."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

K = TypeVar("K", Counter, Gauge, Histogram)

PREFIX = "isoneph_"
#: Seconds: a fast decision up to a slow cloud.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

HELP = {
    "cloud_call_seconds": "Calls of a cloud's driver by call and outcome.",
    "request_seconds": "HTTP requests by method, route and status.",
    "placed": "VMs placed, by application and cloud.",
    "refused": "Creates that a cloud refused, by application, cloud and error code.",
    "replaced": "VMs that were placed again after a failure, by application.",
    "reaped": "VMs and leftovers without an owner that were removed, by application and kind.",
    "vms": "VMs by application, cloud and state.",
    "breaker_open": "1 while a cloud is left alone by its circuit breaker.",
    "engine_leader": "1 in the replica whose engine is at work.",
    "engine_cycle_seconds": "Rounds of the engine.",
    "reloads": "Configuration reloads by outcome.",
    "relay_up": "1 while an application's relay answers the engine.",
    "relay_vms": "VMs that a relay brings traffic to, by application and the relay's state.",
    "relay_drains": "VMs that drain, by application.",
    "relay_drain_seconds": "Drains that are over, by application and how they ended: empty (no "
    "session was left), deadline, or down (the VM was).",
    "relay_backends": "In a relay's process: its backends, all, ready and draining.",
    "relay_sessions": "In a relay's process: sessions of all backends.",
    "relay_requests": "In a relay's process: what it was asked over its control channel.",
    "relay_control_refused": "In a relay's process: clients of its control channel that were "
    "turned away, by reason.",
}


class PrometheusMetrics:
    """A registry of its own, filled on first use of each name. Safe for threads.

    ``labels`` of every figure are fixed by its first use. A view for a plugin (:meth:`bound`)
    adds labels of its own.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._figures: dict[str, Counter | Gauge | Histogram] = {}
        self._labels: dict[str, tuple[str, ...]] = {}
        self._lock = threading.Lock()

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter."""
        self._figure(Counter, name, labels).inc(amount)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._figure(Gauge, name, labels).set(value)

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add a duration to a histogram."""
        self._figure(Histogram, name, labels).observe(seconds)

    def forget(self, name: str, **labels: str) -> None:
        """Drop the series with these labels, if there is one."""
        figure = self._figures.get(name)
        if figure is not None:
            values = [labels[label] for label in self._labels[name]]
            # Some releases of the library take it for an error when there is no such series.
            with contextlib.suppress(KeyError):
                figure.remove(*values)

    def bound(self, **labels: str) -> BoundMetrics:
        """The same figures with ``labels`` added to each."""
        return BoundMetrics(self, labels)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def _figure(self, kind: type[K], name: str, labels: Mapping[str, str]) -> K:
        figure = self._figures.get(name)
        if figure is None:
            with self._lock:
                figure = self._figures.get(name) or self._make(kind, name, labels)
                self._figures[name] = figure
        if not isinstance(figure, kind):
            raise TypeError(f"the figure {name} is a {type(figure).__name__}")
        return figure.labels(**labels) if labels else figure

    def _make(self, kind: type[K], name: str, labels: Mapping[str, str]) -> K:
        self._labels[name] = tuple(labels)
        arguments: dict[str, Any] = {"registry": self._registry, "labelnames": tuple(labels)}
        if kind is Histogram:
            arguments["buckets"] = BUCKETS
        return kind(PREFIX + name, HELP.get(name, "A figure of a plugin."), **arguments)


class BoundMetrics:
    """What a plugin gets: its figures carry its kind and name as labels."""

    def __init__(self, metrics: PrometheusMetrics, labels: Mapping[str, str]) -> None:
        self._metrics = metrics
        self._labels = labels

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter."""
        self._metrics.count(name, amount, **self._labels, **labels)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._metrics.gauge(name, value, **self._labels, **labels)

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add a duration to a histogram."""
        self._metrics.observe(name, seconds, **self._labels, **labels)

    def forget(self, name: str, **labels: str) -> None:
        """Drop the series with these labels."""
        self._metrics.forget(name, **self._labels, **labels)
