"""Pieces of the sctp relay without I/O: a switch, clients, links to workers that nobody runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

from isoneph.core.errors import QueueFull
from isoneph.core.link import Hello, WorkerConnection, WorkerHandler
from isoneph.core.plugin import Actions, Association, AssociationHandler, Finish, Forward, Router
from isoneph.core.testing import FakeClock, NullMetrics, make_environment
from isoneph.core.traffic import Address, AssociationStatistics, Ending, Message
from isoneph.plugins.relays.sctp.clients import Client
from isoneph.plugins.relays.sctp.conversations import Conversations
from isoneph.plugins.relays.sctp.figures import BackendTraffic, Figures
from isoneph.plugins.relays.sctp.parcels import Worker
from isoneph.plugins.relays.sctp.switch import Limits, Switch
from isoneph.plugins.relays.sctp.workers import Workers

_numbers = itertools.count(1)
LIMITS = {
    "max_clients": 100,
    "max_clients_per_address": 100,
    "max_conversations": 100,
    "max_message": 1000,
    "client_queue": 100_000,
    "reply_queue": 100_000,
    "memory": 1_000_000,
    "wait": 30.0,
    "rate": 0.0,
    "burst": float("inf"),
    # These tests make their events themselves, without an event loop.
    "busy_poll": 0.0,
}


class ByStream(Router):
    """The stream's number is the conversation's; nothing ends by itself."""

    def __init__(self, window: int = 1) -> None:
        super().__init__({}, make_environment("by-stream"))
        self.window = window
        self.ended: list[int] = []
        self.downs: list[tuple[str, tuple[int, ...]]] = []

    def message(self, client: int, message: Message) -> Actions:
        if message.data.startswith(b"end"):
            return [Finish(message.stream, drop=message.data == b"end now")]
        return [Forward(message.stream, message)]

    def finished(self, conversation: int) -> Actions:
        self.ended.append(conversation)
        return ()

    def backend_down(self, backend: str, conversations: Sequence[int]) -> Actions:
        self.downs.append((backend, tuple(conversations)))
        return ()


class StubAssociation(Association):
    """Remembers what is asked of it; ``error`` makes it refuse what is sent, ``room`` takes so
    many bytes more and says, as userland SCTP does, before it refuses that it is not writable."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.id = next(_numbers)
        self.remote, self.local = [Address(host, self.id)], [Address(host, 1)]
        self.streams_in = self.streams_out = 10
        self.writable = True
        self.sent: list[Message] = []
        self.reading = True
        self.closing = False
        self.error: Exception | None = None
        self.room: int | None = None
        self.aborted = ""
        self.handler: AssociationHandler | None = None

    def send(self, message: Message) -> None:
        if self.error:
            raise self.error
        if self.room is not None:
            if len(message.data) > self.room:
                if self.handler is not None:
                    self.handler.writable_changed(False)
                raise QueueFull("full")
            self.room -= len(message.data)
        self.sent.append(message)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def paused(self) -> bool:
        return not self.reading

    def close(self) -> None:
        self.closing = True

    def abort(self, reason: str = "") -> None:
        self.aborted = reason
        if self.handler is not None:
            self.handler.closed(Ending.ABORTED, reason)

    def statistics(self) -> AssociationStatistics:
        return AssociationStatistics()


class StubLink:
    """Remembers what is dispatched to a worker, as (sequence, conversation, data, state,
    redelivered)."""

    def __init__(self) -> None:
        self.writable = True
        self.dispatched: list[tuple[int, int, bytes, bytes, bool]] = []
        self.forgotten: list[int] = []

    def dispatch(
        self,
        sequence: int,
        conversation: int,
        client: int,
        message: Message,
        state: bytes = b"",
        redelivered: bool = False,
    ) -> None:
        self.dispatched.append((sequence, conversation, message.data, state, redelivered))

    def forget(self, conversation: int) -> None:
        self.forgotten.append(conversation)


class StubConnection(StubLink):
    """A link that a worker has registered over."""

    def __init__(self, id_: str) -> None:
        super().__init__()
        self.hello = Hello((1, 1), bytes(32), 1, 100, "mme", id_)


class Pieces:
    """A switch whose backends are workers; the server for them is not started."""

    def __init__(self, router: Router | None = None, *, max_losses: int = 5, **limits: Any) -> None:
        self.clock = FakeClock()
        self.figures = Figures(NullMetrics())
        self.router = router or ByStream()
        #: The router, where it is this one.
        self.by_stream = self.router if isinstance(self.router, ByStream) else ByStream()
        logger = make_environment("pieces").logger
        checked = Limits(**{**LIMITS, **limits})
        self.switch = Switch(self.router, checked, self.figures, self.clock, logger)
        self.workers = Workers({"open": True, "max_losses": max_losses}, self.switch, "mme")
        self.switch.backends = self.workers
        self.conversations: Conversations = self.workers._conversations

    def client(self, host: str = "127.0.0.1") -> tuple[Client, StubAssociation]:
        association = StubAssociation(host)
        client = self.switch.accept(association)
        assert client is not None
        association.handler = client
        client.opened(association)
        return client, association

    def worker(self, id_: str, window: int = 100, weight: float = 1.0) -> tuple[Worker, StubLink]:
        link = StubLink()
        worker = Worker(id_, link, window, BackendTraffic())
        worker.weight = weight
        self.conversations.add(worker)
        self.conversations.set_taking(worker, True)
        return worker, link

    def register(self, id_: str) -> WorkerHandler:
        """A worker that the ``workers`` form has let in, as over a link."""
        link = StubConnection(id_)
        handler = self.workers._accept(cast("WorkerConnection", link))
        handler.opened()
        return handler

    def answer(
        self, worker: Worker, sequence: int, *data: bytes, state: bytes | None = None
    ) -> None:
        messages = [Message(each) for each in data]
        self.conversations.answered(worker, sequence, messages, state, False)
