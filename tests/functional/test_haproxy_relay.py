"""The haproxy relay with Debian's HAProxy, real web servers and clients that count failures."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

import pytest

from freezing import freeze, thaw
from haproxy_relays import (
    CHECK,
    TIMEOUT,
    Load,
    drained,
    get,
    held_connection,
    not_ready,
    own,
    process_of,
    replaced,
    running,
    server_names,
    until,
    until_ready,
    until_sessions,
)
from isoneph.core.errors import RelayRefused, RelayUnreachable
from web_backends import WebBackends, listens


@pytest.fixture(autouse=True)
def _haproxy() -> None:
    if shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin") is None:
        pytest.fail("haproxy is not installed; tools/test installs it")


@pytest.fixture
def backends() -> Iterator[WebBackends]:
    with closing(WebBackends()) as backends:
        yield backends


async def test_no_request_fails_while_backends_come_and_go(backends: WebBackends) -> None:
    first = [backends.start(0), backends.start(1)]
    options = own(backends, check={**CHECK, "path": "/"})
    async with running(options) as relay:
        await relay.update(first)
        await until_ready(relay, *first)
        with Load(options["listen"][0]) as load:
            for number in range(2, 6):
                old, kept, new = *first, backends.start(number)
                await relay.update([old, kept, new])
                await until_ready(relay, old, kept, new)
                await relay.update([replace(old, draining=True), kept, new])
                await until(partial(drained, relay, old))
                backends.kill(old)  # its VM is deleted
                await relay.update([kept, new])
                first = [kept, new]
                await asyncio.sleep(0.3)
            assert (await relay.report()).facts["restarts"] == "0"
    assert load.failures == []
    assert len(load.answers) == 6
    assert sum(load.answers.values()) > 200


async def test_a_backend_that_is_killed_fails_no_request(backends: WebBackends) -> None:
    web = [backends.start(number) for number in range(3)]
    options = own(backends)
    async with running(options) as relay:
        await relay.update(web)
        await until_ready(relay, *web)
        with Load(options["listen"][0]) as load:
            await asyncio.sleep(0.5)
            backends.kill(web[0])
            await until(partial(not_ready, relay, web[0]))
            await asyncio.sleep(0.5)
        status = await relay.status()
        assert "Connection refused" in status[web[0].id].text
        assert status[web[1].id].ready
    assert load.failures == []
    assert min(load.answers.values()) > 10


async def test_only_what_may_be_repeated_is_tried_again(backends: WebBackends) -> None:
    """One of two backends takes requests and breaks off without an answer."""
    taken: Counter[str] = Counter()

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            taken[head.split()[0].decode()] += 1
        writer.close()

    good, bad = backends.start(0), backends.backend(1)
    options = own(backends)
    async with (
        await asyncio.start_server(break_off, bad.addresses[0], backends.port),
        running(options) as relay,
    ):
        await relay.update([good, bad])
        await until_ready(relay, good, bad)
        for _ in range(4):
            assert await asyncio.to_thread(get, options["listen"][0]) == good.addresses[0]
        assert taken["GET"] > 0

        def post() -> int:
            with closing(http.client.HTTPConnection(options["listen"][0])) as connection:
                connection.request("POST", "/", "text")
                return connection.getresponse().status

        statuses = Counter([await asyncio.to_thread(post) for _ in range(4)])
        assert statuses[502] == taken["POST"] > 0


async def test_nothing_is_sent_to_a_backend_before_it_answers(backends: WebBackends) -> None:
    web = [backends.start(0), backends.backend(1)]
    options = own(backends)
    async with running(options) as relay:
        await relay.update(web[:1])
        await until_ready(relay, web[0])
        await relay.update(web)
        await asyncio.sleep(0.5)
        assert not (await relay.status())[web[1].id].ready
        table = (await relay.report()).tables[0]
        totals = {row[0]: row[table.columns.index("total")] for row in table.rows}
        assert totals["web-1"] == 0
        backends.start(1)
        await until_ready(relay, *web)


async def test_weights_share_the_requests_out(backends: WebBackends) -> None:
    web = [backends.start(0), replace(backends.start(1), weight=3.0)]
    options = own(backends)
    async with running(options) as relay:
        await relay.update(web)
        await until_ready(relay, *web)
        answers = Counter([await asyncio.to_thread(get, options["listen"][0]) for _ in range(80)])
        assert answers == {web[0].addresses[0]: 20, web[1].addresses[0]: 60}
        await relay.update([replace(web[0], weight=0.0), web[1]])
        answers = Counter([await asyncio.to_thread(get, options["listen"][0]) for _ in range(20)])
        assert answers == {web[1].addresses[0]: 20}


async def test_a_request_under_way_is_finished_while_its_backend_drains(
    backends: WebBackends,
) -> None:
    web = [backends.start(0)]
    options = own(backends)
    async with running(options) as relay:
        await relay.update(web)
        await until_ready(relay, *web)
        request = asyncio.ensure_future(asyncio.to_thread(get, options["listen"][0], "/0.8"))
        await asyncio.sleep(0.3)
        web.append(backends.start(1))
        await relay.update([replace(web[0], draining=True), web[1]])
        await until_ready(relay, web[1])
        assert (await relay.status())[web[0].id].sessions == 1
        assert await asyncio.to_thread(get, options["listen"][0]) == web[1].addresses[0]
        assert await request == web[0].addresses[0]
        assert (await relay.status())[web[0].id].sessions == 0


async def test_bytes_of_a_session_are_counted_while_it_lasts(backends: WebBackends) -> None:
    web = backends.start(0)
    options = own(backends, mode="tcp")
    async with running(options) as relay:
        await relay.update([web])
        await until_ready(relay, web)

        async def counted() -> bool:
            rows = [
                dict(zip(table.columns, row, strict=True))
                for table in (await relay.report()).tables
                for row in table.rows
            ]
            assert [row["sessions"] for row in rows] == [1, 1]
            return all(row["bytes_in"] and row["bytes_out"] for row in rows)

        with held_connection(options["listen"][0]) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
            await until_sessions(relay, 1)
            await until(counted)


async def test_what_a_missing_backend_still_has_is_broken_off(backends: WebBackends) -> None:
    web = [backends.start(0), backends.start(1)]
    options = own(backends, mode="tcp")
    async with running(options) as relay:
        await relay.update(web[:1])
        await until_ready(relay, web[0])
        with held_connection(options["listen"][0]) as connection:
            await until_sessions(relay, 1)
            await relay.update(web[1:])
            assert await asyncio.to_thread(connection.recv, 1) == b""

        async def gone() -> bool:
            return await server_names(relay) == [f"isoneph-web:{web[1].id}"]

        await until(gone)  # the server itself goes a moment later


async def test_a_moved_backend_is_another_server(backends: WebBackends) -> None:
    web = backends.start(0)
    backends.start(1)
    moved = replace(web, addresses=backends.backend(1).addresses)
    options = own(backends)
    async with running(options) as relay:
        await relay.update([web])
        await until_ready(relay, web)
        await relay.update([moved])
        await until_ready(relay, moved)
        assert await asyncio.to_thread(get, options["listen"][0]) == "127.0.3.2"


async def test_a_killed_haproxy_is_back_with_all_backends_and_refuses_nobody(
    backends: WebBackends,
) -> None:
    web = [backends.start(number) for number in range(3)]
    draining = replace(web[2], draining=True)
    options = own(backends)
    address = options["listen"][0]
    async with running(options) as relay:
        await relay.update([*web[:2], draining])
        await until_ready(relay, *web[:2])
        for _ in range(2):
            process = await process_of(relay)
            os.kill(process, signal.SIGKILL)
            answers = {await asyncio.to_thread(get, address) for _ in range(8)}
            assert answers == {"127.0.3.1", "127.0.3.2"}
            await until(partial(replaced, relay, process))
            await until_ready(relay, *web[:2])
        assert (await relay.report()).facts["restarts"] == "2"
        assert not (await relay.status())[draining.id].ready
        await relay.update(web)
        await until_ready(relay, *web)


async def test_clients_wait_until_there_are_backends(backends: WebBackends) -> None:
    web = backends.start(0)
    options = own(backends)
    async with running(options) as relay:
        request = asyncio.ensure_future(asyncio.to_thread(get, options["listen"][0]))
        await asyncio.sleep(0.3)
        assert not request.done()
        await relay.update([web])
        assert await request == web.addresses[0]


async def test_without_a_word_there_are_no_backends(backends: WebBackends) -> None:
    options = own(backends)
    async with running(options) as relay:
        with pytest.raises(AssertionError, match="503"):
            await asyncio.to_thread(get, options["listen"][0])
        assert await relay.status() == {}


async def test_draining_the_relay_finishes_requests_and_refuses_new_ones(
    backends: WebBackends,
) -> None:
    web = backends.start(0)
    options = own(backends)
    async with running(options) as relay:
        await relay.update([web])
        await until_ready(relay, web)
        request = asyncio.ensure_future(asyncio.to_thread(get, options["listen"][0], "/1"))
        await until_sessions(relay, 1)
        drain = asyncio.ensure_future(relay.drain())
        await asyncio.sleep(0.3)
        assert not drain.done()
        status = (await relay.status())[web.id]
        assert (status.ready, status.sessions) == (False, 1)
        host, _, port = options["listen"][0].rpartition(":")
        assert not listens(host, int(port))
        assert await request == web.addresses[0]
        async with asyncio.timeout(TIMEOUT):
            await drain
        with pytest.raises(RelayRefused, match="does not run"):
            await relay.update([web])


async def test_a_hanging_haproxy_is_unreachable_in_time(backends: WebBackends) -> None:
    web = backends.start(0)
    async with running(own(backends), patience=2.0) as relay:
        await relay.update([web])
        process = await process_of(relay)
        freeze(process)
        started = time.monotonic()
        for call in (partial(relay.update, [web]), relay.status, relay.report):
            with pytest.raises(RelayUnreachable, match=r"no answer within 0\.6 s"):
                await call()
        assert time.monotonic() - started < 5
        thaw(process)
        await relay.update([web])
        await until_ready(relay, web)
