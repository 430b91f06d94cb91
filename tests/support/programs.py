"""Programs that are not ours, or are ours as their users start them: run, read, and ended."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

#: Seconds in which anything has been printed; in User-mode Linux system calls are slow.
SOON = 60.0


@asynccontextmanager
async def program(
    *command: str, environment: Mapping[str, str] | None = None, close_fds: bool = True
) -> AsyncIterator[Process]:
    """A running program with both outputs in one pipe, which is ended in any case."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
        env={**os.environ, **(environment or {})},
        close_fds=close_fds,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def read_until(process: Process, text: str) -> str:
    """What the program prints, up to a line that contains ``text``."""
    assert process.stdout is not None
    printed = ""
    async with asyncio.timeout(SOON):
        while text not in printed:
            line = await process.stdout.readline()
            assert line, f"it ended without {text!r}:\n{printed}"
            printed += line.decode(errors="replace")
    return printed


async def say(process: Process, text: str) -> None:
    """Type a line into a program."""
    assert process.stdin is not None
    process.stdin.write(text.encode() + b"\n")
    await process.stdin.drain()
