"""What associations and listeners need of the transport that they belong to."""

from __future__ import annotations

import asyncio
from typing import Protocol

from isoneph.core.plugin import AssociationHandler, Environment
from isoneph.plugins.transports.kernel.association import KernelAssociation
from isoneph.plugins.transports.kernel.listener import KernelListener
from isoneph.plugins.transports.kernel.options import Settings
from isoneph.plugins.transports.kernel.watch import Watch


class Owner(Protocol):
    """The transport."""

    settings: Settings
    environment: Environment
    loop: asyncio.AbstractEventLoop
    watch: Watch

    def begin(self, association: KernelAssociation, handler: AssociationHandler) -> None:
        """The association is up."""

    def ended(self, association: KernelAssociation) -> None:
        """The association is over."""

    def stopped(self, listener: KernelListener) -> None:
        """The listener is closed."""
