from __future__ import annotations

import asyncio

import pytest

from isoneph.core.errors import AssociationClosed, BadStream, ConnectFailed, QueueFull
from isoneph.core.traffic import Ending, Message, Notice, Notification
from isoneph.plugins.relays.sctp.clients import OVERHEAD
from isoneph.plugins.relays.sctp.plain import Plain
from isoneph.plugins.relays.sctp.servers import Server
from relay_pieces import Pieces, StubAssociation
from relay_site import Site, turns, until


def plain_servers(site: Site) -> list[Server]:
    assert isinstance(site.relay.backends, Plain)
    return list(site.relay.backends._servers.values())


class TestClients:
    async def test_there_are_so_many_at_most(self) -> None:
        async with Site(max_clients=2) as site:
            first = await site.client()
            await site.client()
            with pytest.raises(ConnectFailed):
                await site.client()
            first.association.abort()
            await site.client()
            assert site.refused == {"too_many_clients": 1}

    async def test_and_so_many_of_one_address(self) -> None:
        async with Site(max_clients_per_address=1) as site:
            await site.client("127.0.1.1")
            await site.client("127.0.1.2")
            with pytest.raises(ConnectFailed):
                await site.client("127.0.1.2")
            assert site.refused == {"too_many_clients_of_address": 1}

    async def test_none_is_accepted_while_too_much_waits(self) -> None:
        async with Site(memory=10_000, client_queue=9_000) as site:
            clients = [await site.client() for _ in range(3)]
            for client in clients:
                for _ in range(20):
                    client.send(bytes(1000))
            await turns()
            with pytest.raises(ConnectFailed):
                await site.client()
            assert site.refused == {"memory": 1}
            await site.serve("a")
            await until(lambda: all(len(client.got) == 20 for client in clients))
            await site.client()

    def test_a_message_that_is_too_large_ends_the_association(self) -> None:
        pieces = Pieces(max_message=10)
        client, association = pieces.client()
        client.received(Message(bytes(11)))
        assert association.aborted == "message_too_large"
        assert pieces.figures.refused == {"message_too_large": 1}

    def test_one_that_has_started_anew_has_to_connect_anew(self) -> None:
        pieces = Pieces()
        client, association = pieces.client()
        client.notified(Notification(Notice.ADDRESS_CHANGED))
        assert len(pieces.switch.clients) == 1
        client.notified(Notification(Notice.RESTARTED))
        assert association.aborted == "client_restarted"
        assert pieces.switch.clients == {}


class TestPending:
    def test_a_client_with_too_much_pending_is_not_read_from_for_a_while(self) -> None:
        pieces = Pieces(client_queue=4 * (OVERHEAD + 50))
        client, association = pieces.client()
        worker, _ = pieces.worker("w")
        for _ in range(4):
            client.received(Message(bytes(50)))
        assert not association.paused()
        client.received(Message(bytes(50)))
        assert association.paused()
        for sequence in (1, 2):
            pieces.answer(worker, sequence)
            assert association.paused()
        pieces.answer(worker, 3)
        assert not association.paused()
        assert pieces.figures.held_up == 1

    def test_many_clients_share_the_memory(self) -> None:
        pieces = Pieces(memory=60_000, client_queue=50_000)
        clients = [pieces.client() for _ in range(3)]
        for client, association in clients:
            for _ in range(100):
                client.received(Message(bytes(750)))
                if association.paused():
                    break
        assert pieces.switch.pending <= 60_000 + 3 * 1000
        assert all(association.paused() for _, association in clients)
        assert pieces.switch.share == 20_000

    def test_the_wait_for_one_answer_pauses_nobody_else(self) -> None:
        pieces = Pieces(client_queue=2000)
        slow, slow_association = pieces.client()
        quick, quick_association = pieces.client()
        worker, link = pieces.worker("w")
        for _ in range(10):
            slow.received(Message(b"x", stream=1))
        quick.received(Message(b"y", stream=2))
        assert (slow_association.paused(), quick_association.paused()) == (True, False)
        pieces.answer(worker, link.dispatched[-1][0], b"Y")
        assert quick_association.sent == [Message(b"Y")]


class TestRate:
    async def test_a_client_beyond_its_rate_is_held_up(self) -> None:
        pieces = Pieces(rate=100.0, burst=3.0)
        client, association = pieces.client()
        for _ in range(3):
            client.received(Message(b"x"))
        assert not association.paused()
        client.received(Message(b"x"))
        assert association.paused()
        assert pieces.figures.refused == {}
        pieces.clock.advance(0.05)
        await asyncio.sleep(0.05)
        assert not association.paused()
        for _ in range(3):
            client.received(Message(b"x"))
        assert not association.paused()

    async def test_its_burst_comes_back_with_time(self) -> None:
        pieces = Pieces(rate=100.0, burst=3.0)
        client, association = pieces.client()
        for _ in range(3):
            client.received(Message(b"x"))
        pieces.clock.advance(60)
        for _ in range(3):
            client.received(Message(b"x"))
        assert not association.paused()
        client.received(Message(b"x"))
        assert association.paused()

    async def test_both_reasons_have_to_go(self) -> None:
        pieces = Pieces(rate=100.0, burst=1.0, client_queue=OVERHEAD)
        client, association = pieces.client()
        worker, _ = pieces.worker("w")
        client.received(Message(b"x"))
        client.received(Message(b"x"))
        await asyncio.sleep(0.05)
        assert association.paused()
        pieces.answer(worker, 1)
        pieces.answer(worker, 2)
        assert not association.paused()
        assert pieces.figures.held_up == 1


class TestSlowClients:
    def test_what_it_does_not_take_waits(self) -> None:
        pieces = Pieces()
        client, association = pieces.client()
        client.writable_changed(False)
        client.send(Message(b"1"))
        client.send(Message(b"2"))
        assert association.sent == []
        client.writable_changed(True)
        assert association.sent == [Message(b"1"), Message(b"2")]
        assert client.outbox_bytes == 0

    def test_until_that_is_too_much(self) -> None:
        pieces = Pieces(reply_queue=1000)
        client, association = pieces.client()
        client.writable_changed(False)
        for _ in range(3):
            client.send(Message(bytes(100)))
        assert association.aborted == "client_too_slow"
        assert pieces.figures.refused == {"client_too_slow": 1, "client_gone": 3}

    def test_a_queue_that_is_full_all_the_same_loses_nothing(self) -> None:
        pieces = Pieces()
        client, association = pieces.client()
        association.error = QueueFull("full")
        client.send(Message(b"1"))
        association.error = None
        client.send(Message(b"2"))
        client.writable_changed(True)
        assert association.sent == [Message(b"1"), Message(b"2")]

    def test_what_has_no_room_keeps_its_place(self) -> None:
        pieces = Pieces()
        client, association = pieces.client()
        association.room = 5
        messages = [Message(data) for data in (b"1", b"22", b"333", b"4")]
        for message in messages:
            client.send(message)
        client.close()
        for _ in range(3):
            association.room = 2
            client.writable_changed(True)
        assert association.sent == messages[:2]
        assert [association.closing] == [False]
        for _ in range(2):
            association.room = 3
            client.writable_changed(True)
        assert association.sent == messages
        assert association.closing
        assert client.outbox_bytes == pieces.switch.queued == 0

    async def test_what_has_no_room_at_a_plain_server_keeps_its_place(self) -> None:
        async with Site() as site:
            await site.serve("a")
            client = await site.client()
            client.send(b"hello")
            await until(lambda: client.got)
            ((upstream,),) = (tuple(each.upstreams) for each in plain_servers(site))
            stub = StubAssociation()
            stub.handler, stub.room = upstream, 5
            upstream._association = stub
            sent = [b"1", b"22", b"333", b"4"]
            for data in sent:
                client.send(data)
            await turns()
            upstream.close()
            for _ in range(3):
                stub.room = 2
                upstream.writable_changed(True)
            assert [message.data for message in stub.sent] == sent[:2]
            assert [stub.closing] == [False]
            for _ in range(2):
                stub.room = 3
                upstream.writable_changed(True)
            assert [message.data for message in stub.sent] == sent
            assert stub.closing
            assert site.relay._switch.pending == 0

    def test_all_together_have_so_much_memory(self) -> None:
        pieces = Pieces(memory=10 * (OVERHEAD + 50))
        (most, most_association), *others = [pieces.client() for _ in range(4)]
        for client, _ in ((most, None), *others):
            client.writable_changed(False)
            client.send(Message(bytes(50)))
        for _ in range(3):
            most.send(Message(bytes(50)))
        for client, _ in others:
            client.send(Message(bytes(50)))
        assert pieces.switch.queued == pieces.switch.limits.memory
        assert pieces.figures.refused == {}
        others[0][0].send(Message(bytes(50)))
        assert most_association.aborted == "client_too_slow"
        assert [association.aborted for _, association in others] == ["", "", ""]
        for client, _ in others:
            client.writable_changed(True)
        assert pieces.switch.queued == 0

    def test_closing_waits_for_what_waits(self) -> None:
        pieces = Pieces()
        client, association = pieces.client()
        client.writable_changed(False)
        client.send(Message(b"1"))
        client.close()
        assert not association.sent
        client.received(Message(b"nobody reads this"))
        client.writable_changed(True)
        assert association.sent == [Message(b"1")]
        assert association.closing
        assert pieces.figures.refused == {"client_closing": 1}

    def test_what_cannot_be_carried_is_counted(self) -> None:
        pieces = Pieces()
        client, association = pieces.client()
        association.error = BadStream("no such stream")
        assert not client.send(Message(b"1"))
        association.error = AssociationClosed("gone")
        assert client.send(Message(b"1"))
        assert pieces.figures.refused == {"reply_bad_stream": 1, "client_gone": 1}

    async def test_a_plain_server_is_held_up_by_its_slow_client_only(self) -> None:
        async with Site() as site:
            (server,) = await site.serve("a")
            site.transport.send_queue = 1000
            slow, quick = await site.client(), await site.client()
            slow.send(b"x")
            quick.send(b"x")
            await until(lambda: slow.got and quick.got)
            slow.association.pause_reading()
            server.transport.send_queue = 1 << 30
            for user in server.users:
                for _ in range(100):
                    user.send(bytes(100))
            await until(lambda: len(quick.got) == 101)
            await turns()
            held = next(c for c in site.relay._switch.clients.values() if not c.writable)
            assert held.outbox_bytes < 17 * (100 + OVERHEAD)
            slow.association.resume_reading()
            await until(lambda: len(slow.got) == 101)
            assert site.refused == {}

    async def test_a_slow_plain_server_holds_up_its_own_clients_only(self) -> None:
        async with Site(client_queue=5000) as site:
            a, _ = await site.serve("a", "b")
            site.transport.send_queue = 1000
            clients = [await site.client(), await site.client()]
            for client in clients:
                client.send(b"x")
            await until(lambda: all(client.got for client in clients))
            for user in a.users:
                user.association.pause_reading()
            for client in clients:
                for _ in range(100):
                    client.send(bytes(100))
            await until(lambda: 101 in {len(client.got) for client in clients})
            await turns()
            assert 1000 < site.relay._switch.pending < 5000 + 17 * (100 + OVERHEAD)
            for user in a.users:
                user.association.resume_reading()
            await until(lambda: all(len(client.got) == 101 for client in clients))
            assert site.relay._switch.pending == 0

    async def test_a_server_with_fewer_streams_ends_the_association(self) -> None:
        async with Site() as site:
            await site.serve("a")
            site.transport.streams = 2
            client = await site.client()
            client.association.streams_out = 16
            client.send(b"x", stream=9)
            await until(lambda: client.ending)
            assert client.ending is Ending.ABORTED
            assert site.refused == {"bad_stream": 1}
