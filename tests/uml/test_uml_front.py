"""A relay before servers of lksctp-tools, as the documentation has it: nothing here is ours but
the relay."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from programs import SOON, program, read_until, say

FRONT = Path(__file__).parents[2] / "doc" / "examples" / "front"
ISONEPH = str(Path(sys.executable).parent / "isoneph")


def runtime(directory: Path) -> dict[str, str]:
    """Where the relay has its control socket."""
    return {"XDG_RUNTIME_DIR": str(directory)}


async def status(directory: Path) -> Any:
    """What ``isoneph relay status`` tells."""
    words = ("relay", "status", "front", "--config-dir", str(FRONT), "-f", "json")
    environment = {**os.environ, **runtime(directory)}
    process = await asyncio.create_subprocess_exec(
        ISONEPH, *words, stdin=DEVNULL, stdout=PIPE, env=environment
    )
    return json.loads((await process.communicate())[0])


def client(port: int) -> AbstractAsyncContextManager[Process]:
    """``sctp_darn`` as a client of the relay; what is written to it is sent, line by line."""
    ends = ("-H", "127.0.0.1", "-P", str(port), "-h", "127.0.0.1", "-p", "36412")
    return program("stdbuf", "-oL", "sctp_darn", *ends, "-s")


@pytest.mark.timeout(300)
async def test_a_relay_stands_before_servers_that_are_not_ours(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:

        async def start(*command: str) -> Process:
            return await stack.enter_async_context(program(*command, environment=runtime(tmp_path)))

        servers = {
            host: await start("stdbuf", "-oL", "sctp_darn", "-H", host, "-P", "7001", "-l")
            for host in ("127.0.0.2", "127.0.0.3")
        }
        for server in servers.values():
            await read_until(server, "listening")
        relay = await start(
            ISONEPH, "relay", "front", "--config-dir", str(FRONT), "--state", str(tmp_path)
        )
        await read_until(relay, "is ready")
        await read_until(relay, "is ready")
        first = await stack.enter_async_context(client(6001))
        await say(first, "hello")
        assert "DATA(7):  hello." in await read_until(servers["127.0.0.2"], "DATA(7)")
        second = await stack.enter_async_context(client(6002))
        await say(second, "good day")
        assert "DATA(10):  good day." in await read_until(servers["127.0.0.3"], "DATA(10)")
        told = await status(tmp_path)
        assert [(one["id"], one["state"], one["sessions"]) for one in told["backends"]] == [
            ("127.0.0.2", "ready", 1),
            ("127.0.0.3", "ready", 1),
        ]
        servers["127.0.0.2"].terminate()
        await read_until(relay, "127.0.0.2 is not ready")
        third = await stack.enter_async_context(client(6003))
        await say(third, "anybody")
        assert "DATA(9):  anybody." in await read_until(servers["127.0.0.3"], "DATA(9)")
        relay.terminate()
        second.terminate()
        third.terminate()
        async with asyncio.timeout(SOON):
            assert await relay.wait() == 0
