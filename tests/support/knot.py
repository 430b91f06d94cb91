"""A Knot DNS server of our own on a loopback port, for tests."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import dns.exception
import dns.message
import dns.query

from web_backends import free_port

ZONE = "example.test"
KEY_NAME = "isoneph"
ALGORITHM = "hmac-sha256"
SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="
STARTED_WITHIN = 20.0
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"

_CONFIGURATION = """
server:
    rundir: "{directory}"
    listen: 127.0.0.1@{port}
key:
  - id: {key}
    algorithm: {algorithm}
    secret: "{secret}"
acl:
  - id: relay
    action: [update, query, transfer]
    key: {key}
remote:
  - id: primary
    address: 127.0.0.1@{primary}
    key: {key}
database:
    storage: "{directory}"
template:
  - id: default
    storage: "{directory}"
    zonefile-sync: 0
zone:
  - domain: {zone}
    file: zone
    acl: relay
"""
#: A secondary that passes updates on and asks its primary often.
_SECONDARY = """
    master: primary
    ddns-master: primary
"""
_RECORDS = """
$TTL 3600
@ SOA ns hostmaster 1 1 1 86400 1
@ NS ns
ns A 127.0.0.1
alias CNAME ns
"""


class Knot:
    """Serves the zone ``example.test``; as a secondary when it has a ``primary``."""

    def __init__(self, directory: Path, primary: Knot | None = None) -> None:
        directory.mkdir()
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        text = _CONFIGURATION.format(
            directory=directory,
            port=self.port,
            primary=primary.port if primary else self.port,
            key=KEY_NAME,
            algorithm=ALGORITHM,
            secret=SECRET,
            zone=ZONE,
        )
        (directory / "knot.conf").write_text(text + (_SECONDARY if primary else ""))
        if primary is None:
            (directory / "zone").write_text(_RECORDS)

    def start(self) -> None:
        """Start it, and return when it serves its zone."""
        program = shutil.which("knotd", path=_PATH)
        assert program is not None, "knot is not installed; tools/test installs it"
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "--config", str(self._directory / "knot.conf")], stdout=log, stderr=log
            )
        deadline = time.monotonic() + STARTED_WITHIN
        while not self._serves():
            assert self._process.poll() is None, (self._directory / "log").read_text()
            assert time.monotonic() < deadline, (self._directory / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """End it, gently: what was accepted is on disk either way."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait()

    @property
    def process(self) -> int:
        """The id of its process."""
        assert self._process is not None
        return self._process.pid

    def look_up(self, name: str, kind: str = "A") -> list[str]:
        """The records of a name in the zone, as text, sorted."""
        answer = self._ask(f"{name}.{ZONE}", kind)
        return sorted(each.to_text() for found in answer.answer for each in found)

    def ttl(self, name: str, kind: str = "A") -> int:
        """The TTL of the records of a name."""
        return self._ask(f"{name}.{ZONE}", kind).answer[0].ttl

    def serial(self) -> int:
        """The zone's serial number."""
        return int(self._ask(ZONE, "SOA").answer[0][0].to_text().split()[2])

    def _serves(self) -> bool:
        with suppress(dns.exception.DNSException, OSError, EOFError):
            return bool(self._ask(ZONE, "SOA").answer)
        return False

    def _ask(self, name: str, kind: str) -> dns.message.Message:
        question = dns.message.make_query(name, kind)
        return dns.query.tcp(question, "127.0.0.1", port=self.port, timeout=2)


@asynccontextmanager
async def far_away(knot: Knot, seconds: float) -> AsyncIterator[str]:
    """The address of ``knot`` from where its answers take that long."""
    loop = asyncio.get_running_loop()
    talks: set[asyncio.Task[None] | None] = set()

    async def pass_on(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, after: float
    ) -> None:
        while data := await reader.read(65536):
            loop.call_later(after, writer.write, data)
        writer.close()
        await writer.wait_closed()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.current_task())
        answers, questions = await asyncio.open_connection("127.0.0.1", knot.port)
        await asyncio.gather(pass_on(reader, questions, 0.0), pass_on(answers, writer, seconds))

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
        await asyncio.gather(*filter(None, talks))


def stop_all(servers: Sequence[Knot]) -> None:
    """End servers."""
    for server in servers:
        server.stop()
