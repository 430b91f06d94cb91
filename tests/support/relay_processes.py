"""``isoneph relay`` with the sctp relay, servers, workers and clients: all of it real."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import psutil
import yaml

from free_ports import free_udp_ports
from isoneph.core.clock import SystemClock
from isoneph.core.errors import RelayError
from isoneph.core.plugin import Association
from isoneph.core.relaying import RemoteRelay
from isoneph.core.relaying.values import Member
from isoneph.core.testing import build_plugin, make_environment
from isoneph.core.traffic import Address, BackendStatus, Ending, Message, Notification, RelayReport
from isoneph.plugins.transports.userland import UserlandTransport

HERE = Path(__file__).parent
#: Where the keyed router is that the documentation shows.
EXAMPLES = HERE.parents[1] / "doc" / "examples"
HOST = "127.0.0.1"
PORT = 36412
SERVER_PORT = 36413
SECRET = "a secret of many bytes"
PATIENCE = 15.0
#: A dead peer is noticed within two seconds or so.
IMPATIENT = {
    "rto_initial": 0.1,
    "rto_min": 0.05,
    "rto_max": 0.2,
    "heartbeat": 0.2,
    "max_retransmissions": 3,
    "max_message": 65536,
}


async def wait_until(true: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Return when that holds."""
    async with asyncio.timeout(patience):
        try:
            while not true():  # noqa: ASYNC110 (nobody tells of what is waited for)
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            print(f"still waiting for: {what}", file=sys.stderr)
            raise


class Client:
    """A client of the relay."""

    association: Association

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.ending: Ending | None = None
        self.on_message: Callable[[Message], None] = self.got.append
        self.writable = True

    def opened(self, association: Association) -> None:
        self.association = association

    def received(self, message: Message) -> None:
        self.on_message(message)

    def writable_changed(self, writable: bool) -> None:
        self.writable = writable

    def notified(self, notification: Notification) -> None:
        pass

    def closed(self, ending: Ending, reason: str) -> None:
        self.ending = ending

    def send(self, data: bytes, stream: int = 0, ppid: int = 0) -> None:
        self.association.send(Message(data, stream, ppid))

    @property
    def data(self) -> list[bytes]:
        return [message.data for message in self.got]


class Stage:
    """One relay process with everything around it; all of it ends with the block."""

    def __init__(self, *, send_queue: int = 1 << 20, **relay: Any) -> None:
        self._stack = AsyncExitStack()
        self._send_queue = send_queue
        self._settings = relay
        self.processes: dict[str, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> Self:
        directory = tempfile.TemporaryDirectory(prefix="isoneph-relay-")
        self.directory = Path(self._stack.enter_context(directory))
        self.udp, self.server_udp, own_udp = free_udp_ports(3)
        self.workers_at = self.directory / "workers.sock"
        secret = self.directory / "secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        self.transport = self.make_transport(own_udp)
        await self.transport.start()
        self._stack.push_async_callback(self.transport.close)
        self._configure()
        await self.start_relay()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for name in list(self.processes):
            await self.kill(name)
        await self._stack.aclose()

    def make_transport(self, udp: int, **options: Any) -> UserlandTransport:
        return build_plugin(
            UserlandTransport,
            {**IMPATIENT, "udp_port": udp, "remote_udp_port": self.udp, **options},
            environment=make_environment("client", clock=SystemClock(), timeout=5.0),
        )

    def _configure(self) -> None:
        relay = {
            "driver": "sctp",
            "control": str(self.directory / "control.sock"),
            "listen": [f"{HOST}:{PORT}"],
            "transport": {
                "driver": "userland",
                "udp_port": self.udp,
                "remote_udp_port": self.server_udp,
                "send_queue": self._send_queue,
                **IMPATIENT,
            },
            **self._settings,
        }
        if "plain" in relay:
            relay["plain"] = {"port": SERVER_PORT, "health_interval": 0.1, **relay["plain"]}
        if "workers" in relay:
            at = {"listen": str(self.workers_at), "secret_file": str(self.directory / "secret")}
            relay["workers"] = {**at, **relay["workers"]}
        application = {"types": {"worker": {}}, "clouds": ["here"], "relay": relay}
        (self.directory / "clouds.yaml").write_text("clouds: {here: {driver: mock}}\n")
        (self.directory / "applications").mkdir()
        (self.directory / "applications" / "mme.yaml").write_text(yaml.safe_dump(application))

    # Processes.

    async def start_relay(self) -> None:
        """Start it, and return when it can be spoken to."""
        await self.start(
            "relay",
            "-c",
            "import sys; from isoneph.core.cli.main import main; sys.exit(main())",
            "relay",
            "mme",
            "--config-dir",
            str(self.directory),
            "--state",
            str(self.directory / "state"),
        )
        self.remote = RemoteRelay("mme", str(self.directory / "control.sock"))
        self._stack.push_async_callback(self.remote.close)
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(RelayError):
                    await self.remote.status()
                    return
                assert self.processes["relay"].returncode is None, self.log("relay")
                await asyncio.sleep(0.02)

    async def start(self, name: str, *arguments: str) -> None:
        """Start a Python program; its output goes to a file."""
        own = [str(HERE / "keyed_plugin"), str(EXAMPLES), os.environ.get("PYTHONPATH", "")]
        path = os.pathsep.join(own)
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)},
            )

    async def start_server(self, name: str, host: str, *arguments: str) -> None:
        """A plain server; it says when it listens."""
        program = str(HERE / "sctp_server.py")
        ports = [str(self.server_udp), str(SERVER_PORT)]
        await self.start(name, program, host, *ports, *arguments)
        await wait_until(lambda: "listening" in self.log(name), f"{name} to listen")

    async def start_worker(self, name: str, *arguments: str) -> None:
        """A counting worker."""
        await self.start(
            name,
            str(HERE / "counting_worker.py"),
            *["--relay", str(self.workers_at), "--secret-file", str(self.directory / "secret")],
            *["--id", name, "--application", "mme", "--most-backoff", "0.1", *arguments],
        )

    async def await_link(self, name: str) -> None:
        """Return when a worker says that it is let in."""
        await wait_until(lambda: "linked" in self.log(name), f"the link of {name}")

    async def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send it a signal and wait for its end; its exit status."""
        process = self.processes.pop(name)
        if process.returncode is None:
            process.send_signal(number)
        return await process.wait()

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def memory(self) -> int:
        """Bytes that the relay's process has in memory."""
        return int(psutil.Process(self.processes["relay"].pid).memory_info().rss)

    # The relay, and its clients.

    async def name(self, *names: str, hosts: Sequence[str] = ()) -> None:
        """Tell the relay of its backends."""
        addresses = hosts or [HOST] * len(names)
        await self.remote.update(
            [
                Member(id=name, placement=name, addresses=(host,))
                for name, host in zip(names, addresses, strict=True)
            ]
        )

    async def await_ready(self, *names: str, ready: bool = True) -> None:
        await self._await(lambda status: all(status[name].ready is ready for name in names))

    async def await_sessions(self, name: str, sessions: int) -> None:
        await self._await(lambda status: status[name].sessions == sessions)

    async def _await(self, good: Callable[[Mapping[str, BackendStatus]], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not good((await self.remote.status()).status):  # noqa: ASYNC110 (as above)
                await asyncio.sleep(0.01)

    async def refused(self) -> dict[str, int]:
        report = await self.report()
        (table,) = [table for table in report.tables if table.name == "refused"]
        return {str(reason): int(count) for reason, count in table.rows}

    async def report(self) -> RelayReport:
        return await self.remote.report()

    async def client(self, transport: UserlandTransport | None = None) -> Client:
        """A new association with the relay."""
        client = Client()
        await (transport or self.transport).connect([Address(HOST, PORT)], client)
        return client


@contextlib.asynccontextmanager
async def another_transport(stage: Stage, **options: Any) -> AsyncIterator[UserlandTransport]:
    """A client's transport with settings of its own."""
    transport = stage.make_transport(free_udp_ports(1)[0], **options)
    await transport.start()
    try:
        yield transport
    finally:
        await transport.close()
