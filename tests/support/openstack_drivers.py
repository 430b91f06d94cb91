"""The OpenStack driver in front of a fake project, as unit tests use it."""

from __future__ import annotations

from typing import Any
from unittest import mock

from voluptuous import Schema

from fake_openstack import FakeApi
from isoneph.core.model import VmRequest, VmType
from isoneph.core.testing import make_environment
from isoneph.core.testing.environment import make_request
from isoneph.plugins.clouds.openstack import OpenstackCloud

#: The least that a VM type says; the fake has all of it.
WORKER = {"flavor": "tiny", "image": "tiny", "networks": ["net", "mgmt"]}


def make_driver(api: FakeApi, name: str = "uniform") -> OpenstackCloud:
    """A driver that calls ``api`` instead of a cloud."""
    with mock.patch("isoneph.plugins.clouds.openstack.driver.Api", return_value=api):
        return OpenstackCloud({}, make_environment(name, clock=api.clock))


def worker_options(**options: Any) -> dict[str, Any]:
    """The options of a type, checked; those that are None are left out."""
    said = {key: value for key, value in {**WORKER, **options}.items() if value is not None}
    checked: dict[str, Any] = Schema(OpenstackCloud.type_schema)(said)
    return checked


def request_for(application: str = "mme", **options: Any) -> VmRequest:
    """A request for a new VM of a type with these options."""
    return make_request(application, VmType(name="worker", options=worker_options(**options)))
