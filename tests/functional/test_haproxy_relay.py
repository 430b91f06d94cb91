"""The haproxy relay with Debian's HAProxy, real web servers and clients that count failures."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from isoneph.core.errors import ConfigInvalid, RelayRefused, RelayUnreachable
from isoneph.core.plugin import Relay
from isoneph.core.testing import SystemClock, build_plugin, make_environment
from isoneph.core.testing.relays import EndSession, RelayConformance
from isoneph.core.traffic import Backend
from isoneph.plugins.relays.haproxy import HaproxyRelay
from web_backends import WebBackends, free_port, listens

CHECK = {"interval": 0.1, "rise": 2, "fall": 2, "timeout": 1.0}
TIMEOUT = 10.0


@pytest.fixture(autouse=True)
def _haproxy() -> None:
    if shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin") is None:
        pytest.fail("haproxy is not installed; tools/test installs it")


@pytest.fixture
def backends() -> Iterator[WebBackends]:
    with closing(WebBackends()) as backends:
        yield backends


def make_relay(options: dict[str, Any], patience: float = 30.0) -> HaproxyRelay:
    environment = make_environment("web", clock=SystemClock(), timeout=patience)
    return build_plugin(HaproxyRelay, {"check": CHECK, **options}, environment=environment)


def own(backends: WebBackends, **options: Any) -> dict[str, Any]:
    """The options of a relay with a HAProxy of its own."""
    return {"listen": [f"127.0.0.1:{free_port()}"], "port": backends.port, **options}


@asynccontextmanager
async def running(options: dict[str, Any], patience: float = 30.0) -> AsyncIterator[HaproxyRelay]:
    relay = make_relay(options, patience)
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


async def test_no_request_fails_while_backends_come_and_go(backends: WebBackends) -> None:
    first = [backends.start(0), backends.start(1)]
    options = own(backends, check={**CHECK, "path": "/"})
    async with running(options) as relay:
        await relay.update(first)
        await until_ready(relay, *first)
        with Load(options["listen"][0]) as load:
            for number in range(2, 6):
                old, kept, new = *first, backends.start(number)
                await relay.update([old, kept, new])
                await until_ready(relay, old, kept, new)
                await relay.update([replace(old, draining=True), kept, new])
                await until(partial(drained, relay, old))
                backends.kill(old)  # its VM is deleted
                await relay.update([kept, new])
                first = [kept, new]
                await asyncio.sleep(0.3)
            assert (await relay.report()).facts["restarts"] == "0"
    assert load.failures == []
    assert len(load.answers) == 6
    assert sum(load.answers.values()) > 200


async def test_a_backend_that_is_killed_fails_no_request(backends: WebBackends) -> None:
    web = [backends.start(number) for number in range(3)]
    options = own(backends)
    async with running(options) as relay:
        await relay.update(web)
        await until_ready(relay, *web)
        with Load(options["listen"][0]) as load:
            await asyncio.sleep(0.5)
            backends.kill(web[0])
            await until(partial(not_ready, relay, web[0]))
            await asyncio.sleep(0.5)
        status = await relay.status()
        assert "Connection refused" in status[web[0].id].text
        assert status[web[1].id].ready
    assert load.failures == []
    assert min(load.answers.values()) > 10


async def test_nothing_is_sent_to_a_backend_before_it_answers(backends: WebBackends) -> None:
    web = [backends.start(0), backends.backend(1)]
    options = own(backends)
    async with running(options) as relay:
        await relay.update(web[:1])
        await until_ready(relay, web[0])
        await relay.update(web)
        await asyncio.sleep(0.5)
        assert not (await relay.status())[web[1].id].ready
        table = (await relay.report()).tables[0]
        totals = {row[0]: row[table.columns.index("total")] for row in table.rows}
        assert totals["web-1"] == 0
        backends.start(1)
        await until_ready(relay, *web)


async def test_weights_share_the_requests_out(backends: WebBackends) -> None:
    web = [backends.start(0), replace(backends.start(1), weight=3.0)]
    options = own(backends)
    async with running(options) as relay:
        await relay.update(web)
        await until_ready(relay, *web)
        answers = Counter([await asyncio.to_thread(get, options["listen"][0]) for _ in range(80)])
        assert answers == {web[0].addresses[0]: 20, web[1].addresses[0]: 60}
        await relay.update([replace(web[0], weight=0.0), web[1]])
        answers = Counter([await asyncio.to_thread(get, options["listen"][0]) for _ in range(20)])
        assert answers == {web[1].addresses[0]: 20}


async def test_a_request_under_way_is_finished_while_its_backend_drains(
    backends: WebBackends,
) -> None:
    web = [backends.start(0)]
    options = own(backends)
    async with running(options) as relay:
        await relay.update(web)
        await until_ready(relay, *web)
        request = asyncio.ensure_future(asyncio.to_thread(get, options["listen"][0], "/0.8"))
        await asyncio.sleep(0.3)
        web.append(backends.start(1))
        await relay.update([replace(web[0], draining=True), web[1]])
        await until_ready(relay, web[1])
        assert (await relay.status())[web[0].id].sessions == 1
        assert await asyncio.to_thread(get, options["listen"][0]) == web[1].addresses[0]
        assert await request == web[0].addresses[0]
        assert (await relay.status())[web[0].id].sessions == 0


async def test_what_a_missing_backend_still_has_is_broken_off(backends: WebBackends) -> None:
    web = [backends.start(0), backends.start(1)]
    options = own(backends, mode="tcp")
    async with running(options) as relay:
        await relay.update(web[:1])
        await until_ready(relay, web[0])
        with held_connection(options["listen"][0]) as connection:
            await until_sessions(relay, 1)
            await relay.update(web[1:])
            assert await asyncio.to_thread(connection.recv, 1) == b""

        async def gone() -> bool:
            return await server_names(relay) == [f"isoneph-{web[1].id}"]

        await until(gone)  # the server itself goes a moment later


async def test_a_moved_backend_is_another_server(backends: WebBackends) -> None:
    web = backends.start(0)
    backends.start(1)
    moved = replace(web, addresses=backends.backend(1).addresses)
    options = own(backends)
    async with running(options) as relay:
        await relay.update([web])
        await until_ready(relay, web)
        await relay.update([moved])
        await until_ready(relay, moved)
        assert await asyncio.to_thread(get, options["listen"][0]) == "127.0.3.2"


async def test_a_killed_haproxy_is_back_with_all_backends_and_refuses_nobody(
    backends: WebBackends,
) -> None:
    web = [backends.start(number) for number in range(3)]
    draining = replace(web[2], draining=True)
    options = own(backends)
    address = options["listen"][0]
    async with running(options) as relay:
        await relay.update([*web[:2], draining])
        await until_ready(relay, *web[:2])
        for _ in range(2):
            process = await process_of(relay)
            os.kill(process, signal.SIGKILL)
            answers = {await asyncio.to_thread(get, address) for _ in range(8)}
            assert answers == {"127.0.3.1", "127.0.3.2"}
            await until(partial(replaced, relay, process))
            await until_ready(relay, *web[:2])
        assert (await relay.report()).facts["restarts"] == "2"
        assert not (await relay.status())[draining.id].ready
        await relay.update(web)
        await until_ready(relay, *web)


async def test_clients_wait_until_there_are_backends(backends: WebBackends) -> None:
    web = backends.start(0)
    options = own(backends)
    async with running(options) as relay:
        request = asyncio.ensure_future(asyncio.to_thread(get, options["listen"][0]))
        await asyncio.sleep(0.3)
        assert not request.done()
        await relay.update([web])
        assert await request == web.addresses[0]


async def test_without_a_word_there_are_no_backends(backends: WebBackends) -> None:
    options = own(backends)
    async with running(options) as relay:
        with pytest.raises(AssertionError, match="503"):
            await asyncio.to_thread(get, options["listen"][0])
        assert await relay.status() == {}


async def test_draining_the_relay_finishes_requests_and_refuses_new_ones(
    backends: WebBackends,
) -> None:
    web = backends.start(0)
    options = own(backends)
    async with running(options) as relay:
        await relay.update([web])
        await until_ready(relay, web)
        request = asyncio.ensure_future(asyncio.to_thread(get, options["listen"][0], "/1"))
        await until_sessions(relay, 1)
        drain = asyncio.ensure_future(relay.drain())
        await asyncio.sleep(0.3)
        assert not drain.done()
        status = (await relay.status())[web.id]
        assert (status.ready, status.sessions) == (False, 1)
        host, _, port = options["listen"][0].rpartition(":")
        assert not listens(host, int(port))
        assert await request == web.addresses[0]
        async with asyncio.timeout(TIMEOUT):
            await drain
        with pytest.raises(RelayRefused, match="does not run"):
            await relay.update([web])


async def test_a_hanging_haproxy_is_unreachable_in_time(backends: WebBackends) -> None:
    web = backends.start(0)
    async with running(own(backends), patience=2.0) as relay:
        await relay.update([web])
        process = await process_of(relay)
        os.kill(process, signal.SIGSTOP)
        started = time.monotonic()
        for call in (partial(relay.update, [web]), relay.status, relay.report):
            with pytest.raises(RelayUnreachable, match=r"no answer within 0\.6 s"):
                await call()
        assert time.monotonic() - started < 5
        os.kill(process, signal.SIGCONT)
        await relay.update([web])
        await until_ready(relay, web)


def test_haproxy_ends_gently_when_the_relay_is_killed(
    backends: WebBackends, tmp_path: Path
) -> None:
    program = f"""
import asyncio
from test_haproxy_relay import make_relay, process_of
async def main():
    relay = make_relay({own(backends)!r})
    await relay.start()
    await relay.update([])
    print(await process_of(relay), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)}
    relay = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment
    )
    assert relay.stdout is not None
    haproxy = int(relay.stdout.readline())
    relay.kill()
    relay.communicate()
    deadline = time.monotonic() + TIMEOUT
    while os.path.lexists(f"/proc/{haproxy}/exe"):  # not of a zombie
        assert time.monotonic() < deadline, "haproxy lives on"
        time.sleep(0.02)


# What is wrong is told before anything runs.


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"lines": {"frontend": ["option tcplog", "wrong word"]}},
            r"lines\.frontend\[1\]: .*wrong",
        ),
        ({"lines": {"global": ["nbthread none"]}}, r"lines\.global\[0\]: .*nbthread"),
        ({"limits": {"clients": 9_000_000}}, r"limits\.clients: 9000000 clients need"),
        ({"program": "no-such-haproxy"}, "program: there is no program no-such-haproxy"),
        ({"program": "true"}, "program: .*true does not seem to be HAProxy"),
    ],
)
async def test_a_mistake_is_told_with_its_place(
    backends: WebBackends, options: dict[str, Any], complaint: str
) -> None:
    relay = make_relay(own(backends, **options))
    with pytest.raises(ConfigInvalid, match=f"relay 'web': {complaint}"):
        await relay.start()
    await relay.close()


async def test_a_bad_bind_parameter_is_told_with_its_place(backends: WebBackends) -> None:
    options = own(backends)
    options["listen"] = ["127.0.0.1:1999", f"{options['listen'][0]} ssl crt /nowhere.pem"]
    relay = make_relay(options)
    with pytest.raises(ConfigInvalid, match=r"listen\[1\]: .*nowhere\.pem"):
        await relay.start()


async def test_an_address_that_is_taken_is_told_with_its_place(backends: WebBackends) -> None:
    options = own(backends)
    async with running(options):
        relay = make_relay(options)
        with pytest.raises(ConfigInvalid, match=r"listen\[0\]: .*Address already in use"):
            await relay.start()


async def test_an_old_haproxy_is_refused(backends: WebBackends, tmp_path: Path) -> None:
    program = tmp_path / "haproxy"
    program.write_text("#!/bin/sh\necho HAProxy version 2.4.22-f8e3218 2023/02/14\n")
    program.chmod(0o755)
    relay = make_relay(own(backends, program=str(program)))
    with pytest.raises(ConfigInvalid, match=r"2\.4\.22\S* is too old; 2\.6 or newer"):
        await relay.start()


def modes_in(directory: Path) -> dict[str, int]:
    return {each.name: each.stat().st_mode & 0o777 for each in directory.iterdir()}


async def test_its_directory_is_private_and_goes_with_it(
    backends: WebBackends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with running(own(backends)) as relay:
        await relay.update([])
        ((name, mode),) = modes_in(tmp_path).items()
        assert mode == 0o700
        assert modes_in(tmp_path / name) == {"haproxy.cfg": 0o600, "runtime.sock": 0o600}
    assert modes_in(tmp_path) == {}


# A HAProxy that runs already.


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


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    # Not in pytest's own directory: the path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="isoneph-elsewhere-") as directory:
        haproxy = Elsewhere(Path(directory))
        try:
            haproxy.start()
            yield haproxy
        finally:
            haproxy.stop()


def taken_over(backends: WebBackends, haproxy: Elsewhere) -> dict[str, Any]:
    return {"socket": str(haproxy.socket), "backend": "machines", "port": backends.port}


async def server_names(relay: HaproxyRelay) -> list[str]:
    """The servers that HAProxy has."""
    instance = relay._instance
    return sorted(await instance.api.servers(instance.backend))


async def test_a_running_haproxy_gets_servers_and_keeps_its_own(
    backends: WebBackends, elsewhere: Elsewhere
) -> None:
    web = [backends.start(0), backends.start(1)]
    async with running(taken_over(backends, elsewhere)) as relay:
        await relay.update(web)
        await until_ready(relay, *web)
        assert await asyncio.to_thread(get, elsewhere.address) in {"127.0.3.1", "127.0.3.2"}
        await relay.update(web[1:])
        assert await server_names(relay) == [f"isoneph-{web[1].id}", "theirs"]
        await relay.drain()
    assert await asyncio.to_thread(get, elsewhere.address) == "127.0.3.2"  # it lives on
    async with running(taken_over(backends, elsewhere)) as relay:
        await relay.update([])
        assert await server_names(relay) == ["theirs"]


async def test_a_running_haproxy_that_starts_anew_gets_its_servers_again(
    backends: WebBackends, elsewhere: Elsewhere
) -> None:
    web = backends.start(0)
    async with running(taken_over(backends, elsewhere)) as relay:
        await relay.update([web])
        await until_ready(relay, web)
        elsewhere.stop()
        with pytest.raises(RelayUnreachable, match="Connection refused"):
            await relay.status()
        elsewhere.start()
        await until_ready(relay, web)
        assert await asyncio.to_thread(get, elsewhere.address) == "127.0.3.1"


async def test_a_running_haproxy_must_be_there_with_the_backend(
    backends: WebBackends, elsewhere: Elsewhere
) -> None:
    options = taken_over(backends, elsewhere)
    with pytest.raises(RelayRefused, match="backend nothing: \"Can't find backend"):
        await make_relay({**options, "backend": "nothing"}).start()
    with pytest.raises(RelayUnreachable, match="No such file or directory"):
        await make_relay({**options, "socket": "/nowhere/at/all"}).start()


# The conformance suite, with each kind of HAProxy and mode.


@contextmanager
def held_connection(address: str) -> Iterator[socket.socket]:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        yield connection


class _HaproxyConformance(RelayConformance):
    @pytest.fixture(autouse=True)
    def _backends(self, backends: WebBackends) -> None:
        self.backends = backends

    async def start_backend(self, number: int) -> Backend:
        return await asyncio.to_thread(self.backends.start, number)

    async def make_dead_backend(self) -> Backend:
        return self.backends.backend(9)


class TestOwnHaproxyHttp(_HaproxyConformance):
    def make_relay(self, tmp_path: Path) -> Relay:
        check = {**CHECK, "path": "/", "host": "vm"}
        return make_relay(own(self.backends, check=check), patience=5.0)

    async def open_session(self, relay: Relay) -> EndSession:
        request = asyncio.ensure_future(asyncio.to_thread(get, relay.options["listen"][0], "/1"))

        async def end() -> None:
            await request

        await until_sessions(relay, 1)
        return end

    async def cut_off(self, relay: Relay) -> bool:
        assert isinstance(relay, HaproxyRelay)
        process = await process_of(relay)
        os.kill(process, signal.SIGSTOP)
        return True


class TestOwnHaproxyTcp(_HaproxyConformance):
    def make_relay(self, tmp_path: Path) -> Relay:
        return make_relay(own(self.backends, mode="tcp"))

    async def open_session(self, relay: Relay) -> EndSession:
        host, _, port = relay.options["listen"][0].rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))

        async def end() -> None:
            writer.close()
            await writer.wait_closed()

        await until_sessions(relay, 1)
        return end


class TestRunningHaproxy(_HaproxyConformance):
    @pytest.fixture(autouse=True)
    def _haproxy_elsewhere(self, elsewhere: Elsewhere) -> None:
        self.elsewhere = elsewhere

    def make_relay(self, tmp_path: Path) -> Relay:
        return make_relay(taken_over(self.backends, self.elsewhere))

    async def cut_off(self, relay: Relay) -> bool:
        self.elsewhere.stop()
        return True
