"""Packets that no honest peer would send, thrown at a listening stack from many addresses."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from free_ports import free_udp_ports
from isoneph.core.testing import RecordingHandler
from isoneph.core.traffic import Address, Message
from isoneph.plugins.transports.userland.carrier import Carrier, Peer
from isoneph.plugins.transports.userland.library import SONAME, load
from userland_peer import HOST, held, make_transport, running

PORT = 36412
SECONDS = 20.0
ADDRESSES = 50
#: Rounds of each test, and packets of a round.
ROUNDS, PACKETS = 40, 100
MOST_GROWTH = 16 * 1024  # kibibytes
MOST_PEERS = ADDRESSES + 2
CHUNK_TYPES = [*range(16), 0x40, 0x80, 0x81, 0x82, 0x84, 0xC0, 0xC1, 0xFF]


@pytest.fixture
def attackers() -> Iterator[list[socket.socket]]:
    """UDP sockets at loopback addresses that are not the peer's."""
    with ExitStack() as stack:
        sockets = []
        for number in range(ADDRESSES):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind((f"127.0.1.{number + 1}", 0))
            sock.setblocking(False)
            sockets.append(sock)
        yield sockets


class Tap:
    """Keeps the packets that our own stack sends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.packets: list[bytes] = []
        send = Carrier.send

        def tapped(carrier: Carrier, packet: Any, length: int, peer: Peer) -> None:
            if len(self.packets) < 500:
                self.packets.append(bytes(carrier.stack.ffi.buffer(packet, length)))
            send(carrier, packet, length, peer)

        monkeypatch.setattr(Carrier, "send", tapped)


FFI, _ = load()
FFI.cdef("uint32_t usrsctp_crc32c(void *packet, size_t length);")
CRC32C = FFI.dlopen(SONAME).usrsctp_crc32c


def checksummed(packet: bytes) -> bytes:
    """The packet with the CRC32c that it must have (RFC 9260, section 6.8)."""
    blank = packet[:8] + bytes(4) + packet[12:]
    value = CRC32C(FFI.from_buffer(bytearray(blank)), len(blank))
    return blank[:8] + struct.pack("=I", value) + blank[12:]


def noise(chance: random.Random, _packets: list[bytes]) -> bytes:
    return chance.randbytes(chance.choice([0, 1, 11, 12, 15, 16, 17, 40, 200, 1400, 9000]))


def mutated(chance: random.Random, packets: list[bytes]) -> bytes:
    packet = bytearray(chance.choice(packets))
    for _ in range(chance.randint(1, 8)):
        packet[chance.randrange(len(packet))] = chance.randrange(256)
    cut = chance.choice([len(packet), chance.randint(1, len(packet))])
    return bytes(packet[:cut])


def mutated_and_repaired(chance: random.Random, packets: list[bytes]) -> bytes:
    packet = mutated(chance, packets).ljust(16, b"\0")
    ports = chance.choice([packet[:4], struct.pack("!HH", chance.randrange(65536), PORT)])
    return checksummed(ports + packet[4:])


def strange_chunks(chance: random.Random, _packets: list[bytes]) -> bytes:
    chunks = b""
    for _ in range(chance.randint(1, 5)):
        body = chance.randbytes(chance.choice([0, 4, 16, 60]))
        length = chance.choice([0, 3, 4, len(body) + 4, len(body) + 4, 65535])
        kind, flags = chance.choice(CHUNK_TYPES), chance.randrange(256)
        chunks += struct.pack("!BBH", kind, flags, length) + body
    tag = chance.choice([0, chance.randrange(2**32)])
    header = struct.pack("!HHII", chance.randrange(65536), PORT, tag, 0)
    return checksummed(header + chunks)


def init(chance: random.Random, _packets: list[bytes]) -> bytes:
    """A well-formed INIT, from any port, whose sender will never answer."""
    body = struct.pack("!IIHHI", chance.randrange(1, 2**32), 65536, 10, 10, chance.randrange(2**32))
    chunk = struct.pack("!BBH", 1, 0, 4 + len(body)) + body
    return checksummed(struct.pack("!HHII", chance.randrange(1, 65536), PORT, 0, 0) + chunk)


@pytest.mark.parametrize("attack", [noise, mutated, mutated_and_repaired, strange_chunks, init])
async def test_an_association_outlives(
    attack: Any, attackers: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(f"seed of {attack.__name__}")
    ports = free_udp_ports(2)
    tap = Tap(monkeypatch)
    transport = make_transport("patient", *ports)
    await transport.start()
    try:
        with running("listen", "patient", *ports[::-1], PORT) as process:
            passing = RecordingHandler()
            await transport.connect([Address(HOST, PORT)], passing)
            passing.up.close()
            client = RecordingHandler()
            await transport.connect([Address(HOST, PORT)], client)
            await echoes(client)
            _, before = held(process)
            for _ in range(ROUNDS):
                for _ in range(PACKETS):
                    packet = attack(chance, tap.packets)
                    chance.choice(attackers).sendto(packet, (HOST, ports[1]))
                await echoes(client)
            late = RecordingHandler()
            await transport.connect([Address(HOST, PORT)], late)
            await echoes(late)
            peers, after = held(process)
            assert client.endings == []
            assert peers <= MOST_PEERS
            assert after - before < MOST_GROWTH
            assert process.poll() is None
    finally:
        await transport.close()


async def echoes(client: RecordingHandler) -> None:
    count = len(client.messages) + 1
    client.up.send(Message(b"ping", 1, 18))
    await client.until(lambda: len(client.messages) == count, SECONDS, "the echo is here")
