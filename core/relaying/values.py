"""What the engine and a relay's host tell each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from isoneph.core.traffic import BackendStatus, RelayReport


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A VM that is a backend of the relay.

    ``placement`` tells one placement of the VM from the next, which may have other addresses:
    the cloud and the cloud's own id. The rest is as in
    :class:`~isoneph.core.traffic.Backend`.
    """

    id: str
    placement: str
    addresses: tuple[str, ...]
    name: str = ""
    cloud: str = ""
    weight: float = 1.0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a relay stands: its backends by id; since when (seconds since the epoch) those drain
    that do; and what the relay says of each, and of those that get traffic by its own choice.
    ``servers`` are those that are configured, and no VMs.

    It is ``settled`` unless it has to be told again: because it did not take what it was told
    last, or that could not be written down, or because nothing is remembered of a relay whose
    backends outlive its host; then there are no members either.
    """

    members: Mapping[str, Member] = {}
    servers: Mapping[str, Member] = {}
    draining: Mapping[str, float] = {}
    status: Mapping[str, BackendStatus] = {}
    settled: bool = True


class RelayWay(Protocol):
    """The way to an application's relay. For the tasks of one event loop.

    Each verb may be repeated, and raises a :class:`~isoneph.core.errors.RelayError` when the
    relay does not answer or does not take what it is told.
    """

    @property
    def remote(self) -> bool:
        """Whether the relay has a process of its own; else this one runs it while its engine
        leads."""

    async def close(self) -> None:
        """Let it go; safe to call twice. The next verb opens it again."""

    async def status(self) -> Standing:
        """How it stands."""

    async def update(
        self, members: Sequence[Member], since: Mapping[str, float] | None = None
    ) -> Standing:
        """From now on these are the backends. One that drains goes on draining, unless its
        placement is another; those in ``since`` drain as well, as by :meth:`drain`, before they
        get any session. What is missing is forgotten. What is not taken, or cannot be written
        down, raises RelayRefused and is tried again with the next verb."""

    async def drain(self, since: Mapping[str, float]) -> Standing:
        """Have these backends drain, since the times given or the earlier ones that are known
        already. That cannot be taken back; what is no backend is passed over."""

    async def report(self) -> RelayReport:
        """What a person wants to see."""
