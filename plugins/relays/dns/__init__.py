"""The ``dns`` relay: a name that points at the ready backends. See :class:`DnsRelay`."""

try:
    import dns  # noqa: F401  (asked for here, so that one message tells what is missing)
except ImportError as error:
    raise ImportError(f"{error}; the dns relay needs: pip install 'isoneph[dns]'") from error

from isoneph.plugins.relays.dns.relay import DnsRelay

__all__ = ["DnsRelay"]
