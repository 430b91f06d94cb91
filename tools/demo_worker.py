"""What the demonstration runs as a VM: a small HTTP server that tells who it is.

It listens on port 8080 of $ISONEPH_ADDRESS and answers ``GET /`` with JSON. ``--boot-seconds``
lets it take its time before it listens, as a real VM would.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer

ADDRESS = (os.environ.get("ISONEPH_ADDRESS", "127.0.0.1"), 8080)
KEYS = ("id", "name", "type", "cloud")
IDENTITY = {key: os.environ.get(f"ISONEPH_{key.upper()}") for key in KEYS}
STARTED = time.monotonic()


class Worker(BaseHTTPRequestHandler):
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boot-seconds", type=float, default=0.0, metavar="N")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    time.sleep(parser.parse_args().boot_seconds)
    ThreadingTCPServer.allow_reuse_address = ThreadingTCPServer.daemon_threads = True
    with ThreadingTCPServer(ADDRESS, Worker) as server:
        server.serve_forever()
