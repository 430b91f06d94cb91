"""The ``haproxy`` relay."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from isoneph.core.errors import RelayError, RelayRefused
from isoneph.core.plugin import Environment, OptionSchema, Relay
from isoneph.core.traffic import Address, Backend, BackendStatus, RelayReport, Table
from isoneph.plugins.relays.haproxy import options as its_options
from isoneph.plugins.relays.haproxy.child import OwnHaproxy
from isoneph.plugins.relays.haproxy.configuration import balance_of, mode_of
from isoneph.plugins.relays.haproxy.instances import Instance, RunningHaproxy
from isoneph.plugins.relays.haproxy.runtime import Figures, shown
from isoneph.plugins.relays.haproxy.servers import (
    Step,
    Target,
    config_lines,
    name_of,
    parameters,
    steps,
    targets,
    unfit,
)

#: Seconds between looks whether HAProxy still has the servers that it should have.
_PERIOD = 1.0
#: Seconds after which a HAProxy of our own has no backends when it was told of none, and its
#: clients wait no more.
_PATIENCE = 3.0
#: HAProxy answers in a millisecond; one that needs seconds hangs.
_LONGEST_TIMEOUT = 5.0
_SHARE = 0.3
#: What ``show stat`` calls the kinds of things that it has figures of.
_FRONTENDS, _SERVERS = 1, 4
_COUNTERS = ("total", "bytes_in", "bytes_out")
_FIGURES = ("sessions", *_COUNTERS)


class HaproxyRelay(Relay):
    """HTTP and TCP through HAProxy 2.6 or newer, its own or one that runs already.

    Backends are added, weighted, drained and removed through HAProxy's runtime API, without a
    reload. Every second the relay looks whether HAProxy has the servers that it should have, and
    puts right what is not: after a restart, a reload or somebody's mistake.

    A backend is ready when HAProxy's checks say so. Its sessions are the requests (in TCP mode
    the connections) that are at it or wait for it. Connections that a client keeps open without
    a request belong to no backend: the next request goes where HAProxy finds best.
    """

    schema: ClassVar[OptionSchema] = its_options.OPTIONS

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        timeout = min(environment.timeout * _SHARE, _LONGEST_TIMEOUT)
        self._instance: Instance
        if "socket" in options:
            self._instance = RunningHaproxy(options["socket"], options["backend"], timeout)
        else:
            self._instance = OwnHaproxy(options, environment, timeout)
        self._how = parameters(options["check"], options["limits"])
        self._backends: Sequence[Backend] | None = None
        self._targets: Mapping[str, Target] = {}
        #: The last that was seen of the servers, by their names.
        self._figures: Mapping[str, Figures] = {}
        #: Sessions that another HAProxy still finishes, by the addresses of the servers.
        self._left_behind: Mapping[Address, int] = {}
        self._lock = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._started_at = 0.0
        self._ending = False
        self._trouble = ""

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Sequence[str]:
        """Options of a HAProxy of our own and of one that runs already do not mix."""
        return [*its_options.problems(options)]

    async def start(self) -> None:
        """Check HAProxy and its configuration. Raises ConfigInvalid, naming the option, or
        RelayError. A HAProxy of our own is started with its first servers, by ``update``."""
        await self._instance.start()
        self._started_at = self.environment.clock.monotonic()
        self._keeper = asyncio.create_task(self._keep())

    async def drain(self) -> None:
        """Let HAProxy finish its sessions and end (SIGUSR1). One that runs already lives on."""
        await self._stop()
        await self._instance.drain()

    async def close(self) -> None:
        """End a HAProxy of our own; one that runs already keeps its servers."""
        await self._stop()
        await self._instance.close()

    async def update(self, backends: Sequence[Backend]) -> None:
        """Make the backends HAProxy's servers."""
        self._backends = tuple(backends)
        self._targets = targets(backends, self.options["port"], self.environment.name)
        await self._reconcile()

    async def status(self) -> Mapping[str, BackendStatus]:
        """What HAProxy's statistics say of each backend."""
        if self._backends and not self._ending:
            figures = await self._instance.api.figures(self._instance.backend, _SERVERS)
            self._figures = {each.name: each for each in figures}
            self._left_behind = await self._instance.left_behind()
        return {backend.id: self._status_of(backend) for backend in self._backends or ()}

    async def report(self) -> RelayReport:
        """HAProxy's figures of its clients and of the servers that are the backends."""
        servers: Sequence[Figures] = ()
        clients: Sequence[Figures] = ()
        if self._backends is not None and not self._ending:
            api = self._instance.api
            servers = await api.figures(self._instance.backend, _SERVERS)
            if self._instance.frontend is not None:
                clients = await api.figures(self._instance.frontend, _FRONTENDS)
        facts = dict(self._instance.facts)
        if self._instance.frontend is not None:
            facts |= {"mode": mode_of(self.options), "balance": balance_of(self.options)}
        return RelayReport(
            listening=self._instance.listening,
            facts=facts,
            tables=[
                Table(
                    name="servers",
                    columns=("server", "state", "check", "queued", *_FIGURES),
                    rows=[*self._rows(servers)],
                    counters=_COUNTERS,
                ),
                Table(
                    name="clients",
                    columns=("frontend", "state", *_FIGURES),
                    rows=[(each.name, each.status.lower(), *_counted(each)) for each in clients],
                    counters=_COUNTERS,
                ),
            ],
        )

    def _rows(self, servers: Sequence[Figures]) -> Iterator[Sequence[Any]]:
        names = {self._name_of(each): each.name or each.id for each in self._backends or ()}
        for each in servers:
            if each.name in names:
                check = each.check or "-"
                yield names[each.name], each.status.lower(), check, each.queued, *_counted(each)

    def _name_of(self, backend: Backend) -> str:
        return name_of(self.environment.name, backend.id)

    def _status_of(self, backend: Backend) -> BackendStatus:
        reason = unfit(backend)
        if reason is not None:
            return BackendStatus(ready=False, text=reason)
        target = self._targets[self._name_of(backend)]
        sessions = self._left_behind.get(Address(target.host, target.port), 0)
        seen = self._figures.get(target.name)
        if seen is None:
            text = "HAProxy does not have it yet"
            return BackendStatus(ready=False, sessions=sessions, text=text)
        sessions += seen.sessions + seen.queued
        if self._ending:
            text = "HAProxy ends when its last session is over"
            return BackendStatus(ready=False, sessions=sessions, text=text)
        if backend.draining:
            return BackendStatus(ready=False, sessions=sessions, text="draining")
        if seen.check in {"", "INI"}:  # HAProxy takes it for healthy until it knows better
            return BackendStatus(ready=False, sessions=sessions, text="not checked yet")
        ready = seen.status.startswith("UP")
        text = "" if ready else f"{seen.status}, {seen.check}"
        return BackendStatus(ready=ready, sessions=sessions, text=text)

    async def _reconcile(self) -> None:
        """Do what is to be done so that the servers are as they should be."""
        async with self._lock:
            if self._keeper is None:
                raise RelayRefused("the relay does not run")
            new = await self._instance.revive(config_lines(self._targets, self._how))
            if new:
                self.environment.logger.info("HAProxy runs")
            api, backend = self._instance.api, self._instance.backend
            found = await api.servers(backend)
            refusals = [
                refusal
                for each in steps(backend, self._targets, found, self._how, self.environment.name)
                if (refusal := await self._take(each)) is not None
            ]
        if refusals:
            raise RelayRefused("; ".join(refusals[:3]))

    async def _take(self, todo: Sequence[Step]) -> str | None:
        """Take the steps for one server. What HAProxy has against it, if it has something; then
        the steps that follow make no sense."""
        for step in todo:
            answer = await self._instance.api.ask(step.command)
            if step.is_pending(answer):
                return None
            if not step.is_done(answer):
                return f"HAProxy answered to '{step.command}': {shown(answer)}"
        return None

    async def _keep(self) -> None:
        """Keep HAProxy running, and its servers as they should be, for as long as we live."""
        while True:
            await self._instance.wait(_PERIOD)
            if self._backends is None:
                # Who finds servers at work, and knows nothing, does not take them away.
                if not self._instance.begins_empty:
                    continue
                if self.environment.clock.monotonic() < self._started_at + _PATIENCE:
                    continue
                self._backends = ()
            try:
                await self._reconcile()
            except RelayError as error:
                if str(error) != self._trouble:  # once, not every second
                    self.environment.logger.warning("%s", error)
                self._trouble = str(error)
            else:
                self._trouble = ""

    async def _stop(self) -> None:
        """From now on nothing is put right; what is under way comes to its end."""
        self._ending = True
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper
        async with self._lock:
            pass


def _counted(each: Figures) -> Sequence[int]:
    return each.sessions, each.total, each.bytes_in, each.bytes_out
