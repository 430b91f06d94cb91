"""A relay that says what the test lays out, here and as if in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from voluptuous import Optional

from isoneph.core import application
from isoneph.core.errors import RelayUnreachable
from isoneph.core.plugin import Environment, OptionSchema, Part, Plugin, Relay, Router
from isoneph.core.registry import Registry
from isoneph.core.relaying import Member, RelayHost, Standing
from isoneph.core.settings import PartSettings, RelaySettings
from isoneph.core.testing import make_environment
from isoneph.core.traffic import Backend, BackendStatus, Message, RelayReport, Table

RELAY = RelaySettings(driver="scripted", drain=100.0, parts={"router": PartSettings(driver="any")})


class AnyRouter(Router):
    """Routes nothing."""

    schema: ClassVar[OptionSchema] = {Optional("depth", default=1, description="How deep."): int}

    def message(self, client: int, message: Message) -> Sequence[Any]:
        return ()


class ScriptedRelay(Relay):
    """All backends are ready but those that are ``unwell``, and have the ``sessions`` given."""

    parts: ClassVar[Mapping[str, Part]] = {"router": Part("routers", "any", "Which one.")}

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self.backends: dict[str, Backend] = {}
        self.updates: list[Sequence[Backend]] = []
        self.unwell: set[str] = set()
        self.sessions: dict[str, int] = {}
        #: Backends that it takes without having been told of them.
        self.by_itself: Mapping[str, BackendStatus] = {}
        #: What the next calls raise, and what the next updates alone do.
        self.fault: Exception | None = None
        self.refusal: Exception | None = None
        #: All updates, those that were refused too.
        self.tried: list[Sequence[Backend]] = []
        self.running = False

    async def start(self) -> None:
        self._fail()
        self.running = True

    async def close(self) -> None:
        self.running = False

    async def update(self, backends: Sequence[Backend]) -> None:
        self._fail()
        self.tried.append(backends)
        if self.refusal is not None:
            raise self.refusal
        self.updates.append(backends)
        self.backends = {backend.id: backend for backend in backends}

    async def status(self) -> Mapping[str, BackendStatus]:
        self._fail()
        told = {
            key: BackendStatus(
                ready=key not in self.unwell,
                sessions=self.sessions.get(key, 0),
                text="it coughs" if key in self.unwell else "",
            )
            for key in self.backends
        }
        return {**told, **self.by_itself}

    async def report(self) -> RelayReport:
        self._fail()
        rows = [["one", 7], ["two", 0]]
        table = Table(name="clients", columns=["name", "messages"], rows=rows)
        return RelayReport(listening=["127.0.0.1:5"], facts={"by": "hand"}, tables=[table])

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault


class HostedRelay(ScriptedRelay):
    """The same without a process of its own."""

    process = False


class ScriptedRegistry(Registry):
    """Has these beside what is installed."""

    scripted: ClassVar[Mapping[tuple[str, str], type[Plugin]]] = {
        ("relays", "scripted"): ScriptedRelay,
        ("relays", "hosted"): HostedRelay,
        ("routers", "any"): AnyRouter,
    }

    def load(self, kind: str, name: str) -> type[Plugin]:
        return self.scripted.get((kind, name)) or super().load(kind, name)


class Elsewhere:
    """A relay's process, which lives on while isoneph is started anew, and the way to it."""

    remote = True

    def __init__(self) -> None:
        self.relay = ScriptedRelay({}, make_environment("mme"))
        self.reachable = True
        #: Unset, it takes every question and answers none.
        self.answers = asyncio.Event()
        self.answers.set()
        self._host = RelayHost(self.relay)
        self._lock = asyncio.Lock()

    def take_the_place_of_processes(self, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
        """Have every deployment from now on find this as its relay."""
        monkeypatch.setattr(application, "RemoteRelay", lambda *_: self)
        return self

    async def close(self) -> None:
        """Only the way closes."""

    async def status(self) -> Standing:
        async with self._reached() as host:
            return await host.status()

    async def update(
        self, members: Sequence[Member], since: Mapping[str, float] | None = None
    ) -> Standing:
        async with self._reached() as host:
            return await host.update(members, since)

    async def drain(self, since: Mapping[str, float]) -> Standing:
        async with self._reached() as host:
            return await host.drain(since)

    async def report(self) -> RelayReport:
        async with self._reached() as host:
            return await host.report()

    @asynccontextmanager
    async def _reached(self) -> AsyncIterator[RelayHost]:
        """One question after the other, as over the one connection that there is."""
        async with self._lock:
            if not self.reachable:
                raise RelayUnreachable("the relay of mme is cut off")
            await self.answers.wait()
            yield self._host
