"""What the tests of relays run as a VM: it says its id to who connects, then repeats every line."""

from __future__ import annotations

import os
import socketserver

PORT = 9000


class Echo(socketserver.StreamRequestHandler):
    """One session."""

    def handle(self) -> None:
        """Its id, then what is said to it."""
        self.wfile.write(os.environ["ISONEPH_ID"].encode() + b"\n")
        for line in self.rfile:
            self.wfile.write(line)


if __name__ == "__main__":
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer((os.environ["ISONEPH_ADDRESS"], PORT), Echo) as server:
        server.serve_forever()
