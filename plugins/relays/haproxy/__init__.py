"""The ``haproxy`` relay: HTTP and TCP through HAProxy. See :class:`HaproxyRelay`."""

from isoneph.plugins.relays.haproxy.relay import HaproxyRelay

__all__ = ["HaproxyRelay"]
