"""The options of the ``userland`` transport, and their checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voluptuous import Invalid, Optional

_MOST_STREAMS: Final = 65535
_MOST_RETRANSMISSIONS: Final = 255
_LARGEST: Final = 1 << 30
_LONGEST: Final = 86400.0
_MAX_PORT: Final = 65535
_SMALLEST_PACKET: Final = 524
_LARGEST_PACKET: Final = 65500
UDP: Final = "udp"
IP: Final = "ip"


def _whole(least: int, most: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Invalid(f"expected a whole number from {least} to {most}")
        return value

    return check


def _seconds(least: float) -> Callable[[object], float]:
    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Invalid(f"expected a number of seconds, from {least:g} to {_LONGEST:g}")
        if not (math.isfinite(value) and least <= value <= _LONGEST):
            raise Invalid(f"expected a number of seconds, from {least:g} to {_LONGEST:g}")
        return float(value)

    return check


def _encapsulation(value: object) -> str:
    if value not in (UDP, IP):
        raise Invalid("expected udp or ip")
    return str(value)


OPTIONS: Final = {
    Optional(
        "encapsulation",
        default=UDP,
        description=(
            "`udp`: packets travel in UDP (RFC 6951), for which no privilege is needed; `ip`: "
            "in IP as any SCTP does, which needs CAP_NET_RAW and a kernel without SCTP of its own."
        ),
    ): _encapsulation,
    Optional(
        "udp_port",
        default=9899,
        description="Our own UDP port; 0 for any that is free, which only suits connecting.",
    ): _whole(0, _MAX_PORT),
    Optional(
        "remote_udp_port",
        default=9899,
        description=(
            "The UDP port of the peers that are connected to. Where packets come from another "
            "port, it is learned."
        ),
    ): _whole(1, _MAX_PORT),
    Optional(
        "mtu",
        default=1400,
        description=(
            "Bytes of the largest SCTP packet, without UDP and IP headers; larger messages are "
            "fragmented by SCTP. It is not discovered."
        ),
    ): _whole(_SMALLEST_PACKET, _LARGEST_PACKET),
    Optional(
        "max_message",
        default=262144,
        description=(
            "Bytes of the largest message, sent or received. An association whose peer sends a "
            "larger one is aborted."
        ),
    ): _whole(1, _LARGEST),
    Optional(
        "send_queue",
        default=1048576,
        description=(
            "Bytes that may wait, sent and not yet acknowledged, before an association is told "
            "to be not writable; beyond twice as many, sending is refused."
        ),
    ): _whole(1, _LARGEST),
    Optional(
        "receive_buffer",
        default=262144,
        description=(
            "Bytes that an association takes from its peer before they are read: its receive "
            "window."
        ),
    ): _whole(4096, _LARGEST),
    Optional(
        "streams",
        default=64,
        description="Streams in each direction that an association is set up with, at most.",
    ): _whole(1, _MOST_STREAMS),
    Optional(
        "rto_initial",
        default=1.0,
        description="Seconds after which the first packets are sent again (RTO.Initial).",
    ): _seconds(0.01),
    Optional(
        "rto_min",
        default=0.2,
        description="Seconds that the retransmission time-out is at least (RTO.Min).",
    ): _seconds(0.01),
    Optional(
        "rto_max",
        default=5.0,
        description="Seconds that the retransmission time-out is at most (RTO.Max).",
    ): _seconds(0.01),
    Optional(
        "heartbeat",
        default=5.0,
        description=(
            "Seconds between the heartbeats on an idle path (HB.interval); the path's "
            "retransmission time-out comes on top. 0 sends none."
        ),
    ): _seconds(0.0),
    Optional(
        "max_retransmissions",
        default=5,
        description=(
            "Retransmissions and heartbeats without an answer, one after another, after which "
            "an association is lost (Association.Max.Retrans)."
        ),
    ): _whole(1, _MOST_RETRANSMISSIONS),
    Optional(
        "init_attempts",
        default=8,
        description="How often an INIT without an answer is sent again (Max.Init.Retransmits).",
    ): _whole(1, _MOST_RETRANSMISSIONS),
    Optional(
        "close_timeout",
        default=10.0,
        description=(
            "Seconds that an orderly close may take: what is queued then, because the peer does "
            "not read, is given up and the association aborted."
        ),
    ): _seconds(0.1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options, checked: named as in :data:`OPTIONS`, times in seconds."""

    encapsulation: str
    udp_port: int
    remote_udp_port: int
    mtu: int
    max_message: int
    send_queue: int
    receive_buffer: int
    streams: int
    rto_initial: float
    rto_min: float
    rto_max: float
    heartbeat: float
    max_retransmissions: int
    init_attempts: int
    close_timeout: float


def problems(options: Mapping[str, Any]) -> Sequence[str]:
    """What is wrong with options that do not go together."""
    found = []
    if not options["rto_min"] <= options["rto_initial"] <= options["rto_max"]:
        found.append("expected rto_min <= rto_initial <= rto_max")
    if options["send_queue"] < options["max_message"]:
        found.append("expected send_queue of at least max_message: such a message must fit in")
    return found
