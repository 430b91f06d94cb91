"""What plugins of all kinds share, and what the core hands them."""

from __future__ import annotations

import socket
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from logging import Logger
from typing import Any, ClassVar, NamedTuple, Protocol

#: A voluptuous schema in its mapping form.
OptionSchema = Mapping[Any, Any]


class Clock(Protocol):
    """Time, handed in so that tests can hold it."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def pause(self, seconds: float) -> None:
        """Block the calling thread; for plugins that run in threads."""

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling task."""


class Metrics(Protocol):
    """Where a plugin's figures go; the core adds the plugin's kind and name as labels."""

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter. ``name`` is without unit prefix or ``_total``: ``calls``."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add a duration to a histogram."""

    def forget(self, name: str, **labels: str) -> None:
        """Drop the one series with these labels, all that the figure has: what they name is no
        more. Nothing happens when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the core hands to a plugin.

    ``name`` is the instance's name in the configuration (a cloud's, for a cloud driver);
    ``timeout`` the seconds a single call may take, for plugins that talk to something: after
    them the core gives up on the call, so a plugin's own time-outs should be a little shorter.
    ``parts`` holds the plugins that :attr:`Plugin.parts` names, by their keys; not yet started:
    who owns them starts and closes them. ``sockets`` are listening ones that the service manager
    opened for the process and that outlive it: what listens takes the one that has its address.
    """

    name: str
    clock: Clock
    logger: Logger
    metrics: Metrics
    timeout: float = 30.0
    parts: Mapping[str, Plugin] = field(default_factory=dict)
    sockets: Sequence[socket.socket] = ()


class Part(NamedTuple):
    """A plugin of another kind that a plugin is put together from.

    In the configuration it stands among the plugin's options, under the part's key: a mapping of
    its own options and ``driver``, or the driver's name alone; ``default`` when it is missing.
    """

    kind: str
    default: str
    description: str


class Plugin(ABC):  # noqa: B024 (its kinds declare the abstract methods)
    """What all kinds share."""

    schema: ClassVar[OptionSchema] = {}
    #: The plugins that it is put together from, by the key of each in the options.
    parts: ClassVar[Mapping[str, Part]] = {}

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        self.options = options
        self.environment = environment

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Sequence[str]:
        """What is wrong with options that passed the schema one by one but do not go together;
        a sentence each, told with the place in the configuration. Keys of the core's own that
        stand beside them are there as well."""
        return ()


class BlockingPlugin(Plugin):
    """A plugin whose ``start`` and ``close`` run in a thread and may block.

    ``start`` may come twice, and again after ``close``.
    """

    def start(self) -> None:
        """Open what is needed. An error here stops the service with that error."""

    def close(self) -> None:
        """Let everything go. Safe to call twice, and without ``start``."""
