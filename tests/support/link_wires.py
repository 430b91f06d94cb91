"""Connections of the worker link without sockets: what is written is read by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from isoneph.core.link.frames import Frame, Limits
from isoneph.core.link.reader import FROM_RELAY, FROM_WORKER, Decoder, FrameReader
from isoneph.core.link.stream import FrameStream

SECRET = b"a secret of many bytes"
#: Whatever is said, by either side.
ALL: Mapping[int, Decoder] = {**FROM_WORKER, **FROM_RELAY}


class Wire(asyncio.Transport):
    """The transport of a connection that is put on it; keeps what is written, write by write."""

    def __init__(self, stream: FrameStream, host: str = "192.0.2.1") -> None:
        super().__init__({"peername": (host, 4000)})
        self.stream = stream
        self.writes: list[bytes] = []
        #: ``open``, ``closed`` or ``aborted``.
        self.state = "open"
        self._reading = True
        self._reader = FrameReader(ALL, Limits(max_frame=1 << 22, max_state=1 << 15))
        stream.connection_made(self)

    def say(self, *frames: Frame) -> None:
        """Let the frames come in one read."""
        self.stream.data_received(b"".join(frame.encode() for frame in frames))

    async def turn(self) -> None:
        """Let the loop turn, so that tasks go on and what is queued is written."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def heard(self) -> list[Frame]:
        """What was written since it was asked last."""
        await self.turn()
        data = b"".join(self.writes)
        self.writes.clear()
        return self._reader.feed(data)

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def is_closing(self) -> bool:
        return self.state != "open"

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert low is not None
        assert high is not None
        assert 0 < low < high
