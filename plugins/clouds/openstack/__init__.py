"""The ``openstack`` cloud driver. See :class:`OpenstackCloud`."""

from isoneph.plugins.clouds.openstack.driver import OpenstackCloud

__all__ = ["OpenstackCloud"]
