"""What the kernel tells of sockets without being read from; of TCP ones, where it has no SCTP."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from isoneph.core.traffic import Address
from isoneph.plugins.transports.kernel.watch import Watch

ENDS = Address("192.0.2.1", 36412), Address("192.0.2.7", 5)
IPV6_ENDS = Address("2001:db8::1", 36412), Address("2001:db8::7", 5)
TAG = 0x88CB3CED
ABORT = struct.pack("=ii", 1, 0)


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    made = Watch(asyncio.get_running_loop())
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as near,
        listener.accept()[0] as far,
    ):
        yield near, far


async def test_an_error_is_told_once_and_data_is_not(
    watch: Watch, pair: tuple[socket.socket, socket.socket]
) -> None:
    near, far = pair
    told: list[str] = []
    watch.add(near, lambda: told.append("an error"))
    far.send(b"data")
    await asyncio.sleep(0.02)
    assert told == []
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    far.close()
    await asyncio.sleep(0.02)
    assert told == ["an error"]


async def test_who_is_not_watched_any_more_is_told_nothing(
    watch: Watch, pair: tuple[socket.socket, socket.socket]
) -> None:
    near, far = pair
    told: list[str] = []
    watch.add(near, lambda: told.append("an error"))
    watch.remove(near)
    watch.remove(near)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    far.close()
    await asyncio.sleep(0.02)
    assert told == []


class Netlink:
    """The socket for sock_diag, with what it answers."""

    answer: bytes | OSError = b""

    def __init__(self, *_arguments: object) -> None:
        self.sent: list[bytes] = []

    def send(self, request: bytes) -> None:
        self.sent.append(request)

    def recv(self, _size: int) -> bytes:
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer

    def close(self) -> None:
        pass


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


INFO = attribute(2, struct.pack("=I", TAG) + bytes(300))


@pytest.mark.parametrize(
    ("answer", "tag"),
    [
        (message(20, bytes(72) + INFO), TAG),
        (message(20, bytes(72) + attribute(8, b"x") + INFO), TAG),
        (message(20, bytes(72) + attribute(8, b"x")), 0),
        (message(20, bytes(72) + bytes(12)), 0),
        (message(2, struct.pack("=i", -errno.ENOENT) + bytes(16)), 0),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), 0),
    ],
    ids=["told", "second", "without", "zeros", "refused", "silent"],
)
async def test_the_tag_is_read_from_the_kernels_answer(
    answer: Any, tag: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Netlink, "answer", answer)
    with monkeypatch.context() as patched:
        patched.setattr("isoneph.plugins.transports.kernel.watch.socket.socket", Netlink)
        watch = Watch(asyncio.get_running_loop())
    assert watch.tag(*ENDS) == watch.tag(*IPV6_ENDS) == tag
    assert watch.tag(ENDS[0], Address("fe80::1%eth0", 5)) == 0
    watch.close()


async def test_without_the_socket_there_are_no_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_arguments: object) -> socket.socket:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr("isoneph.plugins.transports.kernel.watch.socket.socket", forbid)
        watch = Watch(asyncio.get_running_loop())
    assert watch.tag(*ENDS) == 0
    watch.close()


async def test_the_kernel_has_no_tag_of_an_association_that_is_not_there(watch: Watch) -> None:
    assert watch.tag(*ENDS) == watch.tag(*IPV6_ENDS) == 0
