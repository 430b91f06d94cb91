"""An association on a socket whose kernel the test plays: what a real one does too seldom."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, cast

import pytest
from voluptuous import Schema

from isoneph.core.errors import AssociationClosed, QueueFull
from isoneph.core.plugin import AssociationHandler, Metrics
from isoneph.core.testing import RecordingHandler, make_environment
from isoneph.core.testing.environment import NullMetrics
from isoneph.core.traffic import Address, Ending, Message, Notice, Notification
from isoneph.plugins.transports.kernel import abi
from isoneph.plugins.transports.kernel.association import KernelAssociation
from isoneph.plugins.transports.kernel.control import Control
from isoneph.plugins.transports.kernel.listener import KernelListener
from isoneph.plugins.transports.kernel.options import OPTIONS, Settings
from isoneph.plugins.transports.kernel.owner import Owner

Received = tuple[bytes, list[tuple[int, int, bytes]], int, None]
EOR, NOTIFICATION = 0x80, 0x8000
END_OF_FILE: Received = (b"", [], 0, None)


def change(state: int, *, error: int = 0, streams: int = 16) -> bytes:
    return struct.pack("=HHIHHHHi", 0x8001, 0, 20, state, error, streams, streams, 1)


UP, LOST, RESTARTED, COMPLETE = (change(state) for state in range(4))
SHUTDOWN = struct.pack("=HHIi", 0x8005, 0, 12, 1)
GIVEN_UP = struct.pack("=HHIIi", 0x8006, 0, 16, 0, 1)
SEND_FAILED = struct.pack("=HHIIH14xi", 0x800D, 0, 32, 0, 3, 1)


def told(data: bytes, *, whole: bool = True) -> Received:
    return data, [], NOTIFICATION | (EOR if whole else 0), None


def part(data: bytes, *, last: bool = True, stream: int = 1, ppid: int = 18) -> Received:
    info = struct.pack("=HHHxxIIIIi", stream, 7, 0, socket.htonl(ppid), 1, 1, 0, 1)
    return data, [(132, 3, info)], EOR if last else 0, None


class Counts(NullMetrics):
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        self.counts[" ".join([name, *labels.values()])] += int(amount)


class Timer:
    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Notes what is asked of the event loop."""

    def __init__(self) -> None:
        self.reader: Callable[[], None] | None = None
        self.writer: Callable[[], None] | None = None
        self.timers: list[Timer] = []

    def add_reader(self, _sock: object, act: Callable[[], None]) -> None:
        self.reader = act

    def remove_reader(self, _sock: object) -> None:
        self.reader = None

    def add_writer(self, _sock: object, act: Callable[[], None]) -> None:
        self.writer = act

    def remove_writer(self, _sock: object) -> None:
        self.writer = None

    def call_later(self, _seconds: float, act: Callable[..., None], *arguments: Any) -> Timer:
        self.timers.append(Timer(lambda: act(*arguments)))
        return self.timers[-1]


class Watch:
    """Notes what is watched for errors; ``tags`` is what the kernel tells of tags."""

    def __init__(self) -> None:
        self.act: Callable[[], None] | None = None
        self.current = 7
        self.asked = 0

    def add(self, _sock: object, act: Callable[[], None]) -> None:
        self.act = act

    def remove(self, _sock: object) -> None:
        self.act = None

    def tag(self, _local: Address, _remote: Address) -> int:
        self.asked += 1
        return self.current

    def tell(self) -> None:
        """The socket has an error."""
        act, self.act = self.act, None
        assert act is not None
        act()


class Kernel:
    """The socket: what is to be received, how often there is room to send, what is over.

    ``controls`` is how many control chunks have come.
    """

    def __init__(self) -> None:
        self.incoming: deque[Received | OSError] = deque([told(UP)])
        self.sent: list[bytes] = []
        self.room = 1000
        self.failure: OSError | None = None
        self.error = 0
        self.controls = 1
        self.over = False
        self.closed = self.lingers = False
        self.shutdowns: list[int] = []

    def recvmsg(self, _size: int, _ancillary: int = 0, flags: int = 0) -> Received:
        if not self.incoming:
            raise BlockingIOError
        what = self.incoming[0] if flags else self.incoming.popleft()
        if isinstance(what, OSError):
            raise what
        return what

    def sendmsg(self, buffers: tuple[bytes], _info: object) -> None:
        if self.failure:
            raise self.failure
        if self.room == 0:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        self.room -= 1
        self.sent += buffers

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            return self.error
        if self.over:
            raise OSError(errno.EINVAL, "Invalid argument")
        if option == abi.STATUS:
            return bytes(28) + abi.sockaddrs([Address("192.0.2.8", 5)]).ljust(148, b"\0")
        if option == abi.GET_ASSOC_STATS:
            return self.controls.to_bytes(8, sys.byteorder).rjust(size, b"\0")
        return bytes(size)

    def setsockopt(self, *_arguments: object) -> None:
        self.lingers = True

    def shutdown(self, how: int) -> None:
        self.shutdowns.append(how)

    def fileno(self) -> int:
        return -1 if self.closed else 5

    def close(self) -> None:
        self.closed = True


class World:
    """An association, its kernel, its loop and who uses it."""

    def __init__(self, handler: RecordingHandler | None = None, **options: int) -> None:
        self.settings = Settings(**Schema(OPTIONS)(options))
        self.metrics = Counts()
        self.environment = make_environment(metrics=cast("Metrics", self.metrics))
        self.loop = Loop()
        self.watch = Watch()
        self.peer = Address("192.0.2.7", 5)
        self.kernel = Kernel()
        self.sock = self.kernel
        self.handler = handler or RecordingHandler()
        self.association = KernelAssociation(cast("Owner", self), cast("Control", self))
        self.association.begin(self.handler)

    def restart(self) -> None:
        """The peer starts anew; that is behind what is to be received."""
        self.watch.current += 1
        self.kernel.controls += 2
        self.kernel.incoming.append(told(RESTARTED))

    def remote(self) -> tuple[Address, ...]:
        return Address("192.0.2.7", 5), Address("192.0.2.8", 5)

    def local(self) -> tuple[Address, ...]:
        return (Address("192.0.2.1", 6),)

    def begin(self, association: KernelAssociation, handler: AssociationHandler) -> None:
        association.begin(handler)

    def ended(self, _association: KernelAssociation) -> None:
        self.loop.timers = [timer for timer in self.loop.timers if not timer.cancelled]

    def stopped(self, _listener: KernelListener) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        """The kernel has room, and the loop tells of it."""
        assert self.loop.writer, "nothing is to be written"
        self.loop.writer()

    def receive(self, *what: Received | OSError) -> None:
        """The kernel has this, and the loop tells of it once."""
        self.kernel.incoming += what
        assert self.loop.reader, "nobody reads"
        self.loop.reader()


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


def test_a_close_that_takes_too_long_is_an_abort() -> None:
    world = World(close_timeout=3)
    world.association.close()
    world.loop.timers[0].act()
    assert world.handler.endings == [Ending.ABORTED]
    assert "3 s" in world.handler.reasons[0]


def test_what_is_queued_when_the_peer_closes_is_not_silently_lost() -> None:
    world = World()
    world.kernel.room = 0
    world.association.send(Message(b"queued"))
    world.receive(told(SHUTDOWN), told(COMPLETE))
    assert world.handler.notifications == [Notification(Notice.SHUTDOWN)]
    assert world.handler.endings == [Ending.ABORTED]
    assert "1 messages were queued" in world.handler.reasons[0]


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


def test_a_restart_may_change_the_streams() -> None:
    world = World()
    world.receive(part(b"half", last=False), told(change(2, streams=3)), part(b"new"))
    assert (world.association.streams_in, world.association.streams_out) == (3, 3)
    assert world.handler.notifications == [Notification(Notice.RESTARTED)]
    assert world.handler.messages == [Message(b"new", 1, 18)]


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


def test_an_error_that_sending_meets_is_looked_into_though_reading_is_paused() -> None:
    world = World()
    world.association.pause_reading()
    world.kernel.failure = OSError(errno.ETIMEDOUT, "Connection timed out")
    with pytest.raises(AssociationClosed, match="timed out"):
        world.association.send(Message(b"x"))
    world.receive(told(LOST))
    assert world.handler.endings == [Ending.LOST]


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
