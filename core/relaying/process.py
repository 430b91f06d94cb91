"""The process behind ``isoneph relay APPLICATION``.

::

    alone? -> relay starts -> last backends -> control answers -> (ready) -> SIGTERM or SIGINT
                                                                                |
      end <- relay closes <- control closes <- no session left, or DRAIN over <- drain

It is alone when it has both the lock beside its state and the place of its control channel; until
then it touches nothing. A second signal ends the drain at once.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from isoneph.core.clock import SystemClock
from isoneph.core.errors import ConfigInvalid, IsonephError, RelayError
from isoneph.core.inherited import inherited_sockets
from isoneph.core.metrics import PrometheusMetrics
from isoneph.core.plugin import Clock
from isoneph.core.registry import Registry
from isoneph.core.relaying.exposition import Exposition
from isoneph.core.relaying.host import RelayHost
from isoneph.core.relaying.making import make_relay
from isoneph.core.relaying.places import control_of, state_directory
from isoneph.core.relaying.remembering import StateFile, only_one
from isoneph.core.relaying.server import ControlServer
from isoneph.core.settings import ApplicationSettings, RelaySettings

LOG = logging.getLogger("isoneph.relay")

OK = 0
FAILED = 1
MISCONFIGURED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is to be run: ``state`` is the directory for its state (None: the user's), ``drain``
    the seconds that sessions get when it is stopped."""

    application: ApplicationSettings
    relay: RelaySettings
    state: Path | None
    drain: float


def run_relay(run: Run) -> int:
    """Run until told to stop; the exit code. For the main thread of a process that does nothing
    else: 0 it was stopped as asked, 1 it could not start, 2 the configuration is wrong (the log
    says why)."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ModuleNotFoundError):
        import uvloop  # noqa: PLC0415 (an extra: quicker where it is installed)

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_live(run))


async def _live(run: Run) -> int:
    process = Process(run, SystemClock())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.stop)
    loop.add_signal_handler(signal.SIGHUP, LOG.warning, "only a restart changes a relay")
    try:
        await process.run()
    except ConfigInvalid as error:
        return _refuse(MISCONFIGURED, *error.problems)
    except IsonephError as error:
        return _refuse(FAILED, error.message)
    return OK


def _refuse(code: int, *problems: str) -> int:
    for problem in problems:
        LOG.critical("cannot run: %s", " ".join(problem.split()))
    return code


class Process:
    """The relay, what it is spoken to by, and its end."""

    def __init__(self, run: Run, clock: Clock) -> None:
        self._run = run
        self._clock = clock
        self._metrics = PrometheusMetrics()
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()

    def stop(self) -> None:
        """End when the sessions are over; the second time, at once."""
        (self._hurrying if self._stopping.is_set() else self._stopping).set()

    async def run(self) -> None:
        """Its life. Raises IsonephError when it cannot begin."""
        run, name = self._run, self._run.application.name
        directory = run.state or state_directory()
        async with AsyncExitStack() as stack:
            stack.enter_context(only_one(directory, name))
            sockets = inherited_sockets()
            relay = make_relay(run.relay, name, Registry(), self._clock, self._metrics, sockets)
            file = StateFile(directory, name)
            host = RelayHost(relay, file, run.relay.servers, run.relay.weights)
            control = control_of(run.application)
            secret_file = run.relay.control_secret_file
            server = ControlServer(host, name, control, secret_file, self._metrics)
            stack.push_async_callback(server.close)
            await server.bind()
            stack.push_async_callback(host.close)
            await host.start()
            await self._restore(host)
            stack.push_async_callback(server.close)  # before the host: no verb opens that again
            await server.start()
            if run.relay.metrics is not None:
                exposition = Exposition(run.relay.metrics, lambda: self._figures(host))
                stack.push_async_callback(exposition.close)
                await exposition.start()
            await self._tell_ready(host, control)
            await self._stopping.wait()
            await self._drain(host)
        LOG.info("stopped")

    async def _restore(self, host: RelayHost) -> None:
        """Bring the relay its last backends; when it does not take them, the engine goes on."""
        try:
            standing = await host.status()
        except RelayError as error:
            LOG.warning("the last backends are not there yet: %s", error.message)
        else:
            if standing.members and standing.settled:
                drains = len(standing.draining)
                LOG.info("%d backends as before, %d draining", len(standing.members), drains)

    async def _tell_ready(self, host: RelayHost, control: str) -> None:
        try:
            listening = ", ".join((await host.report()).listening)
        except RelayError:
            listening = ""
        where = f" at {listening}" if listening else ""
        run = self._run
        LOG.info(
            "ready: %s relay of %s%s, control at %s", run.relay.driver, run.application.name,
            where, control,
        )  # fmt: skip

    async def _drain(self, host: RelayHost) -> None:
        """Give the sessions their time."""
        LOG.info("stopping: sessions have %g s", self._run.drain)
        drain = asyncio.create_task(host.drain_all())
        hurry = asyncio.create_task(self._hurrying.wait())
        await asyncio.wait(
            (drain, hurry), timeout=self._run.drain, return_when=asyncio.FIRST_COMPLETED
        )
        if not drain.done():
            LOG.warning("the sessions that are left are broken off")
        for task in (drain, hurry):
            task.cancel()
        await asyncio.gather(drain, hurry, return_exceptions=True)

    async def _figures(self, host: RelayHost) -> bytes:
        """The page for Prometheus, with how the backends stand now."""
        name = self._run.application.name
        try:
            standing = await host.status()
        except RelayError as error:
            LOG.warning("no figures of the backends: %s", error.message)
        else:
            ready = sum(one.ready for one in standing.status.values())
            counts = {"ready": ready, "draining": len(standing.draining)}
            counts["all"] = len({*standing.members, *standing.servers, *standing.status})
            for state, count in counts.items():
                self._metrics.gauge("relay_backends", count, application=name, state=state)
            sessions = sum(one.sessions for one in standing.status.values())
            self._metrics.gauge("relay_sessions", sessions, application=name)
        return self._metrics.exposition()
