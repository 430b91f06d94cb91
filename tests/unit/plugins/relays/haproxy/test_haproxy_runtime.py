from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoneph.core.errors import RelayError, RelayRefused, RelayUnreachable
from isoneph.plugins.relays.haproxy import runtime
from isoneph.plugins.relays.haproxy.runtime import RuntimeApi, Server, check_version

STATE_COLUMNS = (
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight "
    "srv_check_state srv_port"
)
STATE = f"1\n{STATE_COLUMNS}\n2 vms 1 isoneph-web:a 192.0.2.1 2 8 100 6 80\n\n"
STAT_COLUMNS = "# pxname,svname,qcur,scur,stot,bin,bout,status,check_status,last_chk,"
STAT = f'{STAT_COLUMNS}\nvms,isoneph-web:a,1,2,3,4,5,DOWN 1/2,* L4CON,"no, sorry",\n\n'


@asynccontextmanager
async def answering(answer: bytes, hang: bool = False) -> AsyncIterator[RuntimeApi]:
    """The runtime API of a HAProxy that answers always the same."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.readline()
            writer.write(answer)
            await writer.drain()
            if hang:
                await reader.read()
        writer.close()

    # Not in pytest's own directory: the path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="isoneph-") as directory:
        path = str(Path(directory, "s"))
        async with await asyncio.start_unix_server(talk, path):
            yield RuntimeApi(path, 0.05 if hang else 5.0)


async def test_servers_are_read() -> None:
    async with answering(STATE.encode()) as api:
        assert await api.servers("vms") == {
            "isoneph-web:a": Server("isoneph-web:a", "192.0.2.1", 80, 100, True, False, True, True)
        }


@pytest.mark.parametrize(
    ("admin", "maintenance", "draining"),
    [(0, False, False), (1, True, False), (4, False, False), (12, False, True), (32, True, False)],
)
async def test_what_a_configuration_once_said_is_no_maintenance(
    admin: int, maintenance: bool, draining: bool
) -> None:
    async with answering(STATE.replace(" 2 8 ", f" 2 {admin} ").encode()) as api:
        server = (await api.servers("vms"))["isoneph-web:a"]
        assert (server.maintenance, server.draining) == (maintenance, draining)


async def test_figures_are_read() -> None:
    async with answering(STAT.encode()) as api:
        (figures,) = await api.figures("vms", 4)
        assert figures.name == "isoneph-web:a"
        assert figures.status == "DOWN 1/2"
        assert figures.check == "L4CON: no, sorry"
        assert (figures.sessions, figures.queued, figures.total) == (2, 1, 3)


async def test_figures_of_a_frontend_have_its_name() -> None:
    answer = f"{STAT_COLUMNS}\nclients,FRONTEND,,2,3,4,5,OPEN,,,\n\n"
    async with answering(answer.encode()) as api:
        (figures,) = await api.figures("clients", 1)
        assert (figures.name, figures.queued, figures.check) == ("clients", 0, "")


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "1\n",
        STATE[:-20],
        STATE[:-1],
        STATE.replace(" 80\n", "\n"),
        STATE.replace(" 80\n", " 80 9\n"),
        STATE.replace(" 100 ", " much "),
        STATE.replace("srv_uweight", "srv_weight"),
        STATE.replace("isoneph-web:a", "ä"),
        f"1\n{STATE_COLUMNS.replace('# ', '')}\n\n",
        STATE.replace("1\n", "2\n", 1),
    ],
)
async def test_a_list_that_is_none_is_told(answer: str) -> None:
    async with answering(answer.encode()) as api:
        with pytest.raises(RelayError):
            await api.servers("vms")


@pytest.mark.parametrize(
    "answer",
    [
        STAT[:-3],
        STAT[:-1],
        f"{STAT_COLUMNS}\n",
        STAT.replace(",3,", ",x,"),
        STAT.replace('"no, sorry"', '"no, sorry'),
        STAT.replace("scur", "cur"),
        f"{STAT_COLUMNS}\nvms,isoneph-web:a,1\n\n",
    ],
)
async def test_statistics_that_are_none_are_told(answer: str) -> None:
    async with answering(answer.encode()) as api:
        with pytest.raises(RelayUnreachable):
            await api.figures("vms", 4)


async def test_what_haproxy_says_instead_is_repeated() -> None:
    async with answering(b"Can't find backend.\n\n") as api:
        with pytest.raises(RelayRefused, match=r"backend vms: \"Can't find backend\.\""):
            await api.servers("vms")
    async with answering(b"No such proxy.\n\n") as api:
        with pytest.raises(RelayRefused, match=r"vms: 'No such proxy\.'"):
            await api.figures("vms", 4)


async def test_a_hanging_one_is_unreachable_in_time() -> None:
    for answer in (b"", STATE.encode()):  # without an end it is no answer
        async with answering(answer, hang=True) as api:
            with pytest.raises(RelayUnreachable, match=r"no answer within 0\.05 s"):
                await api.servers("vms")


async def test_an_endless_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_LIMIT", 10_000)
    async with answering(b"x" * 100_000) as api:
        with pytest.raises(RelayUnreachable, match="more than 10000 bytes"):
            await api.ask("show info")


async def test_no_socket_is_unreachable() -> None:
    with pytest.raises(RelayUnreachable, match="/nowhere/s: No such file or directory"):
        await RuntimeApi("/nowhere/s", 1.0).ask("show info")


async def test_the_version_is_asked_for() -> None:
    async with answering(b"Name: HAProxy\nVersion: 3.0.1-x\n\n") as api:
        assert await api.version() == "3.0.1-x"
    async with answering(b"Name: HAProxy\n\n") as api:
        with pytest.raises(RelayUnreachable, match="does not say its version"):
            await api.version()


@pytest.mark.parametrize("text", ["2.5.99", "1.8", "0.0", "two", "", "2", "99999.1"])
def test_old_versions_and_others_are_refused(text: str) -> None:
    with pytest.raises(RelayRefused):
        check_version(text)


class Garbling(RuntimeApi):
    """Answers well, and then without sense."""

    def __init__(self, garbage: bytes) -> None:
        super().__init__("", 1.0)
        self._garbage = garbage

    async def _exchange(self, command: str) -> bytes:
        return (STATE if "state" in command else STAT).encode()[:-1] + self._garbage + b"\n\n"


@given(st.binary(max_size=300))
def test_no_answer_breaks_the_reader(garbage: bytes) -> None:
    async def read() -> None:
        api = Garbling(garbage)
        for call in (api.servers("vms"), api.figures("vms", 4), api.version()):
            with suppress(RelayError):
                await call

    asyncio.run(read())
