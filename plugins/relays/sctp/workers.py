"""The ``workers`` form: backends are workers that register themselves over the worker link.

A worker's place is told by the id of its VM. It gets conversations when the last ``update`` of
the relay names that VM and does not drain it. Until there is a first update, the option ``open``
has every worker taken that knows the secret; otherwise they wait to be named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from isoneph.core.errors import LinkError, RelayError
from isoneph.core.link import (
    Drain,
    Failed,
    LinkAddress,
    LinkServer,
    Push,
    Reply,
    WorkerConnection,
    read_secret,
)
from isoneph.core.traffic import Backend, BackendStatus, Ending, Message
from isoneph.plugins.relays.sctp.clients import Client
from isoneph.plugins.relays.sctp.conversations import Conversations
from isoneph.plugins.relays.sctp.figures import BackendTraffic
from isoneph.plugins.relays.sctp.parcels import Worker
from isoneph.plugins.relays.sctp.switch import Backends, Switch

#: Heartbeats in the time after which a worker is lost.
_BEATS: Final = 3
#: Ends of a worker's connection that no message is to blame for.
_BLAMELESS: Final = frozenset({"left", "replaced", "removed", "closed"})
#: Workers whose figures are kept when they are gone, without an engine that names VMs.
_MOST_KNOWN: Final = 1000


class Workers(Backends):
    """Registered workers, and the conversations that they share."""

    def __init__(self, options: Mapping[str, Any], switch: Switch, application: str) -> None:
        self._options = options
        self._switch = switch
        self._application = application
        self._conversations = Conversations(switch, switch.router.window, options["max_losses"])
        self._named: dict[str, Backend] = {}
        self._open: bool = options["open"]
        #: Reasons for refusals that were logged since the last tick.
        self._told: set[str] = set()
        self._members: dict[str, _Member] = {}
        self._traffic: dict[str, BackendTraffic] = {}
        self._server: LinkServer | None = None
        #: Where workers connect to; there after :meth:`start`.
        self.address = LinkAddress()

    async def start(self) -> None:
        """Listen for workers. Raises RelayError."""
        options = self._options
        try:
            self._server = LinkServer(
                application=self._application,
                secret=read_secret(Path(options["secret_file"])),
                accept=self._accept,
                refused=self._refused,
                interval=options["lost_after"] / _BEATS,
                timeout=options["lost_after"],
            )
            self.address = await self._server.listen(LinkAddress.parse(options["listen"]))
        except LinkError as error:
            raise RelayError(error.message) from error

    async def close(self) -> None:
        """Say goodbye to the workers."""
        if self._server is not None:
            self._server.close()

    def update(self, backends: Sequence[Backend]) -> None:
        """Name the workers' VMs; one that is named no more has to register anew."""
        self._named = {backend.id: backend for backend in backends}
        self._open = False
        for member in tuple(self._members.values()):
            if member.named and member.id not in self._named:
                member.connection.close("removed")
            else:
                self._judge(member)
        self._conversations.house()
        self._forget_gone()

    def status(self) -> Mapping[str, BackendStatus]:
        """A backend is ready when its worker is connected and does not want to stop. An open relay
        has all workers as backends."""
        backends = self._members.keys() if self._open else self._named.keys()
        return {id_: self._status_of(self._members.get(id_)) for id_ in backends}

    def open(self, client: Client, conversation: int) -> None:
        """Nothing to do: workers hear of a conversation by its first message."""

    def forward(self, client: Client, conversation: int, message: Message) -> None:
        """Dispatch it as soon as may be."""
        self._conversations.forward(client, conversation, message)

    def finish(self, conversation: int, reason: str, drop: bool) -> None:
        """End a conversation."""
        self._conversations.finish(conversation, reason, drop)

    def client_writable(self, client: Client) -> None:
        """What was held back for a slow client goes on."""
        if client.writable:
            self._conversations.unpark(client)

    def client_gone(self, client: Client, ending: Ending) -> None:
        """Nobody is slow any more."""
        self._conversations.unpark(client)

    def tick(self, elapsed: float) -> None:
        """Publish figures, give up what has waited too long for a worker."""
        self._told.clear()
        self._conversations.expire(self._switch.clock.monotonic())
        for id_, traffic in self._traffic.items():
            member = self._members.get(id_)
            worker = member.worker if member is not None else None
            self._switch.figures.publish_backend(
                id_,
                traffic,
                elapsed,
                ready=float(self._status_of(member).ready),
                sessions=len(worker.conversations) if worker else 0,
                in_flight=len(worker.flying) if worker else 0,
            )

    @property
    def conversations(self) -> int:
        """How many there are."""
        return len(self._conversations)

    def rows(self) -> Sequence[Sequence[Any]]:
        """Workers, and backends without one."""
        rows = []
        for id_ in sorted(self._named.keys() | self._members.keys()):
            member = self._members.get(id_)
            sessions = len(member.worker.conversations) if member is not None else 0
            flying = len(member.worker.flying) if member is not None else 0
            traffic = self._traffic.get(id_, BackendTraffic())
            rows.append([id_, sessions, flying, *traffic.counters()])
        return rows

    def came(self, member: _Member) -> None:
        """A worker is let in."""
        self._members[member.id] = member
        self._conversations.add(member.worker)
        self._judge(member)

    def went(self, member: _Member, reason: str, text: str) -> None:
        """A worker's connection is over."""
        if self._members.get(member.id) is member:
            del self._members[member.id]
        self._switch.logger.info("the worker of %s is gone: %s, %s", member.id, reason, text)
        self._conversations.lost(member.worker, blamed=reason not in _BLAMELESS)

    def _accept(self, connection: WorkerConnection) -> _Member:
        id_ = connection.hello.vm_id
        if id_ not in self._traffic and len(self._traffic) >= _MOST_KNOWN:
            self._forget_gone()
        traffic = self._traffic.setdefault(id_, BackendTraffic())
        return _Member(self, self._conversations, connection, traffic)

    def _forget_gone(self) -> None:
        """Drop the figures of workers that are neither named nor connected."""
        for id_ in self._traffic.keys() - self._named.keys() - self._members.keys():
            del self._traffic[id_]
            self._switch.figures.forget_backend(id_)

    def _refused(self, reason: str, text: str) -> None:
        self._switch.figures.refuse(f"worker_{reason}")
        if reason not in self._told:
            self._told.add(reason)
            self._switch.logger.warning("a worker was not let in: %s", text)

    def _judge(self, member: _Member) -> None:
        backend = self._named.get(member.id)
        member.named = member.named or backend is not None
        if backend is None:
            weight, welcome = 1.0, self._open
        else:
            weight, welcome = backend.weight, not backend.draining
        member.worker.weight = weight * member.connection.hello.capacity
        self._conversations.set_taking(member.worker, welcome and not member.stopping)

    @staticmethod
    def _status_of(member: _Member | None) -> BackendStatus:
        if member is None:
            return BackendStatus(ready=False, text="its worker is not connected")
        sessions = len(member.worker.conversations)
        text = "its worker is stopping" if member.stopping else ""
        return BackendStatus(ready=not member.stopping, sessions=sessions, text=text)


class _Member:
    """One worker's connection (its WorkerHandler)."""

    def __init__(
        self,
        workers: Workers,
        conversations: Conversations,
        connection: WorkerConnection,
        traffic: BackendTraffic,
    ) -> None:
        self.id = connection.hello.vm_id
        self.connection = connection
        self.worker = Worker(self.id, connection, connection.hello.window, traffic)
        #: Whether an update has named it since it has connected.
        self.named = False
        #: Whether it wants to stop.
        self.stopping = False
        self._told = False
        self._workers = workers
        self._conversations = conversations

    def opened(self) -> None:
        """It is let in."""
        self._workers.came(self)

    def replied(self, reply: Reply) -> None:
        """It has answered."""
        self._conversations.answered(
            self.worker, reply.sequence, reply.messages, reply.state, reply.finished
        )
        if self.stopping:
            self._tell()

    def failed(self, failed: Failed) -> None:
        """It could not handle a message."""
        self._conversations.failed(self.worker, failed.sequence, f"worker_said_{failed.reason}")
        if self.stopping:
            self._tell()

    def pushed(self, push: Push) -> None:
        """It sends something by itself."""
        self._conversations.pushed(self.worker, push.conversation, push.messages)

    def drain_wanted(self, drain: Drain) -> None:
        """It wants to stop: what it has not answered it may finish."""
        self.stopping = True
        self._conversations.set_taking(self.worker, False)
        self._tell()

    def writable_changed(self, writable: bool) -> None:
        """It reads again."""
        if writable:
            self._conversations.serve(self.worker)

    def closed(self, reason: str, text: str) -> None:
        """It is gone."""
        self._workers.went(self, reason, text)

    def _tell(self) -> None:
        if not (self.worker.flying or self._told):
            self._told = True
            self.connection.drain()
