"""What comes of an association of the kernel, and how it ends."""

from __future__ import annotations

import errno
import struct

import pytest

from isoneph.core.errors import AssociationClosed
from isoneph.core.testing import RecordingHandler
from isoneph.core.traffic import Address, Ending, Message, Notice, Notification
from played_kernel import (
    COMPLETE,
    END_OF_FILE,
    GIVEN_UP,
    LOST,
    SEND_FAILED,
    SHUTDOWN,
    Received,
    World,
    part,
    told,
)


def test_the_primary_address_comes_first() -> None:
    world = World()
    assert world.association.remote == (Address("192.0.2.8", 5), Address("192.0.2.7", 5))


def test_a_message_in_parts_is_put_together() -> None:
    world = World()
    world.receive(part(b"one ", last=False), part(b"two ", last=False), told(SHUTDOWN))
    world.receive(part(b"three"), part(b"next"))
    assert world.handler.messages == [Message(b"one two three", 1, 18), Message(b"next", 1, 18)]


def test_the_rest_of_a_message_that_was_given_up_is_not_waited_for() -> None:
    world = World()
    world.receive(part(b"half", last=False), told(GIVEN_UP), part(b"next"))
    assert world.handler.messages == [Message(b"next", 1, 18)]


@pytest.mark.parametrize(
    "parts",
    [
        [part(b"x" * 101)],
        [part(b"x" * 60, last=False), part(b"x" * 41)],
        [part(b"x" * 60, last=False), part(b"x" * 60, last=False)],
    ],
)
def test_a_message_that_is_too_large_ends_the_association(parts: list[Received]) -> None:
    world = World(max_message=100)
    world.receive(*parts, part(b"next"))
    assert world.handler.endings == [Ending.ABORTED]
    assert world.handler.messages == []
    assert world.metrics.counts == {"messages_refused too_large": 1}
    assert world.kernel.lingers
    assert world.kernel.closed


def test_a_message_of_the_largest_size_comes() -> None:
    world = World(max_message=100)
    world.receive(part(b"x" * 100), part(b"y" * 60, last=False), part(b"y" * 40))
    assert [len(message.data) for message in world.handler.messages] == [100, 100]


def test_notifications_that_cannot_be_read_are_counted() -> None:
    world = World()
    world.receive(told(b"\xff" * 40), told(SHUTDOWN[:-1]), told(b"half", whole=False))
    world.receive(told(COMPLETE, whole=False), told(COMPLETE), part(b"still up"))
    assert world.metrics.counts == {
        "notifications_ignored unknown": 1,
        "notifications_ignored truncated": 4,
    }
    assert world.handler.messages == [Message(b"still up", 1, 18)]
    assert world.handler.endings == []


def test_others_have_their_turn_between_many_messages() -> None:
    world = World()
    world.receive(*(part(b"%d" % number) for number in range(100)))
    assert len(world.handler.messages) == 64
    world.receive()
    assert len(world.handler.messages) == 100


def test_reading_stops_within_a_batch() -> None:
    class Pausing(RecordingHandler):
        def received(self, message: Message) -> None:
            super().received(message)
            self.up.pause_reading()

    world = World(Pausing())
    world.receive(part(b"1"), part(b"2"))
    assert len(world.handler.messages) == 1
    assert world.loop.reader is None
    world.association.resume_reading()
    world.receive()
    assert len(world.handler.messages) == 2


def test_a_close_that_takes_too_long_is_an_abort() -> None:
    world = World(close_timeout=3)
    world.association.close()
    world.loop.timers[0].act()
    assert world.handler.endings == [Ending.ABORTED]
    assert "3 s" in world.handler.reasons[0]


def test_the_end_is_awaited_without_spinning() -> None:
    world = World()
    world.receive(told(SHUTDOWN), END_OF_FILE)
    assert world.loop.reader is None
    world.loop.timers[-1].act()
    world.receive(told(COMPLETE))
    assert world.handler.endings == [Ending.CLOSED]


def test_an_end_that_is_not_told_is_an_end() -> None:
    world = World()
    world.kernel.over = True
    world.receive(END_OF_FILE)
    assert world.handler.endings == []
    world.loop.timers[-1].act()
    world.receive(END_OF_FILE)
    assert world.handler.endings == [Ending.ABORTED]


def test_pausing_while_the_end_is_awaited() -> None:
    world = World()
    world.receive(END_OF_FILE)
    world.association.pause_reading()
    assert world.loop.timers[-1].cancelled
    world.association.resume_reading()
    world.receive(told(COMPLETE))
    assert world.handler.endings == [Ending.CLOSED]


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (errno.ECONNRESET, Ending.ABORTED),
        (errno.ECONNABORTED, Ending.ABORTED),
        (errno.ETIMEDOUT, Ending.LOST),
        (errno.EHOSTUNREACH, Ending.LOST),
    ],
)
def test_the_error_tells_how_it_ended(error: int, ending: Ending) -> None:
    told_by_error, told_by_notification = World(), World()
    told_by_error.receive(OSError(error, "..."))
    told_by_notification.kernel.error = error
    told_by_notification.receive(told(LOST))
    assert told_by_error.handler.endings == told_by_notification.handler.endings == [ending]


def test_an_abort_of_the_peer_gives_its_reason() -> None:
    world = World()
    causes = struct.pack("!HH", 12, 11) + b"goodbye"
    length = struct.pack("=I", 20 + len(causes))
    world.receive(told(LOST[:4] + length + LOST[8:] + causes))
    assert world.handler.endings == [Ending.ABORTED]
    assert "goodbye" in world.handler.reasons[0]


def test_what_the_kernel_gives_up_is_told() -> None:
    world = World()
    world.receive(told(SEND_FAILED))
    assert world.handler.notifications == [
        Notification(Notice.SEND_FAILED, "0 bytes on stream 3, never sent")
    ]


def test_an_end_is_told_to_who_has_paused_reading() -> None:
    world = World()
    world.association.pause_reading()
    world.kernel.incoming += [part(b"unread"), told(LOST)]
    world.kernel.error = errno.ECONNRESET
    world.watch.tell()
    world.receive()
    assert world.handler.messages == []
    assert world.handler.endings == [Ending.ABORTED]
    assert world.watch.act is None


def test_what_a_peer_that_has_closed_sent_last_is_kept_for_who_has_paused() -> None:
    world = World()
    world.association.pause_reading()
    world.kernel.incoming += [part(b"last words"), told(SHUTDOWN), told(COMPLETE)]
    world.kernel.failure = OSError(errno.EPIPE, "Broken pipe")
    with pytest.raises(AssociationClosed):
        world.association.send(Message(b"x"))
    assert world.loop.reader is None
    world.association.resume_reading()
    world.receive()
    assert world.handler.messages == [Message(b"last words", 1, 18)]
    assert world.handler.endings == [Ending.CLOSED]
