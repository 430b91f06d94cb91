"""The frames of the worker link: their values, their bytes.

A frame is four bytes of length, one byte of type, a body; all numbers are big-endian and the
length counts what follows it. The bodies, field by field, with the flags' bits in angle brackets:

===  ===========  ==================================================================  ==========
no.  frame        body                                                                who
===  ===========  ==================================================================  ==========
1    HELLO        "ISNL", lowest u8, highest u8, nonce 32, capacity u32, window u16,  worker
                  application text, vm_id text
2    CHALLENGE    version u8, nonce 32                                                relay
3    PROOF        mac 32                                                              worker
4    WELCOME      mac 32, interval u32 (ms), timeout u32 (ms), max_frame u32,         relay
                  max_state u16, max_messages u16
5    REFUSED      reason text, explanation text                                       relay
16   PING         token u64                                                           relay
17   PONG         token u64                                                           worker
18   DISPATCH     flags u8 <1 unordered, 2 redelivered>, sequence u64,                relay
                  conversation u64, client u64, stream u16, ppid u32, state length
                  u16, state, data
19   REPLY        flags u8 <1 finished, 2 state kept>, sequence u64, state length     worker
                  u16, number of messages u16, state, messages
20   FAILED       sequence u64, reason text                                           worker
21   PUSH         conversation u64, number of messages u16, messages                  worker
22   ENDED        conversation u64                                                    relay
23   DRAIN                                                                            either
24   BYE          reason text                                                         either
===  ===========  ==================================================================  ==========

A *message* is stream u16, ppid u32, flags u8 <1 unordered>, length u32, data; a *text* is length
u8 and printable UTF-8; a *reason* is one of at most 32 of ``a-z 0-9 _ -``. The bytes of a version
never change: a frame that is unknown, too long, too short or has other bits set is a
:class:`~isoneph.core.errors.ProtocolViolation`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from struct import Struct as Layout
from typing import Final, NamedTuple

from msgspec import Struct

from isoneph.core.traffic import Message

#: The versions that this code speaks, lowest and highest.
VERSIONS: Final = (1, 1)
MAGIC: Final = b"ISNL"
NONCE_BYTES: Final = 32
MAC_BYTES: Final = 32


class Limits(NamedTuple):
    """What one side takes from the other; more is a violation.

    ``max_frame`` and ``max_state`` are in bytes, the first without the length field;
    ``max_messages`` is for one reply or push.
    """

    max_frame: int = 1 << 20
    max_state: int = 2048
    max_messages: int = 256


DEFAULT_LIMITS: Final = Limits()
#: Of the frames of the handshake: none is nearly as long.
HANDSHAKE_LIMITS: Final = Limits(max_frame=640, max_state=0, max_messages=0)

# Frames are made for every message: a Struct is made in a fifth of a NamedTuple's time. None can
# be part of a cycle, so the garbage collector need not look at them.


class Hello(Struct, frozen=True, gc=False):
    """A worker introduces itself.

    ``capacity`` is its share of new conversations, relative to the other workers';
    ``window`` how many dispatches it may have unanswered at once: more is a violation.
    """

    versions: tuple[int, int]
    nonce: bytes
    capacity: int
    window: int
    application: str
    vm_id: str

    def encode(self) -> bytes:
        """The frame's bytes."""
        body = HELLO_LAYOUT.pack(MAGIC, *self.versions, self.nonce, self.capacity, self.window)
        return _frame(HELLO, body + _text(self.application) + _text(self.vm_id))


class Challenge(Struct, frozen=True, gc=False):
    """The relay has chosen a version, and wants to see that the worker knows the secret."""

    version: int
    nonce: bytes

    def encode(self) -> bytes:
        """The frame's bytes."""
        return _frame(CHALLENGE, CHALLENGE_LAYOUT.pack(self.version, self.nonce))


class Proof(Struct, frozen=True, gc=False):
    """The worker shows that it knows the secret."""

    mac: bytes

    def encode(self) -> bytes:
        """The frame's bytes."""
        return _frame(PROOF, PROOF_LAYOUT.pack(self.mac))


class Welcome(Struct, frozen=True, gc=False):
    """The relay shows that it knows the secret, and the link is up.

    It sends a PING every ``interval`` milliseconds, and takes the worker for lost after
    ``timeout`` milliseconds without a byte from it; ``limits`` is what it takes.
    """

    mac: bytes
    interval: int
    timeout: int
    limits: Limits

    def encode(self) -> bytes:
        """The frame's bytes."""
        return _frame(
            WELCOME, WELCOME_LAYOUT.pack(self.mac, self.interval, self.timeout, *self.limits)
        )


class Refused(Struct, frozen=True, gc=False):
    """The relay does not want the worker: a word for a counter, a sentence for a person."""

    reason: str
    explanation: str

    def encode(self) -> bytes:
        """The frame's bytes."""
        printable = "".join(c if c.isprintable() else " " for c in self.explanation)
        explanation = printable.encode()[:255].decode(errors="ignore")
        return _frame(REFUSED, _text(self.reason) + _text(explanation))


class Ping(Struct, frozen=True, gc=False):
    """Asks for a sign of life."""

    token: int

    def encode(self) -> bytes:
        """The frame's bytes."""
        return _frame(PING, NUMBER_LAYOUT.pack(self.token))


class Pong(Struct, frozen=True, gc=False):
    """Answers a PING with its token."""

    token: int

    def encode(self) -> bytes:
        """The frame's bytes."""
        return _frame(PONG, NUMBER_LAYOUT.pack(self.token))


class Dispatch(Struct, frozen=True, gc=False):
    """A message of a client for a worker, with the state of its conversation.

    ``sequence`` numbers the dispatches of one connection; one REPLY or FAILED with the same
    number answers it. ``state`` is empty for a new conversation. A ``redelivered`` one was given
    to a worker before that was lost or left: what it set off then may have been done.
    """

    sequence: int
    conversation: int
    client: int
    message: Message
    state: bytes = b""
    redelivered: bool = False

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode_dispatch(
            self.sequence,
            self.conversation,
            self.client,
            self.message,
            self.state,
            self.redelivered,
        )

    def reply(
        self,
        messages: Sequence[Message] = (),
        state: bytes | None = None,
        *,
        finished: bool = False,
    ) -> Reply:
        """An answer to this one."""
        return Reply(self.sequence, messages, state, finished)

    def fail(self, reason: str) -> Failed:
        """Tell that this one cannot be handled by any worker; ``reason`` is a word."""
        return Failed(self.sequence, reason)


class Reply(Struct, frozen=True, gc=False):
    """A worker's answer to a dispatch: it is done, and the message need not be kept any more.

    ``messages`` go to the client; ``state`` is the conversation's new one, None to keep the one
    it has. A conversation that is ``finished`` and all its state are forgotten.
    """

    sequence: int
    messages: Sequence[Message] = ()
    state: bytes | None = None
    finished: bool = False

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode_reply(self.sequence, self.messages, self.state, self.finished)


class Failed(Struct, frozen=True, gc=False):
    """A worker could not handle a dispatch, and another could not either: the message is to be
    dropped and counted under ``reason``, its conversation goes on with the state it has."""

    sequence: int
    reason: str

    def encode(self) -> bytes:
        """The frame's bytes."""
        return _frame(FAILED, self.sequence.to_bytes(8) + _text(self.reason))


class Push(Struct, frozen=True, gc=False):
    """Messages from a worker to a client that answer no dispatch."""

    conversation: int
    messages: Sequence[Message]

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode_push(self.conversation, self.messages)


class Ended(Struct, frozen=True, gc=False):
    """A conversation is over or was moved: the worker may forget what it remembers of it."""

    conversation: int

    def encode(self) -> bytes:
        """The frame's bytes."""
        return _frame(ENDED, NUMBER_LAYOUT.pack(self.conversation))


class Drain(Struct, frozen=True, gc=False):
    """From a relay: no dispatch will follow on this connection. From a worker: please send that
    as soon as you can, I am to stop."""

    def encode(self) -> bytes:
        """The frame's bytes."""
        return _frame(DRAIN, b"")


class Bye(Struct, frozen=True, gc=False):
    """The last frame of who sends it; ``reason`` is a word."""

    reason: str

    def encode(self) -> bytes:
        """The frame's bytes."""
        return _frame(BYE, _text(self.reason))


Handshake = Hello | Challenge | Proof | Welcome | Refused
FromWorker = Pong | Reply | Failed | Push | Drain | Bye
FromRelay = Ping | Dispatch | Ended | Drain | Bye
Frame = Handshake | FromWorker | FromRelay

HELLO, CHALLENGE, PROOF, WELCOME, REFUSED = range(1, 6)
PING, PONG, DISPATCH, REPLY, FAILED, PUSH, ENDED, DRAIN, BYE = range(16, 25)

#: What a FAILED, a BYE or a REFUSED may give as its reason.
REASON: Final = re.compile(r"[a-z0-9_-]{1,32}", re.ASCII)

#: The bodies as in the table above, with the length and the type before those that are frequent.
HEADER_LAYOUT = Layout(">IB")
HELLO_LAYOUT = Layout(">4sBB32sIH")
CHALLENGE_LAYOUT = Layout(">B32s")
PROOF_LAYOUT = Layout(">32s")
WELCOME_LAYOUT = Layout(">32sIIIHH")
NUMBER_LAYOUT = Layout(">Q")
DISPATCH_LAYOUT = Layout(">IBBQQQHIH")
REPLY_LAYOUT = Layout(">IBBQHH")
PUSH_LAYOUT = Layout(">IBQH")
MESSAGE_LAYOUT = Layout(">HIBI")
UNORDERED, REDELIVERED = 1, 2
FINISHED, STATE_KEPT = 1, 2


def encode_dispatch(
    sequence: int,
    conversation: int,
    client: int,
    message: Message,
    state: bytes = b"",
    redelivered: bool = False,
) -> bytes:
    """The bytes of a :class:`Dispatch` of these fields, without making one."""
    data, stream, ppid, unordered = message
    size = len(state)
    length = DISPATCH_LAYOUT.size - 4 + size + len(data)
    flags = (UNORDERED if unordered else 0) | (REDELIVERED if redelivered else 0)
    head = DISPATCH_LAYOUT.pack(
        length, DISPATCH, flags, sequence, conversation, client, stream, ppid, size
    )
    return head + state + data


def encode_reply(
    sequence: int,
    messages: Sequence[Message] = (),
    state: bytes | None = None,
    finished: bool = False,
) -> bytes:
    """The bytes of a :class:`Reply` of these fields, without making one."""
    flags = FINISHED if finished else 0
    if state is None:
        flags |= STATE_KEPT
        state = b""
    rest = state + _encode_messages(messages)
    length = REPLY_LAYOUT.size - 4 + len(rest)
    return REPLY_LAYOUT.pack(length, REPLY, flags, sequence, len(state), len(messages)) + rest


def encode_push(conversation: int, messages: Sequence[Message]) -> bytes:
    """The bytes of a :class:`Push` of these fields, without making one."""
    rest = _encode_messages(messages)
    return (
        PUSH_LAYOUT.pack(PUSH_LAYOUT.size - 4 + len(rest), PUSH, conversation, len(messages)) + rest
    )


def _encode_messages(messages: Sequence[Message]) -> bytes:
    pack = MESSAGE_LAYOUT.pack
    return b"".join(
        [
            pack(stream, ppid, UNORDERED if unordered else 0, len(data)) + data
            for data, stream, ppid, unordered in messages
        ]
    )


def _frame(kind: int, body: bytes) -> bytes:
    return HEADER_LAYOUT.pack(1 + len(body), kind) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return bytes((len(data),)) + data
