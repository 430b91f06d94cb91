"""The listeners of the ``userland`` transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from isoneph.core.plugin import Association, AssociationHandler, Listener
from isoneph.core.traffic import Address
from isoneph.plugins.transports.userland import sockets
from isoneph.plugins.transports.userland.association import UserlandAssociation
from isoneph.plugins.transports.userland.carrier import Carrier, Peer
from isoneph.plugins.transports.userland.stack import Stack

Accept = Callable[[Association], AssociationHandler | None]


class Adopt(Protocol):
    """Makes an association of an accepted socket."""

    def __call__(self, so: Any, peer: Peer, local: Address, port: int) -> UserlandAssociation:
        """``port`` is the peer's."""


class UserlandListener(Listener):
    """A socket of the stack that accepts, for the peers of its carriers."""

    def __init__(
        self,
        stack: Stack,
        so: Any,
        *,
        addresses: Sequence[Address],
        carriers: Sequence[Carrier],
        accept: Accept,
        adopt: Adopt,
        on_closed: Callable[[UserlandListener], None],
    ) -> None:
        self.addresses = addresses
        self.number = stack.next_number()
        self.pending = False
        self._stack = stack
        self._so = so
        self._carriers = carriers
        self._accept = accept
        self._adopt = adopt
        self._on_closed = on_closed
        self._accepting = True
        self._open = True
        stack.add(self, so)

    def pause(self) -> None:
        """Answer every INIT with ABORT: who tries is refused at once."""
        self._switch(accepting=False)

    def resume(self) -> None:
        """Accept again."""
        self._switch(accepting=True)

    def close(self) -> None:
        """Stop listening."""
        if self._open:
            self._open = False
            self._stack.remove(self)
            sockets.close(self._stack, self._so)
            self._on_closed(self)

    def _switch(self, *, accepting: bool) -> None:
        if self._open:
            self._accepting = accepting
            sockets.listen(self._stack, self._so, accepting=accepting)

    def on_news(self) -> None:
        """Accept all associations that have come up."""
        while self._open and (accepted := sockets.accept(self._stack, self._so)):
            self._take(*accepted)

    def on_failure(self) -> None:
        """Who failed was one of several, and has been aborted: go on with the others."""
        self._stack.note(self)

    def _take(self, so: Any, number: int, port: int) -> None:
        peer = self._stack.peers.get(number)
        if peer is None or peer.carrier not in self._carriers:
            sockets.close(self._stack, so)
            return
        local = self.addresses[self._carriers.index(peer.carrier)]
        association = self._adopt(so, peer, local, port)
        association.learn()
        try:
            handler = self._accept(association) if self._accepting else None
        except Exception:
            association.on_failure()
            raise
        if handler is None:
            association.abort("not accepted")
        else:
            association.come_up(handler)
