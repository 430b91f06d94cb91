from __future__ import annotations

import errno
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from isoneph.core.testing import make_environment
from isoneph.core.testing.associations import Door
from isoneph.core.traffic import Address
from isoneph.plugins.transports.kernel.control import Control
from isoneph.plugins.transports.kernel.listener import KernelListener
from isoneph.plugins.transports.kernel.owner import Owner


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

    def __init__(self) -> None:
        self.loop = Loop()
        self.environment = make_environment()
        self.stops = 0
        self.answers: list[OSError | Control] = []
        self.sock = SimpleNamespace(
            fileno=lambda: 5, close=lambda: None, getsockname=lambda: ("192.0.2.1", 36412)
        )
        owner, control = cast("Owner", self), cast("Control", self)
        self.listener = KernelListener(owner, control, [Address("192.0.2.1", 0)], Door())

    def accept(self) -> Control:
        answer = self.answers.pop(0) if self.answers else BlockingIOError()
        if isinstance(answer, OSError):
            raise answer
        return answer

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
    )
    world = World()
    world.answers = [ConnectionAbortedError(), cast("Control", SimpleNamespace(sock=sock))]
    assert world.loop.reader is not None
    world.loop.reader()
    world.loop.reader()
    assert closed == [True]
    assert world.loop.reader is not None
