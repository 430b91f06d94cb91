"""A relay of a kind, and workers as processes: what functional tests of the link are made of."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from isoneph.core.link import (
    Drain,
    Failed,
    LinkAddress,
    LinkServer,
    Push,
    Reply,
    WorkerConnection,
)
from isoneph.core.traffic import Message

SECRET = b"a secret of many bytes"
WORKER = Path(__file__).parent / "counting_worker.py"


class Crew:
    """The relay's side: dispatches, waits for replies, writes down what happens."""

    def __init__(self, handshake_timeout: float = 2.0) -> None:
        self.server = LinkServer(
            application="demo",
            secret=SECRET,
            accept=lambda worker: Hand(self, worker),
            refused=self._count_refusal,
            handshake_timeout=handshake_timeout,
        )
        self.refused: Counter[str] = Counter()
        #: How each worker ended, and at what time of the loop.
        self.gone: dict[str, tuple[str, float]] = {}
        self.changed = asyncio.Event()
        self._sequence = 0

    async def listen(self, address: LinkAddress) -> LinkAddress:
        """As for the server."""
        return await self.server.listen(address)

    async def await_worker(self, vm_id: str, within: float = 10.0) -> Hand:
        """The worker, once it is there."""
        async with asyncio.timeout(within):
            while vm_id not in self.server.workers:
                await self._change()
        handler = self.server.workers[vm_id].handler
        assert isinstance(handler, Hand)
        return handler

    async def await_end(self, vm_id: str, within: float = 10.0) -> tuple[str, float]:
        """How and when a worker ended, once it has."""
        async with asyncio.timeout(within):
            while vm_id not in self.gone:
                await self._change()
        return self.gone[vm_id]

    async def await_refusal(self, reason: str, number: int = 1, within: float = 10.0) -> None:
        """Return when so many have been refused for a reason."""
        async with asyncio.timeout(within):
            while self.refused[reason] < number:
                await self._change()

    def next_sequence(self) -> int:
        """The number of a new dispatch."""
        self._sequence += 1
        return self._sequence

    def tell(self) -> None:
        """Wake who waits for a change."""
        self.changed.set()

    def _count_refusal(self, reason: str, text: str) -> None:
        self.refused[reason] += 1
        self.tell()

    async def _change(self) -> None:
        self.changed.clear()
        await self.changed.wait()


class Hand:
    """One worker, and what it has not answered yet."""

    def __init__(self, crew: Crew, worker: WorkerConnection) -> None:
        self.worker = worker
        self.unanswered: dict[int, asyncio.Future[Reply | Failed]] = {}
        self.answered = 0
        self._crew = crew

    async def ask(
        self, conversation: int, data: bytes, state: bytes = b"", within: float = 10.0
    ) -> Reply | Failed:
        """Dispatch a message and wait for the answer."""
        return await asyncio.wait_for(self.send(conversation, data, state), within)

    def send(
        self, conversation: int, data: bytes, state: bytes = b""
    ) -> asyncio.Future[Reply | Failed]:
        """Dispatch a message; the answer comes later, or never."""
        sequence = self._crew.next_sequence()
        answer = self.unanswered[sequence] = asyncio.get_running_loop().create_future()
        self.worker.dispatch(sequence, conversation, 1, Message(data, 3, 18), state)
        return answer

    def opened(self) -> None:
        self._crew.tell()

    def replied(self, reply: Reply) -> None:
        self.answered += 1
        self.unanswered.pop(reply.sequence).set_result(reply)

    def failed(self, failed: Failed) -> None:
        self.unanswered.pop(failed.sequence).set_result(failed)

    def pushed(self, push: Push) -> None:
        raise AssertionError("these workers push nothing")

    def drain_wanted(self, drain: Drain) -> None:
        self.worker.drain()

    def writable_changed(self, writable: bool) -> None:
        self._crew.tell()

    def closed(self, reason: str, text: str) -> None:
        self._crew.gone[self.worker.hello.vm_id] = (reason, asyncio.get_running_loop().time())
        self._crew.tell()


@contextlib.asynccontextmanager
async def process_of(
    program: Path, *arguments: str, log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python program, which is killed when the block is left; what it tells is in ``log``."""
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(program), *arguments, stderr=file
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # process.kill() may reap it behind the event loop's back.
                os.kill(process.pid, signal.SIGKILL)
        await process.wait()


@contextlib.asynccontextmanager
async def worker_process(
    relay: LinkAddress, directory: Path, vm_id: str, *arguments: str, secret: bytes = SECRET
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A counting worker, which is killed when the block is left. Its log is ``VM_ID.log``."""
    secret_file = directory / f"{vm_id}.secret"
    secret_file.write_bytes(secret)
    secret_file.chmod(0o600)
    options = ["--relay", str(relay), "--secret-file", str(secret_file), "--id", vm_id]
    log = directory / f"{vm_id}.log"
    async with process_of(WORKER, *options, *arguments, log=log) as process:
        yield process


async def await_log(directory: Path, vm_id: str, text: str, within: float = 10.0) -> str:
    """A worker's log, once it holds the text."""
    log = directory / f"{vm_id}.log"
    async with asyncio.timeout(within):
        while text not in log.read_text():  # noqa: ASYNC110 (another process writes it)
            await asyncio.sleep(0.02)
    return log.read_text()
