"""A peer that starts anew, read or not, on an association of the kernel."""

from __future__ import annotations

import socket

import pytest

from isoneph.core.errors import AssociationClosed
from isoneph.core.testing import RecordingHandler
from isoneph.core.traffic import Message, Notice, Notification
from played_kernel import RESTARTED, SEND_FAILED, World, change, part, told


def test_a_restart_may_change_the_streams() -> None:
    world = World()
    world.receive(part(b"half", last=False), told(change(2, streams=3)), part(b"new"))
    assert (world.association.streams_in, world.association.streams_out) == (3, 3)
    assert world.handler.notifications == [Notification(Notice.RESTARTED)]
    assert world.handler.messages == [Message(b"new", 1, 18)]


def test_who_sends_while_paused_learns_of_a_restart() -> None:
    world = World()
    world.association.pause_reading()
    world.kernel.incoming.append(part(b"unread"))
    world.restart()
    for _ in range(2):
        with pytest.raises(AssociationClosed, match="anew"):
            world.association.send(Message(b"for the former peer"))
    assert world.handler.notifications == [], "not while something is sent"
    world.receive()
    assert world.handler.notifications == [Notification(Notice.RESTARTED)]
    assert world.handler.messages == []
    assert world.kernel.sent == []
    assert world.loop.reader is None, "reading is still paused"
    world.association.send(Message(b"welcome"))
    assert world.kernel.sent == [b"welcome"]
    world.association.resume_reading()
    world.receive(part(b"new"))
    assert world.handler.messages == [Message(b"new", 1, 18)]


def test_who_resumes_reading_gets_nothing_of_a_former_peer() -> None:
    world = World()
    world.association.pause_reading()
    world.kernel.incoming.append(part(b"unread"))
    world.restart()
    world.association.resume_reading()
    world.association.pause_reading()
    world.association.resume_reading()
    with pytest.raises(AssociationClosed, match="anew"):
        world.association.send(Message(b"for the former peer"))
    world.receive(part(b"new"))
    assert world.handler.calls == ["opened", "notified", "received"]
    assert world.handler.messages == [Message(b"new", 1, 18)]


def test_the_tag_is_asked_for_when_it_may_have_changed() -> None:
    world = World()
    world.association.pause_reading()
    for _ in range(3):
        world.association.send(Message(b"x"))
    asked = world.watch.asked
    world.kernel.controls += 1  # a heartbeat
    for _ in range(3):
        world.association.send(Message(b"x"))
    assert world.watch.asked == asked + 1
    assert len(world.kernel.sent) == 6


def test_where_the_kernel_tells_no_tags_a_restart_is_told_by_reading() -> None:
    world = World()
    world.watch.current = 0
    world.receive(told(RESTARTED))
    world.association.pause_reading()
    world.restart()
    world.association.send(Message(b"nobody knows better"))
    world.association.resume_reading()
    world.receive()
    assert world.handler.notifications == 2 * [Notification(Notice.RESTARTED)]


@pytest.mark.parametrize("paused", [False, True])
def test_what_is_queued_is_not_for_the_next_life_of_a_peer(paused: bool) -> None:
    world = World(send_queue=100, max_message=100)
    world.kernel.room = 0
    for _ in range(2):
        world.association.send(Message(b"x" * 60))
    if paused:
        world.association.pause_reading()
    world.restart()
    world.kernel.room = 1000
    if paused:
        world.flush()
    world.receive()
    assert world.kernel.sent == []
    assert world.handler.calls == [
        *("opened", "writable_changed", "notified", "notified", "writable_changed")
    ]
    assert world.handler.notifications == [
        Notification(Notice.RESTARTED),
        Notification(Notice.SEND_FAILED, "2 messages, never sent: it has started anew"),
    ]
    assert world.loop.writer is None


def test_a_restart_while_closing_ends_in_a_shutdown() -> None:
    world = World()
    world.kernel.room = 0
    world.association.send(Message(b"queued"))
    world.association.close()
    world.restart()
    world.receive()
    assert world.kernel.shutdowns == [socket.SHUT_WR]
    assert world.handler.notifications == []


def test_breaking_it_off_at_a_restart() -> None:
    class Strict(RecordingHandler):
        def notified(self, notification: Notification) -> None:
            super().notified(notification)
            self.up.abort("it is another one")

    world = World(Strict())
    world.kernel.room = 0
    world.association.send(Message(b"queued"))
    world.restart()
    world.receive()
    assert world.handler.calls == ["opened", "notified", "closed"]


def test_a_restart_behind_more_than_one_turn_of_reading_stops_sending() -> None:
    world = World()
    world.kernel.incoming += [told(SEND_FAILED)] * 64
    world.restart()
    world.receive()
    with pytest.raises(AssociationClosed, match="anew"):
        world.association.send(Message(b"for the former peer"))
    world.receive()
    world.association.send(Message(b"welcome"))
    assert world.kernel.sent == [b"welcome"]


def test_pausing_when_a_restart_is_behind_what_is_read() -> None:
    world = World()
    world.kernel.incoming += [part(b"x")] * 70
    world.restart()
    world.receive()
    world.association.pause_reading()
    with pytest.raises(AssociationClosed, match="anew"):
        world.association.send(Message(b"for the former peer"))
    world.receive()
    assert len(world.handler.messages) == 64
    assert world.handler.notifications == [Notification(Notice.RESTARTED)]
