"""The ``userland`` transport."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from isoneph.core.errors import ConnectFailed, ListenFailed, TransportUnavailable
from isoneph.core.plugin import AssociationHandler, Environment, Listener, Transport
from isoneph.core.traffic import Address
from isoneph.plugins.transports.userland import options as options_
from isoneph.plugins.transports.userland import sockets
from isoneph.plugins.transports.userland.association import UserlandAssociation
from isoneph.plugins.transports.userland.carrier import Carrier, Peer, Place, source_of
from isoneph.plugins.transports.userland.library import SONAME
from isoneph.plugins.transports.userland.listener import Accept, UserlandListener
from isoneph.plugins.transports.userland.options import IP, OPTIONS, Settings
from isoneph.plugins.transports.userland.stack import Stack, the_stack

#: How much of the time of a call may be spent in it.
_SHARE: Final = 0.9
#: What comes of an address that is none, or none of ours, or taken.
_FAILURES: Final = (OSError, OverflowError, ValueError, TransportUnavailable)


class UserlandTransport(Transport):
    """SCTP in this process, by libusrsctp, over UDP or raw IP: needs no SCTP in the kernel.

    Over UDP it is what RFC 6951 describes, and interoperates with every stack that does, the
    Linux kernel's among them. An association has one address at each end: of the addresses
    that a peer has, the first that answers is used.

    Debian's package ``libusrsctp2`` has the library; ``pip install 'isoneph[sctp]'`` what calls
    it. The transports of a process share one stack, and an SCTP port is listened on once.
    """

    schema = OPTIONS

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self._settings = Settings(**options)
        self._stack: Stack | None = None
        self._associations: set[UserlandAssociation] = set()
        self._listeners: set[UserlandListener] = set()

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Sequence[str]:
        """Time-outs and limits that contradict each other."""
        return options_.problems(options)

    @property
    def summary(self) -> str:
        """What carries the packets."""
        if self._settings.encapsulation == IP:
            return f"userland SCTP ({SONAME}) over IP"
        port = self._settings.udp_port
        return f"userland SCTP ({SONAME}) over UDP" + (f" port {port}" if port else "")

    async def start(self) -> None:
        """Load the library. Raises TransportUnavailable."""
        if self._stack is None:
            stack = the_stack()
            stack.attach(self.environment)
            self._stack = stack

    async def close(self) -> None:
        """Abort what is up, and let the stack go."""
        stack, self._stack = self._stack, None
        if stack is None:
            return
        for listener in tuple(self._listeners):
            listener.close()
        for association in tuple(self._associations):
            association.abort("the transport is closed")
        stack.detach(self.environment)

    async def listen(self, addresses: Sequence[Address], accept: Accept) -> Listener:
        """Listen at all addresses."""
        stack = self._started(ListenFailed)
        if not addresses or len({address.port for address in addresses}) > 1:
            raise ListenFailed("expected addresses that share one port")
        words = ", ".join(str(address) for address in addresses)
        try:
            carriers = [self._carrier(stack, address.host) for address in addresses]
            so, port = sockets.open_listener(stack, self._settings, addresses[0].port)
        except _FAILURES as error:
            raise ListenFailed(f"cannot listen on {words}: {error}") from error
        listener = UserlandListener(
            stack,
            so,
            addresses=[address._replace(port=port) for address in addresses],
            carriers=carriers,
            accept=accept,
            adopt=partial(self._adopt, stack),
            on_closed=self._listeners.discard,
        )
        self._listeners.add(listener)
        return listener

    async def connect(
        self,
        remote: Sequence[Address],
        handler: AssociationHandler,
        local: Sequence[Address] = (),
    ) -> UserlandAssociation:
        """Set an association up to the first address that answers; each gets its share of the
        time."""
        stack = self._started(ConnectFailed)
        if not remote:
            raise ConnectFailed("expected an address to connect to")
        share = self.environment.timeout * _SHARE / len(remote)
        for last, address in zip(range(len(remote) - 1, -1, -1), remote, strict=True):
            try:
                return await self._connect(stack, address, handler, local, share)
            except ConnectFailed:
                if not last:
                    raise
        raise AssertionError  # the last address returned or raised

    async def _connect(
        self,
        stack: Stack,
        remote: Address,
        handler: AssociationHandler,
        local: Sequence[Address],
        seconds: float,
    ) -> UserlandAssociation:
        try:
            asked = next((a.host for a in local if _same_family(a, remote)), None)
            source = asked or source_of(remote.host)
            port = 0 if self._settings.encapsulation == IP else self._settings.remote_udp_port
            peer = self._carrier(stack, source).peer(remote.host, port, source)
            so, own_port = sockets.open_socket(stack, self._settings, local[0].port if local else 0)
        except _FAILURES as error:
            raise ConnectFailed(f"cannot connect to {remote}: {error}") from error
        own = Address(peer.route.source, own_port)
        association = self._associate(stack, so, peer, own, remote, accepted=False)
        try:
            async with asyncio.timeout(seconds):
                await association.connect(handler)
        except TimeoutError:
            raise ConnectFailed(
                f"cannot connect to {remote}: no answer within {seconds:.3g} s"
            ) from None
        return association

    def _adopt(
        self, stack: Stack, so: Any, peer: Peer, local: Address, port: int
    ) -> UserlandAssociation:
        own = Address(peer.route.source, local.port)
        remote = Address(peer.route.host, port)
        return self._associate(stack, so, peer, own, remote, accepted=True)

    def _associate(
        self,
        stack: Stack,
        so: Any,
        peer: Peer,
        local: Address,
        remote: Address,
        *,
        accepted: bool,
    ) -> UserlandAssociation:
        association = UserlandAssociation(
            stack,
            so,
            peer,
            local=local,
            remote=remote,
            accepted=accepted,
            settings=self._settings,
            environment=self.environment,
            on_over=self._associations.discard,
        )
        self._associations.add(association)
        return association

    def _carrier(self, stack: Stack, host: str) -> Carrier:
        port = 0 if self._settings.encapsulation == IP else self._settings.udp_port
        place = Place(self._settings.encapsulation, host, port)
        try:
            return stack.carrier(place)
        except OSError as error:
            raise OSError(error.errno, f"{place}: {error.strerror}") from error

    def _started(self, kind: type[ListenFailed | ConnectFailed]) -> Stack:
        if self._stack is None:
            raise kind("the transport is not started")
        return self._stack


def _same_family(one: Address, other: Address) -> bool:
    return (":" in one.host) == (":" in other.host)
