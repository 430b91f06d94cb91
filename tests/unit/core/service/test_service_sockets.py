"""What is listened on, and who can reach it."""

from __future__ import annotations

import socket
import threading
from contextlib import closing

import pytest

from isoneph.core.errors import ConfigInvalid
from isoneph.core.service.sockets import check_exposure, open_sockets, url_of
from isoneph.core.settings import (
    ApplicationSettings,
    ServiceSettings,
    Settings,
    TokenSettings,
)

TOKEN = TokenSettings(name="me", sha256="0" * 64, scopes=frozenset({"read"}))


def settings(*, allow: bool = False, **tokens: tuple[TokenSettings, ...]) -> Settings:
    return Settings(
        service=ServiceSettings(allow_unauthenticated=allow),
        applications={
            name: ApplicationSettings(name=name, clouds=(), types={}, tokens=some)
            for name, some in tokens.items()
        },
    )


def test_port_0_is_any_port_and_the_url_tells_which() -> None:
    [sock] = open_sockets(ServiceSettings(port=0))
    with closing(sock):
        port = sock.getsockname()[1]
        assert port != 0
        assert url_of(sock) == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.9.9.9"])
def test_on_this_machine_only_anything_may_be_open(host: str) -> None:
    sockets = open_sockets(ServiceSettings(host=host, port=0))
    with closing(sockets[0]):
        check_exposure(settings(mme=()), sockets)


def test_what_others_can_reach_needs_tokens_or_a_word() -> None:
    sockets = open_sockets(ServiceSettings(host="0.0.0.0", port=0))  # noqa: S104 (it is the point)
    with closing(sockets[0]):
        check_exposure(settings(mme=(TOKEN,)), sockets)
        check_exposure(settings(mme=(), allow=True), sockets)
        with pytest.raises(ConfigInvalid) as caught:
            check_exposure(settings(mme=(TOKEN,), open=(), other=()), sockets)
    problems = caught.value.problems
    assert [problem.split()[:2] for problem in problems] == [
        ["application", "open"],
        ["application", "other"],
    ]


def test_an_address_that_cannot_be_had_is_named() -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as taken,
        pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1 port \d+: .* in use"),
    ):
        open_sockets(ServiceSettings(port=taken.getsockname()[1]), patience=0.0)


def test_an_address_that_is_let_go_of_soon_is_waited_for() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    letting_go = threading.Timer(0.3, taken.close)
    letting_go.start()
    [sock] = open_sockets(ServiceSettings(port=port))
    letting_go.join()
    with closing(sock):
        assert sock.getsockname()[1] == port
