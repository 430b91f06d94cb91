"""The ``dns`` relay: a name that points at the ready backends. See :class:`DnsRelay`."""

from isoneph.plugins.relays.dns.relay import DnsRelay

__all__ = ["DnsRelay"]
