"""What the project may have, and what everybody in it uses.

https://docs.openstack.org/api-ref/compute/#limits-limits
https://docs.openstack.org/api-ref/network/v2/#quotas-extension-quotas
https://docs.openstack.org/api-ref/block-storage/v3/#limits-limits
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isoneph.core.model import Limits, Quota
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.errors import Forbidden, NotFound
from isoneph.plugins.clouds.openstack.extensions import QUOTA_DETAILS, Extensions
from isoneph.plugins.clouds.openstack.servers import Servers

#: By isoneph's name of a resource: the service's names of its limit and of its use.
_COMPUTE = {
    "instances": ("maxTotalInstances", "totalInstancesUsed"),
    "cores": ("maxTotalCores", "totalCoresUsed"),
    "ram": ("maxTotalRAMSize", "totalRAMUsed"),
}
_VOLUME = {
    "volumes": ("maxTotalVolumes", "totalVolumesUsed"),
    "gigabytes": ("maxTotalVolumeGigabytes", "totalGigabytesUsed"),
}
_NETWORK = {"ports": "port", "floating_ips": "floatingip"}


class LimitsReader:
    """Reads limits. Safe for threads.

    A service that does not let us see its limits, or has no such thing, is asked once.

    Nova counts a server only some seconds after it accepted it, so its count is compared with
    the servers that it lists, which has them at once.
    """

    def __init__(self, api: Api, servers: Servers, extensions: Extensions) -> None:
        self._api = api
        self._servers = servers
        self._extensions = extensions
        self._silent: set[str] = set()

    def read(self, deadline: Deadline) -> Limits:
        """The limits by isoneph's names of resources; without those that nobody tells."""
        return {
            **self._of_compute(deadline),
            **self._of_network(deadline),
            **self._absolute("volume", _VOLUME, deadline),
        }

    def _of_compute(self, deadline: Deadline) -> Limits:
        counted = self._absolute("compute", _COMPUTE, deadline)
        taken = self._servers.list_servers(deadline).taken if counted else {}
        return {
            name: Quota(limit=quota.limit, used=max(quota.used, taken.get(name, 0)))
            for name, quota in counted.items()
        }

    def _absolute(
        self, service: str, resources: Mapping[str, tuple[str, str]], deadline: Deadline
    ) -> Limits:
        absolute = self._get(service, "/limits", deadline).get("limits", {}).get("absolute", {})
        return {
            name: _quota(absolute[limit], absolute[used])
            for name, (limit, used) in resources.items()
            if limit in absolute and used in absolute
        }

    def _of_network(self, deadline: Deadline) -> Limits:
        if not self._extensions.has(QUOTA_DETAILS, deadline):
            return {}  # what is used would be missing
        path = f"/quotas/{self._api.project_id(deadline)}/details.json"
        quota = self._get("network", path, deadline).get("quota", {})
        return {
            name: _quota(quota[key]["limit"], quota[key]["used"] + quota[key].get("reserved", 0))
            for name, key in _NETWORK.items()
            if key in quota
        }

    def _get(self, service: str, path: str, deadline: Deadline) -> Mapping[str, Any]:
        if service in self._silent or not self._api.has_service(service, deadline):
            return {}
        try:
            body: Mapping[str, Any] = self._api.call("GET", service, path, deadline=deadline).body
        except (Forbidden, NotFound):
            self._silent.add(service)
            return {}
        return body


def _quota(limit: float, used: float) -> Quota:
    """Everywhere in OpenStack -1 means that there is no limit."""
    return Quota(limit=None if limit < 0 else limit, used=used)
