"""The control plane: sockets, set up and asked through pysctp.

This module alone imports pysctp, and is itself imported when a transport starts: the package can
be loaded, and its options shown, without it. What pysctp 0.7.3 cannot do is done by options of the
same socket: it has no way to set the heartbeat interval; ``set_rtoinfo`` leaks memory at each
call; and where it translates an IPv6 address for bindx or connectx it writes beyond its buffer.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

import sctp

from isoneph.core.errors import TransportUnavailable
from isoneph.core.traffic import Address
from isoneph.plugins.transports.kernel import abi
from isoneph.plugins.transports.kernel.options import Settings


def check(settings: Settings) -> None:
    """Raise TransportUnavailable when this machine cannot carry messages by these settings."""
    try:
        control = Control.make([Address("127.0.0.1", 0)], settings)
    except OSError as error:
        raise TransportUnavailable(f"the kernel has no SCTP ({error}): modprobe sctp") from error
    with control.sock as sock:
        try:
            sock.listen(1)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise TransportUnavailable(f"SCTP cannot listen: {error}") from error
            text = "the kernel has no hash for SCTP's cookies: modprobe -a hmac sha1_generic md5"
            raise TransportUnavailable(text) from error
        allowed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    if allowed < settings.max_message:
        raise TransportUnavailable(
            f"max_message is {settings.max_message}, but the kernel sends at most {allowed} bytes "
            f"at once: sysctl net.core.wmem_max={settings.max_message}"
        )


_ANY_IPV6: Final = "::"


class Control:
    """One socket of the one-to-one style (RFC 6458, section 4), not blocking.

    ``peer`` is an address of the peer's: the one that an association was accepted from, or is to
    be set up to. The kernel forgets it when the association is over.
    """

    peer: Address

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._sctp = _PySctp(sock.family, sock)

    @classmethod
    def make(cls, addresses: Iterable[Address], settings: Settings) -> Control:
        """A new socket that can have these addresses. Raises OSError."""
        hosts = {address.host for address in addresses}
        ipv6 = {host for host in hosts if ":" in host}
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
        if ipv6 == hosts and _ANY_IPV6 not in hosts:  # nor should a peer be offered IPv4
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            control = cls(sock)
            control._set(settings)
        except BaseException:
            sock.close()
            raise
        return control

    @classmethod
    def adopt(
        cls, sockets: Iterable[socket.socket], addresses: Sequence[Address], settings: Settings
    ) -> Control | None:
        """That of these sockets which listens on the addresses, and on no others; None when none
        does. What is accepted from it has our settings, also what has come before."""
        for sock in sockets:
            if sock.fileno() < 0 or sock.proto != socket.IPPROTO_SCTP:
                continue
            control = cls(sock)
            if set(control.local()) == set(addresses):
                control._set(settings)
                return control
        return None

    def _set(self, settings: Settings) -> None:
        """What associations begin with; those that are accepted inherit it."""
        option, base = self.sock.setsockopt, self._sctp
        base.nodelay = True
        base.mappedv4 = False
        events = base.events
        events.autoflush = False
        events.data_io = False
        events.association = events.address = events.shutdown = True
        events.send_failure = events.partial_delivery = True
        events.flush()
        init = base.initparams
        init.autoflush = False
        init.num_ostreams = init.max_instreams = settings.streams
        init.max_attempts = settings.init_attempts
        init.max_init_timeo = min(round(settings.rto_max * 1000), abi.LONGEST_INIT_TIMEOUT)
        init.flush()
        association = sctp.assocparams()
        association.assocmaxrxt = settings.max_retransmissions
        base.set_assocparams(association)
        option(
            abi.SOL_SCTP,
            abi.RTOINFO,
            abi.retransmission_times(settings.rto_initial, settings.rto_max, settings.rto_min),
        )
        path = abi.path_parameters(settings.heartbeat, settings.path_max_retransmissions)
        option(abi.SOL_SCTP, abi.PEER_ADDR_PARAMS, path)
        option(abi.SOL_SCTP, abi.RECVRCVINFO, 1)
        if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < settings.max_message:
            option(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.max_message)

    def bind(self, addresses: Sequence[Address]) -> None:
        """Bind to all of them. Raises OSError."""
        if self.sock.family == socket.AF_INET6:
            self.sock.setsockopt(abi.SOL_SCTP, abi.BINDX_ADD, abi.sockaddrs(addresses))
        else:
            self._sctp.bindx([_kept(*address) for address in addresses])

    def accept(self) -> Control:
        """The next association of a listening socket. Raises OSError."""
        sock, source = self.sock.accept()
        control = Control(sock)
        control.peer = Address(*source[:2])
        return control

    async def connect(self, addresses: Sequence[Address]) -> None:
        """Try to set an association up to a peer that has all of these addresses. What became of
        it is the first thing to be read then. Raises OSError."""
        self.peer = addresses[0]
        with suppress(BlockingIOError):
            if self.sock.family == socket.AF_INET6:
                self.sock.setsockopt(abi.SOL_SCTP, abi.CONNECTX, abi.sockaddrs(addresses))
            else:
                self._sctp.connectx([_kept(*address) for address in addresses])
        loop = asyncio.get_running_loop()
        settled = asyncio.Event()
        loop.add_reader(self.sock, settled.set)
        try:
            await settled.wait()
        finally:
            loop.remove_reader(self.sock)

    def remote(self) -> tuple[Address, ...]:
        """The peer's addresses. Raises OSError when there is no association."""
        return tuple(Address(*pair) for pair in self._sctp.getpaddrs())

    def local(self) -> tuple[Address, ...]:
        """Our own addresses. Raises OSError when there is neither association nor binding."""
        return tuple(Address(*pair) for pair in self._sctp.getladdrs())


class _PySctp(sctp.sctpsocket_tcp):  # type: ignore[misc]  # pysctp has no types
    """pysctp's socket, which does not begin by asking for parameters and events: it would leak
    what it is answered, and take the number of attempts for the time-out of an INIT."""

    def _get_initparams(self) -> dict[str, Any]:
        return {}

    def _get_events(self) -> dict[str, Any]:
        return {}


@cache
def _kept(host: str, port: int) -> tuple[str, int]:
    """The same tuple for the same address each time: pysctp never lets go of one it was given."""
    return host, port
