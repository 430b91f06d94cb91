from __future__ import annotations

import errno
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from isoneph.core.plugin import Association, AssociationHandler
from isoneph.core.testing import make_environment
from isoneph.core.testing.associations import Door
from isoneph.core.traffic import Address
from isoneph.plugins.transports.kernel.control import Control
from isoneph.plugins.transports.kernel.listener import KernelListener
from isoneph.plugins.transports.kernel.owner import Owner

CLIENT = Address("192.0.2.7", 5)
UP = b"\x01\x80\0\0\x14\0\0\0" + bytes(4) + b"\x10\0\x10\0" + bytes(4)


class Loop:
    """Notes what is asked of the event loop."""

    def __init__(self) -> None:
        self.reader: Callable[[], None] | None = None
        self.later: list[Callable[[], None]] = []
        self.removed = 0

    def add_reader(self, _sock: object, act: Callable[[], None]) -> None:
        self.reader = act

    def remove_reader(self, _sock: object) -> None:
        self.reader = None
        self.removed += 1

    def call_later(self, _seconds: float, act: Callable[[], None]) -> Any:
        self.later.append(act)
        return SimpleNamespace(cancel=lambda: self.later.remove(act))


class World:
    """A listener, and a socket of which the test says what accepting gives."""

    def __init__(self, door: Door | None = None) -> None:
        self.loop = Loop()
        self.watch = SimpleNamespace(tag=lambda *_addresses: 0)
        self.begun: list[AssociationHandler] = []
        self.environment = make_environment()
        self.stops = 0
        self.answers: list[OSError | Control] = []
        self.sock = SimpleNamespace(
            fileno=lambda: 5, close=lambda: None, getsockname=lambda: ("192.0.2.1", 36412)
        )
        owner, control = cast("Owner", self), cast("Control", self)
        self.listener = KernelListener(owner, control, [Address("192.0.2.1", 0)], door or Door())

    def accept(self) -> Control:
        answer = self.answers.pop(0) if self.answers else BlockingIOError()
        if isinstance(answer, OSError):
            raise answer
        return answer

    def begin(self, _association: Association, handler: AssociationHandler) -> None:
        self.begun.append(handler)

    def stopped(self, _listener: KernelListener) -> None:
        self.stops += 1


def test_the_port_is_the_one_that_was_given_out() -> None:
    assert World().listener.addresses == (Address("192.0.2.1", 36412),)


def test_without_descriptors_it_waits_and_accepts_again() -> None:
    world = World()
    world.answers = [OSError(errno.EMFILE, "Too many open files")]
    assert world.loop.reader is not None
    world.loop.reader()
    assert world.loop.removed == len(world.loop.later) == 1
    world.loop.later[0]()
    assert callable(world.loop.reader)


def test_pausing_ends_the_waiting() -> None:
    world = World()
    world.answers = [OSError(errno.ENFILE, "Too many open files in system")]
    assert world.loop.reader is not None
    world.loop.reader()
    world.listener.pause()
    assert world.loop.later == []
    world.listener.resume()
    assert world.loop.reader is not None


@pytest.mark.parametrize(
    "first",
    [
        (b"", [], 0, None),
        (b"\x01\x80\0\0\x14\0\0\0" + bytes(12), [], 0x80, None),
        (b"\x01\x80", [], 0x8080, None),
    ],
    ids=["nothing", "a message that looks like one", "half"],
)
def test_what_does_not_begin_with_its_being_up_is_passed_over(first: object) -> None:
    closed: list[bool] = []

    def getsockopt(_level: int, _option: int, size: int = 0) -> int:
        if size:
            raise OSError(errno.EINVAL, "there is no association")
        return 0

    sock = SimpleNamespace(
        recvmsg=lambda *_arguments: first,
        getsockopt=getsockopt,
        close=lambda: closed.append(True),
        getsockname=lambda: ("192.0.2.1", 36412),
    )
    world = World()
    control = SimpleNamespace(sock=sock, peer=CLIENT)
    world.answers = [ConnectionAbortedError(), cast("Control", control)]
    assert world.loop.reader is not None
    world.loop.reader()
    world.loop.reader()
    assert closed == [True]
    assert world.loop.reader is not None


class Late:
    """The socket of an association that came up, got a message and is over: the kernel knows of
    it no more than what is unread."""

    def __init__(self) -> None:
        self.unread: list[object] = [(UP, [], 0x8080, None), (b"one shot", [], 0x80, None)]
        self.lingers = self.closed = False

    def recvmsg(self, _size: int, _ancillary: int = 0, flags: int = 0) -> object:
        return self.unread[0] if flags else self.unread.pop(0)

    def getsockopt(self, *_arguments: int) -> int:
        raise OSError(errno.EINVAL, "there is no association")

    def setsockopt(self, *_arguments: object) -> None:
        self.lingers = True

    def getsockname(self) -> tuple[str, int]:
        return "192.0.2.1", 36412

    def close(self) -> None:
        self.closed = True


def admit(world: World, sock: Late) -> None:
    world.answers = [cast("Control", SimpleNamespace(sock=sock, peer=CLIENT))]
    assert world.loop.reader is not None
    world.loop.reader()


def test_who_has_left_before_it_is_accepted_is_known_by_its_address() -> None:
    world = World(door := Door())
    admit(world, sock := Late())
    (association,) = door.accepted
    assert association.remote == (CLIENT,)
    assert association.local == (Address("192.0.2.1", 36412),)
    assert (association.streams_in, association.streams_out) == (16, 16)
    assert world.begun == door.handlers
    assert sock.unread == [(b"one shot", [], 0x80, None)]
    assert not sock.closed


def test_who_has_left_before_it_is_accepted_without_a_word_is_passed_over() -> None:
    world = World(door := Door())
    sock = Late()
    sock.unread[1] = (b"", [], 0, None)
    admit(world, sock)
    assert door.accepted == []
    assert sock.closed


def test_a_mistake_in_accepting_leaves_no_socket() -> None:
    def fail() -> None:
        raise ValueError("a mistake")

    world = World(Door(fail))
    sock = Late()
    with pytest.raises(ValueError, match="a mistake"):
        admit(world, sock)
    assert sock.lingers
    assert sock.closed
    assert world.begun == []
