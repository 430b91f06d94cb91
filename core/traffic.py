"""The values of the traffic side: messages, associations' news, backends and their state.

The words are those of SCTP (RFC 9260), which other message transports can speak as well:
messages keep their borders, belong to a stream and carry a payload protocol identifier (ppid).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Address(NamedTuple):
    """Where an association ends: a numeric IPv4 or IPv6 address and a port of the transport."""

    host: str
    port: int

    def __str__(self) -> str:
        """As in URLs: ``10.0.0.1:36412``, ``[::1]:36412``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Message(NamedTuple):
    """One message; ``ppid`` in the host's byte order, as the field's specifications print it.

    An ``unordered`` message may overtake others of its stream.
    """

    data: bytes
    stream: int = 0
    ppid: int = 0
    unordered: bool = False


class Notice(StrEnum):
    """What a transport tells of an association that lives on (RFC 6458, section 6.1)."""

    #: The peer has started anew: what it knew of this association is gone.
    RESTARTED = "restarted"
    #: One of the peer's addresses has become reachable, unreachable, primary ...
    ADDRESS_CHANGED = "address_changed"
    #: The peer sends no more and wants the association closed.
    SHUTDOWN = "shutdown"
    #: A message was given up; it may or may not have reached the peer.
    SEND_FAILED = "send_failed"


class Notification(NamedTuple):
    """A :class:`Notice`, with what is known beside it, in words for a log."""

    notice: Notice
    text: str = ""


class Ending(StrEnum):
    """How an association ended."""

    #: Orderly: every message that was sent has arrived.
    CLOSED = "closed"
    #: One side broke it off; what was on its way may be lost.
    ABORTED = "aborted"
    #: The peer does not answer any more.
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationStatistics:
    """What an association has carried, and how well; ``rtt`` is in seconds, 0 when unknown.

    ``queued`` counts bytes that were sent and not yet handed to the network or acknowledged, as
    far as the transport can tell.
    """

    sent: int = 0
    sent_bytes: int = 0
    received: int = 0
    received_bytes: int = 0
    retransmitted: int = 0
    queued: int = 0
    rtt: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A VM as a relay sees it: where it is, and what share of new sessions it should get.

    ``addresses`` are those on the network that the relay's configuration names, without ports.
    A ``draining`` one keeps its sessions and gets no new ones.
    """

    id: str
    addresses: Sequence[str]
    name: str = ""
    cloud: str = ""
    weight: float = 1.0
    draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendStatus:
    """How a backend stands: whether it may get sessions, and how many it still has.

    ``text`` says in words for a person why it is not ready.
    """

    ready: bool
    sessions: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of figures for a person: the first column names a row, the others are figures.

    Those named in ``counters`` only grow: they are shown with their rate a second.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]] = ()
    counters: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayReport:
    """What a relay shows of itself: where it listens, by what, and tables of figures."""

    listening: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    tables: Sequence[Table] = ()
