"""What libusrsctp tells of an association: its notifications, taken apart.

The layouts are those of RFC 6458, section 6.1, as the library has them; numbers are in the
host's byte order, but for the ABORT chunk inside SCTP_ASSOC_CHANGE, which is as it was on the
wire (RFC 9260, sections 3.3.7 and 3.3.10).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from isoneph.core.traffic import Notice, Notification


class Kind(IntEnum):
    """The kinds of notifications that are subscribed to."""

    ASSOC_CHANGE = 1
    PEER_ADDR_CHANGE = 2
    SHUTDOWN_EVENT = 5
    PARTIAL_DELIVERY_EVENT = 7
    SEND_FAILED_EVENT = 0x0E


class State(IntEnum):
    """What SCTP_ASSOC_CHANGE says."""

    COMM_UP = 1
    COMM_LOST = 2
    RESTART = 3
    SHUTDOWN_COMP = 4
    CANT_STR_ASSOC = 5


@dataclass(frozen=True, slots=True)
class AssociationChange:
    """The association came up, started anew or is over; ``reason`` in words.

    ``aborted`` tells that the peer sent an ABORT.
    """

    state: State
    streams_out: int
    streams_in: int
    aborted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class DeliveryAborted:
    """The rest of a message of which a part was delivered will never come."""


_HEADER: Final = struct.Struct("=HHI")
_ASSOC_CHANGE: Final = struct.Struct("=HHIHHHHI")
_ADDRESS_STATE: Final = struct.Struct("=136xI")
_SEND_FAILED: Final = struct.Struct("=HHIIHHIIII")
_TLV: Final = struct.Struct("!HH")
_ABORT: Final = 6
_USER_ABORT: Final = 12

_ADDRESS_STATES: Final = {
    1: "reachable again",
    2: "unreachable",
    3: "removed",
    4: "added",
    5: "primary",
    6: "confirmed",
}
_CAUSES: Final = {
    1: "invalid stream identifier",
    2: "missing mandatory parameter",
    3: "stale cookie",
    4: "out of resource",
    5: "unresolvable address",
    6: "unrecognized chunk type",
    7: "invalid mandatory parameter",
    8: "unrecognized parameters",
    9: "no user data",
    10: "cookie received while shutting down",
    11: "restart with new addresses",
    12: "user-initiated abort",
    13: "protocol violation",
}

Event = AssociationChange | Notification | DeliveryAborted


def parse(data: bytes) -> Event | None:
    """What a notification says; None for what tells nothing, or is cut short."""
    try:
        read = _READERS.get(_HEADER.unpack_from(data)[0])
        return read(data) if read else None
    except (struct.error, ValueError):
        return None


def _association_change(data: bytes) -> AssociationChange:
    _, _, length, state, _, streams_out, streams_in, _ = _ASSOC_CHANGE.unpack_from(data)
    aborted, reason = False, ""
    if state in (State.COMM_LOST, State.CANT_STR_ASSOC):
        chunk = data[_ASSOC_CHANGE.size : length]
        aborted = len(chunk) >= _TLV.size and chunk[0] == _ABORT
        if aborted:
            causes = "; ".join(_words(chunk))
            reason = f"the peer aborted: {causes}" if causes else "the peer aborted"
        else:
            reason = "the peer does not answer, or broke the protocol"
    return AssociationChange(State(state), streams_out, streams_in, aborted, reason)


def _words(chunk: bytes) -> Iterator[str]:
    """The error causes of an ABORT chunk, in words; what is malformed ends them."""
    at = _TLV.size
    while at + _TLV.size <= len(chunk):
        cause, length = _TLV.unpack_from(chunk, at)
        if length < _TLV.size:
            return
        info = chunk[at + _TLV.size : at + length].decode("ascii", "replace")
        text = "".join(c if c.isprintable() else "?" for c in info).strip()
        words = _CAUSES.get(cause, f"cause {cause}")
        if cause == _USER_ABORT and text:
            yield text
        else:
            yield f"{words} ({text})" if text and cause > _USER_ABORT else words
        at += length + -length % 4


def _send_failed(data: bytes) -> Notification:
    _, flags, length, _, stream, *_ = _SEND_FAILED.unpack_from(data)
    state = "it was on its way" if flags & 2 else "it was never sent"
    size = length - _SEND_FAILED.size
    return Notification(Notice.SEND_FAILED, f"{size} bytes on stream {stream}: {state}")


def _address_change(data: bytes) -> Notification:
    (state,) = _ADDRESS_STATE.unpack_from(data)
    text = f"the peer's address is {_ADDRESS_STATES.get(state, 'changed')}"
    return Notification(Notice.ADDRESS_CHANGED, text)


def _shutdown(_data: bytes) -> Notification:
    return Notification(Notice.SHUTDOWN, "the peer closes")


def _delivery_aborted(_data: bytes) -> DeliveryAborted:
    return DeliveryAborted()


_READERS: Final[Mapping[int, Callable[[bytes], Event]]] = {
    Kind.ASSOC_CHANGE: _association_change,
    Kind.PEER_ADDR_CHANGE: _address_change,
    Kind.SHUTDOWN_EVENT: _shutdown,
    Kind.PARTIAL_DELIVERY_EVENT: _delivery_aborted,
    Kind.SEND_FAILED_EVENT: _send_failed,
}
