"""A web server, as a program of its own for tests.

``python web_server.py ADDRESS PORT`` answers each request with its address, after as many seconds
as the path says: ``/0.5``. It keeps connections open.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress


async def _serve(address: str, port: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                with suppress(ValueError):
                    await asyncio.sleep(float(head.split(b" ")[1].strip(b"/")))
                body = address.encode()
                # At once, so that a kill leaves no half of an answer.
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, address, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
