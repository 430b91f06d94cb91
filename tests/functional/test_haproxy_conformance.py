"""The haproxy relay keeps to the rules of relays, with each kind of HAProxy and mode."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from freezing import freeze
from haproxy_relays import (
    CHECK,
    Elsewhere,
    get,
    make_relay,
    own,
    process_of,
    taken_over,
    until_sessions,
)
from isoneph.core.plugin import Relay
from isoneph.core.testing.relays import EndSession, RelayConformance
from isoneph.core.traffic import Backend
from isoneph.plugins.relays.haproxy import HaproxyRelay
from web_backends import WebBackends


@pytest.fixture(autouse=True)
def _haproxy() -> None:
    if shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin") is None:
        pytest.fail("haproxy is not installed; tools/test installs it")


@pytest.fixture
def backends() -> Iterator[WebBackends]:
    with closing(WebBackends()) as backends:
        yield backends


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
        freeze(await process_of(relay))
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
