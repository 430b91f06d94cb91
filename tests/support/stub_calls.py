"""Calls of the driver's ``Api`` to a stub of OpenStack, over real sockets."""

from __future__ import annotations

from typing import Any

from isoneph.core.testing import FakeClock, make_environment
from isoneph.plugins.clouds.openstack.api import Api
from stub_openstack import Reply

LIST = "GET compute/servers/detail"
CREATE = "POST compute/servers"
SERVERS = Reply(200, {"servers": []})
MADE = Reply(202, {"server": {"id": "s1"}})


def make_api(options: dict[str, Any], clock: FakeClock, timeout: float = 20.0) -> Api:
    """What makes them; ``options`` are the cloud's."""
    return Api(options, make_environment("uniform", clock=clock, timeout=timeout))


def listing(api: Api, **more: Any) -> Any:
    """List the servers."""
    return api.call("GET", "compute", "/servers/detail", **more).body


def create(api: Api, **more: Any) -> Any:
    """Create a server."""
    return api.call("POST", "compute", "/servers", body={"server": {"name": "a"}}, **more).body
