"""A relay's figures, shown to whoever asks for them."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from isoneph.core.relaying.exposition import Exposition


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK"),
        (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"\r\n\r\n", b"404 Not Found"),
    ],
)
async def test_figures_are_shown(port: int, request_text: bytes, status: bytes) -> None:
    async def figures() -> bytes:
        return b"isoneph_x 1\n"

    exposition = Exposition(f"127.0.0.1:{port}", figures)
    await exposition.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_text)
    answer = await reader.read()
    writer.close()
    await exposition.close()
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert answer.endswith(b"\r\n\r\nisoneph_x 1\n") is (status == b"200 OK")


async def test_what_is_no_request_for_figures_is_cut_off(port: int) -> None:
    exposition = Exposition(f"127.0.0.1:{port}", lambda: asyncio.sleep(0, b""))
    await exposition.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x" * 100_000)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    await exposition.close()
