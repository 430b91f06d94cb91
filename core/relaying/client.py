"""The engine's side of the control channel."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import ClassVar

from isoneph.core.errors import RelayError, RelayRefused, RelayUnreachable
from isoneph.core.relaying.control import (
    Answer,
    Broken,
    Channel,
    Drain,
    Report,
    Request,
    Status,
    Update,
    decode,
    meet,
    read_secret,
    split_endpoint,
)
from isoneph.core.relaying.values import Member, Standing
from isoneph.core.traffic import RelayReport

#: Seconds in which a connection must come about, and in which an answer must come: a little more
#: than the relay itself may take.
CONNECT_TIMEOUT = 2.0
ANSWER_TIMEOUT = 12.0
#: ``struct ucred`` of unix(7): process, user and group.
_CREDENTIALS = struct.Struct("3i")


class _Ended(RelayUnreachable):
    """The connection has ended, as it does when the relay is started anew."""


class RemoteRelay:
    """A relay in a process of its own: the :class:`~isoneph.core.relaying.values.RelayWay` to it.

    It connects when it is asked something, and again when the connection broke.
    """

    remote: ClassVar[bool] = True

    def __init__(self, application: str, control: str, secret_file: str | None = None) -> None:
        self._application = application
        self._control = control
        self._secret_file = secret_file
        self._channel: Channel | None = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        """See :class:`~isoneph.core.relaying.values.RelayWay`."""
        async with self._lock:
            self._disconnect()

    async def status(self) -> Standing:
        """As above."""
        return _standing(await self._ask(Status()))

    async def update(
        self, members: Sequence[Member], since: Mapping[str, float] | None = None
    ) -> Standing:
        """As above."""
        return _standing(await self._ask(Update(list(members), dict(since or {}))))

    async def drain(self, since: Mapping[str, float]) -> Standing:
        """As above."""
        return _standing(await self._ask(Drain(dict(since))))

    async def report(self) -> RelayReport:
        """As above."""
        return (await self.watch())[1]

    async def watch(self) -> tuple[Standing, RelayReport]:
        """:meth:`status` and :meth:`report` in one."""
        answer = await self._ask(Report())
        return _standing(answer), answer.report or RelayReport()

    async def _ask(self, request: Request) -> Answer:
        async with self._lock:
            known = self._channel is not None
            try:
                answer = await self._exchange(request)
            except _Ended:
                if not known:
                    raise
                answer = await self._exchange(request)
        if not answer.error:
            return answer
        kind = RelayUnreachable if answer.code == RelayUnreachable.code else RelayRefused
        raise kind(answer.error)

    async def _exchange(self, request: Request) -> Answer:
        """Ask once; after any error the connection is closed."""
        try:
            channel = self._channel or await self._connect()
            await channel.send(request)
            frame = await channel.receive(patience=ANSWER_TIMEOUT)
            if frame:
                return decode(frame, Answer)
            reason = "it closed the connection"
        except RelayError as error:
            self._disconnect()
            raise type(error)(self._about(error.message)) from error
        except Broken as error:
            self._disconnect()
            # Who has let us wait in vain is not asked the same at once again.
            kind = _Ended if error.word == "cut_off" else RelayUnreachable
            raise kind(self._about(str(error))) from error
        except OSError as error:
            self._disconnect()
            reason = (error.strerror or str(error)).lower()
        except asyncio.CancelledError:
            self._disconnect()  # its answer would be taken for that of the next request
            raise
        self._disconnect()
        raise _Ended(self._about(reason))

    def _about(self, reason: str) -> str:
        return f"the relay of {self._application} at {self._control}: {reason}"

    async def _connect(self) -> Channel:
        secret = None if self._secret_file is None else read_secret(self._secret_file)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if self._control.startswith("/"):
                    streams = await asyncio.open_unix_connection(self._control)
                else:
                    streams = await asyncio.open_connection(*split_endpoint(self._control))
        except TimeoutError:
            raise RelayUnreachable(f"no connection within {CONNECT_TIMEOUT:g} s") from None
        channel = self._channel = Channel(*streams)
        if self._control.startswith("/"):
            _check_owner(streams[1].get_extra_info("socket"))
        await meet(channel, self._application, secret)
        return channel

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _check_owner(sock: socket.socket) -> None:
    """That nobody else has made a socket where ours should be (a directory may be open to all)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid, us = _CREDENTIALS.unpack(credentials)[1], os.geteuid()
    if us not in (0, uid) and uid != 0:
        raise RelayRefused(f"its process belongs to another user (uid {uid})")


def _standing(answer: Answer) -> Standing:
    if answer.standing is None:
        raise RelayRefused("the relay does not say how it stands")
    return answer.standing
