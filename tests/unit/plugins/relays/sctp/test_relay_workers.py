"""The workers form with real links, over a unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from isoneph.core.errors import RelayError
from isoneph.core.link import Dispatch, Reply
from isoneph.core.traffic import Backend, BackendStatus, Ending, Message
from isoneph.plugins.relays.sctp.workers import Workers
from relay_pieces import Pieces
from relay_site import SECRET, Yard, echo


async def soon(true: Callable[[], object]) -> None:
    async with asyncio.timeout(2):
        while not true():  # noqa: ASYNC110 (what is waited for is told by nobody)
            await asyncio.sleep(0.001)


async def test_a_message_goes_to_a_worker_and_back(tmp_path: Path) -> None:
    async with Yard(tmp_path) as yard:
        await yard.name("vm-1")
        status = await yard.status_of("vm-1")
        assert status == BackendStatus(ready=False, text="its worker is not connected")
        worker = await yard.worker("vm-1")
        await worker.up.wait()
        client = await yard.client()
        client.send(b"hello", stream=3, ppid=18, unordered=True)
        await soon(lambda: client.got)
        assert client.got == [Message(b"hello", 3, 18, True)]
        assert await yard.status_of("vm-1") == BackendStatus(ready=True, sessions=1)


async def test_a_worker_whose_vm_is_not_named_waits(tmp_path: Path) -> None:
    async with Yard(tmp_path) as yard:
        worker = await yard.worker("vm-1")
        await worker.up.wait()
        client = await yard.asking(b"x")
        await asyncio.sleep(0.02)
        assert not client.got
        assert await yard.relay.status() == {}
        await yard.name("vm-1")
        await soon(lambda: client.got)


async def test_unless_the_relay_is_open(tmp_path: Path) -> None:
    async with Yard(tmp_path, open_=True) as yard:
        await yard.worker("vm-1")
        client = await yard.asking(b"x")
        await soon(lambda: client.got)
        assert await yard.relay.status() == {"vm-1": BackendStatus(ready=True, sessions=1)}


async def test_an_engine_that_names_vms_ends_that(tmp_path: Path) -> None:
    async with Yard(tmp_path, open_=True) as yard:
        await yard.worker("vm-1")
        client = await yard.asking(b"x")
        await soon(lambda: client.got)
        await yard.worker("vm-2")
        await yard.name("vm-2")
        client.send(b"y")
        await soon(lambda: len(client.got) == 2)
        assert (await yard.status_of("vm-2")).sessions == 1


@pytest.mark.parametrize(
    ("secret", "application", "reason"),
    [(b"not the secret that it is", "mme", "secret"), (SECRET, "amf", "application")],
)
async def test_strangers_are_refused(
    tmp_path: Path, secret: bytes, application: str, reason: str
) -> None:
    async with Yard(tmp_path, open_=True) as yard:
        worker = await yard.worker("vm-1", secret=secret, application=application)
        await soon(lambda: yard.refused.get(f"worker_{reason}"))
        assert not worker.up.is_set()


async def test_a_removed_vm_loses_its_work_to_another(tmp_path: Path) -> None:
    async with Yard(tmp_path) as yard:
        never: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        await yard.name("vm-1")
        await yard.worker("vm-1", lambda _: never)
        client = await yard.asking(b"x", b"y")
        await asyncio.sleep(0.02)
        await yard.worker("vm-2")
        await yard.name("vm-2")
        await soon(lambda: len(client.got) == 2)
        assert client.data == [b"x", b"y"]
        assert client.ending is None


async def test_a_draining_vm_is_left_as_soon_as_it_has_answered(tmp_path: Path) -> None:
    async with Yard(tmp_path) as yard:
        may_answer = asyncio.Event()

        async def slow(dispatch: Dispatch) -> Reply:
            await may_answer.wait()
            return dispatch.reply([Message(b"slow")], state=b"from slow")

        states = []

        def quick(dispatch: Dispatch) -> Reply:
            states.append(dispatch.state)
            return echo(dispatch)

        await yard.name("vm-1")
        await yard.worker("vm-1", slow)
        client = await yard.asking(b"x", b"y")
        await asyncio.sleep(0.02)
        await yard.worker("vm-2", quick)
        await yard.name("vm-1", "vm-2", draining="vm-1")
        assert (await yard.status_of("vm-1")).sessions == 1
        may_answer.set()
        await soon(lambda: len(client.got) == 2)
        assert client.data == [b"slow", b"y"]
        assert states == [b"from slow"]
        assert (await yard.status_of("vm-1")).sessions == 0


async def test_a_worker_that_wants_to_stop_is_left(tmp_path: Path) -> None:
    async with Yard(tmp_path) as yard:
        await yard.name("vm-1", "vm-2")
        first = await yard.worker("vm-1")
        client = await yard.asking(b"x")
        await soon(lambda: client.got)
        await yard.worker("vm-2")
        await first.stop()
        client.send(b"y")
        await soon(lambda: len(client.got) == 2)
        assert not (await yard.status_of("vm-1")).ready
        assert (await yard.status_of("vm-2")).sessions == 1


async def test_a_new_worker_takes_the_place_of_an_old_one_of_its_vm(tmp_path: Path) -> None:
    async with Yard(tmp_path) as yard:
        await yard.name("vm-1")
        never: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        await yard.worker("vm-1", lambda _: never)
        client = await yard.asking(b"x")
        await asyncio.sleep(0.02)
        await yard.worker("vm-1")
        await soon(lambda: client.got)
        assert (await yard.status_of("vm-1")).sessions == 1


async def test_a_client_of_workers_that_leaves_takes_its_conversation_along(tmp_path: Path) -> None:
    async with Yard(tmp_path) as yard:
        await yard.name("vm-1")
        await yard.worker("vm-1")
        client = await yard.asking(b"x")
        await soon(lambda: client.got)
        client.association.close()
        await soon(lambda: client.ending is Ending.CLOSED)
        assert (await yard.status_of("vm-1")).sessions == 0


async def test_a_message_that_the_handler_fails_at_is_counted(tmp_path: Path) -> None:
    async with Yard(tmp_path) as yard:

        def picky(dispatch: Dispatch) -> Reply:
            if dispatch.message.data == b"bad":
                raise ValueError("a bad message")
            return echo(dispatch)

        await yard.name("vm-1")
        await yard.worker("vm-1", picky)
        client = await yard.asking(b"bad", b"good")
        await soon(lambda: client.got)
        assert client.data == [b"good"]
        assert yard.refused == {"worker_said_handler": 1}


def test_a_vm_that_gets_a_weight_gets_what_waits() -> None:
    pieces = Pieces()
    pieces.workers.update([Backend(id="vm-1", addresses=[], weight=0.0)])
    pieces.register("vm-1")
    client, _ = pieces.client()
    client.received(Message(b"x"))
    assert pieces.switch.pending
    pieces.workers.update([Backend(id="vm-1", addresses=[], weight=1.0)])
    worker = pieces.workers._members["vm-1"].worker
    assert [parcel.message.data for parcel in worker.flying.values()] == [b"x"]


@pytest.mark.parametrize(
    ("reason", "losses"),
    [("broken", 1), ("lost", 1), ("malformed", 1), ("replaced", 0), ("left", 0)],
)
def test_a_message_is_blamed_for_what_it_may_have_done(reason: str, losses: int) -> None:
    pieces = Pieces()
    handler = pieces.register("vm-1")
    client, _ = pieces.client()
    client.received(Message(b"x"))
    handler.closed(reason, "gone")
    pieces.register("vm-2")
    (parcel,) = pieces.workers._members["vm-2"].worker.flying.values()
    assert (parcel.losses, parcel.redelivered) == (losses, True)


async def test_a_message_that_loses_every_worker_is_given_up(tmp_path: Path) -> None:
    async with Yard(tmp_path) as yard:
        workers = yard.relay.backends
        assert isinstance(workers, Workers)

        def poisoned(dispatch: Dispatch) -> Reply:
            if dispatch.message.data == b"poison":
                workers._members["vm-1"].connection.cut("broken", "it has crashed")
            return echo(dispatch)

        await yard.name("vm-1")
        worker = await yard.worker("vm-1", poisoned)
        client = await yard.asking(b"poison", b"good")
        await soon(lambda: client.got)
        assert client.data == [b"good"]
        assert yard.refused == {"message_loses_workers": 1}
        assert worker.counts["connected"] == 6


async def test_a_secret_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    (tmp_path / "secret").unlink()
    with pytest.raises(RelayError, match="cannot be read"):
        await yard.relay.start()
    await yard.relay.close()


async def test_it_tells_where_workers_connect_to(tmp_path: Path) -> None:
    async with Yard(tmp_path) as yard:
        assert isinstance(yard.relay.backends, Workers)
        assert yard.relay.backends.address == yard.address
