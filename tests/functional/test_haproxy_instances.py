"""The HAProxy of the haproxy relay: mistakes in its configuration, and one that runs already."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from haproxy_relays import (
    Elsewhere,
    get,
    make_relay,
    own,
    running,
    server_names,
    taken_over,
    until_ready,
)
from isoneph.core.errors import ConfigInvalid, RelayRefused, RelayUnreachable
from isoneph.plugins.relays.haproxy import relay as relay_module
from web_backends import WebBackends


@pytest.fixture(autouse=True)
def _haproxy() -> None:
    if shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin") is None:
        pytest.fail("haproxy is not installed; tools/test installs it")


@pytest.fixture
def backends() -> Iterator[WebBackends]:
    with closing(WebBackends()) as backends:
        yield backends


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    # Not in pytest's own directory: the path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="isoneph-elsewhere-") as directory:
        haproxy = Elsewhere(Path(directory))
        try:
            haproxy.start()
            yield haproxy
        finally:
            haproxy.stop()


# What is wrong is told before anything runs.


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"lines": {"frontend": ["option tcplog", "wrong word"]}},
            r"lines\.frontend\[1\]: .*wrong",
        ),
        ({"lines": {"global": ["nbthread none"]}}, r"lines\.global\[0\]: .*nbthread"),
        ({"limits": {"clients": 9_000_000}}, r"limits\.clients: 9000000 clients need"),
        ({"program": "no-such-haproxy"}, "program: there is no program no-such-haproxy"),
        ({"program": "true"}, "program: .*true does not seem to be HAProxy"),
    ],
)
async def test_a_mistake_is_told_with_its_place(
    backends: WebBackends, options: dict[str, Any], complaint: str
) -> None:
    relay = make_relay(own(backends, **options))
    with pytest.raises(ConfigInvalid, match=f"relay 'web': {complaint}"):
        await relay.start()
    await relay.close()


async def test_a_bad_bind_parameter_is_told_with_its_place(backends: WebBackends) -> None:
    options = own(backends)
    options["listen"] = ["127.0.0.1:1999", f"{options['listen'][0]} ssl crt /nowhere.pem"]
    relay = make_relay(options)
    with pytest.raises(ConfigInvalid, match=r"listen\[1\]: .*nowhere\.pem"):
        await relay.start()


async def test_an_address_that_is_taken_is_told_with_its_place(backends: WebBackends) -> None:
    options = own(backends)
    async with running(options):
        relay = make_relay(options)
        with pytest.raises(RelayRefused, match=r"listen\[0\]: .*Address already in use"):
            await relay.start()


async def test_an_old_haproxy_is_refused(backends: WebBackends, tmp_path: Path) -> None:
    program = tmp_path / "haproxy"
    program.write_text("#!/bin/sh\necho HAProxy version 2.4.22-f8e3218 2023/02/14\n")
    program.chmod(0o755)
    relay = make_relay(own(backends, program=str(program)))
    with pytest.raises(ConfigInvalid, match=r"2\.4\.22\S* is too old; 2\.6 or newer"):
        await relay.start()


def modes_in(directory: Path) -> dict[str, int]:
    return {each.name: each.stat().st_mode & 0o777 for each in directory.iterdir()}


async def test_its_directory_is_private_and_goes_with_it(
    backends: WebBackends, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short_path))
    async with running(own(backends)) as relay:
        await relay.update([])
        ((name, mode),) = modes_in(short_path).items()
        assert mode == 0o700
        assert modes_in(short_path / name) == {"web.cfg": 0o600, "runtime.sock": 0o600}
    assert modes_in(short_path) == {}


async def test_a_running_haproxy_gets_servers_and_keeps_its_own(
    backends: WebBackends, elsewhere: Elsewhere
) -> None:
    web = [backends.start(0), backends.start(1)]
    async with running(taken_over(backends, elsewhere)) as relay:
        await relay.update(web)
        await until_ready(relay, *web)
        assert await asyncio.to_thread(get, elsewhere.address) in {"127.0.3.1", "127.0.3.2"}
        await relay.update(web[1:])
        assert await server_names(relay) == [f"isoneph-web:{web[1].id}", "theirs"]
        await relay.drain()
    assert await asyncio.to_thread(get, elsewhere.address) == "127.0.3.2"  # it lives on
    async with running(taken_over(backends, elsewhere)) as relay:
        await relay.update([])
        assert await server_names(relay) == ["theirs"]


async def test_a_relay_that_knows_nothing_leaves_the_servers_at_work(
    backends: WebBackends, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "_PATIENCE", 0.1)
    web = backends.start(0)
    async with running(taken_over(backends, elsewhere)) as relay:
        await relay.update([web])
        await until_ready(relay, web)
    async with running(taken_over(backends, elsewhere)) as relay:
        await asyncio.sleep(2.5)  # more than two looks
        assert await asyncio.to_thread(get, elsewhere.address) == "127.0.3.1"
        assert await relay.status() == {}
        await relay.update([])  # that is a word
        assert await server_names(relay) == ["theirs"]


async def test_applications_share_a_backend(backends: WebBackends, elsewhere: Elsewhere) -> None:
    web, options = [backends.start(0), backends.start(1)], taken_over(backends, elsewhere)
    async with running(options) as relay, running(options, application="web-shop") as other:
        await relay.update(web[:1])
        await other.update(web[1:])
        await relay.update(web[:1])
        assert await server_names(relay) == [
            f"isoneph-web-shop:{web[1].id}", f"isoneph-web:{web[0].id}", "theirs"
        ]  # fmt: skip
        await until_ready(relay, web[0])
        await until_ready(other, web[1])
        await relay.update([])
        assert await server_names(other) == [f"isoneph-web-shop:{web[1].id}", "theirs"]


async def test_a_running_haproxy_that_starts_anew_gets_its_servers_again(
    backends: WebBackends, elsewhere: Elsewhere
) -> None:
    web = backends.start(0)
    async with running(taken_over(backends, elsewhere)) as relay:
        await relay.update([web])
        await until_ready(relay, web)
        elsewhere.stop()
        with pytest.raises(RelayUnreachable, match="Connection refused"):
            await relay.status()
        elsewhere.start()
        await until_ready(relay, web)
        assert await asyncio.to_thread(get, elsewhere.address) == "127.0.3.1"


async def test_a_running_haproxy_must_be_there_with_the_backend(
    backends: WebBackends, elsewhere: Elsewhere
) -> None:
    options = taken_over(backends, elsewhere)
    with pytest.raises(RelayRefused, match="backend nothing: \"Can't find backend"):
        await make_relay({**options, "backend": "nothing"}).start()
    with pytest.raises(RelayUnreachable, match="No such file or directory"):
        await make_relay({**options, "socket": "/nowhere/at/all"}).start()
