"""Between the clients, the router and the backends: what the router says is done here.

::

    client -> message -> router -> Forward -> backends (plain or workers)
    client <- Send    <- router <- reply   <-'
"""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from logging import Logger
from typing import Any, Final

from isoneph.core.plugin import (
    Action,
    Actions,
    Association,
    Clock,
    Disconnect,
    Finish,
    Forward,
    Load,
    Open,
    Refuse,
    Router,
    Send,
)
from isoneph.core.traffic import Backend, BackendStatus, Ending, Message
from isoneph.plugins.relays.sctp.clients import Client
from isoneph.plugins.relays.sctp.figures import Figures
from isoneph.plugins.relays.sctp.polling import BusyPoll

#: However many clients there are, each may have so many bytes pending.
_LEAST_SHARE: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the relay takes; bytes, messages a second, seconds. See the options."""

    max_clients: int
    max_clients_per_address: int
    max_conversations: int
    max_message: int
    client_queue: int
    reply_queue: int
    memory: int
    wait: float
    rate: float
    burst: float
    busy_poll: float

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Limits:
        """Those that the options say; without a rate the burst never ends."""
        given = {name: options[name] for name in cls.__slots__ if name in options}
        if "rate" not in options:
            given.update(rate=0.0, burst=float("inf"))
        return cls(**given)


class Backends(ABC):
    """What carries conversations to backends: one of the two forms, plain and workers.

    For the callbacks of one event loop; the methods raise nothing.
    """

    @abstractmethod
    async def start(self) -> None:
        """Open what is needed. Raises what the relay's ``start`` may raise."""

    @abstractmethod
    async def close(self) -> None:
        """Let everything go. Safe to call twice, and without ``start``."""

    @abstractmethod
    def update(self, backends: Sequence[Backend]) -> None:
        """These are the backends from now on."""

    @abstractmethod
    def status(self) -> Mapping[str, BackendStatus]:
        """How those of the last ``update`` stand."""

    @abstractmethod
    def open(self, client: Client, conversation: int) -> None:
        """A conversation without a message yet."""

    @abstractmethod
    def forward(self, client: Client, conversation: int, message: Message) -> None:
        """Bring a message to the conversation's backend."""

    @abstractmethod
    def finish(self, conversation: int, reason: str, drop: bool) -> None:
        """A conversation is over; what waits is dropped, or goes first."""

    @abstractmethod
    def client_writable(self, client: Client) -> None:
        """A client has become slow, or takes again what is sent to it."""

    @abstractmethod
    def client_gone(self, client: Client, ending: Ending) -> None:
        """A client's association is over; the router knows."""

    @abstractmethod
    def tick(self, elapsed: float) -> None:
        """Once a second: publish figures, give up what has waited too long."""

    @property
    @abstractmethod
    def conversations(self) -> int:
        """How many there are."""

    @abstractmethod
    def rows(self) -> Sequence[Sequence[Any]]:
        """Of each backend the id, sessions, messages in flight (None: nobody knows), and its
        counters."""


class Switch:
    """Who is connected, and the way of each message.

    ``pending`` is what waits for backends in all, ``share`` the most that one client may have of
    it, ``queued`` what waits for clients in all; in bytes. ``backends`` is set before the first
    client comes.
    """

    backends: Backends

    def __init__(
        self, router: Router, limits: Limits, figures: Figures, clock: Clock, logger: Logger
    ) -> None:
        self.limits = limits
        self.figures = figures
        self.clock = clock
        self.logger = logger
        self.router = router
        self.clients: dict[int, Client] = {}
        self.polling = BusyPoll(limits.busy_poll)
        self.pending = 0
        self.queued = 0
        self.share = limits.client_queue
        #: Whether clients are accepted no more.
        self.draining = False
        self._emptied: asyncio.Event | None = None
        self._passes_replies = type(router).reply is Router.reply
        self._sources: Counter[str] = Counter()
        self._numbers = itertools.count(1)

    # Clients.

    def accept(self, association: Association) -> Client | None:
        """Who uses a new association; None, counted, when there is no room for it."""
        reason = self._objection(association.remote[0].host)
        if reason:
            self.figures.refuse(reason)
            return None
        client = Client(next(self._numbers), association, self)
        self.clients[client.number] = client
        self._sources[client.source.host] += 1
        self._share_out()
        return client

    def client_up(self, client: Client) -> None:
        """A client is connected."""
        self._ask(client, self.router.client_up, client.number)

    def message(self, client: Client, message: Message) -> None:
        """A client has sent a message."""
        try:
            for action in self.router.message(client.number, message):
                if type(action) is Forward:
                    self.backends.forward(client, action.conversation, action.message)
                else:
                    self._do(action, client)
        except Exception as error:  # noqa: BLE001 (a router's bug must not stop other clients)
            self._router_failed(error, client)

    def client_writable(self, client: Client) -> None:
        """A client has become slow, or takes again what is sent to it."""
        self.backends.client_writable(client)

    def client_gone(self, client: Client, ending: Ending) -> None:
        """A client's association is over."""
        del self.clients[client.number]
        self._sources[client.source.host] -= 1
        if not self._sources[client.source.host]:
            del self._sources[client.source.host]
        self._share_out()
        self._ask(client, self.router.client_down, client.number)
        self.backends.client_gone(client, ending)
        if self._emptied is not None and not self.clients:
            self._emptied.set()

    def relieve(self) -> None:
        """More waits for clients than there is memory for: disconnect the one with most."""
        slowest = max(self.clients.values(), key=lambda client: client.outbox_bytes)
        slowest.abort("client_too_slow")

    async def emptied(self) -> None:
        """Wait until there is no client."""
        if self.clients:
            self._emptied = asyncio.Event()
            await self._emptied.wait()

    # Backends.

    def reply(self, conversation: int, client: Client, messages: Sequence[Message]) -> None:
        """A worker has answered a client, or sends something by itself."""
        if self._passes_replies:
            for message in messages:
                client.send(message)
        else:
            self._ask(client, self.router.reply, conversation, client.number, messages)

    def finished(self, conversation: int, client: Client) -> None:
        """A worker has said that a conversation is over."""
        self._ask(client, self.router.finished, conversation)

    def choose(self, conversation: int, loads: Sequence[Load]) -> str | None:
        """The router's choice among these; None for none."""
        usable = [load for load in loads if load.weight > 0]
        if not usable:
            return None
        try:
            return self.router.choose(conversation, usable)
        except Exception as error:  # noqa: BLE001 (a router's bug must not stop other clients)
            self._router_failed(error, None)
            return None

    def backend_down(self, backend: str, conversations: Sequence[int]) -> None:
        """A backend is lost with these conversations, which are not pinned any more."""
        self._ask(None, self.router.backend_down, backend, conversations)

    # What the router says.

    def _ask(
        self, client: Client | None, event: Callable[..., Actions], *arguments: object
    ) -> None:
        try:
            for action in event(*arguments):
                self._do(action, client)
        except Exception as error:  # noqa: BLE001 (a router's bug must not stop other clients)
            self._router_failed(error, client)

    def _do(self, action: Action, client: Client | None) -> None:
        match action:
            case Send(number, message):
                receiver = self.clients.get(number)
                if receiver is None:
                    self.figures.refuse("client_gone")
                else:
                    receiver.send(message)
            case Forward(conversation, message) if client is not None:
                self.backends.forward(client, conversation, message)
            case Open(conversation) if client is not None:
                self.backends.open(client, conversation)
            case Finish(conversation, reason, drop):
                self.backends.finish(conversation, reason, drop)
            case Disconnect(number, reason):
                if number in self.clients:
                    self.clients[number].abort(reason)
            case Refuse(reason):
                self.figures.refuse(reason)
            case _:
                self.figures.refuse("router_failed")

    def _router_failed(self, error: Exception, client: Client | None) -> None:
        self.logger.error("the router failed", exc_info=error)
        if client is None or client.over:
            self.figures.refuse("router_failed")
        else:
            client.abort("router_failed")

    def _objection(self, host: str) -> str:
        limits = self.limits
        if self.draining:
            return "draining"
        if len(self.clients) >= limits.max_clients:
            return "too_many_clients"
        if self._sources[host] >= limits.max_clients_per_address:
            return "too_many_clients_of_address"
        return "memory" if self.pending > limits.memory else ""

    def _share_out(self) -> None:
        fair = max(_LEAST_SHARE, self.limits.memory // max(1, len(self.clients)))
        self.share = min(self.limits.client_queue, fair)
