"""What the kernel tells of an association among its messages (RFC 6458, section 6.1)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from enum import IntEnum
from struct import Struct
from typing import Any, Final, NamedTuple

from isoneph.core.traffic import Address, Ending
from isoneph.plugins.transports.kernel.abi import address_of


class AssociationState(IntEnum):
    """What became of an association (section 6.1.1)."""

    UP = 0
    LOST = 1
    RESTARTED = 2
    SHUTDOWN_COMPLETE = 3
    CANNOT_START = 4


#: What became of a peer's address, by its number (section 6.1.2).
_PATH_STATES: Final = (
    "available",
    "unreachable",
    "removed",
    "added",
    "made primary",
    "confirmed",
    "potentially failed",
)


class AssociationChange(NamedTuple):
    """SCTP_ASSOC_CHANGE (6.1.1). ``causes`` is what an ABORT that came gives as its reasons:
    Linux leaves the head of the chunk out."""

    state: int
    error: int
    streams_out: int
    streams_in: int
    causes: bytes


class PeerAddressChange(NamedTuple):
    """SCTP_PEER_ADDR_CHANGE (6.1.2)."""

    address: Address | None
    state: int
    error: int

    @property
    def words(self) -> str:
        """The state, for a log."""
        known = 0 <= self.state < len(_PATH_STATES)
        return _PATH_STATES[self.state] if known else f"in state {self.state}"


class RemoteError(NamedTuple):
    """SCTP_REMOTE_ERROR (6.1.3): the peer reports a cause of error (RFC 9260, 3.3.10)."""

    error: int
    causes: bytes


class SendFailed(NamedTuple):
    """SCTP_SEND_FAILED (6.1.4) and SCTP_SEND_FAILED_EVENT (6.1.11): the kernel gives up a
    message, or a part of one. ``sent`` when it was on the wire: it may have arrived."""

    sent: bool
    error: int
    stream: int
    size: int


class ShutdownEvent(NamedTuple):
    """SCTP_SHUTDOWN_EVENT (6.1.5): the peer sends no more."""


class AdaptationIndication(NamedTuple):
    """SCTP_ADAPTATION_INDICATION (6.1.6)."""

    indication: int


class PartialDelivery(NamedTuple):
    """SCTP_PARTIAL_DELIVERY_EVENT (6.1.7): of the message whose parts came, no more will."""

    indication: int


class AuthenticationEvent(NamedTuple):
    """SCTP_AUTHENTICATION_EVENT (6.1.8)."""

    indication: int
    key: int


class SenderDry(NamedTuple):
    """SCTP_SENDER_DRY_EVENT (6.1.9): all that was sent is acknowledged."""


class StreamEvent(NamedTuple):
    """Of RFC 6525, section 6.1: streams or the association were reset, or streams added."""

    flags: int


Event = (
    AssociationChange
    | PeerAddressChange
    | RemoteError
    | SendFailed
    | ShutdownEvent
    | AdaptationIndication
    | PartialDelivery
    | AuthenticationEvent
    | SenderDry
    | StreamEvent
)


class Unreadable(Exception):
    """A notification that cannot be used: ``why`` is ``unknown`` or ``truncated``."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


#: Type, flags, length.
_HEADER: Final = Struct("=HHI")
# Layouts of what follows the header; what may come after them is of variable length.
_ASSOCIATION_CHANGE: Final = Struct("=HHHHi")
_PEER_ADDRESS_CHANGE: Final = Struct("=128siii")
_REMOTE_ERROR: Final = Struct("=2s2xi")
#: The error, then the stream as the first field of an sctp_sndrcvinfo (32 bytes) ...
_SEND_FAILED: Final = Struct("=IH30xi")
#: ... or of an sctp_sndinfo (16 bytes).
_SEND_FAILED_EVENT: Final = Struct("=IH14xi")
_ONLY_ASSOCIATION: Final = Struct("=i")
_INDICATION: Final = Struct("=Ii")
_AUTHENTICATION: Final = Struct("=HHIi")

_SENT: Final = 1
_Build = Callable[[int, tuple[Any, ...], bytes], Event]


def _send_failed(flags: int, fields: tuple[Any, ...], rest: bytes) -> Event:
    error, stream, _association = fields
    return SendFailed(flags == _SENT, error, stream, len(rest))


def _stream_event(flags: int, _fields: tuple[Any, ...], _rest: bytes) -> Event:
    return StreamEvent(flags)


_LAYOUTS: Final[dict[int, tuple[Struct, _Build]]] = {
    0x8001: (
        _ASSOCIATION_CHANGE,
        lambda _flags, fields, rest: AssociationChange(*(*fields[:4], rest)),
    ),
    0x8002: (
        _PEER_ADDRESS_CHANGE,
        lambda _flags, fields, _rest: PeerAddressChange(address_of(fields[0]), *fields[1:3]),
    ),
    0x8003: (_SEND_FAILED, _send_failed),
    0x8004: (
        _REMOTE_ERROR,
        lambda _flags, fields, rest: RemoteError(int.from_bytes(fields[0]), rest),
    ),
    0x8005: (_ONLY_ASSOCIATION, lambda _flags, _fields, _rest: ShutdownEvent()),
    0x8006: (_INDICATION, lambda _flags, fields, _rest: PartialDelivery(fields[0])),
    0x8007: (_INDICATION, lambda _flags, fields, _rest: AdaptationIndication(fields[0])),
    0x8008: (
        _AUTHENTICATION,
        lambda _flags, fields, _rest: AuthenticationEvent(fields[2], fields[0]),
    ),
    0x8009: (_ONLY_ASSOCIATION, lambda _flags, _fields, _rest: SenderDry()),
    0x800A: (_ONLY_ASSOCIATION, _stream_event),
    0x800B: (_ONLY_ASSOCIATION, _stream_event),
    0x800C: (_ONLY_ASSOCIATION, _stream_event),
    0x800D: (_SEND_FAILED_EVENT, _send_failed),
}


def parse(data: bytes) -> Event:
    """Read one notification. Raises Unreadable for one of an unknown type, and for one that is
    shorter than its type or its own length field says."""
    if len(data) < _HEADER.size:
        raise Unreadable("truncated")
    kind, flags, length = _HEADER.unpack_from(data)
    layout, build = _LAYOUTS.get(kind, (None, None))
    if layout is None or build is None:
        raise Unreadable("unknown")
    end = _HEADER.size + layout.size
    if not end <= length <= len(data):
        raise Unreadable("truncated")
    return build(flags, layout.unpack_from(data, _HEADER.size), data[end:length])


#: The code and the length of a cause of error, which counts itself (RFC 9260, section 3.3.10).
_CAUSE: Final = Struct("!HH")
_USER_INITIATED_ABORT: Final = 12
_LONGEST_REASON: Final = 200


#: The errors of an association that either side broke off.
_ABORTED: Final = frozenset({errno.ECONNRESET, errno.ECONNABORTED, errno.EPROTO})


def ending_of(error: int, causes: bytes) -> tuple[Ending, str]:
    """How an association ended, and why, by the error of its socket and what an ABORT that came
    gives as its reasons. Of one that ended before it was accepted the kernel tells no error."""
    if reason := reason_of(causes):
        return Ending.ABORTED, f"aborted by the peer: {reason}"
    if not error:
        return Ending.ABORTED, "it is gone, and the kernel does not tell why"
    if error in _ABORTED:
        return Ending.ABORTED, f"aborted: {os.strerror(error)}"
    return Ending.LOST, f"the peer does not answer: {os.strerror(error)}"


def reason_of(causes: bytes) -> str:
    """What an ABORT gives as its first reason, in words; empty when it gives none."""
    if len(causes) < _CAUSE.size:
        return ""
    code, length = _CAUSE.unpack_from(causes)
    if code != _USER_INITIATED_ABORT:
        return f"cause {code}"
    text = causes[_CAUSE.size : min(length, _LONGEST_REASON)]
    return text.decode(errors="replace").strip("\0")
