"""What calls of pysctp cost in resident memory, beside the same through the standard socket.

It needs a kernel with SCTP. Where the machine has none, in User-mode Linux::

    python tests/support/uml.py python tests/benchmarks/pysctp_memory.py
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import sctp

CALLS: Final = 20000
#: Sent, and then received, at once.
BATCH: Final = 50
MESSAGE: Final = b"x" * 150
SIZE: Final = 65536
HERE: Final = ("127.0.0.1", 5000)


def main() -> None:
    listener = sctp.sctpsocket_tcp(socket.AF_INET)
    listener.bindx([HERE])
    listener.listen(1)
    sender = sctp.sctpsocket_tcp(socket.AF_INET)
    sender.nodelay = True
    sender.connectx([HERE])
    receiver, _ = listener.accept()
    receiver.events.data_io = True
    plain = receiver.sock()

    report("sctp_recv, a message", lambda: exchange(sender, lambda: receiver.sctp_recv(SIZE)))
    report("recvmsg, a message", lambda: exchange(sender, lambda: plain.recvmsg(SIZE, 256)))
    plain.setblocking(False)
    report("sctp_recv, nothing there", lambda: repeat(lambda: receiver.sctp_recv(SIZE)))
    report("recvmsg, nothing there", lambda: repeat(lambda: plain.recvmsg(SIZE, 256)))
    report("get_status", lambda: repeat(receiver.get_status))
    rto = receiver.get_rtoinfo()
    report("set_rtoinfo", lambda: repeat(lambda: receiver.set_rtoinfo(rto)))
    ports = iter(range(70000, 10**6))  # beyond 65535: a bind that changes nothing
    report(
        "bindx, an address", lambda: repeat(lambda: receiver.bindx([("192.0.2.1", next(ports))]))
    )
    report("getpaddrs", lambda: repeat(receiver.getpaddrs))


def exchange(sender: Any, receive: Callable[[], object]) -> None:
    """Send and receive messages."""
    for _ in range(CALLS // BATCH):
        for _ in range(BATCH):
            sender.send(MESSAGE)
        for _ in range(BATCH):
            receive()


def repeat(call: Callable[[], object]) -> None:
    """Call again and again, whatever it raises."""
    for _ in range(CALLS):
        with suppress(OSError):
            call()


def report(name: str, calls: Callable[[], None]) -> None:
    """Print by how many bytes each call made the process larger, the second time round."""
    calls()
    before = resident()
    calls()
    print(f"{name:28}{(resident() - before) / CALLS:8.1f} B", flush=True)


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
