"""Ports that are free when a test asks for them."""

from __future__ import annotations

import socket


def free_udp_ports(count: int) -> list[int]:
    """Different ones, on the loopback address."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()
