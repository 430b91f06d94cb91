"""What the userland transport sends: gathered into packets, and kept while the stack is full."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from isoneph.core.errors import AssociationClosed, QueueFull
from isoneph.core.traffic import Address, Message
from isoneph.plugins.transports.userland.options import Settings
from isoneph.plugins.transports.userland.outgoing import Outgoing

NO, YES = "Nagle", "at once"
#: Chunks of 120 bytes: eleven of them fill a packet of 1400.
MESSAGE = Message(b"x" * 104, 1, 18)


class FakeStack:
    """Notes what it is given: each message's stream, or whether Nagle's algorithm is off."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.room = 1000
        self.gathering: list[Outgoing] = []
        self.ffi = SimpleNamespace(errno=errno.EWOULDBLOCK)
        self.null = self.sndinfo = None
        self.sndinfo_view = bytearray(16)
        self.sndinfo_size, self.int_size = 16, 4
        self.yes, self.no = YES, NO

    def gather(self, outgoing: Outgoing) -> None:
        self.gathering.append(outgoing)

    def setsockopt(self, _so: object, _level: int, _name: int, value: str, _size: int) -> None:
        self.calls.append(value)

    def sendv(self, _so: object, _data: bytes, size: int, *_: object) -> int:
        if not self.room:
            return -1
        self.room -= 1
        self.calls.append(int.from_bytes(self.sndinfo_view[:2], "little"))
        return size


class FakeSender:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def on_backlog(self, waiting: bool) -> None:
        self.told.append(waiting)

    def on_given_up(self, count: int, why: str) -> None:
        self.told.append((count, why))

    def on_failure(self) -> None:
        self.told.append("failed")


@pytest.fixture
def stack() -> FakeStack:
    return FakeStack()


@pytest.fixture
def sender() -> FakeSender:
    return FakeSender()


@pytest.fixture
def outgoing(stack: Any, sender: FakeSender) -> Outgoing:
    settings: Any = SimpleNamespace(mtu=1400, send_queue=300)
    taken: Settings = settings
    return Outgoing(stack, None, sender, taken, Address("127.0.0.1", 1))


def put(outgoing: Outgoing, *streams: int) -> None:
    for stream in streams:
        outgoing.put(MESSAGE._replace(stream=stream), len(MESSAGE.data))


def test_a_single_message_of_a_turn_goes_at_its_end(stack: FakeStack, outgoing: Outgoing) -> None:
    put(outgoing, 1)
    assert stack.calls == []
    assert stack.gathering == [outgoing]
    assert outgoing.bytes == 104
    outgoing.end_turn()
    assert stack.calls == [1]
    assert outgoing.bytes == 0


def test_only_the_last_message_of_a_turn_goes_at_once(stack: FakeStack, outgoing: Outgoing) -> None:
    put(outgoing, 1, 2, 3)
    assert stack.gathering == [outgoing]
    outgoing.end_turn()
    assert stack.calls == [NO, 1, 2, YES, 3]


def test_a_message_that_fills_a_packet_goes_at_once(stack: FakeStack, outgoing: Outgoing) -> None:
    put(outgoing, *range(1, 13))
    assert stack.calls == [NO, *range(1, 11), YES, 11]
    outgoing.end_turn()
    assert stack.calls == [NO, *range(1, 11), YES, 11, 12]


def test_each_turn_fills_packets_anew(stack: FakeStack, outgoing: Outgoing) -> None:
    put(outgoing, *range(1, 9))
    outgoing.end_turn()
    stack.calls.clear()
    put(outgoing, *range(1, 9))
    outgoing.end_turn()
    assert stack.calls == [NO, *range(1, 8), YES, 8]


def test_much_in_one_turn_is_not_held_any_more(stack: FakeStack, outgoing: Outgoing) -> None:
    put(outgoing, *range(400))
    assert stack.calls[-1] == 399
    assert outgoing.bytes == 0


def test_what_the_stack_has_no_room_for_waits_in_order(
    stack: FakeStack, sender: FakeSender, outgoing: Outgoing
) -> None:
    stack.room = 0
    put(outgoing, 1)
    outgoing.end_turn()
    assert sender.told == [True]
    put(outgoing, 2)
    with pytest.raises(QueueFull):
        put(outgoing, 3)
    assert outgoing.bytes == 208
    stack.room = 1
    outgoing.flush()
    assert sender.told == [True]
    stack.room = 2
    outgoing.flush()
    assert stack.calls == [1, 2]
    assert sender.told == [True, False]
    assert outgoing.bytes == 0


def test_a_stack_that_is_full_in_the_middle_of_a_turn_is_told_once_both_wait(
    stack: FakeStack, sender: FakeSender, outgoing: Outgoing
) -> None:
    stack.room = 0
    put(outgoing, 1)
    assert sender.told == []
    put(outgoing, 2)
    assert sender.told == [True]
    assert [message.stream for message in outgoing.backlog] == [1, 2]
    stack.room = 2
    outgoing.flush()
    assert [call for call in stack.calls if isinstance(call, int)] == [1, 2]


def test_a_message_held_for_a_broken_association_is_told_to_be_lost(
    stack: FakeStack, sender: FakeSender, outgoing: Outgoing
) -> None:
    stack.room, stack.ffi.errno = 0, errno.EPIPE
    put(outgoing, 1)
    outgoing.end_turn()
    why = "the association with 127.0.0.1:1 takes nothing more: Broken pipe"
    assert sender.told == [(1, why)]
    put(outgoing, 1)
    with pytest.raises(AssociationClosed, match="Broken pipe"):
        put(outgoing, 2)
    assert sender.told == [(1, why)] * 2
    assert outgoing.bytes == 0


def test_a_backlog_of_a_broken_association_is_told_to_be_lost(
    stack: FakeStack, sender: FakeSender, outgoing: Outgoing
) -> None:
    stack.room = 0
    put(outgoing, 1, 2)
    stack.ffi.errno = errno.ECONNRESET
    outgoing.flush()
    assert [told[0] for told in sender.told if isinstance(told, tuple)] == [2]
    assert outgoing.bytes == 0
