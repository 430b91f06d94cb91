"""The conformance suite of message transports: how associations end, and what outlives a peer."""
# ruff: noqa: D102, S101 (as in any test: names tell, asserts speak)

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from isoneph.core.errors import AssociationClosed
from isoneph.core.plugin import Transport
from isoneph.core.testing.associations import Door, Greeter, Quitter, RecordingHandler
from isoneph.core.testing.transport_fixtures import KIBIBYTE, TransportFixtures
from isoneph.core.traffic import Ending, Message, Notice


class TransportEndings(TransportFixtures):
    """The part of :class:`TransportConformance` that is about ends."""

    async def test_closing_delivers_what_is_queued(
        self, transport: Transport, peer: Transport
    ) -> None:
        ends = await self.join_anew(transport, peer)
        sent: list[Message] = []
        while ends.client.up.writable and len(sent) < self.messages:
            ends.client.up.send(message := Message(KIBIBYTE, ppid=len(sent)))
            sent.append(message)
        ends.client.up.close()
        ends.client.up.close()
        with pytest.raises(AssociationClosed):
            ends.client.up.send(Message(b"late"))
        await self.ended(ends.server, Ending.CLOSED)
        assert ends.server.messages == sent
        await self.ended(ends.client, Ending.CLOSED)
        await self.nothing_follows(ends)

    async def test_closing_throws_away_what_comes(
        self, transport: Transport, peer: Transport
    ) -> None:
        ends = await self.join_anew(transport, peer)
        ends.client.up.pause_reading()
        for _ in range(100):
            ends.server.up.send(Message(KIBIBYTE))
        await asyncio.sleep(self.settle)
        ends.client.up.close()
        await self.ended(ends.client, Ending.CLOSED)
        assert ends.client.messages == []
        await self.ended(ends.server, Ending.CLOSED)
        await self.nothing_follows(ends)

    async def test_both_may_close_at_once(self, transport: Transport, peer: Transport) -> None:
        ends = await self.join_anew(transport, peer)
        for end in ends:
            end.up.send(Message(b"last words"))
        for end in ends:
            end.up.close()
        for end in ends:
            await self.ended(end, Ending.CLOSED)
        await self.nothing_follows(ends)

    async def test_an_abort_is_told_to_both(self, transport: Transport, peer: Transport) -> None:
        ends = await self.join_anew(transport, peer)
        await self.carries(ends)
        ends.client.up.abort("the test says so")
        assert ends.client.endings == [Ending.ABORTED], "closed is called before abort returns"
        assert "the test says so" in ends.client.reasons[0]
        await self.ended(ends.server, Ending.ABORTED)
        assert ends.server.reasons[0]
        for end in ends:
            with pytest.raises(AssociationClosed):
                end.up.send(Message(b"late"))
        await self.nothing_follows(ends)

    async def test_what_is_over_stays_over(self, transport: Transport, peer: Transport) -> None:
        ends = await self.join_anew(transport, peer)
        ends.client.up.close()
        for end in ends:
            await self.ended(end, Ending.CLOSED)
        for end in ends:
            end.up.close()
            end.up.abort()
            end.up.pause_reading()
            end.up.resume_reading()
            assert end.up.statistics().received == 0
        await self.nothing_follows(ends)

    async def test_an_abort_cuts_a_close_short(self, transport: Transport, peer: Transport) -> None:
        ends = await self.join_anew(transport, peer)
        ends.server.up.pause_reading()
        await self.fill(ends.client)
        ends.client.up.close()
        ends.client.up.abort()
        assert ends.client.endings == [Ending.ABORTED]
        ends.server.up.resume_reading()
        await self.ended(ends.server, Ending.ABORTED)
        await self.nothing_follows(ends)

    @pytest.mark.parametrize("act", ["close", "abort"])
    @pytest.mark.parametrize("at", ["opened", "received", "notified"])
    async def test_may_be_ended_from_a_call(
        self, transport: Transport, peer: Transport, at: str, act: str
    ) -> None:
        ends = await self.join_anew(transport, peer, lambda: Quitter(at, act))
        with suppress(AssociationClosed):
            for _ in range(3):
                ends.client.up.send(Message(b"go"))
        if at == "notified":  # of the shutdown, where it is told
            ends.client.up.close()
        await self.until(ends.server, lambda: ends.server.endings, "it is over here")
        await self.until(ends.client, lambda: ends.client.endings, "it is over there")
        assert ends.server.calls.count("received") <= (3 if at == "notified" else 1)
        await self.nothing_follows(ends)

    async def test_may_be_sent_on_from_the_first_call(
        self, transport: Transport, peer: Transport
    ) -> None:
        ends = await self.join_anew(transport, peer, Greeter)
        await self.received(ends.client, 1)
        assert ends.client.messages == [Message(b"welcome")]

    async def test_closing_a_transport_aborts_what_is_up(
        self, transport: Transport, peer: Transport
    ) -> None:
        listener = await self.listen(transport, door := Door())
        ends = await self.join(listener, door, peer)
        await peer.close()
        assert ends.client.endings == [Ending.ABORTED]
        await self.ended(ends.server, Ending.ABORTED)
        await self.nothing_follows(ends)

    async def test_an_abort_is_told_to_who_has_paused_reading(
        self, transport: Transport, peer: Transport
    ) -> None:
        ends = await self.join_anew(transport, peer)
        await self.carries(ends)
        before = list(ends.server.messages)
        ends.server.up.pause_reading()
        ends.client.up.send(Message(b"never read"))
        await asyncio.sleep(self.settle)
        ends.client.up.abort("the test says so")
        await self.ended(ends.server, Ending.ABORTED)
        assert ends.server.messages == before
        await self.nothing_follows(ends)

    # A peer that starts anew, with the same addresses and ports.

    async def test_a_restart_is_told(self, transport: Transport, peer: Transport) -> None:
        ends = await self.join_anew(transport, peer)
        await self.carries(ends)
        ends = await self.start_anew(ends, peer)
        await self._restarted(ends.server)
        await self.carries(ends)
        await self._restarted(ends.server)

    @pytest.mark.parametrize("resumes", [False, True], ids=["paused", "resumed"])
    async def test_an_answer_does_not_go_to_the_next_life_of_a_peer(
        self, transport: Transport, peer: Transport, resumes: bool
    ) -> None:
        ends = await self.join_anew(transport, peer)
        ends.client.up.send(Message(b"a question"))
        await self.received(ends.server, 1)
        ends.server.up.pause_reading()
        ends.client.up.send(Message(b"never read"))
        await asyncio.sleep(self.settle)
        ends = await self.start_anew(ends, peer)
        if resumes:
            ends.server.up.resume_reading()
        if not self._told(ends.server):
            with pytest.raises(AssociationClosed):
                ends.server.up.send(Message(b"the answer"))
        await self._restarted(ends.server)
        ends.server.up.resume_reading()
        await self.carries(ends)
        assert [message.data for message in ends.server.messages] == [
            b"a question",
            b"still there?",
        ]
        await self._restarted(ends.server)

    async def test_what_is_queued_does_not_go_to_the_next_life_of_a_peer(
        self, transport: Transport, peer: Transport
    ) -> None:
        ends = await self.join_anew(transport, peer)
        ends.client.up.pause_reading()
        await self.fill(ends.server)
        ends = await self.start_anew(ends, peer)
        server = ends.server
        await self.until(server, lambda: self._told(server) or server.endings, "it is told")
        if server.endings:
            # What the former life is sent again and again has met the next one before its INIT,
            # which answers with ABORT: then nothing of it is left either.
            assert server.endings == [Ending.ABORTED]
            return
        await self._restarted(ends.server)
        await self.until(ends.server, lambda: ends.server.up.writable, "writable again")
        await self.carries(ends)

    async def _restarted(self, handler: RecordingHandler) -> None:
        """It is told, once, and the association lives on."""
        await self.until(handler, lambda: self._told(handler), "it is told")
        assert self._told(handler) == 1
        assert handler.endings == []

    def _told(self, handler: RecordingHandler) -> int:
        notices = [notification.notice for notification in handler.notifications]
        return notices.count(Notice.RESTARTED)
