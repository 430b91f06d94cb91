"""The dns relay with Debian's Knot DNS."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dns.query
import dns.tsig
import dns.update
import pytest

from freezing import freeze, thaw
from isoneph.core.errors import ConfigInvalid, RelayError, RelayRefused, RelayUnreachable
from isoneph.core.plugin import Relay
from isoneph.core.testing import SystemClock, build_plugin, make_environment
from isoneph.core.testing.relays import RelayConformance
from isoneph.core.traffic import Backend
from isoneph.plugins.relays.dns import DnsRelay
from knot import ALGORITHM, KEY_NAME, SECRET, ZONE, Knot, far_away, stop_all
from web_backends import WebBackends, free_port

TIMEOUT = 10.0
A = Backend(id="8c8ba10a-0000-4000-8000-00000000000a", addresses=["192.0.2.1"], name="a")
B = Backend(
    id="8c8ba10a-0000-4000-8000-00000000000b",
    addresses=["192.0.2.2", "2001:db8::2"],
    name="b",
    weight=0.5,
)
C = Backend(id="8c8ba10a-0000-4000-8000-00000000000c", addresses=["192.0.2.3"], name="c")


@pytest.fixture
def start_knot(tmp_path: Path) -> Iterator[Callable[..., Knot]]:
    """Makes servers and starts them."""
    servers: list[Knot] = []

    def start(primary: Knot | None = None) -> Knot:
        server = Knot(tmp_path / f"knot{len(servers)}", primary)
        servers.append(server)
        server.start()
        return server

    yield start
    stop_all(servers)


@pytest.fixture
def knot(start_knot: Callable[..., Knot]) -> Knot:
    return start_knot()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return write_key(tmp_path / "key", SECRET)


def write_key(path: Path, secret: str, name: str = KEY_NAME) -> Path:
    path.write_text(f'key "{name}" {{\n\talgorithm {ALGORITHM};\n\tsecret "{secret}";\n}};\n')
    path.chmod(0o600)
    return path


def make_relay(
    options: dict[str, Any], *servers: Knot, patience: float = 30.0, application: str = "mme"
) -> DnsRelay:
    environment = make_environment(application, clock=SystemClock(), timeout=patience)
    given = {"name_servers": [server.address for server in servers], "zone": ZONE, "name": "mme"}
    return build_plugin(DnsRelay, {**given, **options}, environment=environment)


@asynccontextmanager
async def running(
    options: dict[str, Any], *servers: Knot, patience: float = 30.0, application: str = "mme"
) -> AsyncIterator[DnsRelay]:
    relay = make_relay(options, *servers, patience=patience, application=application)
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
            await asyncio.sleep(0.05)


def add_by_hand(knot: Knot, *record: str) -> None:
    """Add a record past the relay."""
    key = dns.tsig.Key(KEY_NAME, base64.b64decode(SECRET), ALGORITHM)
    update = dns.update.UpdateMessage(ZONE, keyring=key)
    update.add(*record)
    dns.query.tcp(update, "127.0.0.1", port=knot.port, timeout=2)


async def test_the_name_points_at_the_ready_backends(knot: Knot, key_file: Path) -> None:
    async with running({"key_file": str(key_file), "ttl": 7}, knot) as relay:
        await relay.update([A, B])
        assert knot.look_up("mme") == ["192.0.2.1", "192.0.2.2"]
        assert knot.look_up("mme", "AAAA") == ["2001:db8::2"]
        assert knot.ttl("mme") == 7
        assert all(status.ready for status in (await relay.status()).values())
        await relay.update([A, replace(B, draining=True)])
        assert knot.look_up("mme") == ["192.0.2.1"]
        assert knot.look_up("mme", "AAAA") == []
        await relay.update([A, C])
        assert knot.look_up("mme") == ["192.0.2.1", "192.0.2.3"]
        await relay.update([])
        assert knot.look_up("mme") == []


async def test_doing_the_same_again_leaves_the_serial_as_it_is(knot: Knot, key_file: Path) -> None:
    srv = {"service": "_sip._tcp", "port": 5060}
    options = {"key_file": str(key_file), "srv": srv}
    async with running(options, knot) as relay:
        await relay.update([A, B])
        serial = knot.serial()
        await relay.update([B, A])
    async with running(options, knot) as relay:
        await relay.update([A, B])
        assert knot.serial() == serial
        await relay.update([A])
        assert knot.serial() == serial + 1


async def test_a_draining_backend_counts_until_caches_have_forgotten_it(
    knot: Knot, key_file: Path
) -> None:
    async with running({"key_file": str(key_file), "ttl": 1, "grace": 0.3}, knot) as relay:
        await relay.update([A, B])
        started = time.monotonic()
        await relay.update([A, replace(B, draining=True)])
        assert knot.look_up("mme") == ["192.0.2.1"]

        async def forgotten() -> bool:
            return (await relay.status())[B.id].sessions == 0

        assert not await forgotten()
        await until(forgotten)
        assert 1.3 <= time.monotonic() - started < 3
        assert (await relay.status())[A.id].sessions == 1


async def test_the_ttl_that_was_there_before_counts(knot: Knot, key_file: Path) -> None:
    async with running({"key_file": str(key_file), "ttl": 3, "grace": 0.0}, knot) as relay:
        await relay.update([A])
    async with running({"key_file": str(key_file), "ttl": 1, "grace": 0.0}, knot) as relay:
        await relay.update([replace(A, draining=True)])
        started = time.monotonic()

        async def forgotten() -> bool:
            return (await relay.status())[A.id].sessions == 0

        await until(forgotten)
        assert time.monotonic() - started > 2.5
        await relay.update([A])
        assert knot.ttl("mme") == 1


async def test_srv_records_have_ports_weights_and_names(knot: Knot, key_file: Path) -> None:
    srv = {"service": "_sip._tcp", "port": 5060, "priority": 10}
    async with running({"key_file": str(key_file), "srv": srv}, knot) as relay:
        await relay.update([A, B])
        assert knot.look_up("_sip._tcp.mme", "SRV") == [
            f"10 100 5060 {A.id}.mme.example.test.",
            f"10 50 5060 {B.id}.mme.example.test.",
        ]
        assert knot.look_up(f"{B.id}.mme", "AAAA") == ["2001:db8::2"]
        await relay.update([replace(A, addresses=["192.0.2.9"])])
        assert knot.look_up(f"{A.id}.mme") == ["192.0.2.9"]
    async with running({"key_file": str(key_file), "srv": srv}, knot) as relay:
        await relay.update([B])  # what an earlier one left is found and taken away
        assert knot.look_up(f"{A.id}.mme") == []
        assert len(knot.look_up("_sip._tcp.mme", "SRV")) == 1


async def test_what_others_put_at_the_name_goes_unless_it_is_shared(
    knot: Knot, key_file: Path
) -> None:
    add_by_hand(knot, "mme", "300", "A", "192.0.2.99")
    srv = {"service": "_sip._tcp", "port": 5060}
    add_by_hand(knot, "_sip._tcp.mme", "300", "SRV", "0 1 2 other.example.test.")
    options = {"key_file": str(key_file), "srv": srv}
    async with running({**options, "shared": True}, knot) as relay:
        await relay.update([A, B])
        assert knot.look_up("mme") == ["192.0.2.1", "192.0.2.2", "192.0.2.99"]
        await relay.update([A, replace(B, weight=5.0)])
        await relay.update([replace(A, draining=True)])
        assert knot.look_up("mme") == ["192.0.2.99"]
        assert knot.look_up("_sip._tcp.mme", "SRV") == ["0 1 2 other.example.test."]
        assert knot.look_up(f"{B.id}.mme", "AAAA") == []
    async with running(options, knot) as relay:
        await relay.update([A])
        assert knot.look_up("mme") == ["192.0.2.1"]
        assert knot.look_up("_sip._tcp.mme", "SRV") == [f"0 100 5060 {A.id}.mme.example.test."]


async def test_applications_share_a_name_when_both_say_so(knot: Knot, key_file: Path) -> None:
    options = {"key_file": str(key_file), "shared": True}
    async with running(options, knot) as relay, running(options, knot, application="shop") as other:
        await relay.update([A])
        await other.update([C])
        await relay.update([A])
        assert knot.look_up("mme") == ["192.0.2.1", "192.0.2.3"]
        await other.update([])
        assert knot.look_up("mme") == ["192.0.2.1"]


async def test_many_backends_are_published_on_a_server_that_is_far_away(
    knot: Knot, key_file: Path
) -> None:
    many = [Backend(id=f"vm-{number}", addresses=[f"192.0.2.{number}"]) for number in range(130)]
    async with far_away(knot, 0.1) as address:
        srv = {"service": "_sip._tcp", "port": 5060}
        options = {"key_file": str(key_file), "srv": srv, "name_servers": [address]}
        async with running(options) as relay:
            await relay.update(many)
            assert len(knot.look_up("_sip._tcp.mme", "SRV")) == len(many)


async def test_what_somebody_changes_is_put_right(knot: Knot, key_file: Path) -> None:
    async with running({"key_file": str(key_file), "interval": 1.0}, knot) as relay:
        await relay.update([A])
        add_by_hand(knot, "mme", "30", "A", "192.0.2.99")

        async def put_right() -> bool:
            return knot.look_up("mme") == ["192.0.2.1"]

        await until(put_right)


async def test_the_zone_s_own_name_can_be_it(knot: Knot, key_file: Path) -> None:
    async with running({"key_file": str(key_file), "name": "@"}, knot) as relay:
        await relay.update([A])
        assert (await relay.report()).facts["name"] == ZONE
        assert (await relay.status())[A.id].ready


# Readiness by connections.


async def test_a_backend_is_published_when_it_accepts_connections(
    knot: Knot, key_file: Path
) -> None:
    with closing(WebBackends()) as web:
        check = {"port": web.port, "interval": 0.1, "rise": 1, "fall": 2}
        options = {"key_file": str(key_file), "check": check}
        first, second = web.start(0), web.backend(1)
        async with running(options, knot) as relay:
            await relay.update([first, second])
            assert knot.look_up("mme") == ["127.0.3.1"]
            text = (await relay.status())[second.id].text
            assert "Connection refused" in text
            web.start(1)

            async def published(*addresses: str) -> bool:
                return knot.look_up("mme") == list(addresses)

            await until(partial(published, "127.0.3.1", "127.0.3.2"))
            web.kill(first)
            await until(partial(published, "127.0.3.2"))
            assert not (await relay.status())[first.id].ready
        async with running(options, knot) as relay:  # who takes over leaves it as it is
            serial = knot.serial()
            await relay.update([second])
            assert knot.serial() == serial


# Refusals and failures.


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"key_file": ("isoneph", "d3Jvbmctd3Jvbmctd3Jvbmc=")}, "key isoneph has another secret"),
        ({"key_file": ("stranger", SECRET)}, "does not know the key stranger"),
        ({"zone": "example.org"}, r"refuses \(REFUSED|no authority"),
        ({"name": "alias"}, r"alias\.example\.test\. is an alias"),
        ({"key_file": None}, r"refuses \(NOTAUTH"),
    ],
)
async def test_a_refusal_is_told(
    knot: Knot, key_file: Path, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    options: dict[str, Any] = {"key_file": str(key_file), **change}
    if options["key_file"] is None:
        del options["key_file"]
    elif isinstance(options["key_file"], tuple):
        name, secret = options["key_file"]
        options["key_file"] = str(write_key(tmp_path / "wrong", secret, name))
    async with running(options, knot) as relay:
        with pytest.raises(RelayRefused, match=complaint) as caught:
            await relay.update([A])
        assert SECRET not in str(caught.value)
        status = (await relay.status())[A.id]
        assert not status.ready
        assert status.sessions == 1, "who knows what is published?"
        assert status.text in str(caught.value)
        assert knot.look_up("mme") == []


async def test_a_server_that_was_away_gets_the_update_later(knot: Knot, key_file: Path) -> None:
    async with running({"key_file": str(key_file)}, knot) as relay:
        await relay.update([A])
        knot.stop()
        with pytest.raises(RelayUnreachable, match="Connection refused"):
            await relay.update([B])
        assert (await relay.status()).keys() == {B.id}
        knot.start()

        async def caught_up() -> bool:
            return knot.look_up("mme") == ["192.0.2.2"]

        async def is_ready() -> bool:
            return (await relay.status())[B.id].ready

        await until(caught_up)
        await until(is_ready)


async def test_a_server_that_hangs_is_unreachable_in_time(knot: Knot, key_file: Path) -> None:
    async with running({"key_file": str(key_file)}, knot, patience=1.0) as relay:
        await relay.update([A])
        freeze(knot.process)
        started = time.monotonic()
        with pytest.raises(RelayUnreachable, match=r"no answer within 0\.8 s"):
            await relay.update([A, B])
        assert time.monotonic() - started < 3
        thaw(knot.process)


async def test_a_draining_backend_is_not_forgotten_while_no_server_accepts_it(
    knot: Knot, key_file: Path
) -> None:
    async with running({"key_file": str(key_file), "ttl": 1, "grace": 0.0}, knot) as relay:
        await relay.update([A])
        knot.stop()
        with pytest.raises(RelayError):
            await relay.update([replace(A, draining=True)])
        await asyncio.sleep(1.5)
        assert (await relay.status())[A.id].sessions == 1
        knot.start()

        async def forgotten() -> bool:
            return (await relay.status())[A.id].sessions == 0

        await until(forgotten)
        assert knot.look_up("mme") == []


async def test_the_next_server_is_tried(
    start_knot: Callable[..., Knot], knot: Knot, key_file: Path
) -> None:
    secondary = start_knot(knot)
    async with running({"key_file": str(key_file)}, secondary, knot) as relay:
        await relay.update([A])  # the secondary passes it on

        async def everywhere() -> bool:
            return knot.look_up("mme") == secondary.look_up("mme") == ["192.0.2.1"]

        await until(everywhere)
        assert (await relay.report()).facts["name server"] == secondary.address
        secondary.stop()
        await relay.update([B])
        assert knot.look_up("mme") == ["192.0.2.2"]
        assert (await relay.report()).facts["name server"] == knot.address
        knot.stop()
        with pytest.raises(RelayUnreachable, match=f"{secondary.address}: .*; .*{knot.address}: "):
            await relay.update([A])


@pytest.mark.parametrize(
    "answer", [b"", b"\0", b"\0\x05HTTP/", b"\0\x0c" + bytes(12), b"\xff\xff" + bytes(65535)]
)
async def test_garbage_is_told_as_such(key_file: Path, answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await writer.drain()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(talk, "127.0.0.1", port):
        options = {"key_file": str(key_file), "name_servers": [f"127.0.0.1:{port}"]}
        async with running(options) as relay:
            with pytest.raises(RelayUnreachable, match=r"broke off|answer|reset"):
                await relay.update([A])


@pytest.fixture
def open_key_file(key_file: Path) -> Path:
    key_file.chmod(0o644)
    return key_file


async def test_an_open_key_file_is_refused(knot: Knot, open_key_file: Path) -> None:
    relay = make_relay({"key_file": str(open_key_file)}, knot)
    with pytest.raises(ConfigInvalid, match=f"key_file {open_key_file}: others can open it"):
        await relay.start()


class TestDnsRelay(RelayConformance):
    @pytest.fixture(autouse=True)
    def _server(self, knot: Knot, key_file: Path) -> Iterator[None]:
        self.knot, self.key_file = knot, key_file
        with closing(WebBackends()) as self.web:
            yield

    def make_relay(self, tmp_path: Path) -> Relay:
        check = {"port": self.web.port, "interval": 0.1, "rise": 1, "fall": 1}
        options = {"key_file": str(self.key_file), "ttl": 1, "grace": 0.1, "check": check}
        return make_relay(options, self.knot)

    async def start_backend(self, number: int) -> Backend:
        return await asyncio.to_thread(self.web.start, number)

    async def make_dead_backend(self) -> Backend:
        return self.web.backend(9)

    async def cut_off(self, relay: Relay) -> bool:
        self.knot.stop()
        return True
