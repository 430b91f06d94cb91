"""The interface of routers: which backend gets a message.

A router is sans-I/O: events in, actions out. It never waits, reads no clock and opens nothing,
so the same events give the same actions, and a recorded day can be played again.

Messages belong to *conversations*. What a conversation is, the router says: all that a client
sends, what it sends on one stream, one mobile of many behind a base station. The relay keeps for
each conversation the backend it is pinned to, the messages that wait, how many are in flight, and
the *state*: an opaque text of bytes that a worker returned with its last reply and gets back
with the next message, whichever worker gets that one. A worker that is lost therefore takes
nothing with it: the relay dispatches its unanswered messages again, with the state, to another.

Backends that are plain servers know nothing of this: a conversation is pinned to one for good,
what it sends back goes to the client as it is, and when it is lost so is the client's association.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from isoneph.core.plugin.base import Plugin
from isoneph.core.traffic import Message


class Load(NamedTuple):
    """A backend that may get a new conversation, and what it has."""

    backend: str
    weight: float
    conversations: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Forward:
    """Bring a message to the backend of a conversation; the first one opens the conversation.

    ``conversation`` is from 1 to 2**64 - 1, chosen by the router; it belongs to the client whose
    event this answers.
    """

    conversation: int
    message: Message


@dataclass(frozen=True, slots=True)
class Open:
    """Open a conversation before its first message, as the answer to a client that came up: where
    backends are plain servers and the relay is told to connect at once, it is connected now."""

    conversation: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to a client."""

    client: int
    message: Message


@dataclass(frozen=True, slots=True)
class Finish:
    """A conversation is over: it counts no more at its backend, and its state is forgotten.

    Messages of it that wait are dropped, and counted under ``reason``, a word; with ``drop``
    false they go their way first.
    """

    conversation: int
    reason: str = "finished"
    drop: bool = True


@dataclass(frozen=True, slots=True)
class Refuse:
    """Drop the message that this answers; it is counted under ``reason``, a word."""

    reason: str


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Abort a client's association; counted under ``reason``, a word."""

    client: int
    reason: str


Action = Forward | Open | Send | Finish | Refuse | Disconnect
#: What most events need.
Actions = Iterable[Action]


class Router(Plugin):
    """Decides which conversation a message belongs to, and which backend a conversation gets
    (``isoneph.routers``).

    Its methods are called on the event loop, for every message: they take microseconds. Clients
    are numbered by the relay; a number is never used twice.
    """

    #: How many messages of one conversation may be at its backend at once. With 1 the state that
    #: comes back with a reply is there before the next message goes.
    window: int = 1

    def client_up(self, client: int) -> Actions:
        """A client has connected."""
        return ()

    def client_down(self, client: int) -> Actions:
        """A client is gone: its conversations should be finished. Those that are not live on
        without it, and what is sent to it is dropped and counted."""
        return ()

    @abstractmethod
    def message(self, client: int, message: Message) -> Actions:
        """A client has sent a message."""

    def reply(self, conversation: int, client: int, messages: Sequence[Message]) -> Actions:
        """A backend has answered, or sent something by itself: what goes to the client. By
        default all of it, as it is."""
        return [Send(client, message) for message in messages]

    def finished(self, conversation: int) -> Actions:
        """The backend has said that a conversation is over; it is forgotten already."""
        return ()

    def choose(self, conversation: int, loads: Sequence[Load]) -> str | None:
        """The backend for a conversation that is not pinned, of those that are ready and not
        draining; None when none will do, and the messages wait. By default the one with the
        fewest conversations for its weight, so that a new one gets its share at once."""
        best = min(loads, key=lambda load: (load.conversations + 1) / load.weight, default=None)
        return None if best is None else best.backend

    def backend_down(self, backend: str, conversations: Sequence[int]) -> Actions:
        """A backend is lost. Its conversations (those given) have been unpinned already; they go
        to other backends, with their state, where the relay can do that."""
        return ()
