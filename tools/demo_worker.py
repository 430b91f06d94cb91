"""What the demonstration runs as a VM: a worker that answers messages, and tells who it is.

It listens on port 8080 of $ISONEPH_ADDRESS and answers ``GET /`` with JSON. With ``--relay`` it
registers at the relay and answers each message that comes from there with its count and a
checksum over all of its client; both travel in the client's state, so any worker can go on.
``--boot-seconds`` lets it take its time before it listens, as a real VM would.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import struct
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer

from isoneph.core.link import Dispatch, LinkAddress, Reply, Worker, read_secret

ADDRESS = (os.environ.get("ISONEPH_ADDRESS", "127.0.0.1"), 8080)
KEYS = ("id", "name", "type", "cloud")
IDENTITY = {key: os.environ.get(f"ISONEPH_{key.upper()}") for key in KEYS}
STARTED = time.monotonic()
#: How many messages of a client there were, and the checksum over them.
STATE = struct.Struct(">QI")


class Page(BaseHTTPRequestHandler):
    """Answers ``GET /`` with what isoneph told this VM about itself."""

    def do_GET(self) -> None:
        """Send the answer."""
        if self.path != "/":
            self.send_error(404)
            return
        body = json.dumps({**IDENTITY, "uptime": round(time.monotonic() - STARTED, 1)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def answer(dispatch: Dispatch) -> Reply:
    """The count of a client's messages and their checksum, this one included."""
    number, checksum = STATE.unpack(dispatch.state) if dispatch.state else (0, 0)
    number, checksum = number + 1, zlib.crc32(dispatch.message.data, checksum)
    text = f"{number} {checksum:08x} {IDENTITY['name']}".encode()
    return dispatch.reply([dispatch.message._replace(data=text)], STATE.pack(number, checksum))


async def work(relay: str, secret: Path) -> None:
    """Answer what comes from the relay until SIGTERM; then finish in order."""
    worker = Worker(
        LinkAddress.parse(relay),
        read_secret(secret),
        answer,
        application=os.environ["ISONEPH_APPLICATION"],
        vm_id=os.environ["ISONEPH_ID"],
    )
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []
    loop.add_signal_handler(
        signal.SIGTERM, lambda: stopping.append(loop.create_task(worker.stop()))
    )
    await worker.run()
    await asyncio.gather(*stopping)


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boot-seconds", type=float, default=0.0, metavar="N")
    parser.add_argument("--relay", metavar="HOST:PORT")
    parser.add_argument("--secret-file", type=Path)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    time.sleep(arguments.boot_seconds)
    ThreadingTCPServer.allow_reuse_address = ThreadingTCPServer.daemon_threads = True
    with ThreadingTCPServer(ADDRESS, Page) as server:
        if arguments.relay is None:
            server.serve_forever()
            return
        threading.Thread(target=server.serve_forever, daemon=True).start()
        asyncio.run(work(arguments.relay, arguments.secret_file))


if __name__ == "__main__":
    main()
