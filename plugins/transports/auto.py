"""The ``auto`` transport: the kernel's SCTP where there is one, else that of a library."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, ClassVar

from isoneph.core.errors import TransportUnavailable
from isoneph.core.plugin import (
    Association,
    AssociationHandler,
    Environment,
    Listener,
    Part,
    Transport,
)
from isoneph.core.traffic import Address

_IPPROTO_SCTP = 132


def kernel_refusal() -> str | None:
    """Why this machine's kernel carries no SCTP; None when it does: a socket was bound."""
    try:
        with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM, _IPPROTO_SCTP)) as probe:
            probe.bind(("127.0.0.1", 0))
            probe.listen(1)
    except OSError as error:
        return str(error.strerror or error)
    return None


class AutoTransport(Transport):
    """SCTP of the kernel where it has it, else of a library in this process.

    Which one is decided when it starts, and told in the log and in reports; it is a warning when
    the kernel has SCTP and yet cannot be used, for want of pysctp, say. Each of the two has
    its options under its name; they are not used when the other is taken.
    """

    parts: ClassVar[Mapping[str, Part]] = {
        "kernel": Part("transports", "kernel", "what is used where the kernel has SCTP"),
        "userland": Part("transports", "userland", "what is used where it has not"),
    }

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self._taken: Transport | None = None
        self._why = "not decided before the start"

    @property
    def summary(self) -> str:
        """Which was taken and why."""
        if self._taken is None:
            return f"auto ({self._why})"
        return f"{self._taken.summary} ({self._why})"

    async def start(self) -> None:
        """Decide, and start the one that was taken. Raises TransportUnavailable with the reasons
        of both."""
        if self._taken is not None:
            return
        refusal = kernel_refusal()
        if refusal is not None:
            await self._fall_back(f"the kernel has no SCTP: {refusal}", logging.INFO)
        elif problem := await self._take("kernel", "the kernel has SCTP"):
            # Peers that speak SCTP in IP will not be heard, and the operator may not expect that.
            await self._fall_back(f"the kernel has SCTP, but: {problem}", logging.WARNING)
        else:
            self._tell(logging.INFO)

    async def _fall_back(self, why: str, level: int) -> None:
        if problem := await self._take("userland", why):
            raise TransportUnavailable(f"{why}; {problem}")
        self._tell(level)

    def _tell(self, level: int) -> None:
        self.environment.logger.log(level, "transport: %s", self.summary)

    async def _take(self, name: str, why: str) -> str | None:
        """Start a part; what it says when it cannot work."""
        part = self.environment.parts[name]
        if not isinstance(part, Transport):
            raise TypeError(f"part {name} is no transport")
        try:
            await part.start()
        except TransportUnavailable as error:
            await part.close()
            return str(error)
        self._taken, self._why = part, why
        return None

    async def close(self) -> None:
        """Close the one that was taken."""
        if self._taken is not None:
            await self._taken.close()

    async def listen(
        self,
        addresses: Sequence[Address],
        accept: Callable[[Association], AssociationHandler | None],
    ) -> Listener:
        """As the one that was taken does."""
        return await self._started().listen(addresses, accept)

    async def connect(
        self,
        remote: Sequence[Address],
        handler: AssociationHandler,
        local: Sequence[Address] = (),
    ) -> Association:
        """As the one that was taken does."""
        return await self._started().connect(remote, handler, local)

    def _started(self) -> Transport:
        if self._taken is None:
            raise TransportUnavailable("the transport is not started")
        return self._taken
