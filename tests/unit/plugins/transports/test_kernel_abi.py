from __future__ import annotations

import socket
import struct

import pytest

from isoneph.core.traffic import Address
from isoneph.plugins.transports.kernel import abi


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7"])
def test_addresses_are_those_that_the_kernel_knows(host: str) -> None:
    packed = abi.sockaddrs([Address(host, 36412)])
    assert len(packed) == (16 if "." in host else 28)
    assert abi.address_of(packed.ljust(128, b"\0")) == Address(host, 36412)


def test_addresses_follow_one_another() -> None:
    both = [Address("192.0.2.7", 1), Address("2001:db8::7", 1)]
    assert abi.sockaddrs(both) == abi.sockaddrs(both[:1]) + abi.sockaddrs(both[1:])


def test_a_name_is_no_address() -> None:
    with pytest.raises(OSError, match="illegal"):
        abi.sockaddrs([Address("localhost", 1)])


def test_an_unknown_family_has_no_address() -> None:
    assert abi.address_of(bytes(128)) is None


def test_the_ppid_travels_in_the_order_of_the_network() -> None:
    [(level, kind, info)] = abi.send_info(3, 18, abi.UNORDERED)
    assert (level, kind) == (132, 2)
    assert struct.unpack("=HH4sII", info) == (3, 1, b"\0\0\0\x12", 0, 0)


def test_paths_are_watched_by_heartbeats_or_not() -> None:
    for seconds, interval, flags in ((2.5, 2500, 1), (0.0, 0, 2)):
        packed = abi.path_parameters(seconds, 3)
        assert len(packed) == 156
        assert struct.unpack_from("=I", packed, 132) == (interval,)
        assert struct.unpack_from("=H", packed, 136) == (3,)
        assert struct.unpack_from("=I", packed, 146) == (flags,)


def test_time_outs_are_in_milliseconds() -> None:
    assert struct.unpack("=iIII", abi.retransmission_times(1, 5, 0.2)) == (0, 1000, 5000, 200)


class Answers:
    """A socket that answers each option with bytes."""

    def __init__(self, answers: dict[int, bytes]) -> None:
        self._answers = answers

    def getsockopt(self, _level: int, option: int, size: int) -> bytes:
        answer = self._answers[option]
        assert len(answer) == size
        return answer


def test_figures_are_read_where_the_kernel_puts_them() -> None:
    status = struct.pack("=iiIHHHHI", 3, 4, 65536, 1, 2, 16, 17, 1452)
    status += struct.pack("=i", 3) + abi.sockaddrs([Address("192.0.2.7", 5)]).ljust(128, b"\0")
    status += struct.pack("=iIIII", 2, 4380, 7, 1000, 1500)
    counters = struct.pack("=i4x128x15Q", 3, *range(100, 115))
    memory = struct.pack("=9I", *range(9))
    sock: socket.socket = Answers({14: status, 112: counters, 55: memory})  # type: ignore[assignment]  # as much of a socket as is asked
    assert abi.read_status(sock).primary == Address("192.0.2.7", 5)
    assert 0.0 < abi.read_status(sock).rtt < 1.0
    assert abi.read_retransmitted(sock) == 105
    assert abi.read_unacknowledged(sock) == 5
