"""A worker's connection to a relay, from its opening to its end."""

from __future__ import annotations

import asyncio
import inspect
import logging
import struct
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from isoneph.core.errors import LinkError, LinkFull, LinkRefused, ProtocolViolation
from isoneph.core.link.frames import (
    FAILED,
    REASON,
    Bye,
    Dispatch,
    Drain,
    Ended,
    Failed,
    Frame,
    Limits,
    Ping,
    Pong,
    Reply,
    encode_push,
    encode_reply,
)
from isoneph.core.link.handshake import Stage, WorkerHandshake
from isoneph.core.link.reader import FROM_RELAY
from isoneph.core.link.stream import FrameStream, Pulse
from isoneph.core.traffic import Message

LOG = logging.getLogger("isoneph.link")

#: What a handler gives: None is a reply that sends nothing and keeps the state.
Answer = Reply | Failed | None
_ANSWERS: Final = frozenset({Reply, Failed, type(None)})
Handler = Callable[[Dispatch], Answer | Awaitable[Answer]]

#: What a worker takes from its relay, which has limits of its own.
TAKEN: Final = Limits(max_frame=1 << 24, max_state=(1 << 16) - 1, max_messages=0)
#: After so many of the relay's own time-outs without a byte from it, the relay is lost. It is
#: given longer than it gives: to leave a relay that is only busy helps nobody.
_PATIENCE: Final = 3
#: Seconds between two tracebacks of a handler in the log.
_LOG_INTERVAL: Final = 1.0


class WorkerSession(FrameStream):
    """One connection of a :class:`~isoneph.core.link.worker.Worker`.

    Dispatches of one conversation are handled one after the other; those of others side by side,
    as far as their handlers wait. When the connection is over, handlers that still run are
    cancelled: the relay gives their dispatches to other workers.
    """

    def __init__(
        self,
        handshake: WorkerHandshake,
        handler: Handler,
        forgotten: Callable[[int], None],
        counts: Counter[str],
    ) -> None:
        super().__init__(FROM_RELAY)
        self._reader.limits = TAKEN
        #: Done when the relay has let us in; raises LinkError when it does not.
        self.up: asyncio.Future[None] = self._loop.create_future()
        #: Done when it is over, with the reason.
        self.finished: asyncio.Future[str] = self._loop.create_future()
        self._handshake = handshake
        self._handler = handler
        self._forgotten = forgotten
        self._counts = counts
        self._in_hand = 0
        #: What waits behind the handler of a conversation that is under way.
        self._queues: dict[int, deque[Dispatch]] = {}
        self._tasks: set[asyncio.Future[object]] = set()
        self._watching: asyncio.TimerHandle | None = None
        self._stopping = self._nothing_new = False
        self._logged_at = float("-inf")

    def push(self, conversation: int, messages: Sequence[Message]) -> None:
        """Send messages that answer nothing. Raises LinkFull, or LinkError when they are more
        or larger than the relay takes."""
        if not self.writable:
            raise LinkFull("the relay does not read as fast as this worker sends")
        data = encode_push(conversation, messages)
        limits = self._handshake.welcome.limits
        if len(messages) > limits.max_messages or len(data) - 4 > limits.max_frame:
            raise LinkError(
                f"{len(messages)} messages, {len(data)} bytes: more than the relay takes"
            )
        self.write(data)

    def stop(self) -> None:
        """Ask the relay to send nothing new; when it says so, and all in hand is answered, say
        goodbye."""
        self._stopping = True
        self.write(Drain().encode())
        self._leave_if_done()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For the event loop."""
        super().connection_made(transport)
        self.write(self._handshake.start())

    def untaken(self, frame: Frame) -> None:
        """Take a frame of the handshake, while that goes on."""
        if self._handshake.stage is Stage.UP:
            super().untaken(frame)
        try:
            answer = self._handshake.receive(frame)
        except LinkRefused as refusal:
            self.up.set_exception(refusal)
            self.end(refusal.reason, refusal.message)
            return
        if answer:
            self.write(answer)
        if self._handshake.stage is Stage.UP:
            self._open()

    def ended(self, reason: str, text: str) -> None:
        """Tell who waits, and cancel what is under way."""
        if not self.up.done():
            self.up.set_exception(LinkError(f"{reason}: {text}"))
        if self._watching is not None:
            self._watching.cancel()
        for task in self._tasks:
            task.cancel()
        self._queues.clear()
        if not self.finished.done():
            self.finished.set_result(reason)

    def _open(self) -> None:
        self._takers |= {
            Ping: self._ping,
            Dispatch: self._dispatch,
            Ended: self._forget,
            Drain: self._drain,
            Bye: self._bye,
        }
        interval = self._handshake.welcome.interval / 1000
        pulse = Pulse(interval, self._loop.time())
        self._watching = self._loop.call_later(interval, self._watch, pulse)
        if not self.up.done():
            self.up.set_result(None)

    def _watch(self, pulse: Pulse) -> None:
        self._watching = self._loop.call_later(pulse.interval, self._watch, pulse)
        self.silence += pulse.elapsed(self._loop.time())
        if self.silence >= self._handshake.welcome.timeout / 1000 * _PATIENCE:
            self.cut("lost", f"no sign of life from the relay for {self.silence:.1f} s")

    def _ping(self, ping: Ping) -> None:
        self.write(Pong(ping.token).encode())

    def _forget(self, ended: Ended) -> None:
        self._forgotten(ended.conversation)

    def _bye(self, bye: Bye) -> None:
        self.end(bye.reason, "the relay said goodbye")

    def _drain(self, drain: Drain) -> None:
        self._nothing_new = True
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._stopping and self._nothing_new and not self._in_hand:
            self.end("stopped", "all in hand is answered", bye="stopped")

    def _dispatch(self, dispatch: Dispatch) -> None:
        self._in_hand += 1
        if self._in_hand > self._handshake.hello.window:
            raise ProtocolViolation("window", "more dispatches than were asked for")
        queue = self._queues.get(dispatch.conversation)
        if queue is not None:
            queue.append(dispatch)
            return
        answer = self._begin(dispatch)
        if type(answer) in _ANSWERS or not inspect.isawaitable(answer):
            self._answer(dispatch, answer)
        else:
            self._queues[dispatch.conversation] = deque()
            self._wait(dispatch, answer)

    def _begin(self, dispatch: Dispatch) -> object:
        try:
            return self._handler(dispatch)
        except Exception as error:  # noqa: BLE001 (the handler is not ours)
            return self._raised(dispatch, error)

    def _wait(self, dispatch: Dispatch, answer: Awaitable[object]) -> None:
        task = asyncio.ensure_future(answer)
        self._tasks.add(task)
        task.add_done_callback(partial(self._go_on, dispatch))

    def _go_on(self, dispatch: Dispatch, task: asyncio.Future[object]) -> None:
        """A handler is through: take its answer, then what has queued up behind it."""
        self._tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self.over:
            return
        answer = task.result() if error is None else self._raised(dispatch, error)
        queue = self._queues[dispatch.conversation]
        self._answer(dispatch, answer)
        while queue and not self.over:
            dispatch = queue.popleft()
            answer = self._begin(dispatch)
            if inspect.isawaitable(answer):
                self._wait(dispatch, answer)
                return
            self._answer(dispatch, answer)
        self._queues.pop(dispatch.conversation, None)

    def _raised(self, dispatch: Dispatch, error: BaseException) -> Failed:
        self._complain("a handler has failed", error)
        return dispatch.fail("handler")

    def _complain(self, text: str, error: BaseException | None = None) -> None:
        """Log it, without what the messages hold, and not for every message of a flood."""
        now = self._loop.time()
        if now - self._logged_at >= _LOG_INTERVAL:
            self._logged_at = now
            LOG.error(text, exc_info=error)

    def _answer(self, dispatch: Dispatch, answer: object) -> None:
        if self.over:
            return
        data = self._encode(dispatch, answer)
        if data is None:
            self._complain("a handler has given no answer that the relay takes")
            data = dispatch.fail("answer").encode()
        self._counts["failed" if data[4] == FAILED else "handled"] += 1
        self.write(data)
        self._in_hand -= 1
        if self._stopping:
            self._leave_if_done()

    def _encode(self, dispatch: Dispatch, answer: object) -> bytes | None:
        """The bytes of an answer, or None when it is not one that the relay takes."""
        if answer is None:
            return encode_reply(dispatch.sequence)
        if not isinstance(answer, Reply | Failed) or answer.sequence != dispatch.sequence:
            return None
        limits = self._handshake.welcome.limits
        try:
            data = answer.encode()
        except (struct.error, AttributeError, TypeError, ValueError):
            return None
        if isinstance(answer, Failed):
            return data if REASON.fullmatch(answer.reason) else None
        fits = (
            len(answer.state or b"") <= limits.max_state
            and len(answer.messages) <= limits.max_messages
            and len(data) - 4 <= limits.max_frame
        )
        return data if fits else None
