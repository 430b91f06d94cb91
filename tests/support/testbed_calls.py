"""The calls that the testbed's APIs have got, as `inside/testbed_api.py` writes them down."""

from __future__ import annotations

import json
from typing import TypedDict

from openstack_testbed.settings import Settings


class Call(TypedDict):
    """One call that an API got."""

    #: When it came, in seconds since the epoch.
    at: float
    method: str
    #: All of it: ``/v2.1/servers/detail``.
    path: str
    query: str
    agent: str
    #: ``request`` or ``answer`` when a fault cut the connection, else empty.
    lost: str
    #: 0 when there was none.
    status: int
    #: How long the answer took.
    seconds: float
    #: Whose token it came with; empty when the service found none good.
    user: str
    #: The service that used the user's token, as Nova does when it asks Neutron, else empty.
    through: str


def read_calls(settings: Settings, cloud: str, service: str) -> list[Call]:
    """All calls since `up`, in the order of their answers."""
    with settings.calls(cloud, service).open() as file:
        return [json.loads(line) for line in file]
