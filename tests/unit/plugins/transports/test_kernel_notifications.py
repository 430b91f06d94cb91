from __future__ import annotations

import socket
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoneph.core.traffic import Address
from isoneph.plugins.transports.kernel import notifications as n


def notification(kind: int, body: bytes, *, flags: int = 0, length: int | None = None) -> bytes:
    return struct.pack("=HHI", kind, flags, 8 + len(body) if length is None else length) + body


SOCKADDR = struct.pack("=H2s4s", socket.AF_INET, (36412).to_bytes(2), bytes([192, 0, 2, 7]))
ABORT = struct.pack("!HH", 12, 11) + b"goodbye"

#: A notification of each type, as the kernel writes it, and what is read from it.
EVERY = [
    (0x8001, struct.pack("=HHHHi", 0, 0, 16, 17, 5), n.AssociationChange(0, 0, 16, 17, b"")),
    (
        0x8001,
        struct.pack("=HHHHi", 1, 12, 0, 0, 5) + ABORT,
        n.AssociationChange(1, 12, 0, 0, ABORT),
    ),
    (
        0x8002,
        SOCKADDR.ljust(128, b"\0") + struct.pack("=iii", 1, 4, 5),
        n.PeerAddressChange(Address("192.0.2.7", 36412), 1, 4),
    ),
    (
        0x8003,
        struct.pack("=I", 9) + struct.pack("=H30x", 3) + struct.pack("=i", 5) + b"data",
        n.SendFailed(sent=False, error=9, stream=3, size=4),
    ),
    (
        0x8004,
        struct.pack("!H2x", 3) + struct.pack("=i", 5) + b"cause",
        n.RemoteError(3, b"cause"),
    ),
    (0x8005, struct.pack("=i", 5), n.ShutdownEvent()),
    (0x8006, struct.pack("=IiII", 0, 5, 2, 1), n.PartialDelivery(0)),
    (0x8007, struct.pack("=Ii", 77, 5), n.AdaptationIndication(77)),
    (0x8008, struct.pack("=HHIi", 2, 1, 1, 5), n.AuthenticationEvent(indication=1, key=2)),
    (0x8009, struct.pack("=i", 5), n.SenderDry()),
    (0x800A, struct.pack("=iH", 5, 1), n.StreamEvent(0)),
    (0x800B, struct.pack("=iII", 5, 1, 2), n.StreamEvent(0)),
    (0x800C, struct.pack("=iHH", 5, 1, 2), n.StreamEvent(0)),
    (
        0x800D,
        struct.pack("=I", 9) + struct.pack("=H14x", 3) + struct.pack("=i", 5),
        n.SendFailed(sent=False, error=9, stream=3, size=0),
    ),
]


@pytest.mark.parametrize(("kind", "body", "event"), EVERY)
def test_every_type_is_read(kind: int, body: bytes, event: n.Event) -> None:
    assert n.parse(notification(kind, body)) == event


@pytest.mark.parametrize(("kind", "body", "event"), EVERY)
def test_what_follows_a_notification_is_not_of_it(kind: int, body: bytes, event: n.Event) -> None:
    assert n.parse(notification(kind, body) + b"more") == event


def test_a_message_may_have_been_sent_before_it_was_given_up() -> None:
    body = struct.pack("=IH14xi", 0, 0, 5)
    assert n.parse(notification(0x800D, body, flags=1)) == n.SendFailed(True, 0, 0, 0)


@pytest.mark.parametrize(("kind", "body", "_event"), EVERY)
def test_what_is_cut_off_is_truncated(kind: int, body: bytes, _event: n.Event) -> None:
    whole = notification(kind, body)
    for size in range(len(whole)):
        with pytest.raises(n.Unreadable, match="truncated"):
            n.parse(whole[:size])


@pytest.mark.parametrize("length", [0, 7, 8, 11, 13, 2**32 - 1])
def test_a_wrong_length_is_truncated(length: int) -> None:
    data = notification(0x8005, struct.pack("=i", 5), length=length)
    with pytest.raises(n.Unreadable, match="truncated"):
        n.parse(data)


@pytest.mark.parametrize("kind", [0, 0x7FFF, 0x8000, 0x800E, 0xFFFF])
def test_an_unknown_type_is_unknown(kind: int) -> None:
    with pytest.raises(n.Unreadable, match="unknown"):
        n.parse(notification(kind, bytes(200)))


@given(st.sampled_from([kind for kind, _, _ in EVERY]), st.binary(max_size=300))
def test_no_bytes_surprise_the_parser(kind: int, body: bytes) -> None:
    event: n.Event | None = None
    with suppress(n.Unreadable):
        event = n.parse(notification(kind, body))
    if isinstance(event, n.AssociationChange):
        assert isinstance(n.reason_of(event.causes), str)
    if isinstance(event, n.PeerAddressChange):
        assert event.words


@given(st.binary(max_size=200))
def test_no_bytes_at_all_surprise_the_parser(data: bytes) -> None:
    with suppress(n.Unreadable):
        n.parse(data)


@pytest.mark.parametrize(
    ("state", "words"), [(0, "available"), (6, "potentially failed"), (-1, "in state -1")]
)
def test_an_address_is_told_in_words(state: int, words: str) -> None:
    assert n.PeerAddressChange(None, state, 0).words == words


@pytest.mark.parametrize(
    ("causes", "reason"),
    [
        (ABORT, "goodbye"),
        (ABORT + b"beyond", "goodbye"),
        (struct.pack("!HH", 12, 4), ""),
        (struct.pack("!HH", 12, 65535) + b"x" * 1000, "x" * 196),
        (struct.pack("!HH", 12, 6) + b"\xff\0", "\ufffd"),
        (struct.pack("!HH", 13, 4), "cause 13"),
        (b"\0\x0c\0", ""),
        (b"", ""),
    ],
)
def test_an_abort_gives_its_reason(causes: bytes, reason: str) -> None:
    assert n.reason_of(causes) == reason
