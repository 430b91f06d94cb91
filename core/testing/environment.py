"""What a plugin is handed in tests: a clock that the test holds, figures that go nowhere."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from typing import Any, TypeVar

from voluptuous import Schema

from isoneph.core import identity
from isoneph.core.model import VmRequest, VmType
from isoneph.core.plugin import Clock, Environment, Metrics, Plugin

P = TypeVar("P", bound=Plugin)


class FakeClock:
    """A clock that stands still until told otherwise; pauses and sleeps move it at once.

    Safe for threads. ``paused`` is the sum of all seconds that were paused or slept.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._lock = threading.Lock()
        self.paused = 0.0

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """The same figure: it never goes back."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        with self._lock:
            self._now += seconds

    def pause(self, seconds: float) -> None:
        """Let ``seconds`` pass without blocking."""
        self.advance(seconds)
        with self._lock:
            self.paused += seconds

    async def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass and give other tasks a turn."""
        self.pause(seconds)
        await asyncio.sleep(0)


class NullMetrics:
    """Figures that nobody reads."""

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Drop it."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Drop it."""

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Drop it."""

    def forget(self, name: str, **labels: str) -> None:
        """There is nothing to forget."""


def make_environment(
    name: str = "test",
    *,
    clock: Clock | None = None,
    metrics: Metrics | None = None,
    timeout: float = 30.0,
) -> Environment:
    """An environment for a plugin under test; the clock is a :class:`FakeClock` by default."""
    return Environment(
        name=name,
        clock=clock or FakeClock(),
        logger=logging.getLogger(f"isoneph.test.{name}"),
        metrics=metrics or NullMetrics(),
        timeout=timeout,
    )


def build_plugin(
    plugin: type[P],
    options: Mapping[str, Any] | None = None,
    name: str = "test",
    *,
    environment: Environment | None = None,
) -> P:
    """A plugin made as the core makes it: its schema validates ``options`` and fills in
    defaults. Without an environment it gets that of :func:`make_environment`, called ``name``.
    Raises voluptuous.MultipleInvalid for options that the schema refuses."""
    checked = Schema(plugin.schema)(dict(options or {}))
    return plugin(checked, environment or make_environment(name))


def make_request(
    application: str, vm_type: VmType, tags: Mapping[str, str] | None = None
) -> VmRequest:
    """A request for a new VM with all tags, such as the core makes."""
    vm_id = identity.new_id()
    own_tags = {
        identity.TAG_APPLICATION: application,
        identity.TAG_ID: vm_id,
        identity.TAG_TYPE: vm_type.name,
        identity.TAG_REQUEST: "0123456789abcdef" * 4,
        identity.TAG_ATTEMPT: "2",
        identity.TAG_PLACED_AT: identity.format_time(1_700_000_000.123456),
    }
    return VmRequest(
        id=vm_id,
        application=application,
        type=vm_type,
        name=identity.name_of(application, vm_type.name, vm_id),
        tags={**(tags or {}), **own_tags},
    )
