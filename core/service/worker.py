"""The serving process: a deployment, its API, and what signals make of them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.workers.gasgi import ASGIWorker

from isoneph.core.api import Api
from isoneph.core.application import Deployment
from isoneph.core.errors import IsonephError
from isoneph.core.service.connection import Connection
from isoneph.core.service.reloading import reload
from isoneph.core.service.sockets import url_of

LOG = logging.getLogger("isoneph.service")

#: Seconds between signs of life to the master.
HEARTBEAT = 1.0
#: Seconds that closing the deployment is given beyond the configured graceful time-out.
CLOSING = 5.0


class Worker(ASGIWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's ``asgi`` worker with a deployment in it.

    ``app`` is the :class:`~isoneph.core.service.serving.Server`.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._stopping = asyncio.Event()
        self._reload_wanted = asyncio.Event()

    def init_signals(self) -> None:
        """Stop in order for SIGINT too, and reload for SIGHUP."""
        super().init_signals()
        self.loop.add_signal_handler(signal.SIGINT, self.handle_exit_signal)
        self.loop.add_signal_handler(signal.SIGHUP, self._reload_wanted.set)

    def handle_exit_signal(self) -> None:
        """Begin to stop."""
        # gunicorn's connections look at this: they end after the answer under way.
        self.alive = False
        self._stopping.set()

    def handle_quit_signal(self) -> None:
        """Stop at once."""
        sys.exit(0)

    def joined(self, connection: Connection) -> None:
        """A client is here."""
        self._connections.add(connection)

    def left(self, connection: Connection) -> None:
        """A client is gone."""
        self._connections.discard(connection)
        self._empty.set()

    def run(self) -> None:
        """Serve until told to stop."""
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            code = runner.run(self._live())
        sys.exit(code)

    async def _live(self) -> int:
        """The process's life; returns its exit code."""
        tasks = [asyncio.create_task(self._beat())]
        deployment = await self._start()
        if deployment is None:
            return int(Arbiter.WORKER_BOOT_ERROR)
        api = Api(deployment)
        self.asgi = api.asgi
        servers = [
            await self.loop.create_server(lambda: Connection(self), sock=listener.sock)
            for listener in self.sockets
        ]
        urls = ", ".join(url_of(listener.sock) for listener in self.sockets)
        LOG.info("ready at %s", urls)
        tasks.append(asyncio.create_task(self._reload_when_wanted(deployment)))
        await self._stopping.wait()
        await self._shut_down(deployment, api, servers)
        for task in tasks:
            task.cancel()
        return 0

    async def _start(self) -> Deployment | None:
        """A started deployment: of the newest configuration or, when that cannot start after a
        reload, of the one that the service began with; None when neither can."""
        while True:
            deployment = Deployment(self.app.settings)
            try:
                await deployment.start()
            except Exception as error:
                LOG.critical("cannot start: %s", told(error))
                LOG.debug("cannot start", exc_info=error)
                if self.app.settings is self.app.first_settings:
                    return None
                LOG.warning("going on with the configuration that the service began with")
                self.app.settings = self.app.first_settings
            else:
                return deployment

    async def _beat(self) -> None:
        """Show the master that we live, and end when it does not."""
        while self.ppid == os.getppid():
            self.notify()
            await asyncio.sleep(HEARTBEAT)
        LOG.warning("the master is gone")
        self.handle_exit_signal()

    async def _shut_down(
        self, deployment: Deployment, api: Api, servers: Sequence[asyncio.Server]
    ) -> None:
        """Answer what was asked, finish what was begun."""
        LOG.info("stopping")
        patience = self.app.settings.service.graceful_timeout
        deadline = self.loop.time() + patience
        for server in servers:
            server.close()
        api.close()
        for connection in self._connections:
            connection.close_if_idle()
        try:
            async with asyncio.timeout_at(deadline):
                while self._connections:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            LOG.warning("%d connections are cut after %g s", len(self._connections), patience)
        try:
            async with asyncio.timeout_at(deadline + CLOSING / 2):
                await deployment.close()
        except TimeoutError:
            LOG.warning("what is still under way is left; the VMs will be found by their tags")
        LOG.info("stopped")

    async def _reload_when_wanted(self, deployment: Deployment) -> None:
        sockets = [listener.sock for listener in self.sockets]
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            await reload(deployment, self.app.load_settings, sockets)


def told(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, IsonephError):
        return " ".join(error.message.split())
    return " ".join(f"{type(error).__name__}: {error}".split())
