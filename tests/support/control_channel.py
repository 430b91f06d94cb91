"""The control channel of a scripted relay, from both ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from isoneph.core.metrics import PrometheusMetrics
from isoneph.core.relaying import Member, RelayHost, RemoteRelay
from isoneph.core.relaying.server import ControlServer
from isoneph.core.testing import make_environment
from scripted_relay import ScriptedRelay

ONE = Member(id="a", placement="uniform/1", addresses=("10.0.0.1",))
SECRET = "correct horse battery staple"


class Relays:
    """A relay's control server and clients of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.relay = ScriptedRelay({}, make_environment("mme"))
        self.metrics = PrometheusMetrics()
        self.control = str(path / "mme.sock")
        self._ends: list[Callable[[], Awaitable[None]]] = []

    def secret(self, text: str = SECRET, mode: int = 0o600) -> str:
        file = self.path / f"secret{len(list(self.path.iterdir()))}"
        file.write_text(text)
        file.chmod(mode)
        return str(file)

    async def serve(self, secret_file: str | None = None) -> ControlServer:
        server = self.server(secret_file)
        await server.start()
        return server

    def server(self, secret_file: str | None = None) -> ControlServer:
        server = ControlServer(
            RelayHost(self.relay), "mme", self.control, secret_file, self.metrics
        )
        self._ends.append(server.close)
        return server

    def client(self, secret_file: str | None = None, application: str = "mme") -> RemoteRelay:
        client = RemoteRelay(application, self.control, secret_file)
        self._ends.append(client.close)
        return client

    async def close(self) -> None:
        for end in reversed(self._ends):
            await end()

    def refused(self, reason: str) -> bool:
        text = f'isoneph_relay_control_refused_total{{reason="{reason}"}} 1.0'
        return text in self.metrics.exposition().decode()
