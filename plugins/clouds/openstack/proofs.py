"""Whose a server was that is there no more, proved by what Nova still tells of it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from isoneph.core.errors import CloudError
from isoneph.core.plugin import Environment
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.bodies import DESCRIPTION
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.marks import Owner, owner_of
from isoneph.plugins.clouds.openstack.paging import list_all
from isoneph.plugins.clouds.openstack.servers import Servers

#: Clocks of a cloud's services may differ by that much.
_SLACK = timedelta(minutes=1)
#: How long ago a server may have been deleted to be searched for: that bounds what Nova lists.
_SEARCHED = timedelta(days=7)
#: Seconds until a search is repeated that told nothing, and one that failed.
_FRUITLESS = 3600.0
_FAILED = 60.0
_FOREVER = float("inf")
_MOST_KEPT = 10_000


class _Verdict(NamedTuple):
    owner: Owner | None
    until: float


class Proofs:
    """Tells whose VM a gone server was. Safe for threads.

    Three things prove it: that this process has seen it with isoneph's tags, or that Nova shows
    isoneph's description of the deleted server; and that Nova knows no server of that id now.
    """

    def __init__(self, api: Api, servers: Servers, environment: Environment) -> None:
        self._api = api
        self._servers = servers
        self._clock = environment.clock
        self._logger = environment.logger
        self._lock = threading.Lock()
        self._verdicts: dict[str, _Verdict] = {}
        self._gone: dict[str, None] = {}

    def owners_of(
        self, suspects: Mapping[str, str | None], deadline: Deadline
    ) -> Mapping[str, Owner]:
        """Those of ``suspects``, ids of servers, that were isoneph's, and whose.

        Each comes with the moment, as the cloud writes it, before which its server was surely
        not deleted; without that, what Nova tells of deleted servers is not searched.
        """
        owners: dict[str, Owner] = {}
        unknown: dict[str, datetime] = {}
        for server_id, moment in suspects.items():
            owner, settled = self._known(server_id)
            if owner is not None:
                owners[server_id] = owner
            elif not settled and (since := _parsed(moment)) is not None:
                unknown[server_id] = since
        if unknown and self._api.compute_version(deadline) >= DESCRIPTION:
            owners |= self._search(unknown, deadline)
        return owners

    def is_gone(self, server_id: str, deadline: Deadline) -> bool:
        """Whether Nova is sure that there is no server of that id. False when it cannot tell."""
        if server_id in self._gone:
            return True
        try:
            gone = self._servers.find(server_id, deadline) is None
        except CloudError:
            return False
        if gone:
            with self._lock:
                self._gone[server_id] = None
                _bound(self._gone)
        return gone

    def _known(self, server_id: str) -> tuple[Owner | None, bool]:
        """The owner, and whether there is nothing more to be found out."""
        owner = self._servers.owner_of(server_id)
        if owner is not None:
            return owner, True
        with self._lock:
            verdict = self._verdicts.get(server_id)
        if verdict is None or verdict.until <= self._clock.monotonic():
            return None, False
        return verdict.owner, True

    def _search(self, unknown: Mapping[str, datetime], deadline: Deadline) -> Mapping[str, Owner]:
        """Whose servers those were, by the descriptions of what was deleted since."""
        oldest = datetime.fromtimestamp(self._clock.time(), UTC) - _SEARCHED
        since = max(min(unknown.values()) - _SLACK, oldest).strftime("%Y-%m-%dT%H:%M:%SZ")
        path, params = "/servers/detail", {"changes-since": since}
        try:
            servers = list_all(self._api, "compute", path, "servers", deadline, params)
        except CloudError as error:
            self._logger.warning("deleted servers are not listed: %s", error.message)
            return self._settle(unknown, {}, _FAILED)
        found = {
            server["id"]: owner_of(server.get("description"))
            for server in servers
            if server["status"] == "DELETED"
        }
        return self._settle(unknown, found, _FRUITLESS)

    def _settle(
        self, unknown: Collection[str], found: Mapping[str, Owner | None], seconds: float
    ) -> Mapping[str, Owner]:
        """Keep what was found for good, and what was not for ``seconds``."""
        until = self._clock.monotonic() + seconds
        owners = {server_id: owner for server_id in unknown if (owner := found.get(server_id))}
        with self._lock:
            for server_id in unknown:
                owner = owners.get(server_id)
                self._verdicts[server_id] = _Verdict(owner, until if owner is None else _FOREVER)
            _bound(self._verdicts)
        return owners


def _bound(kept: dict[str, Any]) -> None:
    while len(kept) > _MOST_KEPT:
        del kept[next(iter(kept))]


def _parsed(moment: str | None) -> datetime | None:
    """A moment such as 2024-05-01T12:00:00Z; None when it is not told, or not in that form."""
    try:
        parsed = datetime.fromisoformat(moment or "")
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
