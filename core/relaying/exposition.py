"""The figures of a relay's process for Prometheus, over a small part of HTTP/1.1."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from prometheus_client import CONTENT_TYPE_LATEST

from isoneph.core.errors import RelayRefused
from isoneph.core.relaying.control import split_endpoint

LOG = logging.getLogger("isoneph.relay")

#: What one request may have, and the seconds that it may take.
MAX_REQUEST = 8192
TIMEOUT = 10.0
MAX_CLIENTS = 16


class Exposition:
    """Answers ``GET /metrics``; ``figures`` gives the page."""

    def __init__(self, endpoint: str, figures: Callable[[], Awaitable[bytes]]) -> None:
        self._endpoint = endpoint
        self._figures = figures
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Raises RelayRefused."""
        try:
            self._server = await asyncio.start_server(
                self._connected, *split_endpoint(self._endpoint), limit=MAX_REQUEST
            )
        except OSError as error:
            reason = error.strerror or error
            raise RelayRefused(f"cannot show metrics at {self._endpoint}: {reason}") from error

    async def close(self) -> None:
        """Stop."""
        if self._server is not None:
            self._server.close()
            for client in self._clients:
                client.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        try:
            if task is None or len(self._clients) >= MAX_CLIENTS:
                return
            self._clients.add(task)
            async with asyncio.timeout(TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            LOG.debug("a request for metrics came to nothing: %s", error)
        finally:
            if task is not None:
                self._clients.discard(task)
            writer.transport.abort()

    async def _answer(self, head: bytes) -> bytes:
        line = head.partition(b"\r\n")[0].split(b" ")
        target = line[1].partition(b"?")[0] if len(line) > 1 else b""
        if line[0] not in (b"GET", b"HEAD") or target != b"/metrics":
            return _response("404 Not Found", "text/plain", b"GET /metrics\n")
        page = await self._figures()
        return _response("200 OK", CONTENT_TYPE_LATEST, page if line[0] == b"GET" else b"")


def _response(status: str, kind: str, body: bytes) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
