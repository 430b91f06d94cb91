from __future__ import annotations

from typing import Any

import pytest
from voluptuous import Invalid, Schema

from isoneph.plugins.transports.userland import UserlandTransport
from isoneph.plugins.transports.userland.assembly import Assembly


def checked(**options: Any) -> dict[str, Any]:
    valid: dict[str, Any] = Schema(UserlandTransport.schema)(options)
    return valid


def test_defaults_go_together() -> None:
    assert UserlandTransport.problems(checked()) == []


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("encapsulation", "tcp", "expected udp or ip"),
        ("encapsulation", ["udp"], "expected udp or ip"),
        ("udp_port", -1, "expected a whole number from 0 to 65535"),
        ("udp_port", "9899", "expected a whole number from 0 to 65535"),
        ("remote_udp_port", 0, "expected a whole number from 1 to 65535"),
        ("streams", True, "expected a whole number from 1 to 65535"),
        ("mtu", 100, "expected a whole number from 524 to 65500"),
        ("max_message", 0, "expected a whole number from 1 to 1073741824"),
        ("rto_min", 0, "expected a number of seconds, from 0.01 to 86400"),
        ("rto_max", float("nan"), "expected a number of seconds, from 0.01 to 86400"),
        ("heartbeat", "5s", "expected a number of seconds, from 0 to 86400"),
    ],
)
def test_wrong_values_are_told(option: str, value: object, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        checked(**{option: value})


def test_contradictions_are_told() -> None:
    options = checked(rto_min=2, rto_initial=1, max_message=2000000)
    first, second = UserlandTransport.problems(options)
    assert first == "expected rto_min <= rto_initial <= rto_max"
    assert second.startswith("expected send_queue of at least max_message")


def test_parts_become_a_message_up_to_the_limit() -> None:
    assembly = Assembly(10)
    assert assembly.finish(b"0123456789") == b"0123456789"
    assert assembly.finish(b"0123456789a") is None
    assert assembly.add(b"01234")
    assert assembly.add(b"56")
    assert assembly.finish(b"789") == b"0123456789"
    assert assembly.add(b"0123456789")
    assert assembly.finish(b"a") is None
    assert assembly.finish(b"next") == b"next"
    assert not assembly.add(b"0123456789a")
    assembly.clear()
    assert assembly.finish(b"new") == b"new"
