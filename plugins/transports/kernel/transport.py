"""The transport: makes listeners and associations, and knows those that are there."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from isoneph.core.errors import ConnectFailed, ListenFailed, TransportUnavailable
from isoneph.core.plugin import (
    Association,
    AssociationHandler,
    Environment,
    Listener,
    OptionSchema,
    Transport,
)
from isoneph.core.traffic import Address
from isoneph.plugins.transports.kernel.association import KernelAssociation
from isoneph.plugins.transports.kernel.listener import BACKLOG, KernelListener
from isoneph.plugins.transports.kernel.options import OPTIONS, Settings, problems
from isoneph.plugins.transports.kernel.watch import Watch

if TYPE_CHECKING:
    from isoneph.plugins.transports.kernel.control import Control


class KernelTransport(Transport):
    """SCTP of the Linux kernel, with multi-homing; needs pysctp and the module ``sctp``.

    A peer or a listener may have several addresses, all IPv4 or some of them IPv6.
    """

    schema: ClassVar[OptionSchema] = OPTIONS
    loop: asyncio.AbstractEventLoop
    watch: Watch
    _make: Callable[[Iterable[Address], Settings], Control] | None = None
    _adopt: Callable[..., Control | None] | None = None

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self.settings = Settings(**options)
        self._listeners: set[KernelListener] = set()
        self._associations: set[KernelAssociation] = set()

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Sequence[str]:
        """What does not go together."""
        return problems(options)

    @property
    def summary(self) -> str:
        """What it is."""
        return "SCTP of the kernel"

    async def start(self) -> None:
        """Find out whether kernel and pysctp are there. Raises TransportUnavailable."""
        try:
            from isoneph.plugins.transports.kernel.control import (  # noqa: PLC0415 (it tells why)
                Control,
                check,
            )
        except ImportError as error:
            raise TransportUnavailable(
                f"pysctp is not installed ({error}): pip install isoneph[kernel-sctp]"
            ) from error
        check(self.settings)
        self.loop = asyncio.get_running_loop()
        self.watch = Watch(self.loop)
        self._make, self._adopt = Control.make, Control.adopt

    async def close(self) -> None:
        """Stop listening, and abort what is up."""
        started = self._make is not None
        self._make = None
        for listener in tuple(self._listeners):
            listener.close()
        for association in tuple(self._associations):
            association.abort("the transport is closed")
        if started:
            self.watch.close()

    async def listen(
        self,
        addresses: Sequence[Address],
        accept: Callable[[Association], AssociationHandler | None],
    ) -> Listener:
        """Listen on one socket with all of them: one that the service manager has opened for
        this process, or a new one."""
        where = _words(addresses)
        if self._make is None or self._adopt is None:
            raise ListenFailed("the transport is not started")
        if problem := _problem(addresses):
            raise ListenFailed(f"cannot listen on {where}: {problem}")
        try:
            control = self._adopt(self.environment.sockets, addresses, self.settings)
            if control is None:
                control = self._make(addresses, self.settings)
                with _closing_on_failure(control):
                    control.bind(addresses)
                    control.sock.listen(BACKLOG)
            with _closing_on_failure(control):
                listener = KernelListener(self, control, addresses, accept)
        except OSError as error:
            raise ListenFailed(f"cannot listen on {where}: {error}") from error
        self._listeners.add(listener)
        return listener

    async def connect(
        self,
        remote: Sequence[Address],
        handler: AssociationHandler,
        local: Sequence[Address] = (),
    ) -> Association:
        """Set an association up; from all of this machine's addresses where ``local`` has none."""
        where = _words(remote)
        if self._make is None:
            raise ConnectFailed("the transport is not started")
        if problem := _problem(remote) or (_problem(local) if local else ""):
            raise ConnectFailed(f"cannot connect to {where}: {problem}")
        seconds = self.environment.timeout
        try:
            control = self._make((*remote, *local), self.settings)
            with _closing_on_failure(control):
                if local:
                    control.bind(local)
                async with asyncio.timeout(seconds):
                    await control.connect(remote)
                association = KernelAssociation(self, control)
        except TimeoutError as error:
            text = f"cannot connect to {where}: no answer in {seconds:g} s"
            raise ConnectFailed(text) from error
        except OSError as error:
            raise ConnectFailed(f"cannot connect to {where}: {error}") from error
        self.begin(association, handler)
        return association

    def begin(self, association: KernelAssociation, handler: AssociationHandler) -> None:
        """Give an association that is up to who uses it."""
        self._associations.add(association)
        association.begin(handler)

    def ended(self, association: KernelAssociation) -> None:
        """Forget it."""
        self._associations.discard(association)

    def stopped(self, listener: KernelListener) -> None:
        """Forget it."""
        self._listeners.discard(listener)


@contextmanager
def _closing_on_failure(control: Control) -> Iterator[None]:
    try:
        yield
    except BaseException:
        control.sock.close()
        raise


def _words(addresses: Sequence[Address]) -> str:
    return ", ".join(map(str, addresses)) or "no address"


def _problem(addresses: Sequence[Address]) -> str:
    """What is wrong with the addresses of one end; empty when nothing is."""
    if not addresses:
        return "at least one is needed"
    if len({address.port for address in addresses}) > 1:
        return "the addresses of one end share one port"
    for address in addresses:
        try:
            ipaddress.ip_address(address.host)
        except ValueError:
            return f"{address.host!r} is no numeric address"
    return ""
