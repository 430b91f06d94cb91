"""What a router may say, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from isoneph.core.plugin import (
    Action,
    Actions,
    Disconnect,
    Finish,
    Forward,
    Load,
    Open,
    Refuse,
    Router,
    Send,
)
from isoneph.core.testing import make_environment
from isoneph.core.traffic import Message
from relay_pieces import Pieces


class Scripted(Router):
    """Says what a message's text asks for."""

    def __init__(self) -> None:
        super().__init__({}, make_environment("scripted"))

    def message(self, client: int, message: Message) -> Actions:
        if message.data == b"fail":
            raise ValueError("a bug")
        if message.data == b"fail later":
            return (Forward(int(data), message) for data in (b"1", b"x"))
        said: dict[bytes, list[Action]] = {
            b"answer": [Send(client, Message(b"answered by the router"))],
            b"refuse": [Refuse("not_wanted")],
            b"disconnect": [Disconnect(client, "misbehaved")],
            b"nobody": [Send(4711, message), Disconnect(4711, "misbehaved")],
            b"open": [Open(7), Finish(8)],
        }
        return said.get(message.data, [Forward(message.stream, message)])

    def reply(self, conversation: int, client: int, messages: Sequence[Message]) -> Actions:
        return [Send(client, Message(b"<" + message.data + b">")) for message in messages]

    def choose(self, conversation: int, loads: Sequence[Load]) -> str | None:
        if conversation == 9:
            raise ValueError("a bug")
        return {5: None, 6: "unknown"}.get(conversation, loads[0].backend)


@pytest.fixture
def pieces() -> Pieces:
    return Pieces(Scripted())


def test_it_may_answer_by_itself(pieces: Pieces) -> None:
    client, association = pieces.client()
    client.received(Message(b"answer"))
    assert association.sent == [Message(b"answered by the router")]


def test_it_may_change_what_a_worker_answers(pieces: Pieces) -> None:
    client, association = pieces.client()
    worker, _ = pieces.worker("w")
    client.received(Message(b"x", stream=1))
    pieces.answer(worker, 1, b"a", b"b")
    assert [message.data for message in association.sent] == [b"<a>", b"<b>"]


@pytest.mark.parametrize(
    ("data", "aborted", "refused"),
    [
        (b"refuse", "", {"not_wanted": 1}),
        (b"disconnect", "misbehaved", {"misbehaved": 1}),
        (b"nobody", "", {"client_gone": 1}),
        (b"fail", "router_failed", {"router_failed": 1}),
        (b"open", "", {}),
    ],
)
def test_it_may_refuse(pieces: Pieces, data: bytes, aborted: str, refused: dict[str, int]) -> None:
    client, association = pieces.client()
    client.received(Message(data))
    assert association.aborted == aborted
    assert pieces.figures.refused == refused


def test_a_bug_in_it_ends_one_client_only(pieces: Pieces) -> None:
    client, association = pieces.client()
    other, other_association = pieces.client()
    client.received(Message(b"fail later"))
    assert association.aborted == "router_failed"
    other.received(Message(b"answer"))
    assert other_association.sent


@pytest.mark.parametrize("conversation", [5, 6, 9])
def test_a_conversation_that_it_finds_no_place_for_waits(pieces: Pieces, conversation: int) -> None:
    client, association = pieces.client()
    _, link = pieces.worker("w")
    client.received(Message(b"x", stream=conversation))
    assert not link.dispatched
    assert not association.aborted
    client.received(Message(b"x", stream=1))
    assert len(link.dispatched) == 1


def test_a_conversation_may_change_its_client(pieces: Pieces) -> None:
    first, first_association = pieces.client()
    second, second_association = pieces.client()
    worker, _ = pieces.worker("w")
    first.received(Message(b"x", stream=1))
    second.received(Message(b"y", stream=1))
    pieces.answer(worker, 1, b"1")
    pieces.answer(worker, 2, b"2")
    pieces.conversations.pushed(worker, 1, [Message(b"3")])
    assert [message.data for message in first_association.sent] == [b"<1>"]
    assert [message.data for message in second_association.sent] == [b"<2>", b"<3>"]
