"""What becomes of a HAProxy, and of its sessions, when its relay is killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from freezing import freeze, thaw
from haproxy_relays import TIMEOUT, drained, get, held_connection, own, running, until, until_ready
from isoneph.core.traffic import Backend
from web_backends import WebBackends

PROGRAM = """
import asyncio
from haproxy_relays import make_relay, process_of, until_ready
from isoneph.core.traffic import Backend
async def main():
    relay = make_relay({options!r})
    await relay.start()
    await relay.update({web!r})
    await until_ready(relay, *{web!r})
    print(await process_of(relay), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


class RelayProcess:
    """A relay in a process of its own, with its backends ready, and its HAProxy."""

    def __init__(self, options: dict[str, Any], web: list[Backend]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", PROGRAM.format(options=options, web=web)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert self._process.stdout is not None
        with self._process.stdout as said:
            self.haproxy = int(said.readline())

    def kill(self) -> None:
        """End the relay as a crash does."""
        self._process.kill()
        self._process.wait()

    @property
    def haproxy_runs(self) -> bool:
        return os.path.lexists(f"/proc/{self.haproxy}/exe")  # not of a zombie

    def await_end(self) -> None:
        """Return when HAProxy has ended."""
        deadline = time.monotonic() + TIMEOUT
        while self.haproxy_runs:
            assert time.monotonic() < deadline, "haproxy lives on"
            time.sleep(0.02)


StartRelay = Callable[[dict[str, Any], list[Backend]], RelayProcess]


@pytest.fixture(autouse=True)
def _haproxy() -> None:
    if shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin") is None:
        pytest.fail("haproxy is not installed; tools/test installs it")


@pytest.fixture
def backends() -> Iterator[WebBackends]:
    with closing(WebBackends()) as backends:
        yield backends


@pytest.fixture
def start_relay() -> Iterator[StartRelay]:
    with ExitStack() as stack:

        def start(options: dict[str, Any], web: list[Backend]) -> RelayProcess:
            relay = RelayProcess(options, web)
            stack.callback(relay.kill)
            return relay

        yield start


def test_haproxy_ends_gently(backends: WebBackends, start_relay: StartRelay) -> None:
    relay = start_relay(own(backends), [])
    relay.kill()
    relay.await_end()


async def test_the_next_relay_counts_what_is_still_under_way(
    backends: WebBackends, start_relay: StartRelay
) -> None:
    busy, idle = backends.start(0), backends.start(1)
    options = own(backends)
    first = await asyncio.to_thread(start_relay, options, [busy])
    request = asyncio.ensure_future(asyncio.to_thread(get, options["listen"][0], "/2"))
    await asyncio.sleep(0.3)
    first.kill()
    draining = replace(busy, draining=True)
    async with running(options) as relay:
        await relay.update([draining, idle])
        status = await relay.status()
        assert (status[busy.id].sessions, status[idle.id].sessions) == (1, 0)
        await until_ready(relay, idle)
        assert await asyncio.to_thread(get, options["listen"][0]) == idle.addresses[0]
        assert not request.done()
        assert (await relay.status())[busy.id].sessions == 1
        assert await request == busy.addresses[0]
        await until(partial(drained, relay, draining))
    first.await_end()


async def test_connections_count_however_often_relays_are_killed(
    backends: WebBackends, start_relay: StartRelay
) -> None:
    web = [backends.start(0), backends.start(1)]
    options = own(backends, mode="tcp")
    with ExitStack() as clients:
        held = []
        for backend in web:
            relay_process = await asyncio.to_thread(start_relay, options, [backend])
            held.append(clients.enter_context(held_connection(options["listen"][0])))
            await asyncio.sleep(0.3)
            relay_process.kill()
        async with running(options) as relay:
            await relay.update(web)
            assert [each.sessions for each in (await relay.status()).values()] == [1, 1]
            held[0].close()
            await until(partial(drained, relay, web[0]))
            assert (await relay.status())[web[1].id].sessions == 1
            held[1].close()
            await until(partial(drained, relay, web[1]))


async def test_one_that_hangs_still_counts(backends: WebBackends, start_relay: StartRelay) -> None:
    web = backends.start(0)
    options = own(backends, mode="tcp")
    first = await asyncio.to_thread(start_relay, options, [web])
    with held_connection(options["listen"][0]):
        await asyncio.sleep(0.3)
        first.kill()
        await asyncio.sleep(0.3)
        freeze(first.haproxy)
        try:
            async with running(options) as relay:
                await relay.update([web])
                assert (await relay.status())[web.id].sessions == 1
        finally:
            thaw(first.haproxy)
    first.await_end()
