"""Putting a relay together: the plugin that is configured, and its parts."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping, Sequence
from typing import cast

from isoneph.core.metrics import PrometheusMetrics
from isoneph.core.plugin import Clock, Environment, Plugin, Relay
from isoneph.core.registry import Registry
from isoneph.core.settings import PartSettings, RelaySettings

#: Seconds that a relay may take for one verb.
TIMEOUT = 10.0


def has_process(settings: RelaySettings, registry: Registry) -> bool:
    """Whether the relay has a process of its own. Raises PluginError."""
    return cast("type[Relay]", registry.load("relays", settings.driver)).process


def make_relay(
    settings: RelaySettings,
    application: str,
    registry: Registry,
    clock: Clock,
    metrics: PrometheusMetrics,
    sockets: Sequence[socket.socket] = (),
) -> Relay:
    """The relay of ``application``, not yet started; its environment is named after that, and has
    ``sockets``, as those of its parts have. Raises PluginError."""
    kind = cast("type[Relay]", registry.load("relays", settings.driver))

    def environment(
        kind: str, driver: str, name: str, parts: Mapping[str, Plugin] | None = None
    ) -> Environment:
        return Environment(
            name=name,
            clock=clock,
            logger=logging.getLogger(f"isoneph.plugins.{kind}.{driver}"),
            metrics=metrics.bound(kind=kind, plugin=driver),
            timeout=TIMEOUT,
            parts=parts or {},
            sockets=sockets,
        )

    def make_parts(
        owner: type[Plugin], configured: Mapping[str, PartSettings]
    ) -> Mapping[str, Plugin]:
        return {key: make_part(part.kind, configured[key]) for key, part in owner.parts.items()}

    def make_part(kind: str, part: PartSettings) -> Plugin:
        loaded = registry.load(kind, part.driver)
        parts = make_parts(loaded, part.parts)
        return loaded(part.options, environment(kind, part.driver, part.driver, parts))

    parts = make_parts(kind, settings.parts)
    return kind(settings.options, environment("relays", settings.driver, application, parts))
