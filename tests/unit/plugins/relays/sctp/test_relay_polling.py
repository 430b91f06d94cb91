"""How long the event loop is kept awake."""

from __future__ import annotations

import asyncio

from isoneph.plugins.relays.sctp.polling import BusyPoll


class Time:
    """Passes by one with each turn of the event loop that looks at it, and when it is told to."""

    def __init__(self, step: float = 1.0) -> None:
        self.now = 0.0
        self._step = step

    def __call__(self) -> float:
        self.now += self._step
        return self.now


async def turns_awake(poll: BusyPoll) -> int:
    """How many turns the event loop takes until it may sleep."""
    turns = 0
    while poll.awake:
        turns += 1
        assert turns < 1000
        await asyncio.sleep(0)
    return turns


async def test_it_looks_for_the_length_of_the_window_after_two_close_messages() -> None:
    poll = BusyPoll(10, Time())
    poll.note()
    assert not poll.awake
    poll.note()
    assert 10 <= await turns_awake(poll) <= 12


async def test_each_message_prolongs_it() -> None:
    poll = BusyPoll(10, Time())
    poll.note()
    poll.note()
    for _ in range(5):
        for _ in range(8):
            await asyncio.sleep(0)
        assert poll.awake
        poll.note()
    assert 10 <= await turns_awake(poll) <= 12


async def test_messages_that_are_further_apart_than_the_window_let_it_sleep() -> None:
    time = Time()
    poll = BusyPoll(10, time)
    for _ in range(20):
        poll.note()
        assert not poll.awake
        time.now += 10


async def test_after_a_vain_look_the_next_message_alone_does_not_wake_it() -> None:
    time = Time()
    poll = BusyPoll(10, time)
    poll.note()
    poll.note()
    await turns_awake(poll)
    poll.note()
    assert not poll.awake
    poll.note()
    assert poll.awake


async def test_no_window_no_looking() -> None:
    poll = BusyPoll(0, Time(step=0.0))
    for _ in range(3):
        poll.note()
        assert not poll.awake


async def test_the_event_loop_does_not_sleep_meanwhile() -> None:
    poll = BusyPoll(0.05)
    poll.note()
    poll.note()
    loop = asyncio.get_running_loop()
    turns, began = 0, loop.time()

    def turn() -> None:
        nonlocal turns
        turns += 1
        if poll.awake:
            # Due later than the loop would sleep for if it had nothing else to do.
            loop.call_later(0.0001, turn)

    turn()
    await asyncio.sleep(0.2)
    assert not poll.awake
    assert turns > 20
    assert loop.time() - began < 5
