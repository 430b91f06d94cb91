"""The ``kernel`` transport: SCTP of the Linux kernel. See :class:`KernelTransport`."""

from isoneph.plugins.transports.kernel.transport import KernelTransport

__all__ = ["KernelTransport"]
