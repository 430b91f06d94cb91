"""What the associations of the userland transport carry, and how they end."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from isoneph.core.plugin import Association
from isoneph.core.testing import Door, EchoHandler, RecordingHandler
from isoneph.core.traffic import Address, Ending, Message, Notice
from isoneph.plugins.transports.userland import UserlandTransport
from isoneph.plugins.transports.userland.carrier import Carrier, Peer
from userland_pieces import HOST, SECONDS, Figures, echoes, ended, joined, listening


async def stuffed(
    server: UserlandTransport, client: UserlandTransport
) -> tuple[RecordingHandler, RecordingHandler]:
    """The client's end and the server's, which does not read, when no more can be sent to it."""
    listener = await listening(server, door := Door())
    handler = await joined(client, listener)
    await door.until(1, SECONDS)
    door.handlers[0].up.pause_reading()
    while handler.up.writable:
        handler.up.send(Message(b"x" * 1000))
    return handler, door.handlers[0]


async def test_a_message_that_is_too_large_ends_its_association(
    server: UserlandTransport, client: UserlandTransport, figures: Figures
) -> None:
    listener = await listening(server, door := Door(EchoHandler))
    handler, other = await joined(client, listener), await joined(client, listener)
    handler.up.send(Message(b"x" * 1001))
    assert await ended(handler) is Ending.ABORTED
    assert handler.reasons == ["the peer aborted: a message of more than 1000 bytes came"]
    assert door.handlers[0].messages == []
    assert figures.counts["refused_messages", "too_large"] == 1
    await echoes(other)


async def test_a_message_that_never_ends_is_refused_before_it_is_whole(
    server: UserlandTransport, client: UserlandTransport
) -> None:
    listener = await listening(server, door := Door())
    handler = await joined(client, listener)
    handler.up.send(Message(b"x" * 262144))
    assert await ended(handler) is Ending.ABORTED
    assert door.handlers[0].messages == []


async def test_a_handler_that_raises_ends_its_own_association_alone(
    server: UserlandTransport, client: UserlandTransport, caplog: pytest.LogCaptureFixture
) -> None:
    class Mistaken(EchoHandler):
        def received(self, message: Message) -> None:
            raise ValueError("a mistake")

    listener = await listening(server, door := Door(Mistaken))
    handler = await joined(client, listener)
    door.make = EchoHandler
    other = await joined(client, listener)
    with caplog.at_level(logging.ERROR):
        handler.up.send(Message(b"x"))
        assert await ended(handler) is Ending.ABORTED
    assert "a mistake" in caplog.text
    assert door.handlers[0].endings == [Ending.ABORTED]
    await echoes(other)


async def test_who_fails_to_open_harms_no_other(
    server: UserlandTransport, client: UserlandTransport, caplog: pytest.LogCaptureFixture
) -> None:
    class Mistaken(EchoHandler):
        def opened(self, association: Association) -> None:
            raise ValueError("a mistake in opened")

    def refuse() -> RecordingHandler:
        raise ValueError("a mistake in accept")

    listener = await listening(server, door := Door(Mistaken))
    with caplog.at_level(logging.ERROR):
        assert await ended(await joined(client, listener)) is Ending.ABORTED
        door.make = refuse
        assert await ended(await joined(client, listener)) is Ending.ABORTED
    assert "a mistake in opened" in caplog.text
    assert "a mistake in accept" in caplog.text
    door.make = EchoHandler
    await echoes(await joined(client, listener))


async def test_an_association_that_nobody_accepts_costs_nothing(
    server: UserlandTransport, client: UserlandTransport
) -> None:
    accepted: list[Association] = []

    def refuse(association: Association) -> None:
        accepted.append(association)

    listener = await server.listen([Address(HOST, 0)], refuse)
    handler = await joined(client, listener)
    assert await ended(handler) is Ending.ABORTED
    assert handler.reasons == ["the peer aborted: not accepted"]
    assert not accepted[0].writable


async def test_a_close_that_takes_too_long_becomes_an_abort(
    server: UserlandTransport, client: UserlandTransport
) -> None:
    handler, deaf = await stuffed(server, client)
    handler.up.close()
    assert await ended(handler) is Ending.ABORTED
    assert handler.reasons == ["it could not be closed in time"]
    assert await ended(deaf) is Ending.ABORTED, "told although reading is paused"
    assert deaf.messages == []


async def test_what_is_queued_when_the_peer_closes_is_given_up_and_told(
    server: UserlandTransport, client: UserlandTransport
) -> None:
    handler, deaf = await stuffed(server, client)
    deaf.up.close()
    assert await ended(handler) is Ending.CLOSED
    told = [one for one in handler.notifications if one.notice is Notice.SEND_FAILED]
    assert [one.text.split(":")[0] for one in told] == ["1 messages were never sent"]


async def test_what_is_sent_in_one_turn_shares_packets(
    server: UserlandTransport, client: UserlandTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = await listening(server, door := Door())
    handler = await joined(client, listener)
    await door.until(1, SECONDS)
    sizes: list[int] = []
    send = Carrier.send

    def measured(carrier: Carrier, packet: Any, length: int, peer: Peer) -> None:
        sizes.append(length)
        send(carrier, packet, length, peer)

    monkeypatch.setattr(Carrier, "send", measured)
    sent = [Message(bytes([number]) * 150, number % 3, number) for number in range(25)]
    for message in sent:
        handler.up.send(message)
    await door.handlers[0].until(lambda: len(door.handlers[0].messages) == 25, SECONDS, "all")
    assert sorted(door.handlers[0].messages, key=lambda message: message.ppid) == sent
    assert len([size for size in sizes if size > 150]) <= 6
    assert max(sizes) <= 1400


async def test_what_is_sent_before_the_end_has_gone(
    server: UserlandTransport, client: UserlandTransport
) -> None:
    listener = await listening(server, door := Door())
    for end in ("close", "abort"):
        handler = await joined(client, listener)
        await door.until(1, SECONDS)
        taker = door.handlers.pop()
        handler.up.send(Message(b"last words"))
        getattr(handler.up, end)()
        await ended(taker)
        assert [message.data for message in taker.messages] == [b"last words"]
