"""Accepts associations on a listening socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from isoneph.core.plugin import Association, AssociationHandler, Listener
from isoneph.core.traffic import Address
from isoneph.plugins.transports.kernel.association import KernelAssociation
from isoneph.plugins.transports.kernel.beginning import stillborn

if TYPE_CHECKING:
    from isoneph.plugins.transports.kernel.control import Control
    from isoneph.plugins.transports.kernel.owner import Owner

Accept = Callable[[Association], AssociationHandler | None]

#: Associations that are set up and wait to be accepted; the kernel may allow fewer.
BACKLOG: Final = 1024
#: Associations accepted before others on the loop have their turn.
_BATCH: Final = 32
#: Seconds without accepting after it failed for lack of descriptors or memory.
_RECOVERY: Final = 1.0


class KernelListener(Listener):
    """A listening socket. While it is paused, the kernel still sets associations up, as many as
    the backlog holds, and aborts those beyond."""

    def __init__(
        self, owner: Owner, control: Control, addresses: Sequence[Address], accept: Accept
    ) -> None:
        port = control.sock.getsockname()[1]
        self.addresses = tuple(address._replace(port=port) for address in addresses)
        self._owner = owner
        self._control = control
        self._accept = accept
        self._recovery: asyncio.TimerHandle | None = None
        self._accepting = False
        self.resume()

    def resume(self) -> None:
        """Accept, beginning with what waits."""
        if not self._accepting and self._control.sock.fileno() >= 0:
            self._accepting = True
            self._watch()

    def pause(self) -> None:
        """Leave what comes in the kernel's backlog."""
        self._accepting = False
        self._owner.loop.remove_reader(self._control.sock)
        if self._recovery is not None:
            self._recovery.cancel()
            self._recovery = None

    def close(self) -> None:
        """Close the socket; what waits to be accepted is aborted."""
        if self._control.sock.fileno() >= 0:
            self.pause()
            self._control.sock.close()
            self._owner.stopped(self)

    def _watch(self) -> None:
        self._owner.loop.add_reader(self._control.sock, self._accept_some)

    def _accept_some(self) -> None:
        """Accept a bounded number of associations."""
        for _ in range(_BATCH):
            try:
                control = self._control.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._recover(error)
                return
            self._admit(control)
            if not self._accepting:
                return

    def _recover(self, error: OSError) -> None:
        """There is no descriptor or memory for one more: what waits, waits a little longer."""
        self._owner.environment.logger.warning("cannot accept associations now: %s", error)
        self._owner.environment.metrics.count("accepts_failed")
        self._owner.loop.remove_reader(self._control.sock)
        self._recovery = self._owner.loop.call_later(_RECOVERY, self._watch)

    def _admit(self, control: Control) -> None:
        try:
            association = KernelAssociation(self._owner, control)
            over = stillborn(control.sock)
        except OSError:
            over = True
        if over:
            control.sock.close()
            return
        try:
            handler = self._accept(association)
        except Exception:
            association.refuse()
            raise
        if handler is None:
            association.refuse()
        else:
            self._owner.begin(association, handler)
