from __future__ import annotations

import errno
import socket
import sys
from typing import Any

import pytest
from voluptuous import MultipleInvalid, Schema

from isoneph.core.errors import ConnectFailed, ListenFailed, TransportUnavailable
from isoneph.core.testing import RecordingHandler, build_plugin
from isoneph.core.testing.associations import Door
from isoneph.core.traffic import Address
from isoneph.plugins.transports.kernel import KernelTransport
from isoneph.plugins.transports.kernel.options import OPTIONS

SOMEWHERE = [Address("127.0.0.1", 5000)]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"streams": 0}, "expected a whole number from 1 to 65535"),
        ({"streams": True}, "expected a whole number"),
        ({"max_message": "1k"}, "expected a whole number"),
        ({"rto_min": 0}, "expected a number of seconds, from 0.01"),
        ({"rto_max": float("nan")}, "expected a number of seconds"),
        ({"heartbeat": "5s"}, "expected a number of seconds"),
        ({"heart_beat": 5}, "extra keys not allowed"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(MultipleInvalid, match=text):
        build_plugin(KernelTransport, options)


def test_options_must_go_together() -> None:
    defaults = Schema(OPTIONS)({})
    assert list(KernelTransport.problems(defaults)) == []
    for changes in ({"rto_initial": 0.1}, {"rto_max": 0.5}, {"send_queue": 1000}):
        assert len(KernelTransport.problems({**defaults, **changes})) == 1


async def test_without_pysctp_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "isoneph.plugins.transports.kernel.control", raising=False)
    monkeypatch.setitem(sys.modules, "sctp", None)
    transport = build_plugin(KernelTransport)
    with pytest.raises(TransportUnavailable, match=r"pip install isoneph\[kernel-sctp\]"):
        await transport.start()


async def test_without_the_module_it_says_what_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any) -> socket.socket:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    transport = build_plugin(KernelTransport)
    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(TransportUnavailable, match="modprobe sctp"):
        await transport.start()


async def test_what_is_not_started_neither_listens_nor_connects() -> None:
    transport = build_plugin(KernelTransport)
    with pytest.raises(ListenFailed, match="not started"):
        await transport.listen(SOMEWHERE, Door())
    with pytest.raises(ConnectFailed, match="not started"):
        await transport.connect(SOMEWHERE, RecordingHandler())
