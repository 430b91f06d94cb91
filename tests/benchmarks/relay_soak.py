"""The parts ``soak`` and ``exactly`` of the relay's benchmark: memory, and each message once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from free_ports import free_udp_ports
from relay_chaos import Fleet, keyed_stage
from relay_part import Part
from relay_processes import PORT, SERVER_PORT, Stage
from relay_ways import ECHO, Program
from tables import Row, mark, table

NUMBERED = str(Path(__file__).with_name("relay_numbered.py"))
#: Seconds of the beginning and the end that are compared, and of the start that is left out, at
#: most; a shorter soak has a fifth and a tenth of itself.
WINDOW, WARM_UP = 60.0, 10.0
#: Bytes that the one may be larger than the other, and by how much.
FLAT_BYTES, FLAT_SHARE = 1 << 20, 0.02
#: Seconds without an answer after which all is given up, on the busiest machine.
STALLED = 60.0
MIB = 1 << 20


class Failed(Exception):
    """Something was lost, doubled or out of turn, or nothing comes any more."""


class NumberedClient:
    """The process of :mod:`relay_numbered`; ``figures`` is the last line that it has printed."""

    def __init__(self, kind: str, udp_port: int, *arguments: str) -> None:
        command = [sys.executable, NUMBERED, kind, str(udp_port), str(PORT), *arguments]
        self._command = command
        self.figures: dict[str, Any] = {"answered": 0, "done": False}

    async def run(self) -> dict[str, Any]:
        """Run it to its end, which it comes to by itself; the last figures. Raises Failed."""
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        answered, since = 0, time.monotonic()
        try:
            while not self.figures["done"]:
                async with asyncio.timeout(STALLED):
                    line = await process.stdout.readline()
                if not line:
                    raise Failed(f"{self._command[2]}: the client has broken down")
                self.figures = json.loads(line)
                if self.figures["answered"] > answered:
                    answered, since = self.figures["answered"], time.monotonic()
                if self.figures["wrong"]:
                    raise Failed("\n".join(self.figures["wrong"]))
                if time.monotonic() - since > STALLED:
                    raise Failed(f"lost: only {answered:,} messages were answered, and no more are")
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return self.figures


@asynccontextmanager
async def disturbed(every: float) -> AsyncIterator[tuple[Stage, Fleet, int]]:
    """A relay with workers that come and go; and its UDP port."""
    stage, udp = keyed_stage()
    async with stage:
        fleet = Fleet(stage)
        await fleet.start()
        disturbing = asyncio.create_task(fleet.disturb(every))
        try:
            yield stage, fleet, udp
            fleet.leave()
            await disturbing
        finally:
            disturbing.cancel()
            await asyncio.gather(disturbing, return_exceptions=True)


@asynccontextmanager
async def plain_stage() -> AsyncIterator[tuple[Stage, int]]:
    """A relay before a plain SCTP server; and its UDP port."""
    udp, server_udp = free_udp_ports(2)
    transport = {"driver": "userland", "udp_port": udp, "remote_udp_port": server_udp}
    async with Stage(transport=transport, plain={}) as stage:
        command = [sys.executable, ECHO, "sctp", "userland", str(SERVER_PORT), str(server_udp)]
        async with Program(stage.directory, "echo", *command) as echo:
            await echo.says("listening")
            await stage.name("vm-1")
            await stage.await_ready("vm-1")
            yield stage, udp


async def check_refused(*stages: Stage) -> None:
    """Raises Failed when a relay has refused something: a worker that is killed while it is let
    in is no matter."""
    for stage in stages:
        refused = await stage.refused()
        if refused.keys() - {"worker_broken"}:
            raise Failed(f"refused: {refused}")


async def measure_exactly(messages: int, every: float) -> Part:
    """Numbered messages, while each so many seconds a worker is killed, stopped or drained.
    Raises Failed."""
    async with disturbed(every) as (stage, fleet, udp):
        client = NumberedClient("keyed", udp, "--messages", str(messages))
        began = time.monotonic()
        showing = asyncio.create_task(_show(client, messages))
        try:
            figures = await client.run()
        finally:
            showing.cancel()
        seconds = time.monotonic() - began
        redispatched = await fleet.redispatched()
        await check_refused(stage)
    lines = [
        ["messages, each answered once, in turn", f"{figures['answered']:,}"],
        ["lost, doubled, out of turn", "0"],
        ["duration", f"{seconds:,.0f} s"],
        ["messages/s, each answered", f"{messages / seconds:,.0f}"],
        ["slowest answer", f"{figures['slowest']:.2f} s"],
        ["workers killed (SIGKILL)", str(fleet.killed)],
        ["workers stopped (SIGTERM)", str(fleet.stopped)],
        ["workers drained and replaced", str(fleet.drained)],
        ["messages dispatched again", f"{redispatched:,}"],
    ]
    note = (
        "Four associations of 64 keys each, through the keyed router to three counting workers; "
        "each answer carries the number and the checksum of all that was counted before it."
    )
    return Part(note=note, figures=table(lines, ["what", "figure"]))


async def _show(client: NumberedClient, messages: int) -> None:
    while True:
        await asyncio.sleep(30)
        print(f"  {client.figures['answered']:,} of {messages:,}", flush=True)


async def measure_soak(seconds: float, every: float) -> Part:
    """The memory of both forms under load, with clients that come and go, and workers too, of
    which one is disturbed ``every`` so many seconds. Raises Failed."""
    async with (
        plain_stage() as (plain, plain_udp),
        disturbed(every) as (keyed, fleet, keyed_udp),
    ):
        arguments = ["--churn", "--keys", "16", "--seconds", str(seconds)]
        clients = [
            NumberedClient("keyed", keyed_udp, *arguments),
            NumberedClient("echo", plain_udp, *arguments),
        ]
        memories = [Memory(stage.processes["relay"].pid) for stage in (keyed, plain)]
        running = [asyncio.create_task(client.run()) for client in clients]
        sampling = [asyncio.create_task(memory.sample()) for memory in memories]
        try:
            figures = await asyncio.gather(*running)
        finally:
            for task in (*running, *sampling):
                task.cancel()
            await asyncio.gather(*running, *sampling, return_exceptions=True)
        await check_refused(keyed, plain)
    names = ["isoneph relay, workers", "isoneph relay, plain"]
    lines = [
        [name, f"{each['answered']:,}", f"{each['went']:,}", *memory.cells()]
        for name, each, memory in zip(names, figures, memories, strict=True)
    ]
    rows = [memory.row(name) for name, memory in zip(names, memories, strict=True)]
    changes = f"{fleet.killed} killed, {fleet.stopped} stopped, {fleet.drained} drained"
    note = (
        f"Both relays under full load at the same time for {seconds:g} s, each with four "
        f"associations that stay and others that come and go; of the workers {changes}. Every "
        "answer was checked. The resident memory of the relay's process was read each second."
    )
    header = ["way", "messages", "associations that went", "first", "last", "least", "most"]
    return Part(note=note, figures=table(lines, header), rows=rows)


class Memory:
    """What a process has in memory, each second."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._samples: list[int] = []

    async def sample(self) -> None:
        """Read it, for ever."""
        while True:
            self._samples.append(self._process.memory_info().rss)
            await asyncio.sleep(1)

    def row(self, name: str) -> Row:
        """Whether it is flat."""
        first, last = self._ends()
        grown = last - first
        return (
            f"{name}: memory, last against first",
            f"{grown / MIB:+.2f} MiB",
            "",
            f"{last / first:.3f}",
            "flat (under 2 % or 1 MiB more)",
            mark(met=grown <= max(FLAT_BYTES, first * FLAT_SHARE)),
        )

    def cells(self) -> Sequence[str]:
        """First, last, least and most."""
        figures = [*self._ends(), min(self._samples), max(self._samples)]
        return [f"{figure / MIB:.1f} MiB" for figure in figures]

    def _ends(self) -> tuple[float, float]:
        """The medians of the windows at the beginning and the end."""
        count = len(self._samples)
        skipped = round(min(WARM_UP, count / 10))
        window = max(round(min(WINDOW, count / 5)), 1)
        return (
            median(self._samples[skipped : skipped + window]),
            median(self._samples[-window:]),
        )
