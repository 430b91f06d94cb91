from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from isoneph.core import identity
from isoneph.core.errors import (
    InvalidRequest,
    NoCapacity,
    QuotaExceeded,
)
from isoneph.core.model import Leftover, Quota, VmRequest, VmState
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.libcloud import LibcloudCloud
from scripted_ec2 import (
    APPLICATION,
    ScriptedEc2,
    answer,
    described,
    error_of,
    instance,
    known,
    made,
    one_of,
    refusal,
    wanted,
)


def test_a_listing_is_read_to_its_last_page(
    cloud: LibcloudCloud, ec2: ScriptedEc2, clock: FakeClock
) -> None:
    requests_ = [wanted(clock) for _ in range(3)]
    pages = [one_of(each, f"i-{n}", "running") for n, each in enumerate(requests_)]
    ec2.on("DescribeInstances", described(*pages[:2], more="next"), described(pages[2]))
    assert [vm.id for vm in cloud.list_vms(APPLICATION)] == [each.id for each in requests_]
    first, second = ec2.sent
    assert first["Filter.1.Name"] == "tag:isoneph-application"
    assert first["Filter.1.Value.1"] == APPLICATION
    assert "NextToken" not in first
    assert second["NextToken"] == "next"


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        ("pending", "", VmState.BUILDING),
        ("running", "", VmState.ACTIVE),
        ("stopping", "", VmState.STOPPED),
        ("stopped", "", VmState.STOPPED),
        ("shutting-down", "", VmState.DELETING),
        ("terminated", "Client.UserInitiatedShutdown", None),
        ("terminated", "", None),
        ("terminated", "Server.InsufficientInstanceCapacity", VmState.ERROR),
        ("terminated", "Client.VolumeLimitExceeded", VmState.ERROR),
        ("terminated", "Server.InternalError", VmState.ERROR),
    ],
)
def test_states(
    cloud: LibcloudCloud,
    ec2: ScriptedEc2,
    request_: VmRequest,
    state: str,
    reason: str,
    expected: VmState | None,
) -> None:
    ec2.on("DescribeInstances", described(one_of(request_, state=state, reason=reason)))
    found = [vm.state for vm in cloud.list_vms(APPLICATION)]
    assert found == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("Server.InsufficientInstanceCapacity", NoCapacity.code),
        ("Client.VolumeLimitExceeded", QuotaExceeded.code),
        ("Server.InternalError", None),
    ],
)
def test_a_failed_launch_says_what_it_amounts_to(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest, reason: str, code: str | None
) -> None:
    ec2.on("DescribeInstances", described(one_of(request_, state="terminated", reason=reason)))
    (vm,) = cloud.list_vms(APPLICATION)
    assert vm.fault == f"{reason}: told"
    assert vm.fault_code == code


def test_addresses_are_by_the_names_of_subnets(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest
) -> None:
    named = "<tagSet><item><key>Name</key><value>lteuser</value></item></tagSet>"
    subnets = (
        f"<subnetSet><item><subnetId>subnet-1</subnetId>{named}</item>"
        "<item><subnetId>subnet-2</subnetId></item></subnetSet>"
    )
    ec2.on("DescribeSubnets", answer("DescribeSubnets", subnets))
    shown = one_of(
        request_, subnets={"subnet-1": ["10.3.0.9"], "subnet-2": ["10.1.0.9"]}, public="192.0.2.1"
    )
    ec2.on("DescribeInstances", described(shown))
    expected = {
        "lteuser": ("10.3.0.9",),
        "subnet-2": ("10.1.0.9",),
        "public": ("192.0.2.1",),
    }
    for _ in range(2):
        (vm,) = cloud.list_vms(APPLICATION)
        assert vm.addresses == expected
    assert len(ec2.forms("DescribeSubnets")) == 1


def test_subnets_that_may_not_be_listed_are_called_by_their_ids(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest
) -> None:
    ec2.on("DescribeSubnets", refusal("UnauthorizedOperation", status=403))
    ec2.on("DescribeInstances", described(one_of(request_, subnets={"subnet-1": ["10.3.0.9"]})))
    for _ in range(2):
        (vm,) = cloud.list_vms(APPLICATION)
        assert vm.addresses == {"subnet-1": ("10.3.0.9",)}
    assert len(ec2.forms("DescribeSubnets")) == 1


def test_what_was_just_made_shows_before_ec2_shows_it(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest, clock: FakeClock
) -> None:
    ec2.on("RunInstances", made(one_of(request_)))
    vm = cloud.create_vm(request_)
    ec2.on("DescribeInstances", described())
    assert list(cloud.list_vms(APPLICATION)) == [vm]
    assert ec2.sent[-1]["Filter.1.Value.1"] == "i-1"
    assert cloud.get_vm(vm) == vm
    # Its tags come a moment later than the instance itself.
    ec2.on("DescribeInstances", described(), described(instance("i-1", {})))
    assert list(cloud.list_vms(APPLICATION)) == [vm]
    assert cloud.get_vm(vm) == vm
    assert list(cloud.list_vms("another")) == []
    clock.advance(61)
    ec2.on("DescribeInstances", described())
    assert list(cloud.list_vms(APPLICATION)) == []
    assert cloud.get_vm(vm) is None


def test_what_was_just_made_and_removed_by_others_is_gone(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest
) -> None:
    ec2.on("RunInstances", made(one_of(request_)))
    cloud.create_vm(request_)
    gone = one_of(request_, state="terminated", reason="Client.UserInitiatedShutdown")
    ec2.on("DescribeInstances", described(gone))
    assert list(cloud.list_vms(APPLICATION)) == []
    ec2.on("DescribeInstances", described())
    assert list(cloud.list_vms(APPLICATION)) == []


def test_a_young_vm_of_another_replica_is_not_declared_gone(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest, clock: FakeClock
) -> None:
    vm = known(request_)
    ec2.on("DescribeInstances", described())
    assert cloud.get_vm(vm) == vm
    clock.advance(61)
    assert cloud.get_vm(vm) is None


def test_limits_are_the_operators(
    make_cloud: Callable[..., LibcloudCloud], ec2: ScriptedEc2, request_: VmRequest
) -> None:
    assert make_cloud().get_limits() == {}
    assert not ec2.sent
    ec2.on("DescribeInstances", described(one_of(request_), instance("i-2", {}, "running")))
    assert make_cloud(max_vms=9).get_limits() == {"instances": Quota(limit=9, used=2)}
    (form,) = ec2.sent
    assert form["Filter.1.Name"] == "instance-state-name"


def test_limits_may_be_the_accounts(
    make_cloud: Callable[..., LibcloudCloud], ec2: ScriptedEc2
) -> None:
    value = (
        "<attributeValueSet><item><attributeValue>20</attributeValue></item></attributeValueSet>"
    )
    item = f"<item><attributeName>max-instances</attributeName>{value}</item>"
    content = f"<accountAttributeSet>{item}</accountAttributeSet>"
    ec2.on("DescribeAccountAttributes", answer("DescribeAccountAttributes", content))
    ec2.on("DescribeInstances", described())
    limits = make_cloud(account_limits=True).get_limits()
    assert limits == {"instances": Quota(limit=20, used=0)}


def test_leftovers_are_those_of_vms_that_are_not_there(
    cloud: LibcloudCloud, ec2: ScriptedEc2, clock: FakeClock
) -> None:
    there, gone = wanted(clock), wanted(clock)
    others = {identity.TAG_APPLICATION: APPLICATION}

    def item(key: str, cloud_id: str, tags: Mapping[str, str]) -> str:
        pairs = "".join(f"<item><key>{k}</key><value>{v}</value></item>" for k, v in tags.items())
        return f"<item><{key}>{cloud_id}</{key}><tagSet>{pairs}</tagSet></item>"

    volumes = [
        item("volumeId", "vol-1", there.tags),
        item("volumeId", "vol-2", gone.tags),
        item("volumeId", "vol-3", others),
    ]
    interface = item("networkInterfaceId", "eni-1", gone.tags)
    ec2.on(
        "DescribeVolumes", answer("DescribeVolumes", f"<volumeSet>{''.join(volumes)}</volumeSet>")
    )
    ec2.on(
        "DescribeNetworkInterfaces",
        answer("X", f"<networkInterfaceSet>{interface}</networkInterfaceSet>"),
    )
    ended = one_of(gone, "i-2", "terminated", reason="Client.UserInitiatedShutdown")
    ec2.on("DescribeInstances", described(one_of(there, state="running"), ended))
    volume = Leftover(cloud="public", kind="volume", cloud_id="vol-2", vm_id=gone.id)
    eni = Leftover(cloud="public", kind="network interface", cloud_id="eni-1", vm_id=gone.id)
    assert list(cloud.list_leftovers(APPLICATION)) == [volume, eni]
    assert ec2.forms("DescribeVolumes")[0]["Filter.2.Value.1"] == "available"

    ec2.on("DeleteVolume", answer("DeleteVolume", ""), refusal("InvalidVolume.NotFound"))
    ec2.on("DeleteNetworkInterface", refusal("InvalidNetworkInterface.InUse"))
    cloud.delete_leftover(volume)
    cloud.delete_leftover(volume)
    assert isinstance(error_of(lambda: cloud.delete_leftover(eni)), InvalidRequest)
