"""The HAProxy that a relay drives, and the one that somebody else runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from isoneph.core.traffic import Address
from isoneph.plugins.relays.haproxy.runtime import RuntimeApi


class Instance(Protocol):
    """What the relay needs of the HAProxy that it drives."""

    api: RuntimeApi
    #: The backend whose servers are those of the relay.
    backend: str
    #: The frontend that clients come to, where that is known.
    frontend: str | None
    #: Whether it begins without a server, and clients wait for the first backends.
    begins_empty: bool

    @property
    def listening(self) -> Sequence[str]:
        """Where clients come, as far as that is known."""

    @property
    def facts(self) -> Mapping[str, str]:
        """What an operator may want to know of it."""

    async def start(self) -> None:
        """Find out whether it can be used. Raises ConfigInvalid or RelayError."""

    async def revive(self, servers: Iterable[str]) -> bool:
        """See to it that it runs; a new one begins with ``servers``. Whether it is new.

        Raises RelayUnreachable when it does not run.
        """

    async def wait(self, seconds: float) -> None:
        """Return when it has ended, or when ``seconds`` have passed."""

    async def left_behind(self) -> Mapping[Address, int]:
        """The sessions that earlier ones of a killed relay still finish, by the addresses of
        the servers that have them. Raises RelayUnreachable when they cannot be counted."""

    async def drain(self) -> None:
        """Take no new clients, and return when there are none, if they go with the relay."""

    async def close(self) -> None:
        """Let it go. Safe to call twice, and without ``start``."""


class RunningHaproxy:
    """One that somebody else runs: its servers with our names are ours, and nothing else.

    It outlives the relay with its servers as they are, and so do its sessions.
    """

    frontend: str | None = None
    begins_empty = False
    listening: Sequence[str] = ()

    def __init__(self, path: str, backend: str, timeout: float) -> None:
        self.api = RuntimeApi(path, timeout)
        self.backend = backend
        self._version = ""

    @property
    def facts(self) -> Mapping[str, str]:
        """What it is."""
        return {"HAProxy": self._version, "socket": self.api.path, "backend": self.backend}

    async def start(self) -> None:
        """Look whether it is there, new enough, and has the backend."""
        self._version = await self.api.version()
        await self.api.servers(self.backend)

    async def revive(self, servers: Iterable[str]) -> bool:
        """That is for others to do."""
        return False

    async def wait(self, seconds: float) -> None:
        """Let the time pass."""
        await asyncio.sleep(seconds)

    async def left_behind(self) -> Mapping[Address, int]:
        """Not known: after a reload an old process may finish some."""
        return {}

    async def drain(self) -> None:
        """Its sessions live on without us."""

    async def close(self) -> None:
        """It stays as it is."""
