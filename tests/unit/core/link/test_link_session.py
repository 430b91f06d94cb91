from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import pytest

from isoneph.core.errors import LinkDown, LinkError, LinkFull, LinkRefused
from isoneph.core.link import Answer, Handler, LinkAddress, Worker
from isoneph.core.link.frames import (
    Bye,
    Challenge,
    Dispatch,
    Drain,
    Ended,
    Failed,
    Frame,
    Limits,
    Ping,
    Pong,
    Push,
    Refused,
    Reply,
)
from isoneph.core.link.handshake import RelayHandshake, WorkerHandshake
from isoneph.core.link.session import WorkerSession
from isoneph.core.traffic import Message
from link_wires import SECRET, Wire

MESSAGE = Message(b"confidential", 1, 18)


class Site:
    """A session with a relay that takes little."""

    limits = Limits(max_frame=1000, max_state=10, max_messages=2)

    def __init__(self, handler: Handler, window: int = 4) -> None:
        self.forgotten: list[int] = []
        self.counts: Counter[str] = Counter()
        handshake = WorkerHandshake(SECRET, application="mme", vm_id="vm-1", window=window)
        self.session = WorkerSession(handshake, handler, self.forgotten.append, self.counts)
        self.wire = Wire(self.session)
        self.relay = RelayHandshake(SECRET, application="mme")

    async def come_up(self, *more: Frame) -> None:
        """The handshake; more may come in the same read as the WELCOME."""
        for _ in range(2):
            (frame,) = await self.wire.heard()
            answer = self.relay.receive(frame)
            if answer:
                self.session.data_received(answer)
        welcome = self.relay.welcome(0.1, 0.3, self.limits)
        self.session.data_received(welcome + b"".join(frame.encode() for frame in more))
        await self.session.up


async def up(handler: Handler, window: int = 4) -> Site:
    site = Site(handler, window)
    await site.come_up()
    return site


def dispatch(sequence: int, conversation: int = 1, data: bytes = b"confidential") -> Dispatch:
    return Dispatch(sequence, conversation, 1, Message(data, 1, 18), b"old")


def echo(dispatch: Dispatch) -> Reply:
    return dispatch.reply([dispatch.message], b"new")


class Waiting:
    """A handler whose calls go on when the test says so."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.cancelled: list[int] = []
        self.gates: dict[int, asyncio.Future[Answer]] = {}

    async def __call__(self, dispatch: Dispatch) -> Answer:
        self.started.append(dispatch.sequence)
        gate: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.gates[dispatch.sequence] = gate
        try:
            return await gate
        except asyncio.CancelledError:
            self.cancelled.append(dispatch.sequence)
            raise

    def let_go(self, sequence: int, answer: Answer = None) -> None:
        self.gates[sequence].set_result(answer)


async def test_what_comes_with_the_welcome_is_handled() -> None:
    site = Site(echo)
    await site.come_up(dispatch(1))
    assert await site.wire.heard() == [Reply(1, [MESSAGE], b"new")]


async def test_all_of_a_read_is_answered_in_one_write() -> None:
    site = await up(echo)
    site.wire.say(dispatch(1), dispatch(2), Ping(5), dispatch(3, 2))
    assert len(site.wire.writes) == 1
    answers = [Reply(n, [MESSAGE], b"new") for n in (1, 2, 3)]
    assert await site.wire.heard() == [*answers[:2], Pong(5), answers[2]]
    assert site.counts == {"handled": 3}


async def test_no_answer_keeps_the_state() -> None:
    site = await up(lambda dispatch: None)
    site.wire.say(dispatch(1))
    assert await site.wire.heard() == [Reply(1, [], None)]


async def test_a_handler_may_refuse_for_a_reason_of_its_own() -> None:
    site = await up(lambda dispatch: dispatch.fail("ciphered"))
    site.wire.say(dispatch(1))
    assert await site.wire.heard() == [Failed(1, "ciphered")]
    assert site.counts == {"failed": 1}


def raising(dispatch: Dispatch) -> Answer:
    raise RuntimeError("a mistake")


async def raising_later(dispatch: Dispatch) -> Answer:
    await asyncio.sleep(0)
    raise RuntimeError("a mistake")


async def cancelling(dispatch: Dispatch) -> Answer:
    raise asyncio.CancelledError


@pytest.mark.parametrize("handler", [raising, raising_later, cancelling])
async def test_a_handler_that_raises_fails_its_own_dispatch_only(
    handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    def some(dispatch: Dispatch) -> Answer | Awaitable[Answer]:
        return handler(dispatch) if dispatch.sequence != 2 else echo(dispatch)

    site = await up(some)
    with caplog.at_level(logging.ERROR, "isoneph.link"):
        site.wire.say(dispatch(1), dispatch(2, 2), dispatch(3))
        answers = await site.wire.heard()
    expected = [Failed(1, "handler"), Reply(2, [MESSAGE], b"new"), Failed(3, "handler")]
    assert sorted(answers, key=lambda frame: frame.sequence) == expected  # type: ignore[union-attr]  # they are answers
    assert site.counts == {"failed": 2, "handled": 1}
    assert len(caplog.records) == 1  # of a flood, one a second
    assert "confidential" not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        Reply(1, [], bytes(11)),
        Reply(1, [MESSAGE] * 3),
        Reply(1, [Message(bytes(1000))]),
        Reply(1, [Message(b"", 1 << 16)]),
        Reply(1, [Message("text")]),  # type: ignore[arg-type]  # a handler's mistake
        Reply(1, 5),  # type: ignore[arg-type]  # a handler's mistake
        Reply(2),
        Failed(1, "No Word"),
        Failed(1, 5),  # type: ignore[arg-type]  # a handler's mistake
        "text",
        5,
    ],
)
async def test_an_answer_that_the_relay_does_not_take_fails_the_dispatch(answer: Any) -> None:
    site = await up(lambda dispatch: answer)
    site.wire.say(dispatch(1))
    assert await site.wire.heard() == [Failed(1, "answer")]
    assert site.counts == {"failed": 1}


async def test_conversations_wait_for_themselves_only() -> None:
    handler = Waiting()
    site = await up(handler)
    site.wire.say(dispatch(1, 1), dispatch(2, 1), dispatch(3, 2))
    await site.wire.turn()
    assert handler.started == [1, 3]
    handler.let_go(3)
    assert await site.wire.heard() == [Reply(3, [])]
    handler.let_go(1)
    assert await site.wire.heard() == [Reply(1, [])]
    assert handler.started == [1, 3, 2]
    handler.let_go(2)
    assert await site.wire.heard() == [Reply(2, [])]
    site.wire.say(dispatch(4, 1))
    await site.wire.turn()
    assert handler.started == [1, 3, 2, 4]


async def test_a_quick_answer_does_not_overtake_one_that_waits() -> None:
    waiting = Waiting()

    def some(dispatch: Dispatch) -> Answer | Awaitable[Answer]:
        return waiting(dispatch) if dispatch.sequence == 1 else echo(dispatch)

    site = await up(some)
    site.wire.say(dispatch(1), dispatch(2), dispatch(3))
    assert await site.wire.heard() == []
    waiting.let_go(1)
    answers = await site.wire.heard()
    assert [frame.sequence for frame in answers if isinstance(frame, Reply)] == [1, 2, 3]


async def test_more_dispatches_than_the_window_are_a_violation() -> None:
    handler = Waiting()
    site = await up(handler, window=2)
    site.wire.say(dispatch(1, 1), dispatch(2, 2))
    await site.wire.turn()
    handler.let_go(1)
    await site.wire.turn()
    site.wire.say(dispatch(3, 3))
    assert site.wire.state == "open"
    site.wire.say(dispatch(4, 4))
    assert site.wire.state == "aborted"
    assert await site.session.finished == "window"


async def test_handlers_of_a_lost_connection_are_cancelled() -> None:
    handler = Waiting()
    site = await up(handler)
    site.wire.say(dispatch(1), dispatch(2), dispatch(3, 2))
    await site.wire.turn()
    site.session.connection_lost(None)
    await site.wire.turn()
    assert sorted(handler.cancelled) == [1, 3]
    assert handler.started == [1, 3]
    assert await site.session.finished == "broken"


async def test_stopping_answers_what_is_in_hand_and_then_says_goodbye() -> None:
    handler = Waiting()
    site = await up(handler)
    site.wire.say(dispatch(1))
    site.session.stop()
    assert await site.wire.heard() == [Drain()]
    site.wire.say(dispatch(2, 2), Drain())  # the second was on its way already
    await site.wire.turn()
    handler.let_go(1)
    assert await site.wire.heard() == [Reply(1, [])]
    assert site.wire.state == "open"
    handler.let_go(2)
    assert await site.wire.heard() == [Reply(2, []), Bye("stopped")]
    assert site.wire.state == "closed"
    assert await site.session.finished == "stopped"


async def test_stopping_with_nothing_in_hand_waits_for_the_relays_word() -> None:
    site = await up(echo)
    site.session.stop()
    await site.wire.turn()
    assert site.wire.state == "open"
    site.wire.say(Drain())
    assert await site.wire.heard() == [Drain(), Bye("stopped")]


async def test_a_relay_that_drains_is_served_on() -> None:
    site = await up(echo)
    site.wire.say(dispatch(1), Drain())
    site.session.push(1, [MESSAGE])
    assert await site.wire.heard() == [Reply(1, [MESSAGE], b"new"), Push(1, [MESSAGE])]
    assert site.wire.state == "open"


async def test_conversations_that_are_over_are_told() -> None:
    site = await up(echo)
    site.wire.say(Ended(5), Ended(6))
    assert site.forgotten == [5, 6]


async def test_a_goodbye_of_the_relay_ends_it_with_its_reason() -> None:
    site = await up(echo)
    site.wire.say(Bye("replaced"))
    assert await site.session.finished == "replaced"


async def test_what_is_pushed_is_bounded() -> None:
    site = await up(echo)
    with pytest.raises(LinkError, match="3 messages"):
        site.session.push(1, [MESSAGE] * 3)
    with pytest.raises(LinkError, match="1005 bytes"):
        site.session.push(1, [Message(bytes(979))])
    site.session.pause_writing()
    with pytest.raises(LinkFull):
        site.session.push(1, [MESSAGE])
    site.session.resume_writing()
    longest = [Message(bytes(978))]
    site.session.push(1, longest)
    assert await site.wire.heard() == [Push(1, longest)]


async def test_who_pushes_much_at_once_fills_the_connection_and_not_the_memory() -> None:
    site = await up(echo)
    for _ in range(1000):
        site.session.push(1, [Message(bytes(900))])
    assert sum(map(len, site.wire.writes)) > 900 * 900


async def test_a_refusal_ends_the_attempt() -> None:
    site = Site(echo)
    site.wire.say(Refused("secret", "it does not know the secret"))
    with pytest.raises(LinkRefused):
        await site.session.up
    assert site.wire.state == "closed"


async def test_a_handshake_that_breaks_off_ends_the_attempt() -> None:
    site = Site(echo)
    site.session.connection_lost(None)
    with pytest.raises(LinkError, match="broken"):
        await site.session.up


@pytest.mark.parametrize("frame", [Challenge(1, bytes(32)), Refused("late", "")])
async def test_a_handshake_is_not_begun_again(frame: Frame) -> None:
    site = await up(echo)
    site.wire.say(frame)
    assert site.wire.state == "aborted"
    assert await site.session.finished == "unexpected"


async def test_a_dispatch_before_the_handshake_is_a_violation() -> None:
    site = Site(echo)
    site.wire.say(dispatch(1))
    assert site.wire.state == "aborted"
    with pytest.raises(LinkError, match="DISPATCH"):
        await site.session.up


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"secret": b"short"}, "at least 16 bytes"),
        ({"vm_id": ""}, "names of 1 to 255"),
        ({"application": "é" * 128}, "names of 1 to 255"),
        ({"application": "m\ne"}, "names of 1 to 255"),
        ({"capacity": 0}, "capacity from 1"),
        ({"window": 1 << 16}, "window from 1"),
    ],
)
def test_a_worker_is_not_made_of_nonsense(changed: dict[str, Any], words: str) -> None:
    arguments: dict[str, Any] = {"secret": SECRET, "application": "mme", "vm_id": "vm-1"}
    with pytest.raises(ValueError, match=words):
        Worker(LinkAddress("127.0.0.1", 1), handler=echo, **(arguments | changed))


def test_nothing_can_be_pushed_without_a_link() -> None:
    worker = Worker(LinkAddress("127.0.0.1", 1), SECRET, echo, application="mme", vm_id="vm-1")
    with pytest.raises(LinkDown, match=r"127\.0\.0\.1:1"):
        worker.push(1, [MESSAGE])
