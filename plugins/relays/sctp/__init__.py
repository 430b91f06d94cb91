"""The ``sctp`` relay: carries SCTP messages to an application's VMs. See :class:`SctpRelay`."""

from isoneph.plugins.relays.sctp.relay import SctpRelay

__all__ = ["SctpRelay"]
