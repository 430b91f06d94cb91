"""From the bytes of a stream to the frames in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import error as LayoutError  # noqa: N812 (struct names it as it names no class)
from typing import Final

from isoneph.core.errors import ProtocolViolation
from isoneph.core.link import frames
from isoneph.core.link.frames import (
    Bye,
    Challenge,
    Dispatch,
    Drain,
    Ended,
    Failed,
    Frame,
    Hello,
    Limits,
    Ping,
    Pong,
    Proof,
    Push,
    Refused,
    Reply,
    Welcome,
)
from isoneph.core.traffic import Message

#: Makes a frame of its bytes, from the first (of its length) up to the end. What it raises for
#: bytes that make none is a ProtocolViolation, a struct.error or a ValueError.
Decoder = Callable[[bytes, int, int, Limits], Frame]

_PREFIX = frames.HEADER_LAYOUT.size
_TOO_SHORT = "it is too short"
_LEFT_OVER = "something is left over"
_CONTRADICTION = "its fields contradict one another"
_new = tuple.__new__  # makes a Message in a third of its own constructor's time


class FrameReader:
    """Takes what a stream brings, in whatever pieces, and gives the frames that are complete.

    It keeps no more than one unfinished frame. ``decoders`` says which frames are taken at all:
    :data:`FROM_WORKER` or :data:`FROM_RELAY`; ``limits`` may be set anew between two calls.
    After a violation it is not to be used again.
    """

    def __init__(
        self, decoders: Mapping[int, Decoder], limits: Limits = frames.HANDSHAKE_LIMITS
    ) -> None:
        self.limits = limits
        self._decoders = decoders
        self._pending = bytearray()
        self._needed = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes, in order.

        Raises ProtocolViolation, and nothing else, when what came is no frame that may come;
        frames before it in the same ``data`` are lost with it. Its reasons are ``too_long``,
        ``unexpected``, ``malformed``, ``state_too_large`` and ``too_many_messages``.
        """
        pending = self._pending
        if pending:
            pending += data
            if len(pending) < self._needed:
                return []
            data = bytes(pending)
            pending.clear()
        found: list[Frame] = []
        position = stop = kind = 0
        end = len(data)
        limits, decoders, header = self.limits, self._decoders, frames.HEADER_LAYOUT.unpack_from
        try:
            while end - position >= _PREFIX:
                length, kind = header(data, position)
                stop = position + 4 + length
                if not 0 < length <= limits.max_frame:
                    raise _bad_length(length)
                decode = decoders[kind]
                if stop > end:
                    break
                found.append(decode(data, position, stop, limits))
                position = stop
        except KeyError:
            raise ProtocolViolation("unexpected", f"frames of type {kind} are not taken") from None
        except (LayoutError, ValueError) as error:
            raise ProtocolViolation("malformed", f"a frame of type {kind}: {error}") from None
        if position < end:
            pending += data[position:]
            self._needed = stop - position if end - position >= _PREFIX else _PREFIX
        return found

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished frame are kept."""
        return len(self._pending)


def _bad_length(length: int) -> ProtocolViolation:
    return ProtocolViolation(
        "too_long" if length else "malformed", f"a frame may not have {length} bytes"
    )


def _dispatch(data: bytes, at: int, stop: int, limits: Limits) -> Dispatch:
    start = at + frames.DISPATCH_LAYOUT.size
    if start > stop:
        raise ValueError(_TOO_SHORT)
    _, _, flags, sequence, conversation, client, stream, ppid, size = (
        frames.DISPATCH_LAYOUT.unpack_from(data, at)
    )
    middle = start + size
    if middle > stop or flags > frames.UNORDERED | frames.REDELIVERED:
        raise ValueError(_CONTRADICTION)
    if size > limits.max_state:
        raise _state_too_large(size)
    message = _new(Message, (data[middle:stop], stream, ppid, flags & frames.UNORDERED == 1))
    redelivered = flags >= frames.REDELIVERED
    return Dispatch(sequence, conversation, client, message, data[start:middle], redelivered)


def _reply(data: bytes, at: int, stop: int, limits: Limits) -> Reply:
    start = at + frames.REPLY_LAYOUT.size
    if start > stop:
        raise ValueError(_TOO_SHORT)
    _, _, flags, sequence, size, count = frames.REPLY_LAYOUT.unpack_from(data, at)
    middle = start + size
    kept = flags >= frames.STATE_KEPT
    if flags > frames.FINISHED | frames.STATE_KEPT or (kept and size):
        raise ValueError(_CONTRADICTION)
    if size > limits.max_state:
        raise _state_too_large(size)
    messages = _messages(data, middle, stop, count, limits)
    state = None if kept else data[start:middle]
    return Reply(sequence, messages, state, flags & frames.FINISHED == frames.FINISHED)


def _push(data: bytes, at: int, stop: int, limits: Limits) -> Push:
    start = at + frames.PUSH_LAYOUT.size
    if start > stop:
        raise ValueError(_TOO_SHORT)
    _, _, conversation, count = frames.PUSH_LAYOUT.unpack_from(data, at)
    return Push(conversation, _messages(data, start, stop, count, limits))


def _messages(data: bytes, at: int, stop: int, count: int, limits: Limits) -> list[Message]:
    if count > limits.max_messages:
        raise ProtocolViolation("too_many_messages", f"{count} messages in one frame")
    messages = []
    head, size = frames.MESSAGE_LAYOUT.unpack_from, frames.MESSAGE_LAYOUT.size
    for _ in range(count):
        start = at + size
        if start > stop:
            raise ValueError(_TOO_SHORT)
        stream, ppid, flags, length = head(data, at)
        at = start + length
        if at > stop or flags > frames.UNORDERED:
            raise ValueError(_CONTRADICTION)
        messages.append(_new(Message, (data[start:at], stream, ppid, flags == 1)))
    if at != stop:
        raise ValueError(_LEFT_OVER)
    return messages


def _state_too_large(size: int) -> ProtocolViolation:
    return ProtocolViolation("state_too_large", f"a state of {size} bytes")


def _of_body(make: Callable[[bytes], Frame]) -> Decoder:
    """For the frames that are not so frequent: they are made of a copy of their bodies."""
    return lambda data, at, stop, _: make(data[at + _PREFIX : stop])


def _hello(body: bytes) -> Hello:
    size = frames.HELLO_LAYOUT.size
    magic, lowest, highest, nonce, capacity, window = frames.HELLO_LAYOUT.unpack(body[:size])
    if magic != frames.MAGIC:
        raise ValueError("not of a worker link")
    application, rest = _take_text(body[size:])
    vm_id, rest = _take_text(rest)
    _nothing_left(rest)
    if not (1 <= lowest <= highest and capacity and window and application and vm_id):
        raise ValueError("a field is out of its range")
    return Hello((lowest, highest), nonce, capacity, window, application, vm_id)


def _challenge(body: bytes) -> Challenge:
    return Challenge(*frames.CHALLENGE_LAYOUT.unpack(body))


def _proof(body: bytes) -> Proof:
    return Proof(*frames.PROOF_LAYOUT.unpack(body))


def _welcome(body: bytes) -> Welcome:
    mac, interval, timeout, *limits = frames.WELCOME_LAYOUT.unpack(body)
    if not 0 < interval < timeout:
        raise ValueError("the heartbeat's interval is not below its timeout")
    return Welcome(mac, interval, timeout, Limits(*limits))


def _refused(body: bytes) -> Refused:
    reason, rest = _take_reason(body)
    explanation, rest = _take_text(rest)
    _nothing_left(rest)
    return Refused(reason, explanation)


def _failed(body: bytes) -> Failed:
    reason, rest = _take_reason(body[8:])
    _nothing_left(rest)
    return Failed(int.from_bytes(body[:8]), reason)


def _drain(body: bytes) -> Drain:
    _nothing_left(body)
    return Drain()


def _bye(body: bytes) -> Bye:
    reason, rest = _take_reason(body)
    _nothing_left(rest)
    return Bye(reason)


def _number(body: bytes) -> int:
    (number,) = frames.NUMBER_LAYOUT.unpack(body)
    return int(number)


def _take_text(data: bytes) -> tuple[str, bytes]:
    if not data or len(data) <= data[0]:
        raise ValueError(_TOO_SHORT)
    stop = 1 + data[0]
    text = data[1:stop].decode()
    if not text.isprintable():
        raise ValueError("a text is not printable")
    return text, data[stop:]


def _take_reason(data: bytes) -> tuple[str, bytes]:
    reason, rest = _take_text(data)
    if not frames.REASON.fullmatch(reason):
        raise ValueError("a reason is no word")
    return reason, rest


def _nothing_left(rest: bytes) -> None:
    if rest:
        raise ValueError(_LEFT_OVER)


#: What a relay takes from a worker.
FROM_WORKER: Final[Mapping[int, Decoder]] = {
    frames.HELLO: _of_body(_hello),
    frames.PROOF: _of_body(_proof),
    frames.PONG: _of_body(lambda body: Pong(_number(body))),
    frames.REPLY: _reply,
    frames.FAILED: _of_body(_failed),
    frames.PUSH: _push,
    frames.DRAIN: _of_body(_drain),
    frames.BYE: _of_body(_bye),
}
#: What a worker takes from a relay.
FROM_RELAY: Final[Mapping[int, Decoder]] = {
    frames.CHALLENGE: _of_body(_challenge),
    frames.WELCOME: _of_body(_welcome),
    frames.REFUSED: _of_body(_refused),
    frames.PING: _of_body(lambda body: Ping(_number(body))),
    frames.DISPATCH: _dispatch,
    frames.ENDED: _of_body(lambda body: Ended(_number(body))),
    frames.DRAIN: _of_body(_drain),
    frames.BYE: _of_body(_bye),
}
