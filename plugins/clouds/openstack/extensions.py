"""What Neutron can do here: its extensions, by alias.

https://docs.openstack.org/api-ref/network/v2/#extensions
"""

from __future__ import annotations

from isoneph.core.plugin import Clock
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.paging import list_all
from isoneph.plugins.clouds.openstack.shared import Shared

FLOATING_IPS = "router"
QUOTA_DETAILS = "quota_details"
_KEPT = 3600.0


class Extensions:
    """Knows Neutron's extensions. Safe for threads."""

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api = api
        self._aliases = Shared(self._fetch, clock)

    def has(self, alias: str, deadline: Deadline) -> bool:
        """Whether this Neutron has the extension; without Neutron there is none."""
        return alias in self._aliases.read(deadline, _KEPT)

    def _fetch(self, deadline: Deadline) -> frozenset[str]:
        if not self._api.has_service("network", deadline):
            return frozenset()
        extensions = list_all(self._api, "network", "/extensions", "extensions", deadline)
        return frozenset(extension["alias"] for extension in extensions)
