from __future__ import annotations

import asyncio
import socket
from typing import Self

import pytest

from free_ports import free_udp_ports
from isoneph.core.errors import ConnectFailed, ListenFailed, TransportUnavailable
from isoneph.core.testing import Door, EchoHandler, RecordingHandler
from isoneph.core.traffic import Address, Ending
from isoneph.plugins.transports.userland import UserlandTransport, library
from isoneph.plugins.transports.userland.stack import the_stack
from userland_pieces import ANYWHERE, HOST, Figures, echoes, ended, joined, listening, make


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
