from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from installed import Distributions
from services import Service

#: Directories whose tests use one and the same clouds, or machine.
TOGETHER = frozenset({"openstack", "uml"})
STARTED_WITHIN = 10.0


class Scopes(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Tests of one file follow one another in one process, and so do all that share what takes
    long to start; others run beside them."""

    def _split_scope(self, nodeid: str) -> str:
        path = PurePath(nodeid.partition("::")[0])
        return path.parent.name if path.parent.name in TOGETHER else path.name


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scopes:
    """Called when the tests are dealt out to several processes (``-n``)."""
    return Scopes(config, log)


class RedisServer:
    """A Redis of our own on a Unix socket, without a TCP port, that keeps nothing on disk."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._command = ["redis-server", "--port", "0", "--unixsocket", str(self.socket)]
        self._command += ["--dir", str(directory), "--save", "", "--appendonly", "no", *arguments]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it listens."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + STARTED_WITHIN
        while not self._listens():
            assert self.process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline, "redis-server does not listen"
            time.sleep(0.01)

    def stop(self) -> None:
        """Kill it, whatever it does; everything in it is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.socket.unlink(missing_ok=True)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0


@pytest.fixture(scope="session")
def start_redis() -> Iterator[Callable[..., RedisServer]]:
    """Starts Redis servers with the arguments given, and stops them at the end."""
    if shutil.which("redis-server") is None:
        pytest.fail("redis-server is not installed; tools/test installs it")
    servers: list[RedisServer] = []
    # Not in pytest's own directory: the path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="isoneph-redis-") as root:

        def start(*arguments: str) -> RedisServer:
            directory = Path(root, str(len(servers)))
            directory.mkdir()
            server = RedisServer(directory, *arguments)
            servers.append(server)
            server.start()
            return server

        yield start
        for server in servers:
            server.stop()


@pytest.fixture(scope="session")
def redis_server(start_redis: Callable[..., RedisServer]) -> str:
    """The URL of a Redis server that all tests share: let each use a prefix of its own."""
    return start_redis().url


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The sdist and the wheels, built once."""
    return Distributions(tmp_path_factory.mktemp("distributions"))


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory for sockets, whose paths have at most 107 bytes, or fewer: pytest's own may be
    too long."""
    with tempfile.TemporaryDirectory(prefix="isoneph-") as directory:
        yield Path(directory)


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Makes services, each with a directory of its own, that are gone after the test."""
    made: list[Service] = []

    def make() -> Service:
        made.append(Service(tmp_path / f"service{len(made)}"))
        return made[-1]

    yield make
    for service in made:
        service.kill()


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    """A service on two simulated clouds, ``uniform`` and ``quebec``, not yet started."""
    return make_service()
