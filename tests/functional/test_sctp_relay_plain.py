"""Plain SCTP servers behind ``isoneph relay``, over userland SCTP."""

from __future__ import annotations

import asyncio
import signal

from isoneph.core.traffic import Ending, Message
from relay_processes import Stage, wait_until


async def test_messages_go_there_and_back_unchanged_and_in_order() -> None:
    async with Stage(plain={}) as stage:
        await stage.start_server("vm-1", "127.0.0.1")
        await stage.name("vm-1")
        await stage.await_ready("vm-1")
        client = await stage.client()
        sent = [
            Message(bytes([number % 251]) * (1 + number % 3000), number % 10, number)
            for number in range(1000)
        ]
        for message in sent:
            client.association.send(message)
        await wait_until(lambda: len(client.got) == len(sent), "all answers")
        for stream in range(10):
            there = [message for message in sent if message.stream == stream]
            assert [message for message in client.got if message.stream == stream] == there
        client.association.send(Message(b"out of turn", 3, 46, unordered=True))
        await wait_until(lambda: len(client.got) == len(sent) + 1, "the last answer")
        assert client.got[-1] == Message(b"out of turn", 3, 46, unordered=True)
        await stage.await_sessions("vm-1", 1)
        client.association.close()
        await wait_until(lambda: client.ending is Ending.CLOSED, "the end")
        assert await stage.refused() == {}


async def test_a_server_that_speaks_first_is_heard() -> None:
    async with Stage(plain={}) as stage:
        await stage.start_server("vm-1", "127.0.0.1", "--greeting", "welcome")
        await stage.name("vm-1")
        await stage.await_ready("vm-1")
        client = await stage.client()
        await wait_until(lambda: client.got, "the greeting")
        assert client.data == [b"welcome"]


async def test_a_killed_server_takes_its_clients_along_and_others_live_on() -> None:
    async with Stage(plain={}) as stage:
        hosts = {"vm-1": "127.0.0.2", "vm-2": "127.0.0.3"}
        for name, host in hosts.items():
            await stage.start_server(name, host, "--name")
        await stage.name(*hosts, hosts=list(hosts.values()))
        await stage.await_ready(*hosts)
        clients = [await stage.client() for _ in range(4)]
        for client in clients:
            client.send(b"x")
        await wait_until(lambda: all(client.got for client in clients), "answers")
        concerned = [client for client in clients if client.data == [b"127.0.0.2 x"]]
        assert len(concerned) == 2
        await stage.kill("vm-1")
        await wait_until(
            lambda: all(client.ending is Ending.ABORTED for client in concerned), "the ends"
        )
        assert sum(client.ending is None for client in clients) == 2
        await stage.await_ready("vm-1", ready=False)
        again = await stage.client()
        again.send(b"y")
        await wait_until(lambda: again.got, "an answer")
        assert again.data == [b"127.0.0.3 y"]
        await stage.start_server("vm-1", "127.0.0.2", "--name")
        await stage.await_ready("vm-1")


async def test_a_drained_server_keeps_its_clients_until_they_go() -> None:
    async with Stage(plain={}) as stage:
        hosts = {"vm-1": "127.0.0.2", "vm-2": "127.0.0.3"}
        for name, host in hosts.items():
            await stage.start_server(name, host, "--name")
        await stage.name(*hosts, hosts=list(hosts.values()))
        await stage.await_ready(*hosts)
        clients = [await stage.client() for _ in range(2)]
        await stage.remote.drain({"vm-1": 1.0})
        clients += [await stage.client() for _ in range(2)]
        for client in clients:
            client.send(b"x")
        await wait_until(lambda: all(client.got for client in clients), "answers")
        (kept,) = [client for client in clients if client.data == [b"127.0.0.2 x"]]
        await stage.await_sessions("vm-1", 1)
        kept.association.close()
        await wait_until(lambda: kept.ending is Ending.CLOSED, "its end")
        await stage.await_sessions("vm-1", 0)
        await stage.name("vm-2", hosts=["127.0.0.3"])
        assert [client.ending for client in clients if client is not kept] == [None] * 3


async def test_a_relay_that_is_told_to_stop_waits_for_its_clients() -> None:
    async with Stage(plain={}) as stage:
        await stage.start_server("vm-1", "127.0.0.1")
        await stage.name("vm-1")
        await stage.await_ready("vm-1")
        client = await stage.client()
        relay = stage.processes["relay"]
        relay.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        client.send(b"still here")
        await wait_until(lambda: client.got, "an answer")
        assert relay.returncode is None
        client.association.close()
        assert await asyncio.wait_for(relay.wait(), 5) == 0


async def test_a_relay_that_is_started_anew_knows_its_backends() -> None:
    async with Stage(plain={}) as stage:
        await stage.start_server("vm-1", "127.0.0.1")
        await stage.name("vm-1")
        await stage.await_ready("vm-1")
        client = await stage.client()
        await stage.kill("relay")
        await stage.start_relay()
        await wait_until(lambda: client.ending, "the client to notice")
        await stage.await_ready("vm-1")
        again = await stage.client()
        again.send(b"x")
        await wait_until(lambda: again.got, "an answer")
