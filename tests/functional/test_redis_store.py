from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from voluptuous import Schema

from isoneph.core.clock import SystemClock
from isoneph.core.errors import ConfigInvalid, StoreUnavailable, VersionConflict
from isoneph.core.lease import Lease
from isoneph.core.plugin import Store
from isoneph.core.testing import make_environment
from isoneph.core.testing.stores import StoreConformance
from isoneph.plugins.stores.redis import RedisStore

if TYPE_CHECKING:
    from tests.functional.conftest import RedisServer

    StartRedis = Callable[..., RedisServer]


def make_store(url: str, *, timeout: float = 5.0, **options: Any) -> RedisStore:
    options = Schema(RedisStore.schema)({"url": url, **options})
    return RedisStore(options, make_environment("redis", timeout=timeout))


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[RedisStore]:
    store = make_store(url, **options)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


class TestRedisStore(StoreConformance):
    ttl = 0.5

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: str) -> None:
        self.url = redis_server
        self.prefix = f"{uuid.uuid4()}*?[a]:"

    def make_store(self, tmp_path: Path) -> Store:
        return make_store(self.url, prefix=self.prefix)


@pytest.fixture
def server(start_redis: StartRedis) -> RedisServer:
    return start_redis()


async def test_prefixes_keep_services_apart(redis_server: str) -> None:
    async with (
        opened(redis_server, prefix=f"{uuid.uuid4()}:") as one,
        opened(redis_server, prefix=f"{uuid.uuid4()}:") as other,
    ):
        await one.put("k", b"")
        assert await other.get("k") is None
        assert await other.scan("") == []


# Servers that come and go.


async def test_it_connects_again_after_a_restart(server: RedisServer) -> None:
    async with opened(server.url) as store:
        before = await store.put("k", b"1")
        await asyncio.gather(*(store.get("k") for _ in range(10)))  # several connections
        server.stop()
        with pytest.raises(StoreUnavailable, match=r"redis\.sock"):
            await store.put("k", b"2")
        with pytest.raises(StoreUnavailable):
            await store.scan("")
        server.start()
        assert await store.get("k") is None
        with pytest.raises(VersionConflict):
            await store.put("k", b"stale", expect=before)
        # The server forgot the script and the counter; versions grow all the same.
        assert await store.put("k", b"3", expect=0) > before
        await asyncio.gather(*(store.get("k") for _ in range(10)))


async def test_a_server_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    store = make_store(f"unix://{tmp_path}/none.sock")
    with pytest.raises(StoreUnavailable, match=r"none\.sock"):
        await store.start()
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.get("k")


async def test_a_server_that_hangs_is_unavailable_in_time(server: RedisServer) -> None:
    assert server.process is not None
    async with opened(server.url, timeout=0.5) as store:
        version = await store.put("k", b"1")
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await store.get("k")
            # More than there are connections: waiting for one counts as well.
            answers = await asyncio.gather(
                *(store.put("k", b"2", expect=version) for _ in range(40)), return_exceptions=True
            )
            assert all(isinstance(answer, StoreUnavailable) for answer in answers)
            assert time.monotonic() - began < 3 * 0.5
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        held = await store.get("k")
        assert held is not None


async def test_close_waits_for_what_is_under_way(server: RedisServer) -> None:
    assert server.process is not None
    async with opened(server.url, timeout=0.5) as store:
        await store.put("k", b"")
        calls = [asyncio.ensure_future(store.get("k")) for _ in range(40)]
        await asyncio.sleep(0)
        await store.close()
        assert all(call.done() and call.result() for call in calls)
        # Neither does a server that hangs leave a connection behind.
        await store.start()
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            calls = [asyncio.ensure_future(store.get("k")) for _ in range(40)]
            await asyncio.sleep(0)
            await store.close()
            assert {type(call.exception()) for call in calls} == {StoreUnavailable}
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        clients = _redis_cli(server, "CLIENT", "LIST").splitlines()
        assert len(clients) == 1, "redis-cli itself"


async def test_a_write_whose_answer_was_lost_is_not_repeated(redis_server: str) -> None:
    prefix = f"{uuid.uuid4()}:"
    async with (
        _proxy(redis_server.removeprefix("unix://")) as proxy,
        opened(proxy.url, prefix=prefix) as store,
        opened(redis_server, prefix=prefix) as observer,
    ):
        first = await store.put("k", b"1")
        proxy.lose_answers = True
        with pytest.raises(StoreUnavailable):
            await store.put("k", b"2", expect=first)
        assert proxy.lost == 1
        # It was written once; the caller can look.
        proxy.lose_answers = False
        held = await store.get("k")
        assert held is not None
        assert held.value == b"2"
        assert await observer.get("k") == held


async def test_a_lease_survives_lost_answers(redis_server: str) -> None:
    async with (
        _proxy(redis_server.removeprefix("unix://")) as proxy,
        opened(proxy.url, prefix=f"{uuid.uuid4()}:") as store,
    ):
        lease = Lease(store, SystemClock(), "leader", "me", ttl=10)
        proxy.lose_answers = True
        with pytest.raises(StoreUnavailable):
            await lease.acquire()
        assert lease.is_lost()
        proxy.lose_answers = False
        assert await lease.acquire()
        proxy.lose_answers = True
        with pytest.raises(StoreUnavailable):
            await lease.renew()
        proxy.lose_answers = False
        assert await lease.renew()
        await lease.release()
        assert await store.scan("") == []


async def test_a_server_turned_read_only_is_connected_to_anew(server: RedisServer) -> None:
    async with opened(server.url) as store:
        await store.put("k", b"1")
        connections = _connections_made(server)
        _redis_cli(server, "REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreUnavailable):
            await store.put("k", b"2")
        _redis_cli(server, "REPLICAOF", "NO", "ONE")
        await store.put("k", b"3")
        # One for each call of redis-cli since, and a new one of the store's.
        assert _connections_made(server) == connections + 3 + 1


# Passwords and TLS.


async def test_the_password_is_read_from_where_it_is_kept(
    start_redis: StartRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = start_redis("--requirepass", "s3cret/:@?").url
    file = tmp_path / "password"
    file.write_text("s3cret/:@?\n")
    monkeypatch.setenv("REDIS_PASSWORD", "s3cret/:@?")
    in_url = url.replace("unix://", "unix://:s3cret%2F%3A%40%3F@")
    async with (
        opened(url, password_file=str(file)) as one,
        opened(url, password_env="REDIS_PASSWORD") as two,
        opened(in_url) as three,
    ):
        version = await one.put("k", b"1")
        assert await two.get("k") == await three.get("k") == (b"1", version)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"password_file": "/does/not/exist"}, "password_file /does/not/exist cannot be read"),
        ({"password_env": "ISONEPH_UNSET"}, "the environment variable ISONEPH_UNSET"),
    ],
)
async def test_a_password_that_cannot_be_read_is_told(
    options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigInvalid, match=problem):
        await make_store("redis://localhost", **options).start()


async def test_a_password_stands_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", "hidden1")
    store = make_store("redis://:hidden2@localhost", password_env="REDIS_PASSWORD")
    with pytest.raises(ConfigInvalid, match="in the url and in") as caught:
        await store.start()
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("password", [None, "wr0ng"])
async def test_a_wrong_password_is_told_and_not_shown(
    start_redis: StartRedis, caplog: pytest.LogCaptureFixture, password: str | None
) -> None:
    url = start_redis("--requirepass", "s3cret").url
    if password:
        url = url.replace("unix://", f"unix://:{password}@")
    with pytest.raises(StoreUnavailable) as caught:
        await make_store(url).start()
    told = f"{caught.value} {caught.value.__cause__!r} {caplog.text}"
    assert "password" in told.lower() or "authentication" in told.lower()
    assert "wr0ng" not in told


async def test_an_old_server_does_not_show_the_password() -> None:
    """Redis 5 repeats in its error the arguments of a command that it does not know."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.read(65536):
            words = [word.decode() for word in request.split(b"\r\n")[2::2]]
            if words[0] == "AUTH":
                writer.write(b"-ERR wrong number of arguments for 'auth' command\r\n")
            else:
                shown = " ".join(f"`{word}`," for word in words[1:])
                text = f"-ERR unknown command `{words[0]}`, with args beginning with: {shown}\r\n"
                writer.write(text.encode())
        writer.close()

    old = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with old:
        port = old.sockets[0].getsockname()[1]
        with pytest.raises(StoreUnavailable) as caught:
            await make_store(f"redis://me:s3cret@127.0.0.1:{port}").start()
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__!r}"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with the certificate of this host, signed by itself, and its key."""
    path = tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(path)]
    done = subprocess.run(command, check=True, capture_output=True)
    with path.open("ab") as file:
        file.write(done.stdout)
    return path


async def test_it_speaks_tls_and_checks_the_certificate(
    redis_server: str, certificate: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    prefix = f"{uuid.uuid4()}:"
    async with _proxy(redis_server.removeprefix("unix://"), context) as proxy:
        async with opened(f"{proxy.url}?ssl_ca_certs={certificate}", prefix=prefix) as store:
            version = await store.put("k", b"1")
            assert await store.get("k") == (b"1", version)
        with pytest.raises(StoreUnavailable, match="certificate"):
            await make_store(proxy.url).start()


def _redis_cli(server: RedisServer, *arguments: str) -> str:
    command = ["redis-cli", "-s", str(server.socket), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _connections_made(server: RedisServer) -> int:
    lines = _redis_cli(server, "INFO", "stats").splitlines()
    figures = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(figures["total_connections_received"])


class _Proxy:
    """Stands before a Redis; hangs up instead of giving an answer when told so."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.url = ""
        self.lose_answers = False
        self.lost = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(self._path)
        try:
            while request := await reader.read(65536):
                upstream_writer.write(request)
                answer = await upstream_reader.read(65536)
                if self.lose_answers and b"EVALSHA" in request:
                    self.lost += 1
                    break
                writer.write(answer)
        finally:
            for end in (upstream_writer, writer):
                end.close()


@asynccontextmanager
async def _proxy(path: str, context: ssl.SSLContext | None = None) -> AsyncIterator[_Proxy]:
    proxy = _Proxy(path)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    proxy.url = f"{'rediss' if context else 'redis'}://127.0.0.1:{port}"
    async with server:
        yield proxy
