from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

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
from isoneph.core.link.reader import FROM_RELAY, FROM_WORKER, Decoder, FrameReader
from isoneph.core.traffic import Message

LIMITS = Limits(max_frame=5000, max_state=300, max_messages=4)

REASONS = {"too_long", "unexpected", "malformed", "state_too_large", "too_many_messages"}

u8, u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
versions = st.tuples(st.integers(1, 255), st.integers(1, 255)).map(
    lambda pair: (min(pair), max(pair))
)
secrets = st.binary(min_size=32, max_size=32)
words = st.from_regex(frames.REASON, fullmatch=True)
printable = st.characters(exclude_categories=("C", "Z"))
names = st.text(printable, min_size=1, max_size=60)
messages = st.builds(Message, st.binary(max_size=200), u16, u32, st.booleans())
message_lists = st.lists(messages, max_size=4)
states = st.binary(max_size=300)

from_worker: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Hello, versions, secrets, u32.filter(bool), u16.filter(bool), names, names),
    st.builds(Proof, secrets),
    st.builds(Pong, u64),
    st.builds(Reply, u64, message_lists, st.none() | states, st.booleans()),
    st.builds(Failed, u64, words),
    st.builds(Push, u64, message_lists),
    st.builds(Drain),
    st.builds(Bye, words),
)
from_relay: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Challenge, u8, secrets),
    st.builds(
        Welcome,
        secrets,
        st.integers(1, 1000),
        st.integers(1001, 1 << 31),
        st.builds(Limits, u32, u16, u16),
    ),
    st.builds(Refused, words, st.text(printable, max_size=60)),
    st.builds(Ping, u64),
    st.builds(Dispatch, u64, u64, u64, messages, states, st.booleans()),
    st.builds(Ended, u64),
    st.builds(Drain),
    st.builds(Bye, words),
)
directions = pytest.mark.parametrize(
    ("decoders", "some"),
    [(FROM_WORKER, from_worker), (FROM_RELAY, from_relay)],
    ids=["from worker", "from relay"],
)
Decoders = Mapping[int, Decoder]


def read(decoders: Decoders, data: bytes) -> list[Frame]:
    return FrameReader(decoders, LIMITS).feed(data)


def violation(decoders: Decoders, data: bytes) -> str:
    with pytest.raises(ProtocolViolation) as caught:
        read(decoders, data)
    return caught.value.reason


@directions
@given(data=st.data())
@settings(max_examples=40)
def test_frames_come_back_however_the_stream_is_cut(
    decoders: Decoders, some: st.SearchStrategy[Frame], data: st.DataObject
) -> None:
    sent = data.draw(st.lists(some, max_size=8))
    stream = b"".join(frame.encode() for frame in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = FrameReader(decoders, LIMITS)
    came = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        came += reader.feed(stream[start:stop])
    assert came == sent
    assert reader.pending == 0


@directions
@given(data=st.data())
@settings(max_examples=60)
def test_changed_bytes_are_a_frame_or_a_violation(
    decoders: Decoders, some: st.SearchStrategy[Frame], data: st.DataObject
) -> None:
    stream = bytearray(b"".join(f.encode() for f in data.draw(st.lists(some, max_size=3))))
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, 400), u8), max_size=4)):
        if place < len(stream):
            stream[place] = value
    check_garbage(decoders, bytes(stream))


@directions
@given(data=st.binary(max_size=400), kind=u8)
@example(data=b"\xff" * 40, kind=18)
@example(data=b"", kind=23)
@settings(max_examples=60)
def test_random_bodies_are_a_frame_or_a_violation(
    decoders: Decoders, some: object, data: bytes, kind: int
) -> None:
    check_garbage(decoders, (len(data) + 1).to_bytes(4) + bytes([kind]) + data)
    check_garbage(decoders, data)


def check_garbage(decoders: Decoders, stream: bytes) -> None:
    """It raises a violation and nothing else, or there was one way only to say what came."""
    reader = FrameReader(decoders, LIMITS)
    came = []
    try:
        for start in range(0, len(stream), 97):
            came += reader.feed(stream[start : start + 97])
            assert reader.pending <= LIMITS.max_frame + 4
    except ProtocolViolation as violation:
        assert violation.reason in REASONS  # noqa: PT017 (whether it raises is open)
        return
    said = b"".join(frame.encode() for frame in came)
    assert stream.startswith(said)
    assert len(stream) - len(said) == reader.pending


REPLY = Reply(7, [Message(b"abc", 1, 18)], b"state")
DISPATCH = Dispatch(7, 8, 9, Message(b"abc", 1, 18, unordered=True), b"state", redelivered=True)


@pytest.mark.parametrize("frame", [REPLY, Push(8, REPLY.messages), Failed(7, "no"), Pong(1)])
def test_a_frame_never_reads_into_the_next(frame: Frame) -> None:
    data = frame.encode()
    for shorter in range(1, len(data) - 4):
        cut = shorter.to_bytes(4) + data[4 : 4 + shorter]
        assert violation(FROM_WORKER, cut + data) == "malformed"


def test_a_dispatch_never_reads_into_the_next() -> None:
    data = DISPATCH.encode()
    for shorter in range(1, len(data) - 4 - len(b"abc")):
        cut = shorter.to_bytes(4) + data[4 : 4 + shorter]
        assert violation(FROM_RELAY, cut + data) == "malformed"


@pytest.mark.parametrize("frame", [REPLY, Push(8, []), Failed(7, "no"), Pong(1), Drain(), Bye("x")])
def test_bytes_too_many_are_malformed(frame: Frame) -> None:
    data = frame.encode()
    longer = (len(data) - 3).to_bytes(4) + data[4:] + b"\0"
    assert violation(FROM_WORKER, longer) == "malformed"


@pytest.mark.parametrize(
    ("frame", "place", "value", "reason"),
    [
        (REPLY, 5, 4, "malformed"),  # an unknown flag
        (REPLY, 5, 2, "malformed"),  # the state is kept, and here is a new one
        (REPLY, 16, 9, "too_many_messages"),
        (REPLY, 14, 2, "state_too_large"),
        (REPLY, 4, 15, "unexpected"),
        (REPLY, 4, 18, "unexpected"),  # a worker does not dispatch
        (REPLY, 0, 1, "too_long"),
        (Bye("word"), 8, 0x20, "malformed"),
        (Hello((1, 1), bytes(32), 1, 1, "a", "b"), 5, 0, "malformed"),  # the magic
        (Hello((1, 1), bytes(32), 1, 1, "a", "b"), 9, 2, "malformed"),  # lowest above highest
        (Hello((1, 1), bytes(32), 1, 1, "a", "b"), 46, 0, "malformed"),  # no capacity
        (Hello((1, 1), bytes(32), 1, 1, "a", "b"), 50, 0xFF, "malformed"),  # not UTF-8
        (Hello((1, 1), bytes(32), 1, 1, "a", "b"), 50, 0x0A, "malformed"),  # not printable
    ],
)
def test_what_is_wrong_has_a_reason(frame: Frame, place: int, value: int, reason: str) -> None:
    data = bytearray(frame.encode())
    data[place] = value
    assert violation(FROM_WORKER, bytes(data)) == reason


def test_a_frame_without_even_a_type_is_malformed() -> None:
    assert violation(FROM_WORKER, bytes(4) + Drain().encode()[4:]) == "malformed"


def test_too_long_a_frame_is_refused_before_it_is_kept() -> None:
    reader = FrameReader(FROM_WORKER, LIMITS)
    with pytest.raises(ProtocolViolation, match="5001 bytes") as caught:
        reader.feed((5001).to_bytes(4) + b"\x13")
    assert caught.value.reason == "too_long"


def test_a_large_state_is_refused_on_its_way_to_a_worker() -> None:
    dispatch = Dispatch(1, 1, 1, Message(b""), bytes(301))
    assert violation(FROM_RELAY, dispatch.encode()) == "state_too_large"


def test_many_small_pieces_of_a_large_frame_are_put_together_once() -> None:
    data = Reply(1, [Message(bytes(4 << 20))]).encode()
    reader = FrameReader(FROM_WORKER, Limits(max_frame=5 << 20))
    began = time.perf_counter()
    came = [frame for at in range(0, len(data), 64) for frame in reader.feed(data[at : at + 64])]
    assert [frame.encode() == data for frame in came] == [True]
    assert time.perf_counter() - began < 3  # copied for every piece it would be 140 GB


def test_a_long_explanation_is_cut_to_what_fits() -> None:
    (came,) = read(FROM_RELAY, Refused("secret", "é" * 200).encode())
    assert came == Refused("secret", "é" * 127)


def test_an_explanation_stays_on_its_line() -> None:
    (came,) = read(FROM_RELAY, Refused("secret", "two\nlines").encode())
    assert came == Refused("secret", "two lines")
