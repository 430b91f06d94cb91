"""What an association of the kernel sends, and what is queued while there is no room."""

from __future__ import annotations

import errno
import socket

import pytest

from isoneph.core.errors import AssociationClosed, QueueFull
from isoneph.core.traffic import Ending, Message, Notice, Notification
from played_kernel import COMPLETE, LOST, SHUTDOWN, World, part, told


def test_what_the_kernel_has_no_room_for_is_queued() -> None:
    world = World(send_queue=100, max_message=100)
    send = world.association.send
    world.kernel.room = 1
    for data in (b"a" * 60, b"b" * 60, b"c" * 60):
        send(Message(data))
    assert world.kernel.sent == [b"a" * 60]
    assert world.handler.writable == [False]
    send(Message(b"d" * 80))
    with pytest.raises(QueueFull):
        send(Message(b"e"))
    figures = world.association.statistics()
    assert (figures.sent, figures.sent_bytes, figures.queued) == (4, 260, 200)
    world.kernel.room = 2
    world.flush()
    assert world.handler.writable == [False], "80 bytes are more than half"
    world.kernel.room = 1
    world.flush()
    assert world.handler.writable == [False, True]
    assert world.kernel.sent == [b"a" * 60, b"b" * 60, b"c" * 60, b"d" * 80]
    assert world.loop.writer is None


def test_what_cannot_be_sent_any_more_makes_no_noise() -> None:
    world = World()
    world.kernel.room = 0
    world.association.send(Message(b"queued"))
    world.kernel.failure = OSError(errno.ECONNRESET, "Connection reset by peer")
    world.flush()
    assert world.loop.writer is None
    assert world.handler.endings == []
    with pytest.raises(AssociationClosed):
        world.association.send(Message(b"late"))
    world.receive(told(LOST))
    assert world.handler.endings == [Ending.ABORTED]


@pytest.mark.parametrize("error", [errno.ENOBUFS, errno.ENOMEM])
def test_what_the_kernel_has_no_memory_for_waits(error: int) -> None:
    world = World()
    world.kernel.failure = OSError(error, "...")
    world.association.send(Message(b"patient"))
    world.flush()
    world.kernel.failure = None
    world.flush()
    assert world.kernel.sent == [b"patient"]


def test_what_the_socket_tells_counts_more_than_what_sending_met() -> None:
    world = World()
    world.kernel.failure = OSError(errno.EPIPE, "Broken pipe")
    with pytest.raises(AssociationClosed):
        world.association.send(Message(b"x"))
    world.kernel.error = errno.ECONNRESET
    world.receive(told(LOST))
    assert world.handler.endings == [Ending.ABORTED]


def test_a_failed_send_is_told_and_its_error_remembered() -> None:
    world = World()
    world.kernel.failure = OSError(errno.ETIMEDOUT, "Connection timed out")
    with pytest.raises(AssociationClosed, match="timed out"):
        world.association.send(Message(b"x"))
    assert world.association.statistics().sent == 0
    world.kernel.error = 0  # it was told by the send
    world.receive(told(LOST))
    assert world.handler.endings == [Ending.LOST]


def test_closing_with_a_queue_flushes_it_first() -> None:
    world = World()
    world.kernel.room = 0
    world.association.send(Message(b"queued"))
    world.association.close()
    assert world.kernel.shutdowns == []
    world.kernel.room = 1
    world.flush()
    assert world.kernel.shutdowns == [socket.SHUT_WR]
    world.receive(part(b"thrown away"), told(COMPLETE))
    assert world.handler.calls == ["opened", "closed"]
    assert world.handler.endings == [Ending.CLOSED]


def test_what_is_queued_when_the_peer_closes_is_not_silently_lost() -> None:
    world = World()
    world.kernel.room = 0
    world.association.send(Message(b"queued"))
    world.receive(told(SHUTDOWN), told(COMPLETE))
    assert world.handler.notifications == [Notification(Notice.SHUTDOWN)]
    assert world.handler.endings == [Ending.ABORTED]
    assert "1 messages were queued" in world.handler.reasons[0]


def test_an_error_that_sending_meets_is_looked_into_though_reading_is_paused() -> None:
    world = World()
    world.association.pause_reading()
    world.kernel.failure = OSError(errno.ETIMEDOUT, "Connection timed out")
    with pytest.raises(AssociationClosed, match="timed out"):
        world.association.send(Message(b"x"))
    world.receive(told(LOST))
    assert world.handler.endings == [Ending.LOST]
