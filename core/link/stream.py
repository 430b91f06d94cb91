"""One connection of the worker link: frames out of it, frames into it, a sign of life."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from isoneph.core.errors import ProtocolViolation
from isoneph.core.link.frames import Bye, Frame
from isoneph.core.link.reader import Decoder, FrameReader

#: Seconds that a closed connection may take to send what it has.
LINGER: Final = 1.0
#: Bytes queued above which a connection is not writable, and below which it is again.
HIGH_WATER: Final = 1 << 18
LOW_WATER: Final = 1 << 16


class Pulse:
    """Measures time for the judgement of others: seconds in which we ourselves slept, or were
    held up, do not count, for whoever was silent then may have spoken without being heard.

    ``interval`` is how often :meth:`elapsed` is meant to be called.
    """

    def __init__(self, interval: float, now: float) -> None:
        self.interval = interval
        self._last = now

    def elapsed(self, now: float) -> float:
        """Seconds since the last call that count: at most twice the interval."""
        passed, self._last = now - self._last, now
        return min(passed, 2 * self.interval)


class FrameStream(asyncio.Protocol, ABC):
    """What both sides' connections share.

    Writes are gathered: one a turn of the event loop, or one for all that a read set off; but no
    more than 64 kB, so that who writes much soon finds the connection not writable. Once it is
    over, nothing more is taken from it, and what is sent to it is dropped.
    """

    def __init__(self, decoders: Mapping[int, Decoder]) -> None:
        self.over = False
        #: Whether more may be sent; it is meant to be heeded.
        self.writable = True
        #: Seconds since the last byte came, as far as they count (:class:`Pulse`).
        self.silence = 0.0
        #: The other side's address and port, and its address alone; of a unix socket, ``unix``.
        self.remote = self.host = ""
        self._reader = FrameReader(decoders)
        #: Who takes a frame, by its type; filled when the handshake is over.
        self._takers: dict[type[Frame], Callable[[Any], None]] = {}
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._gathered = 0
        self._reading = False

    @abstractmethod
    def ended(self, reason: str, text: str) -> None:
        """It is over, for a reason that is a word for a counter, and words for a log. Called
        once, if it was ever connected."""

    @property
    def queued(self) -> int:
        """How many bytes wait for the other side to read."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Queue a frame's bytes; never waits."""
        outgoing = self._outgoing
        if not outgoing and not self._reading:
            self._loop.call_soon(self._flush)
        outgoing.append(data)
        self._gathered += len(data)
        if self._gathered > LOW_WATER:
            self._flush()

    def end(self, reason: str, text: str, *, bye: str = "") -> None:
        """Close it, with a BYE where a reason for one is given. What is queued is sent, unless
        that takes longer than a second. Safe to call twice."""
        if self.over or self._transport is None:
            return
        if bye:
            self.write(Bye(bye).encode())
        self._flush()
        self.over = True
        self._transport.close()
        self._loop.call_later(LINGER, self._transport.abort)
        self.ended(reason, text)

    def cut(self, reason: str, text: str) -> None:
        """Break it off at once, dropping what is queued. Safe to call twice."""
        if self.over or self._transport is None:
            return
        self.over = True
        self._transport.abort()
        self.ended(reason, text)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For the event loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        peer = transport.get_extra_info("peername")
        self.host = peer[0] if isinstance(peer, tuple) else "unix"
        self.remote = f"{self.host}:{peer[1]}" if isinstance(peer, tuple) else "unix"

    def data_received(self, data: bytes) -> None:
        """For the event loop."""
        if self.over:
            return
        self.silence = 0.0
        self._reading = True
        try:
            self.take(data)
        except ProtocolViolation as violation:
            self.cut(violation.reason, violation.message)
        finally:
            self._reading = False
        if self._outgoing:
            self._flush()

    def take(self, data: bytes) -> None:
        """Hand the frames that are complete with ``data`` to who takes them."""
        takers = self._takers
        for frame in self._reader.feed(data):
            taker = takers.get(type(frame))
            if taker is None:
                self.untaken(frame)
            else:
                taker(frame)
            if self.over:
                return

    def untaken(self, frame: Frame) -> None:
        """A frame came that no taker is there for. Raises ProtocolViolation."""
        name = type(frame).__name__.upper()
        raise ProtocolViolation("unexpected", f"{name} may not come now")

    def connection_lost(self, exc: Exception | None) -> None:
        """For the event loop."""
        if not self.over:
            self.over = True
            self.ended("broken", str(exc) if exc else "the other side closed the connection")

    def pause_writing(self) -> None:
        """For the event loop."""
        self.writable = False

    def resume_writing(self) -> None:
        """For the event loop."""
        self.writable = True

    def _flush(self) -> None:
        outgoing = self._outgoing
        if outgoing:
            data = outgoing[0] if len(outgoing) == 1 else b"".join(outgoing)
            outgoing.clear()
            self._gathered = 0
            if not self.over and self._transport is not None:
                self._transport.write(data)
