"""What errors of OpenStack are sorted by: two requests, the options of a cloud, the time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isoneph.plugins.clouds.openstack.errors import Request

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
CREATE = Request("POST", "compute", "/servers", changing=True)
READ = Request("GET", "compute", "/servers/detail", changing=False)
OPTIONS: Mapping[str, Any] = {
    "auth": {
        "auth_url": "http://keystone/v3",
        "username": "bot",
        "password": "correct horse",
        "project_name": "mme",
    }
}
