"""The interface of relays: what carries an application's traffic to its VMs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from isoneph.core.plugin.base import Plugin
from isoneph.core.traffic import Backend, BackendStatus, RelayReport


class Relay(Plugin):
    """Carries an application's traffic to its VMs (``isoneph.relays``).

    It is told declaratively which backends there are and answers how each of them stands; it
    decides nothing about VMs. For the tasks of one event loop. What it raises is a
    :class:`~isoneph.core.errors.RelayError`.

    A relay with a ``process`` of its own runs in ``isoneph relay APPLICATION`` and lives on
    while the service that runs the engine is restarted; the core brings the calls there, keeps
    the last ``update`` in a file and repeats it when the process starts anew. One without runs
    beside the engine, in the replica that leads.
    """

    #: Whether ``isoneph relay APPLICATION`` runs it; else the engine does.
    process: ClassVar[bool] = True

    async def start(self) -> None:
        """Open listeners, or the way to what carries the traffic. An error here stops the
        process with that error: ConfigInvalid, for what is not to be tried again as it is
        configured, with exit code 2. The backends come by the first ``update``, soon after."""

    async def drain(self) -> None:
        """Take no new sessions and return when the last one is over; the process is to end.
        May be cancelled, when that takes longer than the operator allows."""

    async def close(self) -> None:
        """End what is left and let everything go. Safe to call twice, and without ``start``."""

    @abstractmethod
    async def update(self, backends: Sequence[Backend]) -> None:
        """From now on these are the backends, all of them. One that is missing gets nothing
        more, and what it still has is broken off. Doing the same again changes nothing."""

    @abstractmethod
    async def status(self) -> Mapping[str, BackendStatus]:
        """How each backend of the last ``update`` stands, by its id; and each that gets traffic
        without having been named, where the relay takes such."""

    async def report(self) -> RelayReport:
        """What an operator wants to see: ``isoneph relay status`` shows it, again each second."""
        return RelayReport()
