"""Server groups that isoneph makes: one for each VM type and policy, when its first VM needs it.

https://docs.openstack.org/api-ref/compute/#server-groups-os-server-groups
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from isoneph.core.errors import InvalidRequest, Unreachable
from isoneph.core.plugin import Clock
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.paging import list_all
from isoneph.plugins.clouds.openstack.records import Record
from isoneph.plugins.clouds.openstack.shared import Shared

PATH = "/os-server-groups"
#: From which microversion on the soft policies are known, and a group has but one policy.
SOFT_POLICIES = (2, 15)
ONE_POLICY = (2, 64)
#: Seconds for which a list of the groups is kept.
KEPT = 600.0


class Groups:
    """Makes server groups by name, and finds them again. Safe for threads.

    When two processes make one at the same moment there are two; soon after, both processes
    use the same one of them.
    """

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api = api
        self._groups = Shared(self.list_groups, clock)
        self._making = threading.Lock()

    def list_groups(self, deadline: Deadline) -> Sequence[Record]:
        """All groups of the project, isoneph's and others'."""
        return list_all(self._api, "compute", PATH, "server_groups", deadline)

    def ensure(self, name: str, policy: str, deadline: Deadline) -> str:
        """The id of the group ``name``; it is made when it is not there.

        Raises InvalidRequest when the cloud is too old for the policy.
        """
        known = self._find(name, deadline, KEPT)
        if known is not None:
            return known
        with self._making:
            known = self._find(name, deadline, KEPT) or self._find(name, deadline)
            if known is None:
                self._make(name, policy, deadline)
                known = self._find(name, deadline)
        if known is None:
            raise Unreachable(f"server group '{name}' was made, and was removed by somebody")
        return known

    def forget(self) -> None:
        """List the groups anew before one is used again."""
        self._groups.forget()

    def _find(self, name: str, deadline: Deadline, age: float = 0.0) -> str | None:
        groups = self._groups.read(deadline, age)
        return min((str(group["id"]) for group in groups if group["name"] == name), default=None)

    def _make(self, name: str, policy: str, deadline: Deadline) -> None:
        version = self._api.compute_version(deadline)
        if policy.startswith("soft-") and version < SOFT_POLICIES:
            raise InvalidRequest(
                f"policy {policy} needs version 2.15 of the compute API; this cloud is called "
                f"with {version[0]}.{version[1]}"
            )
        body: dict[str, Any] = {"name": name}
        body |= {"policy": policy} if version >= ONE_POLICY else {"policies": [policy]}
        self._api.call("POST", "compute", PATH, body={"server_group": body}, deadline=deadline)
