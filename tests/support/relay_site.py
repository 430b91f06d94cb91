"""The sctp relay on a network within the process, with clients, plain servers and workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

from isoneph.core.clock import SystemClock
from isoneph.core.errors import LinkRefused
from isoneph.core.link import Backoff, Dispatch, LinkAddress, Reply, Worker
from isoneph.core.plugin import Association, Clock, Environment, Metrics, Router
from isoneph.core.testing import NullMetrics, build_plugin
from isoneph.core.traffic import Address, Backend, BackendStatus, Ending, Message, Notification
from isoneph.plugins.relays.sctp import SctpRelay
from isoneph.plugins.routers.sticky import Sticky
from memory_transport import MemoryNetwork, MemoryTransport

LISTEN = Address("127.0.0.1", 36412)
PORT = 36413
SECRET = b"a secret of sixteen bytes or more"


class Peer:
    """Who uses an association and remembers what comes."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.notices: list[Notification] = []
        self.ending: Ending | None = None

    def opened(self, association: Association) -> None:
        self.association = association

    def received(self, message: Message) -> None:
        self.got.append(message)

    def writable_changed(self, writable: bool) -> None:
        pass

    def notified(self, notification: Notification) -> None:
        self.notices.append(notification)

    def closed(self, ending: Ending, reason: str) -> None:
        self.ending = ending

    @property
    def data(self) -> list[bytes]:
        return [message.data for message in self.got]

    def send(self, data: bytes, stream: int = 0, ppid: int = 0, unordered: bool = False) -> None:
        self.association.send(Message(data, stream, ppid, unordered))


class Echo(Peer):
    """A server's side: sends back what comes, unless it is told to stay ``silent``."""

    def __init__(self, server: EchoServer) -> None:
        super().__init__()
        self.server = server

    def opened(self, association: Association) -> None:
        super().opened(association)
        if self.server.greeting:
            self.send(self.server.greeting)

    def received(self, message: Message) -> None:
        super().received(message)
        if not self.server.silent:
            self.association.send(message)


class EchoServer:
    """A plain server at an address of its own; ``users`` are those that sent something, or were
    greeted: not the relay's own association to watch it."""

    def __init__(self, network: MemoryNetwork, host: str, greeting: bytes = b"") -> None:
        self.transport = MemoryTransport(network, host)
        self.host = host
        self.greeting = greeting
        self.silent = False
        self.peers: list[Echo] = []

    async def start(self) -> None:
        self.listener = await self.transport.listen([Address(self.host, PORT)], self._accept)

    def _accept(self, association: Association) -> Echo:
        self.peers.append(Echo(self))
        return self.peers[-1]

    @property
    def users(self) -> list[Echo]:
        return [peer for peer in self.peers if peer.got]

    @property
    def up(self) -> int:
        return sum(peer.ending is None for peer in self.peers)


async def until(true: Callable[[], object], turns: int = 2000) -> None:
    """Let the event loop run until that holds."""
    for _ in range(turns):
        if true():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come true in time")


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Site:
    """A relay with its surroundings; ``options`` and the router may be given."""

    def __init__(
        self,
        router: Router | None = None,
        network: MemoryNetwork | None = None,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        self.network = network or MemoryNetwork()
        self.transport = MemoryTransport(self.network)
        environment = Environment(
            name="mme",
            clock=clock or SystemClock(),
            logger=logging.getLogger("isoneph.test.relay"),
            metrics=metrics or NullMetrics(),
            parts={"transport": self.transport, "router": router or build_plugin(Sticky)},
        )
        if "workers" not in options:
            options.setdefault("plain", {"port": PORT})
        every = {"listen": [str(LISTEN)], **options}
        self.relay = build_plugin(SctpRelay, every, environment=environment)
        self.servers: dict[str, EchoServer] = {}
        self._hosts = iter(range(2, 250))

    async def __aenter__(self) -> Self:
        await self.relay.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.relay.close()

    async def serve(self, *names: str, **settings: Any) -> list[EchoServer]:
        """Servers with these names join."""
        fresh = []
        for name in names:
            server = EchoServer(self.network, f"127.0.0.{next(self._hosts)}", **settings)
            await server.start()
            self.servers[name] = server
            fresh.append(server)
        await self.name_all()
        await self.ready(*names)
        return fresh

    async def name_all(self, draining: Sequence[str] = (), **weights: float) -> None:
        """Tell the relay of all servers."""
        await self.relay.update(
            [
                Backend(
                    id=name,
                    addresses=[server.host],
                    draining=name in draining,
                    weight=weights.get(name, 1.0),
                )
                for name, server in self.servers.items()
            ]
        )

    async def ready(self, *names: str) -> None:
        for _ in range(1000):
            status = await self.relay.status()
            if all(status[name].ready for name in names):
                return
            await asyncio.sleep(0)
        raise AssertionError("the servers did not become ready in time")

    async def client(self, host: str = "127.0.1.1") -> Peer:
        peer = Peer()
        transport = MemoryTransport(self.network, host)
        transport.send_queue = 1 << 30
        await transport.connect([LISTEN], peer)
        return peer

    @property
    def refused(self) -> dict[str, int]:
        return dict(self.relay._figures.refused)


def echo(dispatch: Dispatch) -> Reply:
    """A worker's answer that lengthens the state."""
    return dispatch.reply([dispatch.message], state=dispatch.state + b"+")


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[Worker]:
    """The worker runs until the end of the block, or until it is replaced."""
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        await worker.stop(0.1)
        with suppress(LinkRefused):
            await task


class Yard(Site):
    """A relay for workers, which end with the block."""

    def __init__(self, directory: Path, *, open_: bool = False, window: int = 1) -> None:
        self.directory = directory
        self._stack = AsyncExitStack()
        self.address = self.address_in(directory)
        secret_file = directory / "secret"
        secret_file.write_bytes(SECRET)
        secret_file.chmod(0o600)
        super().__init__(
            build_plugin(Sticky, {"window": window}),
            workers={
                "listen": self.address.path,
                "secret_file": str(secret_file),
                "open": open_,
                "lost_after": 0.2,
            },
        )

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()
        await super().__aexit__(*exc)

    @staticmethod
    def address_in(directory: Path) -> LinkAddress:
        return LinkAddress(path=str(directory / "workers.sock"))

    @classmethod
    def make_worker(
        cls,
        directory: Path,
        vm_id: str,
        handler: Callable[[Dispatch], Reply | Awaitable[Reply]] = echo,
        secret: bytes = SECRET,
        application: str = "mme",
    ) -> Worker:
        return Worker(
            cls.address_in(directory),
            secret,
            handler,
            application=application,
            vm_id=vm_id,
            backoff=Backoff(0.01, 0.01),
        )

    async def worker(self, vm_id: str, *arguments: Any, **settings: Any) -> Worker:
        worker = self.make_worker(self.directory, vm_id, *arguments, **settings)
        return await self._stack.enter_async_context(running(worker))

    async def name(self, *ids: str, draining: str = "") -> None:
        await self.relay.update([Backend(id=i, addresses=[], draining=i == draining) for i in ids])

    async def status_of(self, id_: str) -> BackendStatus:
        return (await self.relay.status())[id_]

    async def asking(self, *data: bytes) -> Peer:
        client = await self.client()
        for each in data:
            client.send(each)
        return client
