"""Messages that workers are lost with: whose fault that is taken for, and when one is given up."""

from __future__ import annotations

import pytest

from isoneph.core.traffic import Message
from isoneph.plugins.relays.sctp.clients import Client
from isoneph.plugins.relays.sctp.parcels import Worker
from relay_pieces import ByStream, Pieces, StubLink


def send(client: Client, data: bytes, conversation: int = 1) -> None:
    client.received(Message(data, stream=conversation))


def work(pieces: Pieces, worker: Worker, link: StubLink, answered: list[bytes]) -> bool:
    """Answer everything in its order; true when ``poison`` comes, and the worker is lost."""
    done = 0
    while done < len(link.dispatched):
        sequence, _, data, *_ = link.dispatched[done]
        if data == b"poison":
            pieces.conversations.lost(worker)
            return True
        answered.append(data)
        pieces.answer(worker, sequence, data, state=data)
        done += 1
    return False


def test_a_message_that_goes_on_losing_workers_is_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pieces = Pieces(max_losses=5)
    client, association = pieces.client()
    for data in (b"before", b"poison", b"after"):
        send(client, data)
    answered: list[bytes] = []
    lost = 0
    while work(pieces, *pieces.worker(f"vm-{lost}"), answered):
        lost += 1
        assert lost <= 5
    assert lost == 5
    assert answered == [b"before", b"after"]
    assert [message.data for message in association.sent] == answered
    assert pieces.figures.refused == {"message_loses_workers": 1}
    assert "conversation 1, is given up: 5 workers" in caplog.text
    assert "poison" not in caplog.text
    assert not association.aborted
    assert pieces.switch.pending == 0


def test_the_conversation_goes_on_with_the_state_that_it_has() -> None:
    pieces = Pieces(max_losses=3)
    client, _ = pieces.client()
    for data in (b"before", b"poison", b"after"):
        send(client, data)
    answered: list[bytes] = []
    for name in ("a", "b", "c"):
        assert work(pieces, *pieces.worker(name), answered)
    _, link = pieces.worker("d")
    assert link.dispatched == [(1, 1, b"after", b"before", False)]


def test_a_conversation_that_ends_is_over_when_its_last_message_is_given_up() -> None:
    pieces = Pieces(max_losses=3)
    client, _ = pieces.client()
    send(client, b"poison")
    send(client, b"end")
    for name in ("a", "b", "c"):
        assert work(pieces, *pieces.worker(name), [])
    assert len(pieces.conversations) == 0


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_what_stands_behind_it_is_not_given_up_with_it(workers: int) -> None:
    pieces = Pieces(max_losses=3)
    clients = [pieces.client()[0] for _ in range(40)]
    send(clients[0], b"poison", 1)
    for number, client in enumerate(clients[1:], 2):
        send(client, b"%d" % number, number)
    answered: list[bytes] = []
    there = [pieces.worker(f"first{number}") for number in range(workers)]
    lost = 0
    while there:
        if work(pieces, *there.pop(0), answered):
            lost += 1
            there.append(pieces.worker(f"vm-{lost}"))
        assert lost <= 3
    assert lost == 3
    assert sorted(answered) == sorted(b"%d" % number for number in range(2, 41))
    assert pieces.figures.refused == {"message_loses_workers": 1}


def test_suspects_are_at_a_worker_one_at_a_time() -> None:
    pieces = Pieces()
    client, _ = pieces.client()
    for number in (1, 2, 3):
        send(client, b"x", number)
    for name in ("a", "b"):
        pieces.conversations.lost(pieces.worker(name)[0])
    worker, link = pieces.worker("c")
    assert [each[1] for each in link.dispatched] == [1]
    send(client, b"y", 4)
    assert [each[1] for each in link.dispatched] == [1, 4]
    pieces.answer(worker, 1)
    assert [each[1] for each in link.dispatched] == [1, 4, 2]
    pieces.conversations.lost(worker)
    last, _ = pieces.worker("d")
    assert [(each.conversation.number, each.losses) for each in last.flying.values()] == [
        (2, 3),
        (4, 0),
    ]


def test_only_the_first_message_of_a_conversation_is_blamed() -> None:
    pieces = Pieces(ByStream(window=3), max_losses=3)
    client, _ = pieces.client()
    for data in (b"poison", b"b", b"c"):
        send(client, data)
    answered: list[bytes] = []
    for name in ("a", "b", "c", "d"):
        work(pieces, *pieces.worker(name), answered)
    assert answered == [b"b", b"c"]


def test_a_loss_that_no_message_is_to_blame_for_does_not_count() -> None:
    pieces = Pieces(max_losses=3)
    client, _ = pieces.client()
    send(client, b"x")
    for number in range(10):
        pieces.conversations.lost(pieces.worker(f"vm-{number}")[0], blamed=False)
    _, link = pieces.worker("last")
    assert link.dispatched == [(1, 1, b"x", b"", True)]


def test_a_suspect_moves_on_with_its_conversation() -> None:
    pieces = Pieces()
    client, _ = pieces.client()
    for number in (1, 2):
        send(client, b"x", number)
    for name in ("a", "b"):
        pieces.conversations.lost(pieces.worker(name)[0])
    first, _ = pieces.worker("c")
    second, link = pieces.worker("d")
    pieces.conversations.set_taking(first, False)
    assert [each[1] for each in link.dispatched] == [2]
    pieces.answer(first, 1)
    pieces.answer(second, 1)
    assert not first.conversations
    assert pieces.switch.pending == 0
