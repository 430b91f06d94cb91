from __future__ import annotations

import asyncio
import logging

import pytest

from isoneph.core.errors import ConnectFailed
from isoneph.core.plugin import Actions, Forward, Router
from isoneph.core.testing import build_plugin
from isoneph.core.traffic import Address, Ending, Message, Notice, Notification
from isoneph.plugins.routers.per_stream import PerStream
from relay_site import PORT, Site, turns, until


async def test_a_message_goes_there_and_back_as_it_is() -> None:
    async with Site() as site:
        (server,) = await site.serve("a")
        client = await site.client()
        client.send(b"hello", stream=3, ppid=18, unordered=True)
        await until(lambda: client.got)
        assert client.got == [Message(b"hello", 3, 18, True)]
        assert server.users[0].got == client.got
        status = await site.relay.status()
        assert (status["a"].ready, status["a"].sessions) == (True, 1)


async def test_order_is_kept_while_the_server_is_being_connected() -> None:
    async with Site(plain={"port": PORT, "connect": "message"}) as site:
        await site.serve("a")
        client = await site.client()
        sent = [b"%d" % number for number in range(100)]
        for data in sent:
            client.send(data)
        await until(lambda: len(client.got) == 100)
        assert client.data == sent
        assert site.relay._switch.pending == 0


async def test_a_server_may_speak_first() -> None:
    async with Site() as site:
        await site.serve("a", greeting=b"welcome")
        client = await site.client()
        await until(lambda: client.got)
        assert client.data == [b"welcome"]


async def test_a_server_may_be_connected_with_the_first_message_only() -> None:
    async with Site(plain={"port": PORT, "connect": "message"}) as site:
        (server,) = await site.serve("a")
        client = await site.client()
        await turns()
        assert server.up == 1  # the relay's own
        client.send(b"x")
        await until(lambda: client.got)
        assert server.up == 2


async def test_clients_are_spread_over_servers_by_weight() -> None:
    async with Site() as site:
        await site.serve("a", "b")
        await site.name_all(a=1.0, b=3.0)
        for _ in range(8):
            await site.client()
        await turns()
        status = await site.relay.status()
        assert (status["a"].sessions, status["b"].sessions) == (2, 6)


async def test_streams_are_spread_over_servers() -> None:
    async with Site(build_plugin(PerStream)) as site:
        a, b = await site.serve("a", "b")
        client = await site.client()
        for stream in range(4):
            client.send(b"%d" % stream, stream=stream)
        await until(lambda: len(client.got) == 4)
        assert len(a.users[0].got) == len(b.users[0].got) == 2
        client.association.close()
        await until(lambda: (a.up, b.up) == (1, 1))
        assert site.relay.backends.conversations == 0


class TestEndings:
    @pytest.mark.parametrize("how", ["close", "abort"])
    async def test_the_server_hears_how_its_client_ended(self, how: str) -> None:
        async with Site() as site:
            (server,) = await site.serve("a")
            client = await site.client()
            client.send(b"x")
            await until(lambda: client.got)
            getattr(client.association, how)()
            await until(lambda: server.users[0].ending)
            expected = Ending.CLOSED if how == "close" else Ending.ABORTED
            assert server.users[0].ending is expected
            assert (await site.relay.status())["a"].sessions == 0
            assert not site.relay._switch.clients

    @pytest.mark.parametrize("how", ["close", "abort"])
    async def test_the_client_hears_how_its_server_ended(self, how: str) -> None:
        async with Site() as site:
            (server,) = await site.serve("a")
            client = await site.client()
            client.send(b"x")
            await until(lambda: client.got)
            server.users[0].send(b"last words")
            getattr(server.users[0].association, how)()
            await until(lambda: client.ending)
            if how == "close":
                assert client.ending is Ending.CLOSED
                assert client.data == [b"x", b"last words"]
                assert site.refused == {}
            else:
                assert client.ending is Ending.ABORTED
                assert site.refused == {"backend_aborted": 1}

    async def test_what_a_client_sent_before_it_closed_arrives(self) -> None:
        async with Site(plain={"port": PORT, "connect": "message"}) as site:
            (server,) = await site.serve("a")
            client = await site.client()
            client.send(b"only this")
            client.association.close()
            await until(lambda: server.users and server.users[0].ending)
            assert server.users[0].data == [b"only this"]
            assert server.users[0].ending is Ending.CLOSED

    async def test_a_lost_server_takes_its_clients_with_it(self) -> None:
        async with Site() as site:
            a, b = await site.serve("a", "b")
            clients = [await site.client() for _ in range(4)]
            for client in clients:
                client.send(b"x")
            await until(lambda: all(client.got for client in clients))
            site.network.lose(a.host)
            await until(lambda: sum(client.ending is Ending.ABORTED for client in clients) == 2)
            await turns()
            assert [peer.ending for peer in b.peers] == [None] * 3
            again = await site.client()
            again.send(b"y")
            await until(lambda: again.got)

    @pytest.mark.parametrize("side", ["client", "server"])
    async def test_a_restart_of_one_side_ends_the_other(self, side: str) -> None:
        async with Site() as site:
            (server,) = await site.serve("a")
            client = await site.client()
            client.send(b"x")
            await until(lambda: client.got)
            end = client if side == "client" else server.users[0]
            handler = end.association.peer.handler  # type: ignore[attr-defined] # of the memory
            handler.notified(Notification(Notice.RESTARTED))
            assert (client.ending, server.users[0].ending) == (Ending.ABORTED,) * 2


class TestReadiness:
    async def test_a_server_is_ready_when_it_can_be_connected(self) -> None:
        async with Site(plain={"port": PORT, "health_interval": 0.01}) as site:
            (server,) = await site.serve("a")
            server.listener.close()
            site.network.lose(server.host)
            await asyncio.sleep(0.03)
            status = await site.relay.status()
            assert not status["a"].ready
            assert "refused" in status["a"].text
            await server.start()
            await asyncio.sleep(0.03)
            assert (await site.relay.status())["a"].ready

    async def test_one_that_closes_the_watching_association_stays_ready(self) -> None:
        async with Site(plain={"port": PORT, "health_interval": 0.01}) as site:
            (server,) = await site.serve("a")
            server.peers[0].association.close()
            await until(lambda: server.up == 0)
            assert (await site.relay.status())["a"].ready
            await asyncio.sleep(0.03)
            assert server.up == 1

    async def test_a_server_that_does_not_answer_is_not_ready(self) -> None:
        async with Site(plain={"port": PORT, "connect_timeout": 0.01}) as site:
            site.network.silent.add(Address("127.0.0.2", PORT))
            with pytest.raises(AssertionError):
                await site.serve("a")
            await asyncio.sleep(0.03)
            assert "no answer within 0.01 s" in (await site.relay.status())["a"].text

    async def test_one_that_is_never_reached_is_told_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        async with Site(plain={"port": PORT, "health_interval": 0.01}) as site:
            address = Address("127.0.0.2", PORT)
            site.network.unreachable.add(address)
            with pytest.raises(AssertionError):
                await site.serve("a")
            await asyncio.sleep(0.05)
            (told,) = [(one.levelname, one.getMessage()) for one in caplog.records]
            assert told[0] == "WARNING"
            assert told[1].startswith("backend a is not ready: ")
            site.network.unreachable.discard(address)
            await asyncio.sleep(0.03)
            assert caplog.records[1].getMessage() == "backend a is ready"

    async def test_messages_wait_for_a_server_to_be_ready(self) -> None:
        async with Site() as site:
            client = await site.client()
            client.send(b"1")
            client.send(b"2")
            await turns()
            assert site.relay._switch.pending > 0
            await site.serve("a")
            await until(lambda: len(client.got) == 2)
            assert client.data == [b"1", b"2"]
            assert site.relay._switch.pending == 0

    async def test_another_server_is_taken_when_one_cannot_be_connected(self) -> None:
        async with Site(plain={"port": PORT, "connect": "message"}) as site:
            a, b = await site.serve("a", "b")
            site.network.unreachable.add(Address(a.host, PORT))
            client = await site.client()
            client.send(b"1")
            client.send(b"2")
            await until(lambda: len(client.got) == 2)
            assert b.users[0].data == [b"1", b"2"]
            assert not (await site.relay.status())["a"].ready

    async def test_a_client_that_has_waited_too_long_is_disconnected(self) -> None:
        async with Site(wait=0.02) as site:
            client = await site.client()
            client.send(b"1")
            await asyncio.sleep(0.03)
            site.relay.tick()
            assert client.ending is Ending.ABORTED
            assert site.refused == {"no_backend": 1, "client_gone": 1}

    async def test_a_server_that_ends_one_association_stays_ready(self) -> None:
        async with Site() as site:
            (server,) = await site.serve("a")
            client = await site.client()
            client.send(b"x")
            await until(lambda: client.got)
            server.users[0].association.abort()
            await until(lambda: client.ending)
            assert (await site.relay.status())["a"].ready

    async def test_one_that_refused_a_client_is_tried_anew(self) -> None:
        async with Site(
            plain={"port": PORT, "connect": "message", "health_interval": 0.02}
        ) as site:
            (server,) = await site.serve("a")
            address = Address(server.host, PORT)
            site.network.unreachable.add(address)
            client = await site.client()
            client.send(b"1")
            await turns()
            assert not (await site.relay.status())["a"].ready
            site.network.unreachable.discard(address)
            await asyncio.sleep(0.05)
            await until(lambda: client.got)


class Handing(Router):
    """All clients have one conversation, which belongs to whoever sent last."""

    def message(self, client: int, message: Message) -> Actions:
        return [Forward(1, message)]


async def test_a_conversation_may_change_its_client() -> None:
    async with Site(build_plugin(Handing)) as site:
        (server,) = await site.serve("a")
        first, second = await site.client(), await site.client()
        first.send(b"1")
        await until(lambda: first.got)
        second.send(b"2")
        await until(lambda: second.got)
        await until(lambda: server.users[0].ending is Ending.CLOSED)
        assert (first.data, second.data) == ([b"1"], [b"2"])
        assert site.relay.backends.conversations == 1


class TestUpdates:
    async def test_a_draining_server_keeps_its_clients_and_gets_no_new_ones(self) -> None:
        async with Site() as site:
            await site.serve("a", "b")
            clients = [await site.client() for _ in range(2)]
            await site.name_all(draining=["a"])
            clients += [await site.client() for _ in range(3)]
            for client in clients:
                client.send(b"x")
            await until(lambda: all(client.got for client in clients))
            status = await site.relay.status()
            assert (status["a"].sessions, status["b"].sessions) == (1, 4)

    async def test_what_a_removed_server_has_is_broken_off(self) -> None:
        async with Site() as site:
            (server,) = await site.serve("a")
            client = await site.client()
            client.send(b"x")
            await until(lambda: client.got)
            await site.relay.update([])
            assert client.ending is Ending.ABORTED
            assert server.up == 0
            assert site.refused == {"backend_removed": 1}
            assert await site.relay.status() == {}

    async def test_the_same_again_changes_nothing(self) -> None:
        async with Site() as site:
            (server,) = await site.serve("a")
            client = await site.client()
            await turns()
            await site.name_all()
            await turns()
            assert (client.ending, server.up) == (None, 2)

    async def test_one_that_disconnects_a_client_by_its_streams_gets_the_others(self) -> None:
        async with Site(build_plugin(PerStream)) as site:
            site.transport.streams = 4
            await site.serve("a")
            client, other = await site.client(), await site.client()
            client.send(b"0", stream=0)
            await until(lambda: client.got)
            await site.name_all(draining=["a"])
            for stream in (9, 10):
                client.send(b"%d" % stream, stream=stream)
            other.send(b"other", stream=1)
            await turns()
            assert site.relay.backends.conversations == 4
            await site.name_all()
            await until(lambda: other.got)
            assert client.ending is Ending.ABORTED
            await turns()
            assert site.relay.backends.conversations == 1
            assert (await site.relay.status())["a"].sessions == 1


class TestDrain:
    async def test_no_client_is_accepted_and_the_last_one_waited_for(self) -> None:
        async with Site() as site:
            await site.serve("a")
            client = await site.client()
            draining = asyncio.create_task(site.relay.drain())
            await turns()
            with pytest.raises(ConnectFailed):
                await site.client()
            client.send(b"still here")
            await until(lambda: client.got)
            assert not draining.done()
            client.association.close()
            await asyncio.wait_for(draining, 1)

    async def test_without_clients_it_is_over_at_once(self) -> None:
        async with Site() as site:
            await asyncio.wait_for(site.relay.drain(), 1)

    async def test_a_relay_that_was_closed_can_be_started_again(self) -> None:
        site = Site()
        async with site:
            await site.serve("a")
        async with site:
            await site.name_all()
            await site.ready("a")
            client = await site.client()
            client.send(b"x")
            await until(lambda: client.got)
