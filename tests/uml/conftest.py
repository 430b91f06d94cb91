"""All tests here run in a User-mode Linux that the first of them boots."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import uml_replay
from hosts import Host, connect
from isoneph.core.clock import SystemClock
from isoneph.core.plugin import Transport
from isoneph.core.testing import build_plugin, make_environment
from isoneph.plugins.transports.kernel import KernelTransport
from two_hosts import QUICK, SOON, TwoHosts


def pytest_configure(config: pytest.Config) -> None:
    uml_replay.register(config, Path(__file__).parent)


@pytest.fixture(scope="session")
def hosts() -> Iterator[TwoHosts]:
    with Host("left") as left, Host("right") as right:
        connect(left, right, "10.0.1")
        connect(left, right, "10.0.2")
        yield TwoHosts(left, right)


@pytest_asyncio.fixture
async def make_transport() -> AsyncIterator[Callable[..., Any]]:
    """Starts transports whose paths and peers are given up after some tenths of a second."""
    async with AsyncExitStack() as stack:

        async def make(**options: Any) -> Transport:
            environment = make_environment("kernel", clock=SystemClock(), timeout=SOON)
            transport = build_plugin(KernelTransport, QUICK | options, environment=environment)
            await transport.start()
            stack.push_async_callback(transport.close)
            return transport

        yield make


@pytest_asyncio.fixture
async def transport(make_transport: Callable[..., Any]) -> Transport:
    made: Transport = await make_transport()
    return made
