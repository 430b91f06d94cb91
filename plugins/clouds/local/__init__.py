"""The ``local`` cloud: each VM is a process of this machine. See :class:`LocalCloud`."""

from isoneph.plugins.clouds.local.driver import LocalCloud

__all__ = ["LocalCloud"]
