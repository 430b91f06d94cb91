"""The relay suite has teeth: each of these relays breaks one rule, and one test tells."""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from voluptuous import Optional

from isoneph.core.errors import RelayError, RelayUnreachable
from isoneph.core.plugin import Environment, OptionSchema, Relay
from isoneph.core.testing import SystemClock, make_environment
from isoneph.core.testing.relays import EndSession, RelayConformance
from isoneph.core.traffic import Backend, BackendStatus, RelayReport, Table

DEAD = Backend(id="dead", addresses=["192.0.2.99"])


class MemoryRelay(Relay):
    """Carries nothing, and keeps all rules."""

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self.backends: dict[str, Backend] = {}
        self.sessions: list[str] = []
        self.cut_off = False
        self.ended = asyncio.Event()
        self.ended.set()

    async def update(self, backends: Sequence[Backend]) -> None:
        if self.cut_off:
            raise RelayUnreachable("cut off")
        self.backends = {backend.id: backend for backend in backends}

    async def status(self) -> Mapping[str, BackendStatus]:
        return {backend.id: self.status_of(backend) for backend in self.backends.values()}

    async def drain(self) -> None:
        await self.ended.wait()

    def status_of(self, backend: Backend) -> BackendStatus:
        sessions = self.sessions.count(backend.id)
        try:
            ipaddress.ip_address(backend.addresses[0])
        except (IndexError, ValueError):
            return BackendStatus(ready=False, text="it has no address")
        if backend.id == DEAD.id:
            return BackendStatus(ready=False, text="nobody answers")
        if backend.draining:
            return BackendStatus(ready=False, sessions=sessions, text="draining")
        return BackendStatus(ready=True, sessions=sessions)

    def open(self) -> None:
        self.ended.clear()
        self.sessions.append(next(key for key, each in self.backends.items() if not each.draining))

    def end(self) -> None:
        self.sessions.clear()
        self.ended.set()


class Silent(MemoryRelay):
    """Options without a word."""

    schema: ClassVar[OptionSchema] = {Optional("secret"): str}


class Quarrelsome(MemoryRelay):
    """Options that never go together."""

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Sequence[str]:
        return ["no"]


class OneWay(MemoryRelay):
    """Close without start fails."""

    started = False

    async def start(self) -> None:
        self.started = True

    async def close(self) -> None:
        assert self.started


class Restless(MemoryRelay):
    """Never ends."""

    async def drain(self) -> None:
        await asyncio.Event().wait()


class Impatient(MemoryRelay):
    """Waits for no session."""

    async def drain(self) -> None:
        pass


class Inventive(MemoryRelay):
    """Knows of backends that nobody told it of."""

    async def status(self) -> Mapping[str, BackendStatus]:
        return await super().status() or {DEAD.id: BackendStatus(ready=False)}


class Adding(MemoryRelay):
    """Takes an update for news only."""

    async def update(self, backends: Sequence[Backend]) -> None:
        before = self.backends
        await super().update(backends)
        self.backends = before | self.backends


class Sulking(MemoryRelay):
    """Takes nobody back, once gone."""

    gone: ClassVar[set[str]] = set()

    async def update(self, backends: Sequence[Backend]) -> None:
        self.gone.update(self.backends.keys() - {backend.id for backend in backends})
        await super().update(backends)

    def status_of(self, backend: Backend) -> BackendStatus:
        return replace(super().status_of(backend), ready=backend.id not in self.gone)


class Shaken(MemoryRelay):
    """Each update makes all backends new."""

    updates = 0

    async def update(self, backends: Sequence[Backend]) -> None:
        await super().update(backends)
        self.updates += 1

    def status_of(self, backend: Backend) -> BackendStatus:
        return replace(super().status_of(backend), text=str(self.updates))


class Racing(MemoryRelay):
    """Of several updates at once, any may win."""

    async def update(self, backends: Sequence[Backend]) -> None:
        for _ in range(len(backends)):
            await asyncio.sleep(0)
        await super().update(backends)


class Locked(MemoryRelay):
    """An update that is cancelled keeps its lock."""

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self.lock = asyncio.Lock()

    async def update(self, backends: Sequence[Backend]) -> None:
        await self.lock.acquire()
        await asyncio.sleep(0)
        await super().update(backends)
        self.lock.release()


class Dropping(MemoryRelay):
    """Draining is as good as gone."""

    async def update(self, backends: Sequence[Backend]) -> None:
        await super().update([backend for backend in backends if not backend.draining])


class Clinging(MemoryRelay):
    """A draining backend has sessions for ever."""

    def status_of(self, backend: Backend) -> BackendStatus:
        status = super().status_of(backend)
        return replace(status, sessions=1) if backend.draining else status


class Final(MemoryRelay):
    """Once draining, always draining."""

    drained: ClassVar[set[str]] = set()

    def status_of(self, backend: Backend) -> BackendStatus:
        if backend.draining:
            self.drained.add(backend.id)
        return super().status_of(replace(backend, draining=backend.id in self.drained))


class Forgetful(MemoryRelay):
    """Forgets the sessions of who drains."""

    def status_of(self, backend: Backend) -> BackendStatus:
        status = super().status_of(backend)
        return replace(status, sessions=0) if backend.draining else status


class Hopeful(MemoryRelay):
    """Everybody is ready."""

    def status_of(self, backend: Backend) -> BackendStatus:
        return BackendStatus(ready=True, sessions=self.sessions.count(backend.id))


class Taciturn(MemoryRelay):
    """Says not why."""

    def status_of(self, backend: Backend) -> BackendStatus:
        return replace(super().status_of(backend), text="")


class Fragile(MemoryRelay):
    """One backend without an address is too much."""

    async def update(self, backends: Sequence[Backend]) -> None:
        for backend in backends:
            if not backend.addresses:
                raise RelayError("no address")
        await super().update(backends)


class Raw(MemoryRelay):
    """Errors as they come."""

    async def update(self, backends: Sequence[Backend]) -> None:
        if self.cut_off:
            raise ConnectionResetError
        await super().update(backends)


class Crooked(MemoryRelay):
    """A table whose rows are too long."""

    async def report(self) -> RelayReport:
        return RelayReport(tables=[Table(name="a", columns=("b",), rows=[("c", 1)])])


class Suite(RelayConformance):
    ready_timeout = 0.1
    drain_timeout = 0.1

    def __init__(self, kind: type[MemoryRelay]) -> None:
        self.kind = kind

    def make_relay(self, tmp_path: Path) -> Relay:
        return self.kind({}, make_environment("here", clock=SystemClock()))

    async def start_backend(self, number: int) -> Backend:
        return Backend(id=f"backend-{number}", addresses=[f"192.0.2.{number}"])

    async def make_dead_backend(self) -> Backend | None:
        return DEAD

    async def open_session(self, relay: Relay) -> EndSession | None:
        assert isinstance(relay, MemoryRelay)
        relay.open()

        async def end() -> None:
            relay.end()

        return end

    async def cut_off(self, relay: Relay) -> bool:
        assert isinstance(relay, MemoryRelay)
        relay.cut_off = True
        return True

    async def run(self, test: Callable[..., Awaitable[None]], tmp_path: Path) -> None:
        relay = self.make_relay(tmp_path)
        await relay.start()
        known = {"relay": relay, "tmp_path": tmp_path, "addresses": []}
        wanted = inspect.signature(test).parameters
        async with asyncio.timeout(0.6):
            await test(self, **{key: value for key, value in known.items() if key in wanted})


TESTS = [name for name in dir(Suite) if name.startswith("test_")]


@pytest.mark.parametrize("name", TESTS)
async def test_a_good_relay_passes(name: str, tmp_path: Path) -> None:
    await Suite(MemoryRelay).run(getattr(Suite, name), tmp_path)


@pytest.mark.parametrize(
    ("relay", "test"),
    [
        (Silent, Suite.test_options_are_described_and_their_defaults_valid),
        (Quarrelsome, Suite.test_options_of_the_suite_go_together),
        (OneWay, Suite.test_close_needs_no_start_and_may_be_repeated),
        (Restless, Suite.test_drain_returns_when_there_are_no_sessions),
        (Impatient, Suite.test_drain_waits_for_the_last_session),
        (Inventive, Suite.test_there_are_no_backends_before_the_first_update),
        (Hopeful, Suite.test_a_backend_without_a_good_address_is_told_and_harms_no_other),
        (Hopeful, Suite.test_a_dead_backend_is_not_ready_and_harms_no_other),
        (Dropping, Suite.test_a_backend_that_drains_no_more_is_ready_again),
        (Dropping, Suite.test_a_draining_backend_keeps_its_status_until_it_is_gone),
        (Dropping, Suite.test_a_session_counts_until_it_is_over),
        (Adding, Suite.test_one_that_is_missing_is_gone),
        (Adding, Suite.test_updates_at_once_end_in_the_last),
        (Sulking, Suite.test_one_that_went_can_come_back),
        (Shaken, Suite.test_doing_the_same_again_changes_nothing),
        (Racing, Suite.test_updates_at_once_end_in_the_last),
        (Locked, Suite.test_a_cancelled_update_harms_no_other),
        (Clinging, Suite.test_a_draining_backend_keeps_its_status_until_it_is_gone),
        (Final, Suite.test_a_backend_that_drains_no_more_is_ready_again),
        (Forgetful, Suite.test_a_session_counts_until_it_is_over),
        (Taciturn, Suite.test_a_dead_backend_is_not_ready_and_harms_no_other),
        (Fragile, Suite.test_a_backend_without_a_good_address_is_told_and_harms_no_other),
        (Raw, Suite.test_what_is_cut_off_is_told_as_the_relay_s_error),
        (Crooked, Suite.test_reports_are_well_formed),
    ],
)
async def test_a_broken_rule_is_told(
    relay: type[MemoryRelay], test: Callable[..., Awaitable[None]], tmp_path: Path
) -> None:
    with pytest.raises((AssertionError, TimeoutError, RelayError, OSError)):
        await Suite(relay).run(test, tmp_path)
