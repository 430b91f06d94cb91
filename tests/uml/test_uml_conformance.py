from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from hosts import cut_loopback
from isoneph.core.plugin import Environment, Transport
from isoneph.core.testing import build_plugin
from isoneph.core.testing.transports import TransportConformance
from isoneph.plugins.transports.kernel import KernelTransport


class OnLoopback(TransportConformance):
    def cut(self) -> AbstractContextManager[object]:
        return cut_loopback()


class TestKernelTransport(OnLoopback):
    def make_transport(self, options: Mapping[str, Any], environment: Environment) -> Transport:
        return build_plugin(KernelTransport, options, environment=environment)


class TestKernelTransportOverIpv6(OnLoopback):
    host = "::1"

    def make_transport(self, options: Mapping[str, Any], environment: Environment) -> Transport:
        return build_plugin(KernelTransport, options, environment=environment)
