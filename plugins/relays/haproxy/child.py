"""The HAProxy that the relay runs itself, as a child process.

::

                  revive                      it ends by itself
     not there ─────────────> running ──────────────────────────> gone
                                ^  │                               │
                                │  │ drain (SIGUSR1), close        │
                                │  └──────────────> ended          │
                                │                                  │
                                └──────────────────────────────────┘
                                  revive: at once, or after a pause
                                  that grows when it lives short

The sockets that clients come to are ours, and the child inherits them: while one HAProxy is gone
and the next not there, clients wait in the kernel's queue and are not refused.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from isoneph.core.errors import ConfigInvalid, RelayError, RelayRefused, RelayUnreachable
from isoneph.core.plugin import Environment
from isoneph.core.traffic import Address
from isoneph.plugins.relays.haproxy.configuration import BACKEND, FRONTEND, Configuration
from isoneph.plugins.relays.haproxy.options import Binding
from isoneph.plugins.relays.haproxy.predecessors import PREFIX, SOCKET, Predecessors
from isoneph.plugins.relays.haproxy.program import Program, ProgramUnfit
from isoneph.plugins.relays.haproxy.runtime import RuntimeApi

#: Connections that wait in the kernel at most; it takes the smaller of this and somaxconn.
_BACKLOG = 4096
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
#: A HAProxy that lived as many seconds was sound: the next is started at once.
_SOUND = 10.0
#: File descriptors beside those for clients and backends: listeners, checks, the runtime API.
_SPARE_FILES = 200
_POLL = 0.005
_TERM_SECONDS = 2.0
_LONGEST_LINE = 64 * 1024


class OwnHaproxy:
    """A child process with a configuration of our making, in a private directory."""

    backend = BACKEND
    frontend: str | None = FRONTEND
    begins_empty = True

    def __init__(
        self, options: Mapping[str, Any], environment: Environment, timeout: float
    ) -> None:
        self.api = RuntimeApi("", timeout)
        self._options = options
        self._environment = environment
        self._timeout = timeout
        self._bindings = [Binding.parse(text) for text in options["listen"]]
        self._sockets: list[socket.socket] = []
        self._directory: Path | None = None
        self._program = Program(options.get("program", "haproxy"), timeout)
        self._predecessors = Predecessors(environment.name)
        self._version = ""
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._last_words = ""
        self._started_at = 0.0
        self._pause = 0.0
        self._starts = 0

    @property
    def listening(self) -> Sequence[str]:
        """The addresses of the options."""
        return [str(bound) for bound in self._bindings]

    @property
    def facts(self) -> Mapping[str, str]:
        """What it is, and how often it had to be started again."""
        return {
            "HAProxy": self._version,
            "process": str(self._process.pid) if self._process is not None else "none",
            "socket": self.api.path,
            "restarts": str(max(self._starts - 1, 0)),
        }

    async def start(self) -> None:
        """Take the addresses, and have HAProxy check its configuration. It is started later,
        with its first servers; until then clients wait. Raises ConfigInvalid, and
        RelayRefused when an address cannot be had."""
        try:
            self._version = await self._program.version()
            self._listen()
            self._directory = Path(tempfile.mkdtemp(prefix=PREFIX))
            self.api = RuntimeApi(str(self._directory / SOCKET), self._timeout)
            await self._check()
            await self._look_back()
        except ProgramUnfit as error:
            await self.close()
            raise self._invalid(f"program: {error}") from error
        except BaseException:
            await self.close()
            raise

    async def revive(self, servers: Iterable[str]) -> bool:
        """Start it, unless it runs, or has to wait because the last one lived too short."""
        if self._process is not None:
            if self._process.returncode is None:
                return False
            await self._bury(self._process)
        now = self._environment.clock.monotonic()
        if self._starts and now < self._started_at + self._pause:
            raise RelayUnreachable(f"HAProxy ended ({self._last_words}) and is to be started again")
        self._started_at = now
        self._starts += 1
        self._configure(servers)
        await self._launch()
        return True

    async def wait(self, seconds: float) -> None:
        """Return when it ends, or when ``seconds`` have passed."""
        if self._process is None:
            due = self._started_at + self._pause - self._environment.clock.monotonic()
            await asyncio.sleep(min(max(due, _POLL), seconds))
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._process.wait()

    async def left_behind(self) -> Mapping[Address, int]:
        """The connections to servers of those that a killed relay left behind."""
        if not self._predecessors.processes:
            return {}
        return await asyncio.to_thread(self._predecessors.connections)

    async def drain(self) -> None:
        """Refuse new clients, and return when HAProxy has ended with its last session."""
        self._release()
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGUSR1)
            await self._process.wait()

    async def close(self) -> None:
        """End it, with the sessions that it has, and remove what it left."""
        self._release()
        process, self._process = self._process, None
        if process is not None:
            await _end(process)
        if self._listener is not None:
            await self._listener
            self._listener = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    @property
    def _file(self) -> Path:
        return Path(self.api.path).with_name(f"{self._environment.name}.cfg")

    @property
    def _descriptors(self) -> Sequence[int]:
        return [listener.fileno() for listener in self._sockets]

    def _listen(self) -> None:
        for number, bound in enumerate(self._bindings):
            family = socket.AF_INET6 if ":" in bound.host else socket.AF_INET
            address = (bound.host, bound.port)
            try:
                listener = socket.create_server(address, family=family, backlog=_BACKLOG)
            except OSError as error:
                reason = error.strerror or str(error)
                raise RelayRefused(f"listen[{number}]: {bound}: {reason}") from error
            listener.setblocking(False)
            self._sockets.append(listener)

    def _release(self) -> None:
        for listener in self._sockets:
            listener.close()
        self._sockets.clear()

    async def _check(self) -> None:
        clients = self._options["limits"]["clients"]
        _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
        if allowed != resource.RLIM_INFINITY and 2 * clients + _SPARE_FILES > allowed:
            raise self._invalid(
                f"limits.clients: {clients} clients need {2 * clients + _SPARE_FILES} file "
                f"descriptors, and the limit of this process is {allowed}"
            )
        configuration = self._configure()
        complaint = await self._program.check(self._file, self._descriptors)
        if complaint:
            raise self._invalid(*configuration.complaints(complaint))

    async def _look_back(self) -> None:
        await asyncio.to_thread(self._predecessors.find)
        for process in self._predecessors.processes:
            self._environment.logger.info(
                "HAProxy %d, of an earlier relay, still has sessions", process
            )

    def _configure(self, servers: Iterable[str] = ()) -> Configuration:
        """Write the configuration, with the servers that HAProxy begins with."""
        configuration = Configuration(
            self._options,
            socket=Path(self.api.path),
            descriptors=self._descriptors,
            servers=servers,
        )
        Path(self.api.path).unlink(missing_ok=True)  # of one that was killed
        self._file.touch(mode=0o600)
        self._file.write_text(configuration.text)
        return configuration

    async def _launch(self) -> None:
        """Start it, and return when its socket answers."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._program.command(self._file),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                limit=_LONGEST_LINE,
                pass_fds=self._descriptors,
                start_new_session=True,  # Ctrl-C is for us, who end it gently
            )
        except OSError as error:
            raise RelayUnreachable(f"HAProxy cannot be started: {error.strerror}") from error
        if self._process.stderr is not None:
            self._listener = asyncio.create_task(self._listen_to(self._process.stderr))
        end = self._environment.clock.monotonic() + self._timeout
        while True:
            await asyncio.sleep(_POLL)
            try:
                await self.api.version()
            except RelayError:
                if self._process.returncode is not None:
                    await self._bury(self._process)
                    raise RelayUnreachable(f"HAProxy ended: {self._last_words}") from None
                if self._environment.clock.monotonic() > end:
                    raise
            else:
                return

    async def _bury(self, process: asyncio.subprocess.Process) -> None:
        """Take note that it has ended, and when the next one may be started."""
        if self._listener is not None:
            await self._listener
            self._listener = None
        self._process = None
        self._environment.metrics.count("restarts")
        lived = self._environment.clock.monotonic() - self._started_at
        longer = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        self._pause = 0.0 if lived >= _SOUND else longer
        status = process.returncode or 0
        if status < 0:
            self._last_words = f"by {signal.Signals(-status).name}"
        else:
            self._last_words = f"with status {status} {self._last_words}".rstrip()
        self._environment.logger.warning("HAProxy ended %s", self._last_words)

    async def _listen_to(self, stderr: asyncio.StreamReader) -> None:
        """Pass on what it says."""
        self._last_words = ""
        while True:
            try:
                line = await stderr.readline()
            except ValueError:  # longer than may be: what was read of it is gone
                continue
            if not line:
                return
            text = line.decode(errors="replace").strip()
            if text.startswith("[ALERT]"):
                self._last_words = text[:500]
                level = logging.WARNING
            else:  # of all that it tells of its servers, the outcome of checks is news
                level = logging.INFO if ", reason: " in text else logging.DEBUG
            self._environment.logger.log(level, "HAProxy: %s", text)

    def _invalid(self, *problems: str) -> ConfigInvalid:
        return ConfigInvalid([f"relay '{self._environment.name}': {each}" for each in problems])


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process, by force when it does not hear."""
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(_TERM_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
