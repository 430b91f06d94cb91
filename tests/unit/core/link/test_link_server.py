from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from isoneph.core.errors import LinkError, LinkRefused
from isoneph.core.link import LinkAddress, LinkServer, WorkerConnection
from isoneph.core.link.frames import (
    Bye,
    Challenge,
    Dispatch,
    Drain,
    Ended,
    Failed,
    Frame,
    Ping,
    Pong,
    Push,
    Refused,
    Reply,
    Welcome,
)
from isoneph.core.link.handshake import WorkerHandshake
from isoneph.core.traffic import Message
from link_wires import SECRET, Wire

MESSAGE = Message(b"data", 1, 18)


class Site:
    """A relay that writes down what it is told; each worker's handler is one of these."""

    def __init__(self, handshake_timeout: float = 60.0) -> None:
        self.told: list[object] = []
        self.refusal: LinkRefused | None = None
        self.server = LinkServer(
            application="mme",
            secret=SECRET,
            accept=self.accept,
            refused=lambda reason, text: self.told.append(("refused", reason)),
            handshake_timeout=handshake_timeout,
            max_strangers=2,
        )

    def accept(self, worker: WorkerConnection) -> Handler:
        self.told.append(("accept", worker.hello.vm_id))
        if self.refusal is not None:
            raise self.refusal
        return Handler(self.told, f"{worker.hello.vm_id} of {worker.remote}")

    def stranger(self) -> Wire:
        return Wire(WorkerConnection(self.server))

    async def greeted(self, vm_id: str, secret: bytes = SECRET) -> Wire:
        """After the PROOF, whatever the relay makes of it."""
        wire = self.stranger()
        handshake = WorkerHandshake(secret, application="mme", vm_id=vm_id)
        wire.stream.data_received(handshake.start())
        (challenge,) = await wire.heard()
        assert isinstance(challenge, Challenge)
        wire.stream.data_received(handshake.receive(challenge))
        return wire

    async def worker(self, vm_id: str = "vm-1") -> tuple[Wire, WorkerConnection]:
        """One that is let in; nothing is told of that."""
        wire = await self.greeted(vm_id)
        (welcome,) = await wire.heard()
        assert isinstance(welcome, Welcome)
        self.told.clear()
        return wire, self.server.workers[vm_id]


class Handler:
    def __init__(self, told: list[object], name: str) -> None:
        self._told = told
        self._name = name

    def opened(self) -> None:
        self._told.append(("opened", self._name))

    def replied(self, reply: Reply) -> None:
        self._told.append(reply)

    def failed(self, failed: Failed) -> None:
        self._told.append(failed)

    def pushed(self, push: Push) -> None:
        self._told.append(push)

    def drain_wanted(self, drain: Drain) -> None:
        self._told.append(drain)

    def writable_changed(self, writable: bool) -> None:
        self._told.append(("writable", writable))

    def closed(self, reason: str, text: str) -> None:
        self._told.append(("closed", reason))


@pytest.fixture
async def site() -> Site:
    return Site()


async def test_a_worker_that_proves_itself_is_let_in(site: Site) -> None:
    wire = await site.greeted("vm-1")
    assert site.told == [("accept", "vm-1"), ("opened", "vm-1 of 192.0.2.1:4000")]
    (welcome,) = await wire.heard()
    assert isinstance(welcome, Welcome)
    assert (welcome.interval, welcome.timeout) == (100, 300)
    assert list(site.server.workers) == ["vm-1"]


async def test_what_a_worker_says_is_handed_on(site: Site) -> None:
    wire, _ = await site.worker()
    said: list[Frame] = [Reply(1, [MESSAGE], b"state"), Failed(2, "no"), Push(3, []), Drain()]
    wire.say(*said)
    assert site.told == said


async def test_what_is_said_to_a_worker_goes_in_one_write(site: Site) -> None:
    wire, worker = await site.worker()
    worker.dispatch(1, 2, 3, MESSAGE, b"state", redelivered=True)
    worker.forget(2)
    worker.drain()
    await wire.turn()
    assert len(wire.writes) == 1
    expected = [Dispatch(1, 2, 3, MESSAGE, b"state", redelivered=True), Ended(2), Drain()]
    assert await wire.heard() == expected


async def test_a_wrong_secret_is_refused_and_counted(site: Site) -> None:
    wire = await site.greeted("vm-1", b"another secret, as long")
    (refused,) = await wire.heard()
    assert isinstance(refused, Refused)
    assert refused.reason == "secret"
    assert wire.state == "closed"
    assert site.told == [("refused", "secret")]
    assert not site.server.workers


async def test_the_relay_may_refuse_for_a_reason_of_its_own(site: Site) -> None:
    older, _ = await site.worker()
    site.refusal = LinkRefused("unknown_vm", "there is no such VM")
    wire = await site.greeted("vm-1")
    assert await wire.heard() == [Refused("unknown_vm", "there is no such VM")]
    assert site.told == [("accept", "vm-1"), ("refused", "unknown_vm")]
    assert older.state == "open"


async def test_the_newer_worker_of_a_vm_takes_the_place_of_the_older(site: Site) -> None:
    older, _ = await site.worker()
    await site.greeted("vm-1")
    assert [told for told in site.told if isinstance(told, tuple)] == [
        ("accept", "vm-1"),
        ("closed", "replaced"),
        ("opened", "vm-1 of 192.0.2.1:4000"),
    ]
    assert await older.heard() == [Bye("replaced")]
    assert older.state == "closed"
    older.stream.connection_lost(None)
    assert list(site.server.workers) == ["vm-1"]


async def test_garbage_of_a_worker_ends_it_under_its_reason(site: Site) -> None:
    wire, _ = await site.worker()
    wire.stream.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert wire.state == "aborted"
    assert site.told == [("closed", "too_long")]
    assert not site.server.workers


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "too_long"),
        (Drain().encode(), "unexpected"),
        (Dispatch(1, 2, 3, MESSAGE).encode(), "unexpected"),
        (bytes(1025), "too_long"),
        (bytes(5), "malformed"),
    ],
)
async def test_garbage_of_a_stranger_is_refused(site: Site, data: bytes, reason: str) -> None:
    wire = site.stranger()
    wire.stream.data_received(data)
    assert wire.state == "aborted"
    assert site.told == [("refused", reason)]


async def test_a_stranger_who_keeps_talking_is_cut_off(site: Site) -> None:
    wire = site.stranger()
    hello = WorkerHandshake(SECRET, application="mme", vm_id="vm-1").start()
    wire.stream.data_received(hello)
    for byte in bytes(1024):
        wire.stream.data_received(bytes([byte]))
    assert wire.state == "aborted"
    assert [told[1] for told in site.told if isinstance(told, tuple)] in (
        ["too_long"],
        ["malformed"],
    )


async def test_a_stranger_who_says_too_little_is_cut_off_in_time() -> None:
    site = Site(handshake_timeout=0.01)
    wire = site.stranger()
    wire.stream.data_received(b"\0")
    await asyncio.sleep(0.03)
    assert wire.state == "aborted"
    assert site.told == [("refused", "slow")]


async def test_a_worker_is_not_cut_off_when_the_time_for_strangers_is_over() -> None:
    site = Site(handshake_timeout=0.2)
    wire, _ = await site.worker()
    await asyncio.sleep(0.3)
    assert wire.state == "open"


async def test_only_so_many_strangers_are_listened_to_the_latest(site: Site) -> None:
    first, second, third = site.stranger(), site.stranger(), site.stranger()
    assert [first.state, second.state, third.state] == ["aborted", "open", "open"]
    assert site.told == [("refused", "crowded")]
    second.stream.connection_lost(None)
    site.stranger()
    assert third.state == "open"


async def test_strangers_from_one_host_do_not_crowd_out_another(site: Site) -> None:
    other = Wire(WorkerConnection(site.server), "192.0.2.2")
    crowd = [site.stranger() for _ in range(5)]
    assert other.state == "open"
    assert [wire.state for wire in crowd] == ["aborted"] * 4 + ["open"]


async def test_a_worker_is_let_in_among_many_strangers(site: Site) -> None:
    for _ in range(5):
        site.stranger()
    wire = await site.greeted("vm-1")
    (welcome,) = await wire.heard()
    assert isinstance(welcome, Welcome)


async def test_a_lost_connection_ends_it_once(site: Site) -> None:
    wire, worker = await site.worker()
    wire.stream.connection_lost(OSError("reset"))
    worker.close()
    worker.dispatch(1, 2, 3, MESSAGE)
    assert await wire.heard() == []
    assert site.told == [("closed", "broken")]


async def test_nothing_comes_after_goodbye(site: Site) -> None:
    wire, _ = await site.worker()
    wire.say(Reply(1), Bye("stopped"), Reply(2))
    wire.say(Reply(3))
    assert site.told == [Reply(1, []), ("closed", "left")]


async def test_a_worker_is_closed_with_a_goodbye_after_what_was_queued(site: Site) -> None:
    wire, worker = await site.worker()
    worker.dispatch(1, 2, 3, MESSAGE)
    worker.close("removed")
    assert await wire.heard() == [Dispatch(1, 2, 3, MESSAGE), Bye("removed")]
    assert wire.state == "closed"
    assert site.told == [("closed", "removed")]


async def test_backpressure_is_told(site: Site) -> None:
    wire, worker = await site.worker()
    wire.stream.pause_writing()
    assert [worker.writable] == [False]
    wire.stream.resume_writing()
    assert [worker.writable] == [True]
    assert site.told == [("writable", False), ("writable", True)]


async def beats(wire: Wire, worker: WorkerConnection, number: int) -> list[Frame]:
    """What is heard in that many ticks, of 25 ms each."""
    for _ in range(number):
        worker.beat(0.025)
    return await wire.heard()


async def test_a_ping_goes_out_at_every_interval_once_the_last_is_answered(site: Site) -> None:
    wire, worker = await site.worker()
    assert await beats(wire, worker, 3) == []
    (ping,) = await beats(wire, worker, 1)
    assert isinstance(ping, Ping)
    assert await beats(wire, worker, 4) == []
    wire.say(Pong(ping.token))
    assert worker.rtt > 0
    assert [type(frame) for frame in await beats(wire, worker, 1)] == [Ping]


async def test_a_pong_to_nothing_is_no_answer(site: Site) -> None:
    wire, worker = await site.worker()
    wire.say(Pong(1))
    (ping,) = await beats(wire, worker, 4)
    assert isinstance(ping, Ping)
    wire.say(Pong(ping.token + 1))
    assert worker.rtt == 0


async def test_a_silent_worker_is_lost_after_the_timeout(site: Site) -> None:
    wire, worker = await site.worker()
    await beats(wire, worker, 11)
    assert wire.state == "open"
    await beats(wire, worker, 1)
    assert wire.state == "aborted"
    assert site.told == [("closed", "lost")]


async def test_any_bytes_are_a_sign_of_life(site: Site) -> None:
    wire, worker = await site.worker()
    for _ in range(5):
        await beats(wire, worker, 8)
        wire.stream.data_received(b"\0")
        wire.stream.data_received(b"\0\0\x0a\x13" + bytes(9))
    assert "malformed" in str(site.told)  # it was heard out until the frame was whole


async def test_a_worker_that_sends_but_never_reads_is_stuck(site: Site) -> None:
    wire, worker = await site.worker()
    for _ in range(200):
        worker.beat(0.025)
        wire.say(Reply(1))
        if wire.state == "aborted":
            break
    assert [frame for frame in await wire.heard() if isinstance(frame, Ping)]
    assert site.told[-1] == ("closed", "stuck")
    assert site.told.count(Reply(1, [])) == pytest.approx((0.1 + 3.0) / 0.025, abs=3)


async def test_a_worker_is_not_lost_while_we_do_not_read(site: Site) -> None:
    wire, worker = await site.worker()
    worker.pause_reading()
    assert not wire.is_reading()
    pings = await beats(wire, worker, 40)
    assert len(pings) == 10  # it must hear from us
    assert wire.state == "open"
    worker.resume_reading()
    assert wire.is_reading()
    await beats(wire, worker, 11)
    assert wire.state == "open"
    await beats(wire, worker, 1)
    assert wire.state == "aborted"


async def test_an_address_in_use_is_an_error(site: Site, tmp_path: Path) -> None:
    try:
        taken = await site.server.listen(LinkAddress("127.0.0.1", 0))
        assert taken.port
        with pytest.raises(LinkError, match=str(taken)):
            await site.server.listen(taken)
        with pytest.raises(LinkError):
            await site.server.listen(LinkAddress(path=str(tmp_path / "no" / "socket")))
    finally:
        site.server.close()


async def test_closing_the_server_ends_everybody_once(site: Site) -> None:
    wire, _ = await site.worker()
    stranger = site.stranger()
    site.server.close()
    site.server.close()
    assert await wire.heard() == [Bye("closed")]
    assert stranger.state == "aborted"
    assert sorted(map(str, site.told)) == ["('closed', 'closed')", "('refused', 'closed')"]


@pytest.mark.parametrize(("interval", "timeout"), [(0.0, 0.3), (0.3, 0.3), (0.0004, 0.1)])
def test_a_heartbeat_must_be_one(interval: float, timeout: float) -> None:
    with pytest.raises(ValueError, match="a longer timeout"):
        LinkServer(
            application="mme",
            secret=SECRET,
            accept=lambda worker: Handler([], ""),
            refused=print,
            interval=interval,
            timeout=timeout,
        )
