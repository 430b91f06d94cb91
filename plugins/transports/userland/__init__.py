"""SCTP in this process, by libusrsctp, over UDP or raw IP."""

from isoneph.plugins.transports.userland.transport import UserlandTransport

__all__ = ["UserlandTransport"]
