"""HAProxy's runtime API: one command a connection to the stats socket, its answer read strictly.

The commands and what they answer are those of HAProxy's Management Guide, section 9.3 ("Unix
Socket commands"); the columns of the statistics are in its section 9.1.
"""

from __future__ import annotations

import asyncio
import csv
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from isoneph.core.errors import RelayRefused, RelayUnreachable

#: The first version that adds and removes servers at run time without an experimental mode.
OLDEST = (2, 6)
#: Bytes of one answer: some ten thousand servers.
_LIMIT = 8 * 1024 * 1024
#: What a list ends with: an empty line, so that none of the last ones is missing.
_END_OF_LIST = "\n\n"
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})\S*")

# Of srv_op_state and srv_admin_state, in the guide under "show servers state".
_RUNNING = 2
_MAINTENANCE = 0x01 | 0x02 | 0x20 | 0x40  # 0x04 only tells what the configuration said
_DRAIN = 0x08 | 0x10
_CHECK_ENABLED = 0x04


class Server(NamedTuple):
    """A server of a backend as HAProxy has it: what can be told to it at run time."""

    name: str
    host: str
    port: int
    weight: int
    running: bool
    maintenance: bool
    draining: bool
    checked: bool


class Figures(NamedTuple):
    """What HAProxy has counted of a server, or of a frontend (whose ``name`` is the proxy's)."""

    name: str
    status: str
    check: str
    sessions: int
    queued: int
    total: int
    bytes_in: int
    bytes_out: int


class RuntimeApi:
    """Talks to the HAProxy at a stats socket. Calls may overlap.

    All of it raises RelayUnreachable when there is no answer, or one that is none, in time, and
    RelayRefused when HAProxy says no.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self.path = path
        self._timeout = timeout

    async def ask(self, command: str, end: str = "\n") -> str:
        """What HAProxy answers to one command, without the line ends around it; a whole answer
        has ``end`` at its end."""
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._exchange(command)
        except TimeoutError:
            raise self._unreachable(f"no answer within {self._timeout:g} s") from None
        except OSError as error:
            raise self._unreachable(error.strerror or str(error)) from error
        if not answer.endswith(end.encode()):
            raise self._unreachable("it broke off in the midst of an answer")
        if not answer.isascii():
            raise self._unreachable("its answer is no text")
        return answer.decode().strip("\n")

    async def version(self) -> str:
        """Its version, which is no older than what is needed."""
        for line in (await self.ask("show info")).splitlines():
            name, _, value = line.partition(": ")
            if name == "Version":
                return check_version(value)
        raise self._unreachable("it does not say its version")

    async def servers(self, backend: str) -> Mapping[str, Server]:
        """The servers of a backend by name. RelayRefused when there is no such backend."""
        answer = await self.ask(f"show servers state {backend}", _END_OF_LIST)
        lines = answer.splitlines()
        if len(lines) < 2 or lines[0] != "1" or not lines[1].startswith("# "):  # noqa: PLR2004
            # Format 1 is the one that there is; a backend that is not there is told in words.
            raise RelayRefused(f"HAProxy at {self.path}, backend {backend}: {shown(answer)}")
        names = lines[1].removeprefix("# ").split(" ")
        rows = [
            dict(zip(names, self._row(line.split(" "), names), strict=True)) for line in lines[2:]
        ]
        try:
            return {row["srv_name"]: _server(row) for row in rows}
        except (KeyError, ValueError) as error:
            raise self._unreachable("its list of servers is not understood") from error

    async def figures(self, proxy: str, kind: int) -> Sequence[Figures]:
        """What was counted: of the servers of a backend (``kind`` 4) or of a frontend (1)."""
        answer = await self.ask(f"show stat {proxy} {kind} -1", _END_OF_LIST)
        if not answer.startswith("# "):
            raise RelayRefused(f"HAProxy at {self.path}, {proxy}: {shown(answer)}")
        table = csv.reader(answer.removeprefix("# ").splitlines(), strict=True)
        try:
            names = next(table)
            rows = [dict(zip(names, self._row(row, names), strict=True)) for row in table]
            return [_figures(row) for row in rows]
        except (KeyError, ValueError, csv.Error) as error:
            raise self._unreachable("its statistics are not understood") from error

    async def _exchange(self, command: str) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            writer.write(f"{command}\n".encode())
            await writer.drain()
            answer = bytearray()
            while piece := await reader.read(65536):
                answer += piece
                if len(answer) > _LIMIT:
                    raise self._unreachable(f"it answers with more than {_LIMIT} bytes")
            return bytes(answer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _row(self, row: Sequence[str], names: Sequence[str]) -> Sequence[str]:
        if len(row) != len(names):
            raise self._unreachable("a line of its answer has not as many columns as the first")
        return row

    def _unreachable(self, why: str) -> RelayUnreachable:
        return RelayUnreachable(f"HAProxy at {self.path}: {why}")


def check_version(text: str) -> str:
    """The version that ``text`` begins with. RelayRefused when that is too old, or none."""
    found = _VERSION.match(text)
    if found is None:
        raise RelayRefused(f"HAProxy says no version: {shown(text)}")
    if (int(found[1]), int(found[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise RelayRefused(f"HAProxy {found[0]} is too old; {oldest} or newer is needed")
    return found[0]


def _server(row: Mapping[str, str]) -> Server:
    admin = int(row["srv_admin_state"])
    return Server(
        name=row["srv_name"],
        host=row["srv_addr"],
        port=int(row["srv_port"]),
        weight=int(row["srv_uweight"]),
        running=int(row["srv_op_state"]) == _RUNNING,
        maintenance=bool(admin & _MAINTENANCE),
        draining=bool(admin & _DRAIN),
        checked=bool(int(row["srv_check_state"]) & _CHECK_ENABLED),
    )


def _figures(row: Mapping[str, str]) -> Figures:
    check = row["check_status"].removeprefix("* ")  # a star: another check is under way
    if row["last_chk"]:
        check += f": {row['last_chk']}"
    return Figures(
        name=row["pxname"] if row["svname"] == "FRONTEND" else row["svname"],
        status=row["status"],
        check=check,
        sessions=int(row["scur"]),
        queued=int(row["qcur"] or 0),
        total=int(row["stot"]),
        bytes_in=int(row["bin"]),
        bytes_out=int(row["bout"]),
    )


def shown(answer: str) -> str:
    """The beginning of an answer, fit for one line of a log."""
    return repr(answer[:200]) if answer else "nothing"
