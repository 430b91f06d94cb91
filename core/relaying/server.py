"""The relay's side of the control channel: several clients at once, each bounded."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from pathlib import Path

from isoneph.core.errors import RelayError, RelayRefused
from isoneph.core.plugin import Metrics
from isoneph.core.relaying.control import (
    Answer,
    Broken,
    Channel,
    Drain,
    Report,
    Request,
    Update,
    greet,
    read_request,
    read_secret,
    split_endpoint,
)
from isoneph.core.relaying.places import private
from isoneph.core.relaying.values import RelayWay

LOG = logging.getLogger("isoneph.relay")

#: Clients at once: engines, and people who look on.
MAX_CLIENTS = 32
#: Seconds after which a client that asks nothing is let go; it may come again.
IDLE = 300.0
#: Seconds for which clients are only counted that are turned away as one before them was.
QUIET = 60.0
_OWNER_ONLY = 0o177


class ControlServer:
    """Lets clients speak to a relay: those that connect when it is bound are answered when it is
    started. For the tasks of one event loop."""

    def __init__(
        self,
        way: RelayWay,
        application: str,
        control: str,
        secret_file: str | None,
        metrics: Metrics,
    ) -> None:
        self.control = control
        self._way = way
        self._application = application
        self._secret_file = secret_file
        self._metrics = metrics
        self._secret: bytes | None = None
        self._sock: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        #: Clients that were turned away and not told of one by one, by the reason.
        self._untold: dict[str, int] = {}

    async def bind(self) -> None:
        """Take the place for ourselves. Raises RelayRefused when another relay has it."""
        if self._secret_file is not None:
            self._secret = read_secret(self._secret_file)
        self._sock = _unix(self.control) if self._is_unix else await _tcp(self.control)

    async def start(self) -> None:
        """Answer. Raises as :meth:`bind`, where that has not been called."""
        if self._sock is None:
            await self.bind()
        self._server = await asyncio.start_server(self._connected, sock=self._sock)

    async def close(self) -> None:
        """Let all clients go, and the place."""
        if self._sock is None:
            return
        (self._server or self._sock).close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        if self._is_unix:
            with contextlib.suppress(OSError):
                _remove(self.control)
        self._sock = self._server = None

    @property
    def _is_unix(self) -> bool:
        return self.control.startswith("/")

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = Channel(reader, writer)
        if len(self._clients) >= MAX_CLIENTS:
            self._refused("too_many", "too many clients")
            channel.close()
            return
        # A task of our own: of one that asyncio makes, it would log that we cancelled it.
        task = asyncio.create_task(self._serve(channel))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, channel: Channel) -> None:
        try:
            await greet(channel, self._application, self._secret)
            await self._converse(channel)
        except Broken as error:
            self._refused(error.word, str(error))
        except OSError as error:
            LOG.debug("a client of the control channel is gone: %s", error)
        finally:
            channel.close()

    async def _converse(self, channel: Channel) -> None:
        while True:
            try:
                frame = await channel.receive(patience=IDLE)
            except Broken as error:
                if error.word != "idle":
                    raise
                return
            if not frame:
                return
            await channel.send(await self._answer(read_request(frame)))

    async def _answer(self, request: Request) -> Answer:
        verb = type(request).__name__.lower()
        try:
            answer = await self._carry_out(request)
        except RelayError as error:
            self._metrics.count("relay_requests", verb=verb, outcome=error.code)
            return Answer(error=error.message, code=error.code)
        self._metrics.count("relay_requests", verb=verb, outcome="ok")
        return answer

    async def _carry_out(self, request: Request) -> Answer:
        if isinstance(request, Update):
            return Answer(standing=await self._way.update(request.members, request.since))
        if isinstance(request, Drain):
            return Answer(standing=await self._way.drain(request.since))
        if isinstance(request, Report):
            standing = await self._way.status()
            return Answer(standing=standing, report=await self._way.report())
        return Answer(standing=await self._way.status())

    def _refused(self, word: str, text: str) -> None:
        self._metrics.count("relay_control_refused", reason=word)
        if word in self._untold:
            self._untold[word] += 1
            return
        self._untold[word] = 0
        LOG.warning("control channel: a client is turned away: %s", text)
        asyncio.get_running_loop().call_later(QUIET, self._tell_untold, word)

    def _tell_untold(self, word: str) -> None:
        if count := self._untold.pop(word):
            LOG.warning("control channel: %d more clients were turned away: %s", count, word)


def _unix(path: str) -> socket.socket:
    """A listening socket that only this user can connect to."""
    if not Path(path).parent.exists():
        private(Path(path).parent)
    if _answers(path):
        raise RelayRefused(f"something listens on {path} already")
    sock = socket.socket(socket.AF_UNIX)
    try:
        _remove(path)
        old = os.umask(_OWNER_ONLY)
        try:
            sock.bind(path)
        finally:
            os.umask(old)
        sock.listen(MAX_CLIENTS)
    except OSError as error:
        sock.close()
        raise RelayRefused(f"cannot listen on {path}: {error.strerror or error}") from error
    return sock


def _remove(path: str) -> None:
    """Remove a socket that nobody listens on any more. Raises OSError, of whatever else is
    there too."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.ENOTSOCK, "something else than a socket is there")
        Path(path).unlink()


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


async def _tcp(control: str) -> socket.socket:
    host, port = split_endpoint(control)
    loop = asyncio.get_running_loop()
    sock = None
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(MAX_CLIENTS)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise RelayRefused(f"cannot listen on {control}: {error.strerror or error}") from error
    return sock
