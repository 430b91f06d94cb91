"""The interface of stores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from isoneph.core.plugin.base import Plugin


class Versioned(NamedTuple):
    """A stored value and the version that a compare-and-set must name to replace it."""

    value: bytes
    version: int


class Store(Plugin):
    """What several replicas coordinate through (``isoneph.stores``); never the only place where
    a VM is known.

    Keys are text of at most 200 characters, values at most 16 MiB. Versions of one key grow,
    also over deletion, expiry and restarts.
    Raises :class:`~isoneph.core.errors.StoreUnavailable` when it cannot answer in
    ``environment.timeout``; a put or delete may then have been done or not. Safe for many tasks
    of one event loop, not for several loops.
    """

    #: Whether other processes see what is put here.
    shared: ClassVar[bool] = True

    async def start(self) -> None:
        """Connect. An error here stops the service with that error."""

    async def close(self) -> None:
        """Disconnect. Safe to call twice, and without ``start``."""

    @abstractmethod
    async def get(self, key: str) -> Versioned | None:
        """The value under ``key``, or None when there is none or it has expired."""

    @abstractmethod
    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, ttl: float | None = None
    ) -> int:
        """Write ``value`` and return its version.

        ``expect`` is the version that must be there now (0: nothing may be there; None: write
        whatever is there), else :class:`~isoneph.core.errors.VersionConflict`. After ``ttl``
        seconds (None: never) the key is gone.
        """

    @abstractmethod
    async def delete(self, key: str, *, expect: int | None = None) -> None:
        """Remove ``key``; ``expect`` as in :meth:`put`. Deleting what is gone succeeds when
        ``expect`` is None or 0."""

    @abstractmethod
    async def scan(self, prefix: str) -> Sequence[str]:
        """The keys that begin with ``prefix``, in any order, at one moment or nearly so."""
