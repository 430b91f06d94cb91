"""What is to be known of associations that are not read from.

A program learns from the kernel what became of an association by reading, in its place behind the
messages. Where reading is paused two other ways are left, which a transport's associations share:
epoll tells errors of a socket even when it is asked for nothing, and sock_diag(7) tells which
verification tag an association has, which is another one when its peer has started anew.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from struct import Struct
from typing import Final

from isoneph.core.traffic import Address

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_INET_DIAG_INFO: Final = 2
#: Length, type, flags, sequence number and sender of a netlink message.
_HEADER: Final = Struct("=IHHII")
#: Family, protocol, bit mask of what is wanted, states; ports and addresses of both ends; then the
#: interface, none, and the socket's cookie, any.
_REQUEST: Final = Struct("=BBBxI2s2s16s16sI8s")
_ALL_STATES: Final = 0xFFFFFFFF
_ANY_COOKIE: Final = b"\xff" * 8
#: Where the attributes of an answer begin: after its header and its ``struct inet_diag_msg``.
_ATTRIBUTES: Final = _HEADER.size + 72
#: An attribute's length, which counts itself, and its type.
_ATTRIBUTE: Final = Struct("=HH")
_TAG: Final = Struct("=I")
_LONGEST_ANSWER: Final = 8192


class Watch:
    """The two ways, for the associations of one transport. Where the kernel does not let this
    process ask for tags, it goes without."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._acts: dict[int, Callable[[], None]] = {}
        self._diagnosis: socket.socket | None = None
        with suppress(OSError):
            self._diagnosis = socket.socket(
                socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, _NETLINK_SOCK_DIAG
            )
        loop.add_reader(self._epoll, self._look)

    def close(self) -> None:
        """Watch nothing any more."""
        self._loop.remove_reader(self._epoll)
        self._epoll.close()
        if self._diagnosis is not None:
            self._diagnosis.close()

    def add(self, sock: socket.socket, act: Callable[[], None]) -> None:
        """Call ``act`` once when the socket has an error."""
        self._acts[sock.fileno()] = act
        self._epoll.register(sock, 0)

    def remove(self, sock: socket.socket) -> None:
        """Do so no more; to be called before the socket is closed. Safe to call twice."""
        if self._acts.pop(sock.fileno(), None):
            self._epoll.unregister(sock)

    def _look(self) -> None:
        for descriptor, _event in self._epoll.poll(0):
            if act := self._acts.pop(descriptor, None):
                self._epoll.unregister(descriptor)
                act()

    def tag(self, local: Address, remote: Address) -> int:
        """Our verification tag of the association between the two; 0 where the kernel tells
        none."""
        if self._diagnosis is None:
            return 0
        try:
            self._diagnosis.send(_request(local, remote))
            return _tag_in(self._diagnosis.recv(_LONGEST_ANSWER))
        except OSError:
            return 0


def _request(local: Address, remote: Address) -> bytes:
    family = socket.AF_INET6 if ":" in local.host else socket.AF_INET
    ports = (address.port.to_bytes(2) for address in (local, remote))
    hosts = (socket.inet_pton(family, address.host) for address in (local, remote))
    wanted = 1 << _INET_DIAG_INFO - 1
    body = _REQUEST.pack(
        family, socket.IPPROTO_SCTP, wanted, _ALL_STATES, *ports, *hosts, 0, _ANY_COOKIE
    )
    size = _HEADER.size + len(body)
    return _HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0) + body


def _tag_in(answer: bytes) -> int:
    """The tag is what a ``struct sctp_info`` begins with; an answer may be an error instead."""
    size, kind, *_ = _HEADER.unpack_from(answer)
    at = _ATTRIBUTES
    while kind == _SOCK_DIAG_BY_FAMILY and at + _ATTRIBUTE.size < size:
        length, name = _ATTRIBUTE.unpack_from(answer, at)
        if name == _INET_DIAG_INFO:
            return int(_TAG.unpack_from(answer, at + _ATTRIBUTE.size)[0])
        at += max(length + 3 & ~3, _ATTRIBUTE.size)
    return 0
