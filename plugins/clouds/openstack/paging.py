"""Lists that a service gives in pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.deadline import Deadline


def list_all(
    api: Api,
    service: str,
    path: str,
    key: str,
    deadline: Deadline,
    params: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> list[Any]:
    """Everything in a list, over all its pages; ``key`` is its name in the body.

    Of the link to the next page only the query is used: its host may be one that only the
    service itself knows.
    """
    found: list[Any] = []
    query: Mapping[str, Any] = params or {}
    while True:
        answer = api.call("GET", service, path, params=query, deadline=deadline, headers=headers)
        body = answer.body
        found += body[key]
        following = _next_page(body, key)
        if not body[key] or following is None:
            return found
        query = parse_qs(urlsplit(following).query, keep_blank_values=True)


def _next_page(body: Mapping[str, Any], key: str) -> str | None:
    """Nova, Neutron and Cinder put it into ``servers_links`` and the like, Glance into
    ``next``."""
    for link in body.get(f"{key}_links") or ():
        if link.get("rel") == "next":
            return str(link["href"])
    return body.get("next")
