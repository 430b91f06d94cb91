"""Messages on their way to workers: which conversation each belongs to, which worker it is at."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final, Protocol

from isoneph.core.traffic import Message
from isoneph.plugins.relays.sctp.clients import Client
from isoneph.plugins.relays.sctp.figures import BackendTraffic

#: So many workers are lost by chance with the same message. One that goes on may be the cause.
SUSPECT: Final = 2


class Link(Protocol):
    """The way to a worker; see :class:`isoneph.core.link.WorkerConnection`."""

    writable: bool

    def dispatch(
        self,
        sequence: int,
        conversation: int,
        client: int,
        message: Message,
        state: bytes = b"",
        redelivered: bool = False,
    ) -> None:
        """Send a message, with its conversation's state."""

    def forget(self, conversation: int) -> None:
        """A conversation is over, or with another worker."""


class Worker:
    """A worker that is connected. ``taking`` tells whether it may get conversations; what it has
    stays until it is idle. ``weight`` is its share, ``window`` its dispatches at once."""

    __slots__ = (
        "conversations",
        "flying",
        "id",
        "link",
        "queue",
        "sequence",
        "suspect",
        "suspects",
        "taking",
        "traffic",
        "weight",
        "window",
    )

    def __init__(self, id_: str, link: Link, window: int, traffic: BackendTraffic) -> None:
        self.id = id_
        self.link = link
        self.window = window
        self.weight = 1.0
        self.taking = False
        self.traffic = traffic
        #: Those pinned to it.
        self.conversations: dict[int, Conversation] = {}
        #: What it has not answered, in the order of dispatch.
        self.flying: dict[int, Parcel] = {}
        #: Conversations that have something for it, when it takes more.
        self.queue: OrderedDict[int, Conversation] = OrderedDict()
        #: What has lost workers before and is here now: one at a time, so that the next loss
        #: tells which it was.
        self.suspect: Parcel | None = None
        #: Conversations whose next message is another of that kind.
        self.suspects: OrderedDict[int, Conversation] = OrderedDict()
        self.sequence = 0

    @property
    def has_room(self) -> bool:
        """Whether it may be sent a dispatch now."""
        return len(self.flying) < self.window and self.link.writable

    @property
    def accused(self) -> Iterable[Parcel]:
        """What it may be that has lost it: the suspect, or else what it was about to answer, the
        first message of each conversation."""
        if self.suspect is not None:
            return (self.suspect,)
        first: dict[int, Parcel] = {}
        for parcel in self.flying.values():
            first.setdefault(parcel.conversation.number, parcel)
        return first.values()


class Conversation:
    """``flying`` counts its messages at its worker; one that is ``ending`` is over when nothing
    of it waits or flies. ``client`` is whose message came last, ``parked`` who is slow to take
    the answer to the next one."""

    __slots__ = (
        "client",
        "ending",
        "flying",
        "homeless_since",
        "number",
        "over",
        "parked",
        "state",
        "waiting",
        "worker",
    )

    def __init__(self, number: int, client: Client) -> None:
        self.number = number
        self.client = client
        self.worker: Worker | None = None
        self.state = b""
        self.waiting: deque[Parcel] = deque()
        self.flying = 0
        self.homeless_since = 0.0
        self.parked: Client | None = None
        self.ending = self.over = False


class Parcel:
    """A message on its way to be answered, once. ``losses`` counts the workers that were lost
    with it and may have been lost by it."""

    __slots__ = ("client", "conversation", "losses", "message", "redelivered")

    def __init__(self, conversation: Conversation, client: Client, message: Message) -> None:
        self.conversation = conversation
        self.client = client
        self.message = message
        self.losses = 0
        self.redelivered = False
