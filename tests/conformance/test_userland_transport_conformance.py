from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from free_ports import free_udp_ports
from isoneph.core.plugin import Environment, Transport
from isoneph.core.testing import TransportConformance, build_plugin
from isoneph.plugins.transports.userland import UserlandTransport
from isoneph.plugins.transports.userland.carrier import Carrier

(PORT,) = free_udp_ports(1)


class TestUserlandTransport(TransportConformance):
    settle = 0.05

    def make_transport(self, options: Mapping[str, Any], environment: Environment) -> Transport:
        ports = {"udp_port": PORT, "remote_udp_port": PORT}
        return build_plugin(UserlandTransport, {**options, **ports}, environment=environment)

    def cut(self) -> AbstractContextManager[object]:
        return mock.patch.object(Carrier, "send")
