"""The ``plain`` form: backends are SCTP servers that know nothing of isoneph.

For each client there is one association to each server that it has conversations with; what the
server sends goes to the client as it is. When either of the two associations ends, so does the
other, in the same manner. A conversation without a server that is ready waits for one.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Any

from isoneph.core.plugin import Load, Transport
from isoneph.core.traffic import Backend, BackendStatus, Ending, Message
from isoneph.plugins.relays.sctp.clients import Client, cost
from isoneph.plugins.relays.sctp.servers import Server, Upstream
from isoneph.plugins.relays.sctp.switch import Backends, Switch


class _Homeless:
    """A conversation that waits for a server."""

    __slots__ = ("client", "since", "waiting")

    def __init__(self, client: Client, since: float) -> None:
        self.client = client
        self.since = since
        self.waiting: deque[Message] = deque()


class Plain(Backends):
    """Servers, and what is connected to them for clients."""

    def __init__(self, options: Mapping[str, Any], switch: Switch, transport: Transport) -> None:
        self.figures = switch.figures
        self._options = options
        self._switch = switch
        self._transport = transport
        self._servers: dict[str, Server] = {}
        self._pinned: dict[int, Upstream] = {}
        self._homeless: OrderedDict[int, _Homeless] = OrderedDict()
        #: By client, then by server.
        self._upstreams: dict[int, dict[str, Upstream]] = {}

    async def start(self) -> None:
        """Nothing to open: servers are watched from the first ``update`` on."""

    async def close(self) -> None:
        """Break off what is left."""
        self.update(())

    def update(self, backends: Sequence[Backend]) -> None:
        """Begin to watch the new ones; break off what belongs to those that are missing."""
        named = {backend.id: backend for backend in backends}
        for id_, server in tuple(self._servers.items()):
            backend = named.get(id_)
            if backend is None or backend.addresses != server.backend.addresses:
                del self._servers[id_]
                server.close()
                if backend is None:
                    self.figures.forget_backend(id_)
            else:
                server.backend = backend
        for id_, backend in named.items():
            if id_ not in self._servers:
                self._servers[id_] = self._server(backend)
        self._house()

    def status(self) -> Mapping[str, BackendStatus]:
        """A backend is ready when it can be connected to."""
        return {id_: server.status for id_, server in self._servers.items()}

    # What clients and the router do.

    def open(self, client: Client, conversation: int) -> None:
        """Connect its server, if that is to be done at once."""
        if self._options["connect"] == "client" and self._has_room(conversation):
            self._pin(client, conversation)

    def forward(self, client: Client, conversation: int, message: Message) -> None:
        """To the conversation's server, now or when it is connected."""
        upstream = self._pinned.get(conversation)
        if upstream is not None and upstream.client is client:
            upstream.send(conversation, message)
            return
        if self._owner(conversation) is not client:
            self.finish(conversation, "another_client", drop=False)
        if not self._has_room(conversation):
            self.figures.refuse("too_many_conversations")
        elif client.over:
            self.figures.refuse("client_gone")
        else:
            upstream = self._pin(client, conversation)
            if upstream is not None:
                upstream.send(conversation, message)
            else:
                client.charge(cost(message))
                self._homeless[conversation].waiting.append(message)

    def finish(self, conversation: int, reason: str, drop: bool) -> None:
        """Unpin it; an association that nothing is pinned to any more is closed."""
        self._forget_homeless(conversation, reason)
        upstream = self._pinned.get(conversation)
        if upstream is not None:
            self._unpin(upstream, conversation)
            if drop:
                upstream.drop(conversation, reason)
            if not upstream.conversations:
                upstream.close()

    def client_writable(self, client: Client) -> None:
        """Its servers are read from only while it takes what they send."""
        for upstream in self._upstreams.get(client.number, {}).values():
            if client.writable:
                upstream.resume_reading()
            else:
                upstream.pause_reading()

    def client_gone(self, client: Client, ending: Ending) -> None:
        """Its associations end as it did."""
        for number, homeless in tuple(self._homeless.items()):
            if homeless.client is client:
                self._forget_homeless(number, "client_gone")
        for upstream in tuple(self._upstreams.get(client.number, {}).values()):
            if ending is Ending.CLOSED:
                upstream.close()
            else:
                upstream.abort()

    # What servers do.

    def server_ready(self, server: Server) -> None:
        """It gets what waits for a server."""
        self._switch.logger.info("backend %s is ready", server.backend.id)
        self._house()

    def server_unready(self, server: Server) -> None:
        """It gets nothing new."""
        name = server.backend.id
        self._switch.logger.warning("backend %s is not ready: %s", name, server.text)

    def upstream_failed(self, upstream: Upstream) -> None:
        """Nothing was sent: another server gets it all."""
        client, waiting = upstream.client, tuple(upstream.outbox)
        numbers = tuple(upstream.conversations)
        self._detach(upstream)
        for _, message in waiting:
            client.settle(cost(message))
        if client.over or upstream.ours:
            self.figures.refuse("no_backend", len(waiting))
            return
        for number in numbers:
            self._pin(client, number)
        for number, message in waiting:
            self.forward(client, number, message)

    def upstream_over(self, upstream: Upstream, ending: Ending) -> None:
        """The client's association ends in the same manner, unless the relay has ended this."""
        self._detach(upstream)
        if upstream.ours or upstream.client.over:
            return
        if ending is Ending.CLOSED:
            upstream.client.close()
        else:
            upstream.client.abort(f"backend_{ending.value}")

    # What is shown.

    def tick(self, elapsed: float) -> None:
        """Publish figures, disconnect clients that have waited too long for a server."""
        before = self._switch.clock.monotonic() - self._switch.limits.wait
        for homeless in tuple(self._homeless.values()):
            if homeless.since > before:
                break
            homeless.client.abort("no_backend")
        for id_, server in self._servers.items():
            self.figures.publish_backend(
                id_,
                server.traffic,
                elapsed,
                ready=float(server.ready),
                sessions=len(server.upstreams),
            )

    @property
    def conversations(self) -> int:
        """How many there are."""
        return len(self._pinned) + len(self._homeless)

    def rows(self) -> Sequence[Sequence[Any]]:
        """Nobody knows what a plain server has not answered."""
        return [
            [id_, len(server.upstreams), None, *server.traffic.counters()]
            for id_, server in sorted(self._servers.items())
        ]

    # Inside.

    def _server(self, backend: Backend) -> Server:
        return Server(
            backend,
            self._options["port"],
            transport=self._transport,
            timeout=self._options["connect_timeout"],
            interval=self._options["health_interval"],
            clock=self._switch.clock,
            owner=self,
        )

    def _owner(self, number: int) -> Client | None:
        pinned = self._pinned.get(number) or self._homeless.get(number)
        return None if pinned is None else pinned.client

    def _has_room(self, number: int) -> bool:
        return (
            self.conversations < self._switch.limits.max_conversations
            or number in self._homeless
            or number in self._pinned
        )

    def _pin(self, client: Client, number: int) -> Upstream | None:
        """The association for a conversation that has none; None when it waits for a server."""
        if number in self._homeless:
            return None
        upstream = self._placed(client, number)
        if upstream is None:
            self._homeless[number] = _Homeless(client, self._switch.clock.monotonic())
        return upstream

    def _placed(self, client: Client, number: int) -> Upstream | None:
        loads = [
            Load(id_, server.backend.weight, server.conversations, 0)
            for id_, server in self._servers.items()
            if server.ready and not server.backend.draining
        ]
        chosen = self._switch.choose(number, loads)
        server = self._servers.get(chosen) if chosen is not None else None
        if server is None:
            return None
        upstreams = self._upstreams.setdefault(client.number, {})
        upstream = upstreams.get(server.backend.id)
        if upstream is None or upstream.ours:
            upstream = upstreams[server.backend.id] = Upstream(server, client, self)
        self._pinned[number] = upstream
        upstream.conversations[number] = None
        server.conversations += 1
        return upstream

    def _unpin(self, upstream: Upstream, number: int) -> None:
        del self._pinned[number], upstream.conversations[number]
        upstream.server.conversations -= 1

    def _detach(self, upstream: Upstream) -> None:
        for number in tuple(upstream.conversations):
            self._unpin(upstream, number)
        upstream.server.upstreams.discard(upstream)
        upstreams = self._upstreams.get(upstream.client.number, {})
        id_ = upstream.server.backend.id
        if upstreams.get(id_) is upstream:
            del upstreams[id_]
            if not upstreams:
                del self._upstreams[upstream.client.number]

    def _house(self) -> None:
        for number, homeless in tuple(self._homeless.items()):
            if self._homeless.get(number) is not homeless:
                continue  # Its client was disconnected by what another one had waiting.
            upstream = self._placed(homeless.client, number)
            if upstream is None:
                continue
            del self._homeless[number]
            for message in homeless.waiting:
                homeless.client.settle(cost(message))
                upstream.send(number, message)

    def _forget_homeless(self, number: int, reason: str) -> None:
        homeless = self._homeless.pop(number, None)
        if homeless is not None and homeless.waiting:
            self.figures.refuse(reason, len(homeless.waiting))
            for message in homeless.waiting:
                homeless.client.settle(cost(message))
