from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isoneph.core.plugin import Environment, Transport
from isoneph.core.testing import build_plugin
from isoneph.core.testing.transports import TransportConformance
from isoneph.plugins.transports.kernel import KernelTransport


class TestKernelTransport(TransportConformance):
    def make_transport(self, options: Mapping[str, Any], environment: Environment) -> Transport:
        return build_plugin(KernelTransport, options, environment=environment)


class TestKernelTransportOverIpv6(TransportConformance):
    host = "::1"

    def make_transport(self, options: Mapping[str, Any], environment: Environment) -> Transport:
        return build_plugin(KernelTransport, options, environment=environment)
