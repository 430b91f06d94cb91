from __future__ import annotations

import asyncio
import contextlib
import signal
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from counting_worker import STATE, count
from isoneph.core.link import Failed, LinkAddress, Reply
from isoneph.core.link.frames import DEFAULT_LIMITS, Pong, Welcome
from isoneph.core.link.handshake import WorkerHandshake
from isoneph.core.link.reader import FROM_RELAY, FrameReader
from isoneph.core.link.stream import HIGH_WATER
from isoneph.core.traffic import Message
from link_site import SECRET, Crew, await_log, process_of, worker_process

PAGE = Path(__file__).parents[2] / "doc" / "source" / "relays" / "worker-link.rst"
LOOPBACK = LinkAddress("127.0.0.1", 0)


@pytest.fixture
async def crew() -> AsyncIterator[Crew]:
    crew = Crew(handshake_timeout=0.5)
    yield crew
    crew.server.close()
    await asyncio.sleep(0)


def check(answer: Reply | Failed, number: int, data: list[bytes], vm_id: str) -> bytes:
    """That it is the right answer to the last of the conversation's messages; its state."""
    assert isinstance(answer, Reply)
    state = b""
    for some in data:
        state = STATE.pack(*count(state, some))
    assert answer.state == state
    (message,) = answer.messages
    assert message.data.split()[::2] == [str(number).encode(), vm_id.encode()]
    assert (message.stream, message.ppid) == (3, 18)
    return state


async def exchange(crew: Crew, address: LinkAddress, directory: Path) -> None:
    """A conversation that two workers share: its state goes with it."""
    relay = await crew.listen(address)
    async with (
        worker_process(relay, directory, "vm-1"),
        worker_process(relay, directory, "vm-2"),
    ):
        first, second = [await crew.await_worker(vm_id) for vm_id in ("vm-1", "vm-2")]
        state = check(await first.ask(1, b"one"), 1, [b"one"], "vm-1")
        state = check(await second.ask(1, b"two", state), 2, [b"one", b"two"], "vm-2")
        answer = await first.ask(1, b"bye", state)
        check(answer, 3, [b"one", b"two", b"bye"], "vm-1")
        assert isinstance(answer, Reply)
        assert answer.finished
        assert await first.ask(1, b"bad") == Failed(3 + 1, "handler")
        many = [second.send(number, b"x") for number in range(1, 257)]
        for answer in await asyncio.gather(*many):
            check(answer, 1, [b"x"], "vm-2")
    assert {reason for reason, _ in crew.gone.values()} == {"broken"}


async def test_state_goes_from_worker_to_worker_over_tcp(crew: Crew, tmp_path: Path) -> None:
    await exchange(crew, LOOPBACK, tmp_path)


async def test_state_goes_from_worker_to_worker_over_a_socket(crew: Crew, tmp_path: Path) -> None:
    await exchange(crew, LinkAddress(path=str(tmp_path / "s")), tmp_path)


def test_the_relay_may_run_on_uvloop(tmp_path: Path) -> None:
    async def run() -> None:
        crew = Crew()
        try:
            await exchange(crew, LOOPBACK, tmp_path)
        finally:
            crew.server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_the_worker_of_the_documentation_works(crew: Crew, tmp_path: Path) -> None:
    code = PAGE.read_text().split(".. code-block:: python\n")[1].split("\nKill it")[0]
    program = tmp_path / "worker.py"
    program.write_text(textwrap.dedent(code))
    relay = await crew.listen(LOOPBACK)
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    arguments = [str(relay), str(secret), "vm-1"]
    async with process_of(program, *arguments, log=tmp_path / "vm-1.log"):
        hand = await crew.await_worker("vm-1")
        first = await hand.ask(1, b"one")
        assert first == Reply(1, [Message(b"1", 3, 18)], b"1")
        assert await hand.ask(1, b"two", b"1") == Reply(2, [Message(b"2", 3, 18)], b"2")


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGKILL, "broken"), (signal.SIGSTOP, "lost")]
)
async def test_a_worker_that_is_gone_is_noticed_in_half_a_second(
    crew: Crew, tmp_path: Path, number: signal.Signals, reason: str
) -> None:
    relay = await crew.listen(LOOPBACK)
    async with worker_process(relay, tmp_path, "vm-1", "--pause", "5") as process:
        hand = await crew.await_worker("vm-1")
        hand.send(1, b"one")
        await asyncio.sleep(0.25)
        began = asyncio.get_running_loop().time()
        process.send_signal(number)
        how, when = await crew.await_end("vm-1")
    assert how == reason
    assert when - began < 0.5
    assert len(hand.unanswered) == 1  # it is known what goes to another worker


async def test_a_worker_that_was_only_asleep_comes_back(crew: Crew, tmp_path: Path) -> None:
    relay = await crew.listen(LOOPBACK)
    async with worker_process(relay, tmp_path, "vm-1") as process:
        await crew.await_worker("vm-1")
        process.send_signal(signal.SIGSTOP)
        assert (await crew.await_end("vm-1"))[0] == "lost"
        process.send_signal(signal.SIGCONT)
        again = await crew.await_worker("vm-1")
        check(await again.ask(1, b"one"), 1, [b"one"], "vm-1")


async def test_a_relay_that_is_held_up_itself_blames_no_worker(crew: Crew, tmp_path: Path) -> None:
    relay = await crew.listen(LOOPBACK)
    async with worker_process(relay, tmp_path, "vm-1"):
        hand = await crew.await_worker("vm-1")
        await asyncio.sleep(0.15)
        time.sleep(0.6)  # noqa: ASYNC251 (the loop is to be held up)
        await asyncio.sleep(0.5)
        assert crew.gone == {}
        check(await hand.ask(1, b"one"), 1, [b"one"], "vm-1")


async def test_a_worker_leaves_a_relay_that_is_silent_and_comes_back(
    crew: Crew, tmp_path: Path
) -> None:
    relay = await crew.listen(LOOPBACK)
    async with worker_process(relay, tmp_path, "vm-1"):
        await crew.await_worker("vm-1")
        time.sleep(1.5)  # noqa: ASYNC251 (the loop is to be held up)
        assert (await crew.await_end("vm-1"))[0] == "broken"
        await crew.await_worker("vm-1")
        await await_log(tmp_path, "vm-1", "lost")


async def test_workers_come_back_by_themselves_when_the_relay_starts_anew(tmp_path: Path) -> None:
    first, second = Crew(), Crew()
    names = [f"vm-{number}" for number in range(3)]
    relay = await first.listen(LOOPBACK)
    async with contextlib.AsyncExitStack() as stack:
        for name in names:
            await stack.enter_async_context(
                worker_process(relay, tmp_path, name, "--most-backoff", "0.4")
            )
        for name in names:
            await first.await_worker(name)
        first.server.close()
        await asyncio.sleep(1.0)
        try:
            await second.listen(relay)
            for name in names:
                hand = await second.await_worker(name, within=2.0)
                check(await hand.ask(1, b"one"), 1, [b"one"], name)
            log = await await_log(tmp_path, "vm-0", "closed")
        finally:
            second.server.close()
    assert log.count("no link to the relay") == 1  # once for a row of failures of one kind
    assert log.count("linked to the relay") == 2


async def test_attempts_in_vain_become_rarer(crew: Crew, tmp_path: Path) -> None:
    relay = await crew.listen(LOOPBACK)
    async with worker_process(relay, tmp_path, "vm-1", secret=b"another secret, as long"):
        await crew.await_refusal("secret")
        await asyncio.sleep(1.2)
        # After pauses of 50, 100, 200, 400, 800 ms at most, and of half of that at least.
        assert 4 <= crew.refused["secret"] <= 7
        log = await await_log(tmp_path, "vm-1", "it does not know the secret")
    assert not crew.server.workers
    assert "another secret" not in log


async def test_a_worker_of_another_application_is_refused(crew: Crew, tmp_path: Path) -> None:
    relay = await crew.listen(LOOPBACK)
    async with worker_process(relay, tmp_path, "vm-1", "--application", "amf"):
        await crew.await_refusal("application")
        await await_log(tmp_path, "vm-1", "this relay serves demo")


class Raw:
    """A worker that does as the test wants, and nothing by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = FrameReader(FROM_RELAY, DEFAULT_LIMITS)

    @classmethod
    async def connect(cls, relay: LinkAddress) -> Raw:
        return cls(*await asyncio.open_connection(relay.host, relay.port, limit=1024))

    async def greet(self, versions: tuple[int, int] = (1, 1), window: int = 65535) -> list[object]:
        """The handshake, and what came last of it."""
        handshake = WorkerHandshake(
            SECRET, application="demo", vm_id="raw", versions=versions, window=window
        )
        self.writer.write(handshake.start())
        frames: list[object] = []
        while not frames or not isinstance(frames[-1], Welcome):
            data = await self.reader.read(1000)
            if not data:
                break
            for frame in self._frames.feed(data):
                frames.append(frame)
                with contextlib.suppress(Exception):
                    self.writer.write(handshake.receive(frame))
        return frames

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


async def test_a_worker_of_another_version_is_refused(crew: Crew) -> None:
    raw = await Raw.connect(await crew.listen(LOOPBACK))
    (refused,) = await raw.greet(versions=(2, 9))
    assert "this relay 1 to 1" in str(refused)
    await raw.close()
    assert crew.refused == {"version": 1}


async def test_dawdling_strangers_are_cut_off_and_keep_nobody_out(
    crew: Crew, tmp_path: Path
) -> None:
    relay = await crew.listen(LOOPBACK)
    strangers = [await Raw.connect(relay) for _ in range(64)]
    began = time.monotonic()
    hello = WorkerHandshake(SECRET, application="demo", vm_id="slow").start()

    async def dawdle(stranger: Raw) -> None:
        for byte in hello:
            if stranger.reader.at_eof():
                break
            stranger.writer.write(bytes([byte]))
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(stranger.reader.read(1), 0.05)
        await stranger.close()

    dawdling = asyncio.gather(*map(dawdle, strangers))
    async with worker_process(relay, tmp_path, "vm-1"):
        hand = await crew.await_worker("vm-1")
        assert time.monotonic() - began < 5.0
        check(await hand.ask(1, b"one"), 1, [b"one"], "vm-1")
        await dawdling
    # One has made room for the worker, if that was there before their time was over.
    assert crew.refused in ({"slow": 64}, {"slow": 63, "crowded": 1})


async def test_strangers_that_come_again_and_again_keep_nobody_out(
    crew: Crew, tmp_path: Path
) -> None:
    relay = await crew.listen(LOOPBACK)

    let_in = asyncio.Event()

    async def insist() -> None:
        while not let_in.is_set():
            stranger = await Raw.connect(relay)
            with contextlib.suppress(OSError):
                await stranger.reader.read(1)
            await stranger.close()
            await asyncio.sleep(0.02)

    insisting = asyncio.gather(*(insist() for _ in range(72)))
    await crew.await_refusal("crowded", 100)
    try:
        async with worker_process(relay, tmp_path, "vm-1"):
            hand = await crew.await_worker("vm-1")
            check(await hand.ask(1, b"one"), 1, [b"one"], "vm-1")
    finally:
        let_in.set()
        await insisting


async def test_a_worker_that_stops_reading_holds_up_only_itself(crew: Crew, tmp_path: Path) -> None:
    relay = await crew.listen(LOOPBACK)
    raw = await Raw.connect(relay)
    assert isinstance((await raw.greet())[-1], Welcome)
    stuck = await crew.await_worker("raw")

    async def look_alive() -> None:
        while "raw" not in crew.gone:
            raw.writer.write(Pong(0).encode())
            await asyncio.sleep(0.05)

    alive = asyncio.create_task(look_alive())
    async with worker_process(relay, tmp_path, "vm-1"):
        hand = await crew.await_worker("vm-1")
        while stuck.worker.writable:
            stuck.send(1, bytes(1000))
            if len(stuck.unanswered) % 64 == 0:
                await asyncio.sleep(0)
        queued = stuck.worker.queued
        assert HIGH_WATER <= queued < 2 * HIGH_WATER
        waits = []
        for _ in range(300):
            began = time.perf_counter()
            await hand.ask(1, b"one")
            waits.append(time.perf_counter() - began)
        assert sorted(waits)[150] < 0.02
        assert (await crew.await_end("raw"))[0] == "stuck"
        assert "vm-1" not in crew.gone
    await alive
    await raw.close()


async def test_a_worker_that_is_stopped_answers_what_it_has_in_hand(
    crew: Crew, tmp_path: Path
) -> None:
    relay = await crew.listen(LOOPBACK)
    async with worker_process(relay, tmp_path, "vm-1", "--pause", "0.3") as process:
        hand = await crew.await_worker("vm-1")
        answers = [hand.send(number, b"one") for number in range(1, 11)]
        await asyncio.sleep(0.1)
        process.terminate()
        for answer in await asyncio.gather(*answers):
            check(answer, 1, [b"one"], "vm-1")
        assert (await crew.await_end("vm-1"))[0] == "left"
        assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_a_worker_that_another_replaces_ends(crew: Crew, tmp_path: Path) -> None:
    relay = await crew.listen(LOOPBACK)
    async with worker_process(relay, tmp_path, "vm-1") as older:
        await crew.await_worker("vm-1")
        async with worker_process(relay, tmp_path, "vm-1"):
            assert (await crew.await_end("vm-1"))[0] == "replaced"
            assert await asyncio.wait_for(older.wait(), 5) == 1
            hand = await crew.await_worker("vm-1")
            check(await hand.ask(1, b"one"), 1, [b"one"], "vm-1")
    assert "another worker has connected" in (tmp_path / "vm-1.log").read_text()


async def test_a_worker_that_nobody_listens_to_can_be_stopped(tmp_path: Path) -> None:
    nowhere = LinkAddress(path=str(tmp_path / "nobody"))
    async with worker_process(nowhere, tmp_path, "vm-1") as process:
        await await_log(tmp_path, "vm-1", "no link")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 5) == 0
