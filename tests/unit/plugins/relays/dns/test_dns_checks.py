from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from isoneph.core.traffic import Backend
from isoneph.plugins.relays.dns.checks import Checks

BACKEND = Backend(id="a", addresses=["127.0.0.1"])


@asynccontextmanager
async def listening(port: int = 0) -> AsyncIterator[int]:
    """Somebody who accepts connections; the port."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", port) as server:
        yield server.sockets[0].getsockname()[1]


def make_checks(port: int, **options: Any) -> Checks:
    return Checks({"port": port, "timeout": 1.0, "rise": 2, "fall": 3, **options})


async def outcomes(checks: Checks, number: int) -> list[bool]:
    """Whether the backend is good after each of as many checks."""
    seen = []
    for _ in range(number):
        await checks.run([BACKEND])
        seen.append(checks.is_good(BACKEND))
    return seen


async def test_without_options_all_are_good() -> None:
    checks = Checks(None)
    await checks.run([BACKEND])
    assert checks.is_good(BACKEND)
    assert checks.is_known(BACKEND)
    assert checks.problem(BACKEND) == ""


async def test_the_first_check_decides_and_then_rise_and_fall() -> None:
    async with listening() as port:
        checks = make_checks(port)
        assert not checks.is_good(BACKEND)
        assert not checks.is_known(BACKEND)
        assert checks.problem(BACKEND) == f"port {port}: not checked yet"
        assert await outcomes(checks, 1) == [True]
    assert await outcomes(checks, 4) == [True, True, False, False]
    assert checks.problem(BACKEND) == f"port {port}: Connection refused"
    async with listening(port):
        assert await outcomes(checks, 3) == [False, True, True]
    assert checks.problem(BACKEND) == ""


async def test_what_comes_between_starts_the_count_anew() -> None:
    async with listening() as port:
        checks = make_checks(port)
        await outcomes(checks, 1)
    assert await outcomes(checks, 2) == [True, True]
    async with listening(port):
        assert await outcomes(checks, 1) == [True]
    assert await outcomes(checks, 3) == [True, True, False]


async def test_every_address_must_answer() -> None:
    async with listening() as port:
        checks = make_checks(port)
        both = Backend(id="b", addresses=["127.0.0.1", "127.0.0.2"])
        await checks.run([both, BACKEND])
        assert checks.is_good(BACKEND)
        assert not checks.is_good(both)


async def test_silence_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*arguments: object, **options: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "open_connection", hang)
    checks = make_checks(9, timeout=0.02)
    await checks.run([BACKEND])
    assert checks.problem(BACKEND) == "port 9: no connection within 0.02 s"


async def test_one_that_went_is_forgotten() -> None:
    async with listening() as port:
        checks = make_checks(port)
        await checks.run([BACKEND])
        checks.keep([])
        assert not checks.is_known(BACKEND)
