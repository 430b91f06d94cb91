"""The transport suite has teeth: each of these transports breaks one rule, and one test tells."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, ClassVar
from unittest import mock

import pytest
from voluptuous import Optional

from free_ports import free_udp_ports
from isoneph.core.errors import ConnectFailed, ListenFailed, TransportError
from isoneph.core.plugin import Association, AssociationHandler, Environment, Listener, Transport
from isoneph.core.testing import TransportConformance, build_plugin
from isoneph.core.traffic import Address, Ending, Message, Notice, Notification
from isoneph.plugins.transports.userland import UserlandTransport
from isoneph.plugins.transports.userland.association import UserlandAssociation
from isoneph.plugins.transports.userland.carrier import Carrier
from isoneph.plugins.transports.userland.listener import UserlandListener

(PORT,) = free_udp_ports(1)

#: How the suite complains, or stumbles over what is broken.
COMPLAINTS = (AssertionError, AttributeError, TypeError, TransportError, pytest.fail.Exception)

send, close, abort = (
    UserlandAssociation.send,
    UserlandAssociation.close,
    UserlandAssociation.abort,
)


class Silent(UserlandTransport):
    """Options without a word."""

    schema: ClassVar[Any] = {**UserlandTransport.schema, Optional("secret"): str}


class OneWay(UserlandTransport):
    """Close without start fails."""

    async def close(self) -> None:
        assert self._stack is not None
        await super().close()


class Lax(UserlandTransport):
    """Listens on what is taken, as if."""

    async def listen(self, addresses: Sequence[Address], accept: Any) -> Listener:
        try:
            return await super().listen(addresses, accept)
        except ListenFailed:
            return await super().listen([Address(addresses[0].host, 0)], accept)


class Hopeful(UserlandTransport):
    """Takes a failed connect for a success."""

    async def connect(
        self,
        remote: Sequence[Address],
        handler: AssociationHandler,
        local: Sequence[Address] = (),
    ) -> Any:
        try:
            return await super().connect(remote, handler, local)
        except ConnectFailed:
            return None


def lose_stream(self: Association, message: Message) -> None:
    send(self, message._replace(stream=0))  # type: ignore[arg-type] # ours


def lose_ppid(self: Association, message: Message) -> None:
    send(self, message._replace(ppid=0))  # type: ignore[arg-type] # ours


def lose_unordered(self: Association, message: Message) -> None:
    send(self, message._replace(unordered=False))  # type: ignore[arg-type] # ours


def cut(self: Association, message: Message) -> None:
    send(self, message._replace(data=message.data[:60000]))  # type: ignore[arg-type] # ours


def nothing(self: object, *_arguments: object, **_more: object) -> None:
    pass


def never(self: object) -> bool:
    return False


def close_at_once(self: UserlandAssociation) -> None:
    abort(self)


def abort_twice(self: UserlandAssociation, reason: str = "") -> None:
    abort(self, reason)
    if self._handler is not None:
        self._handler.closed(Ending.ABORTED, reason)


def abort_in_order(self: UserlandAssociation, reason: str = "") -> None:
    close(self)


def go_on(self: UserlandAssociation) -> None:
    self._stale = False
    self.learn()
    self._notify(Notification(Notice.RESTARTED))


def read_only(self: UserlandAssociation) -> None:
    if self._reading:
        self._read()


def close_all(self: UserlandListener) -> None:
    self._stack.remove(self)
    for endpoint in tuple(self._stack._endpoints.values()):
        if isinstance(endpoint, UserlandAssociation):
            abort(endpoint)


class Suite(TransportConformance):
    settle = 0.02
    timeout = 0.15
    connect_timeout = 0.2

    def __init__(self, transport: type[UserlandTransport]) -> None:
        self.transport_type = transport

    def make_transport(self, options: Mapping[str, Any], environment: Environment) -> Transport:
        ports = {"udp_port": PORT, "remote_udp_port": PORT}
        return build_plugin(self.transport_type, {**options, **ports}, environment=environment)

    def cut(self) -> AbstractContextManager[object]:
        return mock.patch.object(Carrier, "send")

    @asynccontextmanager
    async def both(self) -> AsyncIterator[dict[str, Transport]]:
        made = {
            name: self.make_transport(self.options, self.environment(name))
            for name in ("transport", "peer")
        }
        for transport in made.values():
            await transport.start()
        try:
            yield made
        finally:
            for transport in made.values():
                await transport.close()


@pytest.mark.parametrize(
    ("transport", "test"),
    [
        (Silent, Suite.test_options_are_described_and_their_defaults_valid),
        (OneWay, Suite.test_close_needs_no_start_and_may_be_repeated),
    ],
)
async def test_a_broken_life_is_told(
    transport: type[UserlandTransport], test: Callable[..., Any]
) -> None:
    with pytest.raises(AssertionError):
        await test(Suite(transport))


async def test_listening_twice_on_one_address_is_told() -> None:
    suite = Suite(Lax)
    async with suite.both() as made:
        with pytest.raises(pytest.fail.Exception):
            await suite.test_a_taken_address_cannot_be_listened_on(**made)


async def test_a_connect_that_never_fails_is_told() -> None:
    suite = Suite(Hopeful)
    async with suite.both() as made:
        with pytest.raises(pytest.fail.Exception):
            await suite.test_connecting_to_nobody_fails_in_time(made["transport"])


@pytest.mark.parametrize(
    ("method", "broken", "test"),
    [
        ("send", lose_stream, Suite.test_each_stream_keeps_its_order),
        ("send", cut, Suite.test_large_messages_arrive_whole),
        ("send", nothing, Suite.test_messages_cross),
        ("_unfit", nothing, Suite.test_what_cannot_be_sent_is_refused),
        ("pause_reading", nothing, Suite.test_who_pauses_reading_gets_nothing),
        ("pause_reading", nothing, Suite.test_a_full_queue_is_told_and_refused),
        ("resume_reading", nothing, Suite.test_reading_can_be_paused_at_any_message),
        ("close", close_at_once, Suite.test_closing_delivers_what_is_queued),
        ("close", nothing, Suite.test_what_came_before_the_end_is_read_first),
        ("close", close_at_once, Suite.test_both_may_close_at_once),
        ("abort", abort_twice, Suite.test_an_abort_is_told_to_both),
        ("abort", abort_in_order, Suite.test_an_abort_is_told_to_both),
        ("abort", nothing, Suite.test_an_abort_cuts_a_close_short),
        ("statistics", nothing, Suite.test_statistics_count),
        ("on_news", read_only, Suite.test_an_abort_is_told_to_who_has_paused_reading),
        ("_restart", nothing, Suite.test_a_restart_is_told),
        ("_restart", go_on, Suite.test_what_is_queued_does_not_go_to_the_next_life_of_a_peer),
    ],
)
async def test_a_broken_association_is_told(
    method: str,
    broken: Callable[..., Any],
    test: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suite = Suite(UserlandTransport)
    async with suite.both() as made:
        with monkeypatch.context() as patched:
            patched.setattr(UserlandAssociation, method, broken)
            with pytest.raises(COMPLAINTS):
                await test(suite, **made)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lose_stream, Message(b"x", stream=3)),
        (lose_ppid, Message(b"x", ppid=18)),
        (lose_unordered, Message(b"x", unordered=True)),
    ],
)
async def test_a_message_that_is_changed_is_told(
    broken: Callable[..., Any], message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = Suite(UserlandTransport)
    monkeypatch.setattr(UserlandAssociation, "send", broken)
    async with suite.both() as made:
        with pytest.raises(AssertionError):
            await suite.test_a_message_arrives_as_it_was_sent(**made, message=message)


@pytest.mark.parametrize(
    ("method", "broken", "test"),
    [
        ("pause", nothing, Suite.test_a_paused_listener_accepts_none),
        ("close", close_all, Suite.test_a_closed_listener_leaves_what_is_up),
    ],
)
async def test_a_broken_listener_is_told(
    method: str,
    broken: Callable[..., Any],
    test: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suite = Suite(UserlandTransport)
    async with suite.both() as made:
        with monkeypatch.context() as patched:
            patched.setattr(UserlandListener, method, broken)
            with pytest.raises(COMPLAINTS):
                await test(suite, **made)


@pytest.mark.parametrize("resumes", [False, True])
async def test_an_answer_to_a_former_peer_is_told(
    resumes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = Suite(UserlandTransport)
    monkeypatch.setattr(UserlandAssociation, "_renewed", never)
    async with suite.both() as made:
        with pytest.raises(COMPLAINTS):
            await suite.test_an_answer_does_not_go_to_the_next_life_of_a_peer(
                **made, resumes=resumes
            )
