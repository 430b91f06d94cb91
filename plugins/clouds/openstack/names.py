"""From the names in a VM type's options to the ids that the cloud wants.

Names rarely change, so each kind is read in bulk and kept for a while. Whatever the cloud
refuses makes all be forgotten (:meth:`Names.forget`): something may have been made anew under
its old name.
"""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from isoneph.core.errors import InvalidRequest
from isoneph.core.plugin import Clock
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.deadline import Deadline
from isoneph.plugins.clouds.openstack.paging import list_all
from isoneph.plugins.clouds.openstack.shared import Shared

#: Seconds for which names are kept, and for which a miss is believed.
KEPT = 600.0
BELIEVED = 2.0
#: Names that an error message tells.
_MOST_TOLD = 20


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that has names: what a person calls it, and where all of them are listed."""

    word: str
    service: str
    path: str
    key: str
    params: Mapping[str, Any]

    def entry(self, item: Mapping[str, Any]) -> Entry:
        """One item of the list; those without an id of their own are known by their name."""
        item = item.get(self.word, item)  # keypairs are wrapped once more
        name = item.get("name") or item.get("zoneName") or ""
        return Entry(str(item.get("id") or name), str(name))


class Entry(NamedTuple):
    """One thing that has a name."""

    id: str
    name: str


_BRIEF = {"fields": ["id", "name"]}
FLAVOR = Kind("flavor", "compute", "/flavors", "flavors", {})
IMAGE = Kind("image", "image", "/images", "images", {"limit": "500", "status": "active"})
NETWORK = Kind("network", "network", "/networks", "networks", _BRIEF)
EXTERNAL_NETWORK = Kind(
    "external network", "network", "/networks", "networks", {**_BRIEF, "router:external": "true"}
)
SECURITY_GROUP = Kind("security group", "network", "/security-groups", "security_groups", _BRIEF)
SERVER_GROUP = Kind("server group", "compute", "/os-server-groups", "server_groups", {})
KEYPAIR = Kind("keypair", "compute", "/os-keypairs", "keypairs", {})
ZONE = Kind("availability zone", "compute", "/os-availability-zone", "availabilityZoneInfo", {})
VOLUME_TYPE = Kind("volume type", "volume", "/types", "volume_types", {})
KINDS = (
    *(FLAVOR, IMAGE, NETWORK, EXTERNAL_NETWORK, SECURITY_GROUP, SERVER_GROUP),
    *(KEYPAIR, ZONE, VOLUME_TYPE),
)


class Names:
    """Looks names up. Safe for threads; callers who need the same list share one reading."""

    def __init__(self, api: Api, cloud: str, clock: Clock) -> None:
        self._api = api
        self._cloud = cloud
        self._lists = {kind.word: Shared(partial(self._fetch, kind), clock) for kind in KINDS}

    def id_of(self, kind: Kind, word: str, place: str, deadline: Deadline) -> str:
        """The id of what is called ``word``, or has that id.

        Raises InvalidRequest, which begins with ``place``, when there is none of that name, or
        several.
        """
        found = _matches(word, self._lists[kind.word].read(deadline, KEPT))
        if not found:
            entries = self._lists[kind.word].read(deadline, BELIEVED)
            found = _matches(word, entries)
            if not found and _is_uuid(word):
                return word  # what may be used is not always listed
            if not found:
                raise InvalidRequest(f"{place}: {self._unknown(kind, word, entries)}")
        if len(found) > 1:
            raise InvalidRequest(
                f"{place}: cloud '{self._cloud}' has {len(found)} {kind.word}s called '{word}'; "
                f"say which by its id: {', '.join(found)}"
            )
        return found[0]

    def known(self, kind: Kind, deadline: Deadline) -> Sequence[str]:
        """The names of all of a kind."""
        return [entry.name for entry in self._lists[kind.word].read(deadline, BELIEVED)]

    def forget(self) -> None:
        """Read every list anew before it is used again."""
        for entries in self._lists.values():
            entries.forget()

    def _fetch(self, kind: Kind, deadline: Deadline) -> Sequence[Entry]:
        items = list_all(self._api, kind.service, kind.path, kind.key, deadline, kind.params)
        return [kind.entry(item) for item in items]

    def _unknown(self, kind: Kind, word: str, entries: Sequence[Entry]) -> str:
        names = sorted({entry.name or entry.id for entry in entries})
        near = difflib.get_close_matches(word, names, n=1)
        meant = f"; did you mean '{near[0]}'?" if near else ""
        told = ", ".join(names[:_MOST_TOLD]) + (" ..." if len(names) > _MOST_TOLD else "")
        return (
            f"cloud '{self._cloud}' has no {kind.word} '{word}'{meant} (it has: {told or 'none'})"
        )


def _matches(word: str, entries: Sequence[Entry]) -> Sequence[str]:
    """The ids of what is called ``word``, else of what has it as its id."""
    by_name = [entry.id for entry in entries if entry.name == word]
    return by_name or [entry.id for entry in entries if entry.id == word]


def _is_uuid(word: str) -> bool:
    try:
        uuid.UUID(word)
    except ValueError:
        return False
    return True
