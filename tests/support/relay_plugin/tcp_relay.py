"""A small relay for TCP, of a package that the tests put on the path of what they start."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from voluptuous import Optional, Required

from isoneph.core.plugin import Environment, OptionSchema, Relay
from isoneph.core.traffic import Backend, BackendStatus, RelayReport, Table


class TcpRelay(Relay):
    """Each connection goes to the ready backend with the fewest, and stays there."""

    schema: ClassVar[OptionSchema] = {
        Required("listen", description="Port of 127.0.0.1 to listen on."): int,
        Required("port", description="Port of the backends."): int,
        Optional("check", default=0.05, description="Seconds between two checks."): float,
    }

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self._backends: dict[str, Backend] = {}
        self._ready: set[str] = set()
        self._sessions: dict[str, set[asyncio.Task[None]]] = {}
        self._accepted = 0
        self._server: asyncio.Server | None = None
        self._checker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen and begin to check."""
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.options["listen"], reuse_address=True
        )
        self._checker = asyncio.create_task(self._check())

    async def drain(self) -> None:
        """Listen no more, and wait for the last session."""
        assert self._server is not None
        self._server.close()
        while left := [task for tasks in self._sessions.values() for task in tasks]:
            await asyncio.wait(left)

    async def close(self) -> None:
        """Break off what is left."""
        if self._server is not None:
            self._server.close()
        if self._checker is not None:
            self._checker.cancel()
        await self._break_off(list(self._sessions))

    async def update(self, backends: Sequence[Backend]) -> None:
        """See the interface."""
        self._backends = {backend.id: backend for backend in backends}
        self._ready &= self._backends.keys()
        await self._break_off([key for key in self._sessions if key not in self._backends])

    async def status(self) -> Mapping[str, BackendStatus]:
        """See the interface."""
        return {
            key: BackendStatus(
                ready=key in self._ready,
                sessions=len(self._sessions.get(key, ())),
                text="" if key in self._ready else "nothing listens there",
            )
            for key in self._backends
        }

    async def report(self) -> RelayReport:
        """What it has accepted."""
        return RelayReport(
            listening=[f"127.0.0.1:{self.options['listen']}"],
            facts={"transport": "TCP"},
            tables=[Table(name="relay", columns=["what", "accepted"], counters=["accepted"],
                          rows=[["all", self._accepted]])],
        )  # fmt: skip

    async def _break_off(self, keys: Sequence[str]) -> None:
        tasks = [task for key in keys for task in self._sessions.pop(key, ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _check(self) -> None:
        while True:
            for backend in list(self._backends.values()):
                try:
                    _, writer = await self._connect(backend)
                    writer.close()
                except OSError:
                    self._ready.discard(backend.id)
                else:
                    self._ready.add(backend.id)
            self._ready &= self._backends.keys()
            await asyncio.sleep(self.options["check"])

    async def _connect(self, backend: Backend) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(backend.addresses[0], self.options["port"])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loads = {
            key: len(self._sessions.get(key, ()))
            for key, backend in self._backends.items()
            if key in self._ready and not backend.draining
        }
        task = asyncio.current_task()
        assert task is not None
        if not loads:
            writer.close()
            return
        key = min(loads, key=lambda each: loads[each])
        self._accepted += 1
        self._sessions.setdefault(key, set()).add(task)
        try:
            with suppress(OSError):
                streams = await self._connect(self._backends[key])
                await asyncio.wait(
                    [
                        asyncio.create_task(_pump(reader, streams[1])),
                        asyncio.create_task(_pump(streams[0], writer)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                streams[1].close()
        finally:
            self._sessions.get(key, set()).discard(task)
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
