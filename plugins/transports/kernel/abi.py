"""What the kernel and a program say to one another about SCTP: numbers and layouts.

Those of Linux (``linux/sctp.h``), which follow RFC 6458 with options and numbers of their own.
Integers are in the machine's byte order but for ports and payload protocol identifiers, which
the kernel hands through as they are on the wire.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from isoneph.core.traffic import Address

SOL_SCTP: Final = 132

# Socket options.
RTOINFO: Final = 0
PEER_ADDR_PARAMS: Final = 9
STATUS: Final = 14
RECVRCVINFO: Final = 32
BINDX_ADD: Final = 100
CONNECTX: Final = 110
GET_ASSOC_STATS: Final = 112

# Types of ancillary data, flags of messages and of SNDINFO and RCVINFO (RFC 6458, section 5.3).
SNDINFO: Final = 2
RCVINFO: Final = 3
MSG_EOR: Final = 0x80
MSG_NOTIFICATION: Final = 0x8000
UNORDERED: Final = 1

#: Stream, flags, ppid, context, association.
_SNDINFO = Struct("=HHIII")
#: Of stream, sequence number, flags, ppid, TSN, cumulative TSN, context and association: the
#: stream, the flags and the ppid.
RCVINFO_HEAD = Struct("=H2xH2xI")
ANCILLARY_SIZE: Final = socket.CMSG_SPACE(28)

#: Association; initial, largest and least RTO in milliseconds.
_RTOINFO = Struct("=iIII")
#: Milliseconds; the field in an sctp_initmsg has 16 bits.
LONGEST_INIT_TIMEOUT: Final = 65535
#: Association, address, heartbeat interval, retransmissions, MTU, SACK delay, flags, flow label,
#: DSCP; all of it packed.
_PEER_ADDR_PARAMS = Struct("=i128sIHIIIIBx")
_HEARTBEAT_ENABLE: Final = 1
_HEARTBEAT_DISABLE: Final = 2
#: Association, state, window, chunks not acknowledged and not read, streams in and out,
#: fragmentation point; then of the primary path: association, address, state, congestion window,
#: smoothed RTT in ticks, RTO, MTU.
_STATUS = Struct("=iiIHHHHIi128siIIII")
#: Of the statistics of an association, after its number and an address, three of 15 counters: SACK
#: chunks that came (the second), chunks sent again (the sixth), control chunks that came (the
#: last).
_ASSOC_STATS = Struct("=144xQ24xQ64xQ")
_ASSOC_STATS_SIZE: Final = 256

#: SO_LINGER: on, seconds.
LINGER: Final = Struct("=ii")
#: SO_MEMINFO: what is queued for sending is the sixth of nine counters, in bytes.
_SO_MEMINFO: Final = 55
_MEMINFO = Struct("=20xI12x")

_FAMILY = Struct("=H")
_IPV4 = Struct("!H4s")
_IPV6 = Struct("!H4x16s")
#: Family, then port, flow label, address and scope.
_SOCKADDR_IN = Struct("=H2s4s8x")
_SOCKADDR_IN6 = Struct("=H2s4x16s4x")


#: Seconds of the kernel's tick, in which it tells round-trip times; that of the coarse clock
#: (CLOCK_MONOTONIC_COARSE), whose number the module time does not name.
_TICK: Final = time.clock_getres(6)


class Status(NamedTuple):
    """What SCTP_STATUS tells (RFC 6458, section 8.2.1); ``rtt`` in seconds.

    The kernel smooths it in whole ticks, and rounds down: some ticks are easily 0.
    """

    primary: Address | None
    rtt: float
    streams_in: int
    streams_out: int


@lru_cache(maxsize=4096)
def send_info(stream: int, ppid: int, flags: int) -> list[tuple[int, int, bytes]]:
    """The ancillary data of a message (RFC 6458, section 5.3.4); not to be changed."""
    packed = _SNDINFO.pack(stream, flags, socket.htonl(ppid), 0, 0)
    return [(SOL_SCTP, SNDINFO, packed)]


def retransmission_times(initial: float, longest: float, shortest: float) -> bytes:
    """How long an acknowledgement is waited for (RFC 6458, section 8.1.1)."""
    return _RTOINFO.pack(0, *(round(seconds * 1000) for seconds in (initial, longest, shortest)))


def path_parameters(heartbeat: float, retransmissions: int) -> bytes:
    """How all paths are watched (RFC 6458, section 8.1.12)."""
    flags = _HEARTBEAT_ENABLE if heartbeat else _HEARTBEAT_DISABLE
    interval = round(heartbeat * 1000)
    return _PEER_ADDR_PARAMS.pack(0, b"", interval, retransmissions, 0, 0, flags, 0, 0)


def sockaddrs(addresses: Iterable[Address]) -> bytes:
    """Socket addresses as bindx and connectx take them. Raises OSError for a host that is no
    numeric address."""
    return b"".join(_sockaddr(address) for address in addresses)


def _sockaddr(address: Address) -> bytes:
    port = address.port.to_bytes(2)
    if ":" in address.host:
        packed = socket.inet_pton(socket.AF_INET6, address.host)
        return _SOCKADDR_IN6.pack(socket.AF_INET6, port, packed)
    packed = socket.inet_pton(socket.AF_INET, address.host)
    return _SOCKADDR_IN.pack(socket.AF_INET, port, packed)


def address_of(sockaddr: bytes) -> Address | None:
    """The address in a socket address, however long its field; None where it has none."""
    (family,) = _FAMILY.unpack_from(sockaddr)
    if family == socket.AF_INET:
        port, packed = _IPV4.unpack_from(sockaddr, _FAMILY.size)
    elif family == socket.AF_INET6:
        port, packed = _IPV6.unpack_from(sockaddr, _FAMILY.size)
    else:
        return None
    return Address(socket.inet_ntop(family, packed), port)


def read_status(sock: socket.socket) -> Status:
    """How an association stands. Raises OSError when there is none."""
    fields = _STATUS.unpack(sock.getsockopt(SOL_SCTP, STATUS, _STATUS.size))
    return Status(address_of(fields[9]), fields[12] * _TICK, fields[5], fields[6])


def read_retransmitted(sock: socket.socket) -> int:
    """How many chunks were sent again. Raises OSError when there is no association."""
    return _read_counts(sock)[1]


def read_controls(sock: socket.socket) -> int:
    """How many control chunks have come that acknowledge no messages. Raises OSError when there
    is no association."""
    acknowledgements, _retransmitted, controls = _read_counts(sock)
    return controls - acknowledgements


def _read_counts(sock: socket.socket) -> tuple[int, int, int]:
    packed = sock.getsockopt(SOL_SCTP, GET_ASSOC_STATS, _ASSOC_STATS_SIZE)
    acknowledgements, retransmitted, controls = _ASSOC_STATS.unpack_from(packed)
    return acknowledgements, retransmitted, controls


def read_unacknowledged(sock: socket.socket) -> int:
    """Bytes that were sent and not yet acknowledged, with what the kernel needs to keep them."""
    packed = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    return int(_MEMINFO.unpack(packed)[0])
