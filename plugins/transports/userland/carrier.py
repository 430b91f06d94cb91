"""What carries packets: UDP and raw IP sockets, and the peers that are known by their addresses.

The stack knows a peer by a number; a carrier knows it by the address that packets come from. A
peer is remembered while an association with it is there. Who sends INIT is remembered as well,
because the cookie that answers it (RFC 9260, section 5.1.3) is bound to the number; but only the
last of them are, so that a flood of INIT chunks from any number of addresses costs no memory.
Others have a number for as long as the stack answers their packet.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections import Counter, deque
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from isoneph.core.errors import TransportUnavailable
from isoneph.plugins.transports.userland.library import IPPROTO_SCTP
from isoneph.plugins.transports.userland.options import IP

if TYPE_CHECKING:
    from isoneph.plugins.transports.userland.stack import Stack

# Of <linux/in.h> and <linux/in6.h>; the module socket lacks them.
_IP_PKTINFO: Final = 8
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_DONT: Final = 0
_SOCKET_BUFFER: Final = 4 * 1024 * 1024
_LARGEST_PACKET: Final = 65536
_ANCILLARY: Final = 128
#: Packets read before others get their turn.
_BATCH: Final = 64
#: A common header and one chunk's header: RFC 9260, section 3.
_SMALLEST_SCTP: Final = 16
_CHUNK_TYPE: Final = 12
_INIT: Final = 1
#: How many peers that have no association, not yet or no longer, are remembered.
_MOST_WAITING: Final = 1024
#: Bound to no address in particular.
ANYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 (what an operator may ask for)

SocketAddress = tuple[Any, ...]


class Place(NamedTuple):
    """Where a carrier is: what it speaks, and the address it is bound to."""

    encapsulation: str
    host: str
    port: int

    def __str__(self) -> str:
        """For a log."""
        if self.encapsulation == IP:
            return f"IP address {self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"UDP {host}:{self.port}"


class Route(NamedTuple):
    """Where packets of a peer come from, and which of our addresses they come to."""

    address: SocketAddress
    source: str

    @property
    def host(self) -> str:
        """The peer's address, without its port."""
        return str(self.address[0])


class Peer:
    """Whom packets are exchanged with: one number for the stack, one route for the network."""

    __slots__ = ("carrier", "id", "route", "uses")

    def __init__(self, number: int, carrier: Carrier, route: Route) -> None:
        self.id = number
        self.carrier = carrier
        self.route = route
        #: How many associations need it.
        self.uses = 0


class Carrier:
    """A socket that carries the packets of all associations of one of our addresses."""

    def __init__(self, stack: Stack, sock: socket.socket, place: Place) -> None:
        self.stack = stack
        self.place = place
        #: What was thrown away before the stack saw it, by reason.
        self.ignored: Counter[str] = Counter()
        self._socket = sock
        #: By what :meth:`_read` gives.
        self._peers: dict[SocketAddress, Peer] = {}
        self._waiting: deque[Peer] = deque()
        #: How many packets are read at once. After a single one it is one, for to read in vain
        #: costs as much as to read; and when one has come, there may be more.
        self._expected = 1
        self._packet = bytearray(_LARGEST_PACKET)
        self._at = stack.ffi.from_buffer("char[]", self._packet, require_writable=True)
        #: The kernel gives the header with the packets of IPv4, and not with those of IPv6.
        self._headed = place.encapsulation == IP and sock.family == socket.AF_INET
        #: The next packet's length, and the address it came from.
        self._read: Callable[[bytearray], tuple[int, SocketAddress]] = sock.recvfrom_into

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to receive."""
        loop.add_reader(self._socket, self._receive)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Receive and send no more."""
        loop.remove_reader(self._socket)
        self._socket.close()
        for peer in self._peers.values():
            self.stack.remove_peer(peer)
        self._peers.clear()
        self._waiting.clear()

    def peer(self, host: str, port: int, source: str) -> Peer:
        """The peer at an address, to be spoken to from ``source``. Raises OSError when the
        address is none."""
        kind, flags = socket.SOCK_DGRAM, socket.AI_NUMERICHOST
        found = socket.getaddrinfo(host, port, self._socket.family, kind, flags=flags)
        key = self._key(Route(found[0][4], source))
        peer = self._peers.get(key)
        if peer is None:
            peer = self._remember(key)
            self._waiting.append(peer)
        return peer

    def release(self, peer: Peer) -> None:
        """One association less needs the peer; another may be on its way."""
        peer.uses -= 1
        if not peer.uses:
            self._waiting.append(peer)

    def send(self, packet: Any, length: int, peer: Peer) -> None:
        """Send one packet; what the socket does not take is lost, as on any network."""
        try:
            self._write(self.stack.ffi.buffer(packet, length), peer.route)
        except OSError as error:
            self.ignored["unsent" if error.errno == errno.EAGAIN else "unsendable"] += 1

    def _write(self, packet: Any, route: Route) -> None:
        self._socket.sendto(packet, route.address)

    def _key(self, route: Route) -> SocketAddress:
        """What :meth:`_read` gives for packets that come along a route."""
        return route.address

    def _route(self, key: SocketAddress) -> Route:
        return Route(key, self.place.host)

    def _remember(self, key: SocketAddress) -> Peer:
        peer = self._peers[key] = self.stack.add_peer(self, self._route(key))
        return peer

    def _forget(self, peer: Peer) -> None:
        if not peer.uses:
            self.stack.remove_peer(peer)
            key = self._key(peer.route)
            if self._peers.get(key) is peer:
                del self._peers[key]

    def _receive(self) -> None:
        """Hand all packets that are there to the stack."""
        packet, at, peers, read = self._packet, self._at, self._peers, self._read
        handle = self.stack.lib.usrsctp_conninput
        strangers: list[Peer] = []
        start = 0
        with self.stack:
            for count in range(self._expected):
                try:
                    length, key = read(packet)
                except OSError:  # there is no more, or what was sent came back as an error
                    self._expected = _BATCH if count > 1 else 1
                    break
                if self._headed:
                    start = (packet[0] & 0x0F) * 4
                if length - start < _SMALLEST_SCTP:
                    self.ignored["short"] += 1
                    continue
                peer = peers.get(key)
                if peer is None:
                    peer = self._moved(key, start) or self._remember(key)
                    if packet[start + _CHUNK_TYPE] == _INIT:
                        self._waiting.append(peer)
                    else:
                        strangers.append(peer)
                handle(peer.id, at + start if start else at, length - start, 0)
            else:
                self._expected = _BATCH
        while len(self._waiting) > _MOST_WAITING:
            strangers.append(self._waiting.popleft())
        for peer in strangers:
            self._forget(peer)

    def _moved(self, key: SocketAddress, start: int) -> Peer | None:
        """The peer that a packet from an unknown port of its host belongs to, judged by the
        verification tag: its port has changed (RFC 6951, section 5.4)."""
        tag = int.from_bytes(self._packet[start + 4 : start + 8])
        peer = self.stack.tags.get(tag)
        if peer is None or peer.carrier is not self:
            return None
        route = self._route(key)
        if peer.route.host != route.host:
            return None
        self._peers.pop(self._key(peer.route), None)
        peer.route = route
        self._peers[key] = peer
        return peer


class AnywhereCarrier(Carrier):
    """The same for all of our addresses: each peer is answered from the one that it sent to."""

    def __init__(self, stack: Stack, sock: socket.socket, place: Place) -> None:
        super().__init__(stack, sock, place)
        self._six = sock.family == socket.AF_INET6
        if self._six:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self._read = self._read_with_target

    def _read_with_target(self, packet: bytearray) -> tuple[int, SocketAddress]:
        length, ancillary, _, address = self._socket.recvmsg_into([packet], _ANCILLARY)
        for _, _, info in ancillary:
            # in6_pktinfo begins with the address; in_pktinfo has it in the middle.
            raw = info[:16] if self._six else info[4:8]
            return length, (address, raw)
        return length, (address, bytes(16 if self._six else 4))

    def _write(self, packet: Any, route: Route) -> None:
        raw = _packed(route.source)
        if self._six:
            info = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, raw + bytes(4))
        else:
            info = (socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + raw + bytes(4))
        self._socket.sendmsg([packet], [info], 0, route.address)

    def _key(self, route: Route) -> SocketAddress:
        return route.address, _packed(route.source)

    def _route(self, key: SocketAddress) -> Route:
        address, raw = key
        return Route(address, str(ipaddress.ip_address(raw)))


@lru_cache
def _packed(host: str) -> bytes:
    return ipaddress.ip_address(host).packed


def open_carrier(stack: Stack, place: Place) -> Carrier:
    """A carrier at ``place``; its port is the one that was given out where 0 was asked for.

    Raises ValueError for what is no numeric address, OSError when it cannot be bound, and
    TransportUnavailable for want of a privilege.
    """
    ipaddress.ip_address(place.host)
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        if place.encapsulation == IP:
            sock = socket.socket(family, socket.SOCK_RAW, IPPROTO_SCTP)
        else:
            sock = socket.socket(family, socket.SOCK_DGRAM)
    except PermissionError as error:
        raise TransportUnavailable("SCTP over IP needs the privilege CAP_NET_RAW") from error
    try:
        _prepare(sock)
        sock.bind((place.host, place.port))
    except OSError:
        sock.close()
        raise
    if place.encapsulation != IP:
        place = place._replace(port=sock.getsockname()[1])
    return (AnywhereCarrier if place.host in ANYWHERE else Carrier)(stack, sock, place)


def _prepare(sock: socket.socket) -> None:
    """The packets' size is fixed by an option, so routers may fragment what is too large."""
    sock.setblocking(False)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)


def source_of(host: str) -> str:
    """Our address that packets to ``host`` leave from. Raises ValueError when that is no numeric
    address, and OSError when there is no way to it."""
    ipaddress.ip_address(host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((host, 9))  # sends nothing: it only looks up the route
        return str(sock.getsockname()[0])
