from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from isoneph.core.errors import TransportUnavailable
from isoneph.core.plugin import Association, AssociationHandler, Listener, Transport
from isoneph.core.testing import make_environment
from isoneph.core.traffic import Address
from isoneph.plugins.transports import auto
from isoneph.plugins.transports.auto import AutoTransport

HERE = [Address("127.0.0.1", 36412)]


class Fake(Transport):
    """Notes what it is asked for."""

    def __init__(self, name: str, refusal: str | None = None) -> None:
        super().__init__({}, make_environment(name))
        self.refusal = refusal
        self.calls: list[Any] = []

    @property
    def summary(self) -> str:
        return f"the fake {self.environment.name}"

    async def start(self) -> None:
        self.calls.append("start")
        if self.refusal:
            raise TransportUnavailable(self.refusal)

    async def close(self) -> None:
        self.calls.append("close")

    async def listen(
        self,
        addresses: Sequence[Address],
        accept: Callable[[Association], AssociationHandler | None],
    ) -> Listener:
        self.calls.append(("listen", addresses, accept))
        return "the listener"  # type: ignore[return-value] # handed through as it is

    async def connect(
        self,
        remote: Sequence[Address],
        handler: AssociationHandler,
        local: Sequence[Address] = (),
    ) -> Association:
        self.calls.append(("connect", remote, handler, local))
        return "the association"  # type: ignore[return-value] # handed through as it is


def make(kernel: Fake, userland: Fake) -> AutoTransport:
    parts = {"kernel": kernel, "userland": userland}
    return AutoTransport({}, replace(make_environment("auto"), parts=parts))


def says(monkeypatch: pytest.MonkeyPatch, refusal: str | None) -> None:
    monkeypatch.setattr(auto, "kernel_refusal", lambda: refusal)


async def test_takes_the_kernel_where_it_has_sctp(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    says(monkeypatch, None)
    kernel, userland = Fake("kernel"), Fake("userland")
    transport = make(kernel, userland)
    with caplog.at_level(logging.INFO):
        await transport.start()
        await transport.start()
    assert transport.summary == "the fake kernel (the kernel has SCTP)"
    assert transport.summary in caplog.text
    assert (kernel.calls, userland.calls) == (["start"], [])


async def test_takes_the_library_where_the_kernel_has_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    says(monkeypatch, "Protocol not supported")
    kernel, userland = Fake("kernel"), Fake("userland")
    transport = make(kernel, userland)
    with caplog.at_level(logging.WARNING):
        await transport.start()
    assert transport.summary == (
        "the fake userland (the kernel has no SCTP: Protocol not supported)"
    )
    assert not caplog.text
    assert (kernel.calls, userland.calls) == ([], ["start"])


async def test_takes_the_library_where_the_kernels_transport_cannot_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    says(monkeypatch, None)
    kernel, userland = Fake("kernel", "pysctp is missing"), Fake("userland")
    transport = make(kernel, userland)
    with caplog.at_level(logging.WARNING):
        await transport.start()
    assert transport.summary == ("the fake userland (the kernel has SCTP, but: pysctp is missing)")
    assert transport.summary in caplog.text, "it is a warning"
    assert kernel.calls == ["start", "close"]
    assert userland.calls == ["start"]


async def test_tells_both_reasons_when_neither_works(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, "Protocol not supported")
    transport = make(Fake("kernel"), Fake("userland", "apt install libusrsctp2"))
    with pytest.raises(TransportUnavailable, match=r"not supported; apt install libusrsctp2"):
        await transport.start()
    assert "not decided" in transport.summary
    says(monkeypatch, None)
    transport = make(Fake("kernel", "no pysctp"), Fake("userland", "no libusrsctp2"))
    with pytest.raises(TransportUnavailable, match=r"has SCTP, but: no pysctp; no libusrsctp2"):
        await transport.start()


async def test_hands_everything_to_the_one_that_was_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    says(monkeypatch, None)
    kernel, userland = Fake("kernel"), Fake("userland")
    transport = make(kernel, userland)
    with pytest.raises(TransportUnavailable, match="not started"):
        await transport.listen(HERE, lambda _association: None)
    await transport.close()
    await transport.start()
    handler: Any = object()

    def accept(_association: Association) -> None:
        return None

    listener: Any = await transport.listen(HERE, accept)
    association: Any = await transport.connect(HERE, handler, HERE)
    await transport.close()
    assert (listener, association) == ("the listener", "the association")
    assert kernel.calls == [
        "start",
        ("listen", HERE, accept),
        ("connect", HERE, handler, HERE),
        "close",
    ]
    assert userland.calls == []


def test_the_kernel_is_asked_by_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(93, "Protocol not supported")

    monkeypatch.setattr("isoneph.plugins.transports.auto.socket.socket", refuse)
    assert auto.kernel_refusal() == "Protocol not supported"
