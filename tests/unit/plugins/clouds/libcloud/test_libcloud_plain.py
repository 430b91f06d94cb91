"""Providers other than EC2, in libcloud's own terms."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests
from libcloud.common.exceptions import BaseHTTPError, RateLimitReachedError
from libcloud.common.types import InvalidCredsError, LibcloudError, MalformedResponseError
from libcloud.compute.base import Node
from libcloud.compute.providers import DRIVERS
from libcloud.compute.types import NodeState
from voluptuous import Schema

from isoneph.core import identity
from isoneph.core.errors import (
    CloudError,
    InvalidRequest,
    NoCapacity,
    OutcomeUnknown,
    QuotaExceeded,
    Throttled,
    Unauthorized,
    Unreachable,
)
from isoneph.core.model import Quota, VmRequest, VmState, VmType
from isoneph.core.plugin import Cloud
from isoneph.core.testing import (
    CloudConformance,
    FakeClock,
    build_plugin,
    make_environment,
    make_request,
)
from isoneph.plugins.clouds.libcloud import LibcloudCloud
from memory_provider import ENTRY, PROVIDER, Account, MemoryNodeDriver

TYPE = Schema(LibcloudCloud.type_schema)
#: Libcloud gives their constructors no types.
http_error: Any = BaseHTTPError
rate_limit: Any = RateLimitReachedError


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    drivers: dict[Any, tuple[str, str]] = DRIVERS
    monkeypatch.setitem(drivers, PROVIDER, ENTRY)
    account = Account()
    monkeypatch.setattr(MemoryNodeDriver, "accounts", {"key": account})
    return account


def make(**options: Any) -> LibcloudCloud:
    return build_plugin(
        LibcloudCloud,
        {"provider": PROVIDER, "access_key": "key", **options},
        environment=make_environment("memory", clock=FakeClock()),
    )


@pytest.fixture
def cloud() -> LibcloudCloud:
    return make()


def wanted(**options: Any) -> VmRequest:
    options = {"size": "small", "image": "worker", **options}
    return make_request("mme", VmType(name="worker", options=TYPE(options)))


def error_of(call: Callable[[], object]) -> CloudError:
    with pytest.raises(CloudError) as caught:
        call()
    return caught.value


class TestAnyProvider(CloudConformance):
    type_options: ClassVar[Mapping[str, Any]] = TYPE({"size": "small", "image": "worker"})
    bad_type_options: ClassVar[Mapping[str, Any] | None] = TYPE(
        {"size": "no-such-size", "image": "worker"}
    )

    @pytest.fixture(autouse=True)
    def _account(self, account: Account) -> None:
        self.account = account

    def make_cloud(self, tmp_path: Path) -> Cloud:
        return make(max_vms=100)

    def unknown_cloud_id(self) -> str:
        return "4711"

    def add_foreign_vm(self, cloud: Cloud) -> str | None:
        node = Node("foreign", "foreign", NodeState.RUNNING, [], [], None, extra={})
        self.account.nodes["foreign"] = node
        return "foreign"

    def has_foreign_vm(self, cloud: Cloud, cloud_id: str) -> bool:
        return cloud_id in self.account.nodes


def test_what_a_type_says_is_asked_for(cloud: LibcloudCloud, account: Account) -> None:
    request = wanted(
        size="large one",
        image="1",
        key_name="ops",
        user_data="{{isoneph.name}}",
        availability_zone="Oslo",
        arguments={"ex_color": "red"},
    )
    vm = cloud.create_vm(request)
    assert account.asked == [
        {
            "size": "large",
            "image": "1",
            "location": "oslo",
            "key": "ops",
            "data": vm.name,
            "color": "red",
        }
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"size": "smal"},
            "types.worker.options.size: there is no size 'smal'; did you mean 'small one'?",
        ),
        (
            {"image": "old"},
            "options.image: 2 are called 'old': say which one by its id: 2, 3",
        ),
        (
            {"networks": ["n"]},
            "application mme: types.worker.options.networks: libcloud has no such thing",
        ),
        ({"arguments": {"ex_colour": 1}}, "takes no 'ex_colour'; did you mean ex_color?"),
    ],
)
def test_what_is_not_there_is_told(
    cloud: LibcloudCloud, account: Account, options: dict[str, Any], words: str
) -> None:
    error = error_of(lambda: cloud.create_vm(wanted(**options)))
    assert isinstance(error, InvalidRequest)
    assert words in error.message
    assert not account.asked


def test_a_provider_that_loses_tags_is_found_out(cloud: LibcloudCloud, account: Account) -> None:
    account.forgetful = True
    assert isinstance(error_of(lambda: cloud.create_vm(wanted())), InvalidRequest)
    assert not account.nodes


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (http_error(403, "Quota exceeded for instances"), QuotaExceeded),
        (http_error(403, "Policy does not allow it"), InvalidRequest),
        (http_error(413, "Over limit"), Throttled),
        (http_error(401, "who?"), Unauthorized),
        (http_error(400, "no such image"), InvalidRequest),
        (rate_limit(headers={"retry-after": "7"}), Throttled),
        (InvalidCredsError(), Unauthorized),
        (ValueError("wrong argument"), InvalidRequest),
        (LibcloudError("not so"), InvalidRequest),
        (http_error(502, "bad gateway"), Unreachable),
        (requests.ConnectTimeout(), Unreachable),
        (MalformedResponseError("?"), Unreachable),
    ],
)
def test_what_a_refused_call_means(
    cloud: LibcloudCloud, account: Account, raised: Exception, kind: type[CloudError]
) -> None:
    cloud.create_vm(wanted())  # sizes and images are known from now on
    account.error = raised
    error = error_of(lambda: cloud.create_vm(wanted()))
    assert type(error) is kind, error.message
    assert "cannot create VM" in error.message
    assert error.retry_after == (7 if isinstance(raised, RateLimitReachedError) else None)


def test_what_nobody_should_raise_is_not_hidden(cloud: LibcloudCloud, account: Account) -> None:
    account.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        cloud.list_vms("mme")


@pytest.mark.parametrize("raised", [http_error(404, "gone"), requests.ReadTimeout()])
def test_an_error_after_the_create_was_accepted_leaves_it_open(
    cloud: LibcloudCloud, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    """As of OpenStack's: one POST, then a GET."""
    create = MemoryNodeDriver.create_node

    @functools.wraps(create)
    def accepted_then_lost(driver: MemoryNodeDriver, *arguments: Any, **named: Any) -> Node:
        create(driver, *arguments, **named)
        transport: Any = driver.connection.connection
        line = transport._line
        line.sent += 1
        line.note("POST", 202)
        raise raised

    monkeypatch.setattr(MemoryNodeDriver, "create_node", accepted_then_lost)
    assert isinstance(error_of(lambda: cloud.create_vm(wanted())), OutcomeUnknown)


@pytest.mark.parametrize(
    ("extra", "fault", "code"),
    [
        (
            {"fault": {"message": "No valid host was found."}},
            "No valid host was found.",
            NoCapacity,
        ),
        ({"fault": "Quota exceeded"}, "Quota exceeded", QuotaExceeded),
        ({"fault": "boom"}, "boom", None),
        ({}, "the provider says no more than that it failed", None),
    ],
)
def test_faults(
    cloud: LibcloudCloud,
    account: Account,
    extra: dict[str, Any],
    fault: str,
    code: type[CloudError] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vm = cloud.create_vm(wanted())
    node = account.nodes[vm.cloud_id]
    node.state = NodeState.ERROR
    node.extra.update(extra)
    monkeypatch.setattr(MemoryNodeDriver, "list_nodes", lambda _: [node])
    (found,) = cloud.list_vms("mme")
    assert found.state is VmState.ERROR
    assert found.fault == fault
    assert found.fault_code == (code and code.code)


def test_addresses_are_by_network_where_they_are_named(
    cloud: LibcloudCloud, account: Account
) -> None:
    vm = cloud.create_vm(wanted())
    account.nodes[vm.cloud_id].public_ips = ["192.0.2.7"]
    assert cloud.list_vms("mme")[0].addresses == {
        "private": ("10.0.0.1",),
        "public": ("192.0.2.7",),
    }
    named = {"lteuser": [{"addr": "10.3.0.4"}], "ltemgmt": [{"addr": "10.2.0.4"}]}
    account.nodes[vm.cloud_id].extra["addresses"] = named
    assert cloud.list_vms("mme")[0].addresses == {
        "lteuser": ("10.3.0.4",),
        "ltemgmt": ("10.2.0.4",),
    }


def test_limits_count_everybody(account: Account) -> None:
    account.nodes["x"] = Node("x", "x", NodeState.RUNNING, [], [], None, extra={})
    assert make().get_limits() == {}
    assert make(max_vms=5).get_limits() == {"instances": Quota(limit=5, used=1)}


def test_a_node_under_another_id_is_not_deleted(cloud: LibcloudCloud, account: Account) -> None:
    vm = cloud.create_vm(wanted())
    cloud.delete_vm(replace(vm, id=identity.new_id()))
    assert list(account.nodes) == [vm.cloud_id]
