from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Self

import pytest

from free_ports import free_udp_ports
from isoneph.core.clock import SystemClock
from isoneph.core.errors import ConnectFailed, ListenFailed, TransportUnavailable
from isoneph.core.plugin import Association, Listener
from isoneph.core.testing import Door, EchoHandler, RecordingHandler, build_plugin
from isoneph.core.testing.environment import NullMetrics, make_environment
from isoneph.core.traffic import Address, Ending, Message, Notice
from isoneph.plugins.transports.userland import UserlandTransport, library
from isoneph.plugins.transports.userland.carrier import Carrier, Peer
from isoneph.plugins.transports.userland.stack import the_stack

HOST = "127.0.0.1"
ANYWHERE = "0.0.0.0"  # noqa: S104 (in tests, of loopback addresses)
SECONDS = 5.0


class Figures(NullMetrics):
    """What was counted."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        self.counts[name, *labels.values()] += int(amount)


@pytest.fixture
def figures() -> Figures:
    return Figures()


@pytest.fixture
def ports() -> list[int]:
    """The UDP ports of the transport that listens and of the one that connects."""
    return free_udp_ports(2)


def make(udp_port: int, peer_port: int, figures: Figures, **options: Any) -> UserlandTransport:
    environment = make_environment("t", clock=SystemClock(), metrics=figures, timeout=SECONDS)
    values = {"udp_port": udp_port, "remote_udp_port": peer_port, **options}
    return build_plugin(UserlandTransport, values, environment=environment)


@pytest.fixture
async def server(ports: list[int], figures: Figures) -> AsyncIterator[UserlandTransport]:
    server = make(ports[0], ports[1], figures, max_message=1000, receive_buffer=16384)
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def client(ports: list[int], figures: Figures) -> AsyncIterator[UserlandTransport]:
    client = make(ports[1], ports[0], figures, close_timeout=0.1, send_queue=262144)
    await client.start()
    yield client
    await client.close()


async def listening(server: UserlandTransport, door: Door, host: str = HOST) -> Listener:
    return await server.listen([Address(host, 0)], door)


async def joined(client: UserlandTransport, listener: Listener) -> RecordingHandler:
    handler = RecordingHandler()
    await client.connect(listener.addresses, handler)
    return handler


async def echoes(client: RecordingHandler) -> None:
    count = len(client.messages) + 1
    client.up.send(Message(b"ping", 1, 18))
    await client.until(lambda: len(client.messages) == count, SECONDS, "the echo is here")


async def ended(handler: RecordingHandler) -> Ending:
    await handler.until(lambda: handler.endings, SECONDS, "it is over")
    return handler.endings[0]


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


async def test_a_close_that_takes_too_long_becomes_an_abort(
    server: UserlandTransport, client: UserlandTransport
) -> None:
    listener = await listening(server, door := Door())
    handler = await joined(client, listener)
    await door.until(1, SECONDS)
    door.handlers[0].up.pause_reading()
    while handler.up.writable:
        handler.up.send(Message(b"x" * 1000))
    handler.up.close()
    assert await ended(handler) is Ending.ABORTED
    assert handler.reasons == ["it could not be closed in time"]
    assert await ended(door.handlers[0]) is Ending.ABORTED, "told although reading is paused"
    assert door.handlers[0].messages == []


async def test_what_is_queued_when_the_peer_closes_is_given_up_and_told(
    server: UserlandTransport, client: UserlandTransport
) -> None:
    listener = await listening(server, door := Door())
    handler = await joined(client, listener)
    await door.until(1, SECONDS)
    door.handlers[0].up.pause_reading()
    while handler.up.writable:
        handler.up.send(Message(b"x" * 1000))
    door.handlers[0].up.close()
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


async def test_garbage_is_counted(
    server: UserlandTransport, client: UserlandTransport, ports: list[int], figures: Figures
) -> None:
    listener = await listening(server, Door(EchoHandler))
    handler = await joined(client, listener)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for packet in (b"", b"x" * 15, b"x" * 100, b"x" * 100, b"x" * 9000):
            stranger.sendto(packet, (HOST, ports[0]))
        await echoes(handler)
    await client.close()
    await server.close()
    assert figures.counts["ignored_packets", "short"] == 2
    assert figures.counts["ignored_packets", "checksum"] == 3
    assert figures.counts["ended_associations", "aborted"] == 2


async def test_a_peers_changed_port_is_learned(figures: Figures) -> None:
    """A NAT stands between: what is sent to ``inside`` arrives from ``outside``, and answers
    come from a third port, ``back``."""
    server_port, client_port = free_udp_ports(2)
    with Nat(server_port, client_port) as nat:
        server = make(server_port, 1, figures)
        client = make(client_port, nat.port("inside"), figures)
        await server.start()
        await client.start()
        listener = await listening(server, Door(EchoHandler))
        handler = await joined(client, listener)
        await echoes(handler)
        nat.move()
        await echoes(handler)
        assert handler.endings == []
        await client.close()
        await server.close()


class Nat:
    """Hands packets on between a client and a server, through ports of its own."""

    def __init__(self, server_port: int, client_port: int) -> None:
        self._server, self._client = (HOST, server_port), (HOST, client_port)
        self._sockets = {name: self._open() for name in ("inside", "outside", "back")}

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for name, sock in self._sockets.items():
            loop.add_reader(sock, self._hand_on, name, sock)
        return self

    def __exit__(self, *_error: object) -> None:
        for sock in self._sockets.values():
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()

    def port(self, name: str) -> int:
        return int(self._sockets[name].getsockname()[1])

    def move(self) -> None:
        """From now on the client's packets come from yet another port."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sockets["outside"])
        self._sockets["outside"].close()
        sock = self._sockets["outside"] = self._open()
        loop.add_reader(sock, self._hand_on, "outside", sock)

    def _open(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HOST, 0))
        sock.setblocking(False)
        return sock

    def _hand_on(self, name: str, sock: socket.socket) -> None:
        packet = sock.recv(65536)
        if name == "outside":
            self._sockets["back"].sendto(packet, self._client)
        else:
            self._sockets["outside"].sendto(packet, self._server)


async def test_who_sent_init_and_nothing_more_is_forgotten(
    server: UserlandTransport,
    client: UserlandTransport,
    ports: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("isoneph.plugins.transports.userland.carrier._MOST_WAITING", 8)
    listener = await listening(server, Door(EchoHandler))
    handler = await joined(client, listener)
    before = len(the_stack().peers)
    init = recorded_init(listener.addresses[0].port)
    for _ in range(30):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(init, (HOST, ports[0]))
    await echoes(handler)
    assert before < len(the_stack().peers) <= before + 8
    await echoes(await joined(client, listener))


def recorded_init(port: int) -> bytes:
    ffi = library.load().ffi
    ffi.cdef("uint32_t usrsctp_crc32c(void *packet, size_t length);", override=True)
    checksum = ffi.dlopen(library.SONAME).usrsctp_crc32c
    chunk = bytes.fromhex("01000014 00000001 00010000 000a 000a 00000001")
    packet = bytes.fromhex("1388") + port.to_bytes(2) + bytes(8) + chunk
    value: int = checksum(ffi.from_buffer(bytearray(packet)), len(packet))
    return packet[:8] + value.to_bytes(4, "little") + packet[12:]


@pytest.mark.parametrize(
    ("host", "target"),
    [("::1", "::1"), ("::", "::1"), (ANYWHERE, "127.0.0.3"), (ANYWHERE, HOST)],
)
async def test_is_answered_from_the_address_that_was_asked(
    host: str, target: str, server: UserlandTransport, client: UserlandTransport
) -> None:
    listener = await listening(server, door := Door(EchoHandler), host)
    handler = RecordingHandler()
    await client.connect([Address(target, listener.addresses[0].port)], handler)
    await echoes(handler)
    own, other = handler.up, door.handlers[0].up
    assert own.remote[0] == other.local[0]
    assert own.remote[0].host == target
    assert own.local[0] == other.remote[0]


async def test_may_connect_from_any_of_its_addresses(
    server: UserlandTransport, client: UserlandTransport
) -> None:
    listener = await listening(server, door := Door(EchoHandler))
    await listening(client, Door(), ANYWHERE)
    handler = RecordingHandler()
    await client.connect(listener.addresses, handler, [Address("127.0.0.5", 0)])
    await echoes(handler)
    assert door.handlers[0].up.remote[0].host == "127.0.0.5"


async def test_raw_ip_carries_as_well(figures: Figures) -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, 132).close()
    except OSError as error:
        pytest.skip(f"no raw sockets here: {error}")
    transport = make(0, 1, figures, encapsulation="ip")
    await transport.start()
    listener = await listening(transport, Door(EchoHandler), "127.0.0.4")
    handler = RecordingHandler()
    await transport.connect(listener.addresses, handler)
    await echoes(handler)
    assert transport.summary.endswith("over IP")
    await transport.close()


async def test_without_the_privilege_raw_ip_is_refused(
    figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(*_arguments: object) -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    transport = make(0, 1, figures, encapsulation="ip")
    await transport.start()
    monkeypatch.setattr("isoneph.plugins.transports.userland.carrier.socket.socket", forbid)
    with pytest.raises(ListenFailed, match="CAP_NET_RAW"):
        await listening(transport, Door())
    await transport.close()


async def test_each_of_a_peers_addresses_is_tried(
    server: UserlandTransport, client: UserlandTransport
) -> None:
    listener = await listening(server, Door(EchoHandler))
    handler = RecordingHandler()
    nobody = Address("192.0.2.1", 70000)
    association = await client.connect([nobody, *listener.addresses], handler)
    assert association.remote == tuple(listener.addresses)
    await echoes(handler)


@pytest.mark.parametrize(
    "addresses",
    [
        [],
        [Address(HOST, 5000), Address("127.0.0.2", 5001)],
        [Address("localhost", 5000)],
        [Address(HOST, 65536)],
        [Address(HOST, -1)],
    ],
)
async def test_addresses_that_are_none_are_refused(
    addresses: list[Address], client: UserlandTransport
) -> None:
    with pytest.raises(ListenFailed):
        await client.listen(addresses, Door())
    if len(addresses) < 2:
        with pytest.raises(ConnectFailed):
            await client.connect(addresses, RecordingHandler())


async def test_a_taken_udp_port_is_told(figures: Figures) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        port = taken.getsockname()[1]
        transport = make(port, port, figures)
        await transport.start()
        with pytest.raises(ListenFailed, match=rf"UDP 127\.0\.0\.1:{port}: Address already in use"):
            await listening(transport, Door())
        with pytest.raises(ConnectFailed, match="already in use"):
            await transport.connect([Address(HOST, 5000)], RecordingHandler())
        await transport.close()


async def test_peers_of_another_transport_are_not_accepted(
    server: UserlandTransport, client: UserlandTransport, ports: list[int], figures: Figures
) -> None:
    """An SCTP port is the whole process's, but listens only where it was asked to."""
    listener = await listening(server, door := Door())
    elsewhere = Address("127.0.0.2", listener.addresses[0].port)
    await listening(client, Door(), "127.0.0.2")
    third_port, *_ = free_udp_ports(1)
    third = make(third_port, ports[1], figures)
    await third.start()
    handler = RecordingHandler()
    try:
        await third.connect([elsewhere], handler)
    except ConnectFailed:
        pass
    else:
        assert await ended(handler) is Ending.ABORTED
    assert door.accepted == []
    await third.close()


async def test_nothing_works_before_the_start(figures: Figures) -> None:
    transport = make(0, 1, figures)
    with pytest.raises(ListenFailed, match="not started"):
        await listening(transport, Door())
    with pytest.raises(ConnectFailed, match="not started"):
        await transport.connect([Address(HOST, 5000)], RecordingHandler())


async def test_closing_ends_connects_that_are_under_way(
    server: UserlandTransport, client: UserlandTransport, ports: list[int]
) -> None:
    attempt = asyncio.ensure_future(client.connect([Address(HOST, 5000)], RecordingHandler()))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(ConnectFailed, match="the transport is closed"):
        await attempt


async def test_a_second_event_loop_is_refused(client: UserlandTransport, figures: Figures) -> None:
    async def start() -> None:
        await make(0, 1, figures).start()

    with pytest.raises(TransportUnavailable, match="another event loop"):
        await asyncio.to_thread(asyncio.run, start())


def test_a_missing_library_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "SONAME", "libusrsctp.so.99")
    with pytest.raises(TransportUnavailable, match="apt install libusrsctp2"):
        library.load.__wrapped__()


def test_missing_cffi_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cffi", None)
    with pytest.raises(TransportUnavailable, match=r"pip install 'isoneph\[sctp\]'"):
        library.load.__wrapped__()


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
