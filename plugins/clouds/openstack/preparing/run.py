"""One run of ``prepare`` on one cloud: with whose credentials, for whom, and what it may do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from logging import Logger
from typing import Any

from isoneph.core.errors import InvalidRequest
from isoneph.core.identity import TAG_APPLICATION
from isoneph.core.model import Finding, Outcome, Preparation
from isoneph.core.plugin import Clock
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.paging import list_all
from isoneph.plugins.clouds.openstack.preparing.description import Entry, on_cloud

#: How messages tell that the user's role does not allow something.
_REFUSED = " with 403"
_MARK = re.compile(rf"made by isoneph \({TAG_APPLICATION}=(?P<application>.+)\)")
#: What the cloud knows of one thing: the JSON of its API.
Found = dict[str, Any]

NETWORK, COMPUTE, IMAGE = "network", "compute", "image"


@dataclass(frozen=True, kw_only=True)
class Run:
    """Not to be shared by threads.

    ``api`` is used with the application's own credentials, ``admin`` with an administrator's.
    What isoneph makes says so in its description from the moment it is there; where Neutron or
    Glance have tags, each application that wants it there puts its own on it. Nothing without
    the tag or the description of an application is ever removed for it.
    """

    cloud: str
    api: Api
    admin: Api | None
    preparation: Preparation
    clock: Clock
    logger: Logger

    @property
    def change(self) -> bool:
        """Whether things may be made and changed."""
        return self.preparation.change

    @property
    def prune(self) -> bool:
        """Whether things may be removed."""
        return self.preparation.change and self.preparation.prune

    @cached_property
    def project(self) -> str:
        """The id of the project that everything is made in."""
        return self.api.project_id(self.api.deadline()) or ""

    @property
    def tag(self) -> str:
        """The tag of what this application wants to be there."""
        return tag_of(self.preparation.application)

    @property
    def mark(self) -> str:
        """The description of what is made for this application."""
        return f"made by isoneph ({self.tag})"

    def described(self, section: str) -> Mapping[str, Entry]:
        """The things of one section of the description, each as it is to be on this cloud."""
        return on_cloud(self.preparation.options, section, self.cloud)

    @property
    def described_rules(self) -> Mapping[str, Sequence[Entry]]:
        """The rules of each described security group."""
        groups: Mapping[str, Sequence[Entry]] = self.preparation.options.get("security_groups", {})
        return groups

    def finding(self, kind: str, name: str, outcome: Outcome, text: str = "") -> Finding:
        """A finding about this cloud."""
        return Finding(cloud=self.cloud, kind=kind, name=name, outcome=outcome, text=text)

    def listing(self, service: str, path: str, key: str, **params: Any) -> list[Found]:
        """What is under ``key`` of a listing, on all its pages; ``params`` are filters."""
        return list_all(self.api, service, path, key, self.api.deadline(), params)

    def get(self, service: str, path: str, key: str) -> Found:
        """One thing by its path."""
        found: Found = self.api.call("GET", service, path).body[key]
        return found

    def post(self, service: str, path: str, key: str, body: Mapping[str, Any]) -> Found:
        """Make one thing, with the application's own credentials."""
        found: Found = self.api.call("POST", service, path, body={key: body}).body[key]
        return found

    def put(self, path: str, body: Mapping[str, Any]) -> None:
        """Change something in Neutron."""
        self.api.call("PUT", NETWORK, path, body=body)

    def delete(self, service: str, path: str) -> None:
        """Remove one thing."""
        self.api.call("DELETE", service, path)

    @contextmanager
    def administrator(self, what: str) -> Iterator[Api]:
        """The administrator's rights where there are any, else those that we have: for ``what``,
        which as a rule needs more than the latter. Raises InvalidRequest that says so."""
        try:
            yield self.admin or self.api
        except InvalidRequest as error:
            if self.admin is not None or _REFUSED not in error.message:
                raise
            raise InvalidRequest(
                f"{what} needs an administrator's rights: give them with --admin FILE "
                f"({error.message})"
            ) from error

    def is_ours(self, found: Found) -> bool:
        """Whether isoneph made it for this application, or for others and this one wants it."""
        return self.preparation.application in _owners(found)

    def is_of_others(self, found: Found) -> bool:
        """Whether isoneph made it for other applications, and this one does not want it."""
        return is_made_by_isoneph(found) and not self.is_ours(found)

    def claim(self, service: str, path: str, found: Found) -> None:
        """Put our tag on what isoneph made, if it is not there yet."""
        if self.tag not in found.get("tags", ()) and is_made_by_isoneph(found):
            self.api.call("PUT", service, f"{path}/tags/{self.tag}")

    def other_owners(self, found: Found) -> list[str]:
        """The other applications that want it to be there."""
        return [each for each in _owners(found) if each != self.preparation.application]


def tag_of(application: str) -> str:
    """The tag that says that ``application`` wants something to be there."""
    return f"{TAG_APPLICATION}={application}"


def _owners(found: Found) -> list[str]:
    """The applications that want it to be there: by its tags, else by its description."""
    tagged = [
        tag.removeprefix(tag_of("")) for tag in found.get("tags", ()) if tag.startswith(tag_of(""))
    ]
    made_for = _MARK.fullmatch(found.get("description") or "")
    return tagged or ([made_for["application"]] if made_for else [])


def is_made_by_isoneph(found: Found) -> bool:
    """Whether isoneph made it, for whichever application."""
    description = found.get("description") or ""
    return description.startswith("made by isoneph (") or any(
        tag.startswith(tag_of("")) for tag in found.get("tags", ())
    )
