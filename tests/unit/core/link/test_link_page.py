"""The page of the documentation shows the bytes that are sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from isoneph.core.link.frames import Dispatch, Limits, Reply
from isoneph.core.link.handshake import RelayHandshake, WorkerHandshake
from isoneph.core.link.reader import FROM_RELAY, FROM_WORKER, FrameReader
from isoneph.core.traffic import Message

PAGE = Path(__file__).parents[4] / "doc" / "source" / "relays" / "worker-link.rst"


@pytest.fixture(scope="module")
def shown() -> str:
    """All of the page, with single spaces."""
    return " ".join(PAGE.read_text().split())


def test_the_handshake_is_the_one_on_the_page(shown: str) -> None:
    secret = b"0123456789abcdef"
    worker = WorkerHandshake(
        secret, application="demo", vm_id="vm-1", capacity=2, window=256, nonce=b"\x11" * 32
    )
    relay = RelayHandshake(secret, application="demo", nonce=b"\x22" * 32)
    hello = worker.start()
    challenge = relay.receive(FrameReader(FROM_WORKER).feed(hello)[0])
    proof = worker.receive(FrameReader(FROM_RELAY).feed(challenge)[0])
    relay.receive(FrameReader(FROM_WORKER).feed(proof)[0])
    welcome = relay.welcome(0.1, 0.3, Limits())
    for name, data in (
        ("HELLO", hello),
        ("CHALLENGE", challenge),
        ("PROOF", proof),
        ("WELCOME", welcome),
    ):
        assert f" {name} {data.hex(' ')} " in shown


def test_the_messages_are_those_on_the_page(shown: str) -> None:
    message = Message(b"abc", 1, 18, unordered=True)
    assert Dispatch(7, 8, 9, message, b"state", redelivered=True).encode().hex(" ") in shown
    assert Reply(7, [Message(b"abc", 1, 18)], b"state").encode().hex(" ") in shown
