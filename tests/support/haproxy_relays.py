"""Relays over Debian's HAProxy, what asks them, and a HAProxy that somebody else runs."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Self

from isoneph.core.plugin import Relay
from isoneph.core.testing import SystemClock, build_plugin, make_environment
from isoneph.core.traffic import Backend
from isoneph.plugins.relays.haproxy import HaproxyRelay
from web_backends import WebBackends, free_port

CHECK = {"interval": 0.1, "rise": 2, "fall": 2, "timeout": 1.0}
TIMEOUT = 10.0


def make_relay(
    options: dict[str, Any], patience: float = 30.0, application: str = "web"
) -> HaproxyRelay:
    environment = make_environment(application, clock=SystemClock(), timeout=patience)
    return build_plugin(HaproxyRelay, {"check": CHECK, **options}, environment=environment)


def own(backends: WebBackends, **options: Any) -> dict[str, Any]:
    """The options of a relay with a HAProxy of its own."""
    return {"listen": [f"127.0.0.1:{free_port()}"], "port": backends.port, **options}


@asynccontextmanager
async def running(
    options: dict[str, Any], patience: float = 30.0, application: str = "web"
) -> AsyncIterator[HaproxyRelay]:
    relay = make_relay(options, patience, application)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.close()


async def until(good: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while True:
            if await good():
                return
            await asyncio.sleep(0.02)


async def until_ready(relay: Relay, *backends: Backend) -> None:
    async def ready() -> bool:
        status = await relay.status()
        return all(status[backend.id].ready for backend in backends)

    await until(ready)


async def until_sessions(relay: Relay, number: int) -> None:
    async def there() -> bool:
        return sum(each.sessions for each in (await relay.status()).values()) == number

    await until(there)


async def drained(relay: Relay, backend: Backend) -> bool:
    return not (await relay.status())[backend.id].sessions


async def not_ready(relay: Relay, backend: Backend) -> bool:
    return not (await relay.status())[backend.id].ready


async def process_of(relay: Relay) -> int:
    return int((await relay.report()).facts["process"])


async def replaced(relay: Relay, process: int) -> bool:
    """Whether another HAProxy runs than ``process``."""
    return (await relay.report()).facts["process"] not in {str(process), "none"}


def get(address: str, path: str = "/", timeout: float = TIMEOUT) -> str:
    """What a web server answers: its address."""
    with closing(http.client.HTTPConnection(address, timeout=timeout)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, f"{answer.status} {text}"
        return text


class Load:
    """Clients that ask without end, half of them over connections that they keep open."""

    def __init__(self, address: str, clients: int = 6) -> None:
        self.address = address
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(number % 2 == 0,)) for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, keep_alive: bool) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=TIMEOUT)
        while not self._over.is_set():
            try:
                connection.request("GET", "/0.002")
                answer = connection.getresponse()
                text = answer.read().decode()
                if answer.status == 200:
                    self.answers[text] += 1
                else:
                    self.failures.append(f"{answer.status} {text}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            if not keep_alive:
                connection.close()
            time.sleep(0.002)
        connection.close()


@contextmanager
def held_connection(address: str) -> Iterator[socket.socket]:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        yield connection


ELSEWHERE = """
global
  stats socket {socket} level admin
  maxconn 100
defaults
  mode http
  timeout connect 1s
  timeout client 10s
  timeout server 10s
frontend site
  bind {address}
  default_backend machines
backend machines
  server theirs 127.0.3.9:9 disabled
"""


class Elsewhere:
    """A HAProxy that somebody else runs, with a server of its own."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "s"
        self.address = f"127.0.0.1:{free_port()}"
        self._file = directory / "h.cfg"
        self._file.write_text(ELSEWHERE.format(socket=self.socket, address=self.address))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["haproxy", "-db", "-f", str(self._file)]
        path = f"{os.environ['PATH']}:/usr/sbin"
        self._process = subprocess.Popen(
            command, env={"PATH": path}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + TIMEOUT
        with socket.socket(socket.AF_UNIX) as probe:
            while probe.connect_ex(str(self.socket)):
                assert time.monotonic() < deadline, "haproxy does not listen"
                time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def taken_over(backends: WebBackends, haproxy: Elsewhere) -> dict[str, Any]:
    return {"socket": str(haproxy.socket), "backend": "machines", "port": backends.port}


async def server_names(relay: HaproxyRelay) -> list[str]:
    """The servers that HAProxy has."""
    instance = relay._instance
    return sorted(await instance.api.servers(instance.backend))
