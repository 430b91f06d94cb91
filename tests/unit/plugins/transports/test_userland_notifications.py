from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoneph.core.traffic import Notice, Notification
from isoneph.plugins.transports.userland.notifications import (
    AssociationChange,
    DeliveryAborted,
    State,
    parse,
)


def association_change(state: int, info: bytes = b"") -> bytes:
    length = 20 + len(info)
    return struct.pack("=HHIHHHHI", 1, 0, length, state, 0, 10, 20, 7) + info


def abort(*causes: tuple[int, bytes]) -> bytes:
    body = b""
    for cause, text in causes:
        body += struct.pack("!HH", cause, 4 + len(text)) + text + bytes(-len(text) % 4)
    return struct.pack("!BBH", 6, 0, 4 + len(body)) + body


def test_an_association_comes_up() -> None:
    change = parse(association_change(1, b"\x01\x06"))
    assert change == AssociationChange(State.COMM_UP, 10, 20, aborted=False, reason="")


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (abort(), "the peer aborted"),
        (abort((12, b"overloaded")), "the peer aborted: overloaded"),
        (abort((12, b"")), "the peer aborted: user-initiated abort"),
        (abort((4, b"")), "the peer aborted: out of resource"),
        (abort((13, b"bad TSN")), "the peer aborted: protocol violation (bad TSN)"),
        (abort((1, b"\0\7\0\0")), "the peer aborted: invalid stream identifier"),
        (abort((99, b"")), "the peer aborted: cause 99"),
        (abort((4, b""), (12, b"so")), "the peer aborted: out of resource; so"),
        (abort((12, b"\x1b[31m\xff\n")), "the peer aborted: ?[31m\ufffd?"),
        (abort()[:4] + b"\0\x0c\0\1xxxx", "the peer aborted"),
        (abort()[:4] + b"\0\x0c\xff\xffcut", "the peer aborted: cut"),
        (abort()[:4] + b"\0", "the peer aborted"),
    ],
)
@pytest.mark.parametrize("state", [State.COMM_LOST, State.CANT_STR_ASSOC])
def test_the_peers_abort_is_told_with_its_causes(state: State, chunk: bytes, reason: str) -> None:
    change = parse(association_change(state, chunk))
    assert change == AssociationChange(state, 10, 20, aborted=True, reason=reason)


def test_what_the_peer_did_not_abort_is_lost() -> None:
    change = parse(association_change(State.COMM_LOST))
    assert isinstance(change, AssociationChange)
    assert not change.aborted
    assert change.reason


def test_the_peers_address_changes() -> None:
    data = struct.pack("=HHI128xIII4x", 2, 0, 152, 2, 0, 7)
    assert parse(data) == Notification(Notice.ADDRESS_CHANGED, "the peer's address is unreachable")
    odd = struct.pack("=HHI128xIII4x", 2, 0, 152, 99, 0, 7)
    assert parse(odd) == Notification(Notice.ADDRESS_CHANGED, "the peer's address is changed")


@pytest.mark.parametrize(
    ("flags", "text"),
    [(1, "3 bytes on stream 5: it was never sent"), (2, "3 bytes on stream 5: it was on its way")],
)
def test_a_message_is_given_up(flags: int, text: str) -> None:
    data = struct.pack("=HHIIHHIIII", 14, flags, 35, 0, 5, 0, 0, 0, 0, 7) + b"abc"
    assert parse(data) == Notification(Notice.SEND_FAILED, text)


def test_the_rest_is_told_without_more() -> None:
    shutdown = parse(struct.pack("=HHII", 5, 0, 12, 7))
    assert isinstance(shutdown, Notification)
    assert shutdown.notice is Notice.SHUTDOWN
    assert parse(struct.pack("=HHIIIII", 7, 0, 24, 1, 0, 0, 7)) == DeliveryAborted()
    assert parse(struct.pack("=HHI", 10, 0, 8)) is None


@given(st.sampled_from([1, 2, 5, 7, 14, 99]), st.binary(max_size=200))
def test_no_bytes_are_too_odd(kind: int, rest: bytes) -> None:
    parse(struct.pack("=H", kind) + rest)
    parse(rest)
