"""SCTP of the kernel and of the library, with each other: the conformance suite, both ways.

The kernel sends and takes SCTP in UDP as well (RFC 6951), which two sysctls of a network
namespace tell it to: its own port is 9899 here, the library's 9898.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import pytest

from hosts import Host, cut_loopback
from isoneph.core.plugin import Environment, Transport
from isoneph.core.testing import build_plugin
from isoneph.core.testing.transports import TransportConformance
from isoneph.plugins.transports.kernel import KernelTransport
from isoneph.plugins.transports.userland import UserlandTransport

PORTS = {"udp_port": 9898, "remote_udp_port": 9899}


@pytest.fixture(scope="module", autouse=True)
def _encapsulation() -> Iterator[None]:
    with Host("mixed") as host, host.here():
        host.run("sysctl", "-q", "net.sctp.udp_port=9899", "net.sctp.encap_port=9898")
        yield


def make_kernel(options: Mapping[str, Any], environment: Environment) -> Transport:
    return build_plugin(KernelTransport, options, environment=environment)


def make_userland(options: Mapping[str, Any], environment: Environment) -> Transport:
    return build_plugin(UserlandTransport, {**options, **PORTS}, environment=environment)


class OnLoopback(TransportConformance):
    def cut(self) -> AbstractContextManager[object]:
        return cut_loopback()


class TestUserlandConnectsToKernel(OnLoopback):
    def make_transport(self, options: Mapping[str, Any], environment: Environment) -> Transport:
        return make_kernel(options, environment)

    def make_peer(self, options: Mapping[str, Any], environment: Environment) -> Transport:
        return make_userland(options, environment)


class TestKernelConnectsToUserland(OnLoopback):
    def make_transport(self, options: Mapping[str, Any], environment: Environment) -> Transport:
        return make_userland(options, environment)

    def make_peer(self, options: Mapping[str, Any], environment: Environment) -> Transport:
        return make_kernel(options, environment)
