from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
import requests
import requests_mock

from isoneph.core import identity
from isoneph.core.errors import (
    InvalidRequest,
    OutcomeUnknown,
)
from isoneph.core.model import VmRequest, VmState
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.libcloud import LibcloudCloud
from scripted_ec2 import (
    IMAGE,
    ScriptedEc2,
    answer,
    described,
    error_of,
    instance,
    made,
    one_of,
    refusal,
    terminated,
    wanted,
)


def test_one_call_carries_the_tags_of_all_and_the_token(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest
) -> None:
    ec2.on("RunInstances", made(one_of(request_)))
    vm = cloud.create_vm(request_)
    assert (vm.id, vm.cloud_id, vm.state) == (request_.id, "i-1", VmState.BUILDING)
    assert vm.name == request_.name
    assert "Name" not in vm.tags
    (form,) = ec2.sent
    assert form["ClientToken"] == f"{request_.id}-2"
    assert form["MinCount"] == form["MaxCount"] == "1"
    for n, kind in enumerate(("instance", "volume", "network-interface"), 1):
        assert form[f"TagSpecification.{n}.ResourceType"] == kind
        tags = {
            form[f"TagSpecification.{n}.Tag.{m}.Key"]: form[f"TagSpecification.{n}.Tag.{m}.Value"]
            for m in range(1, len(request_.tags) + 2)
        }
        assert tags == {"Name": request_.name, **request_.tags}


def test_what_a_type_says_is_asked_for(
    cloud: LibcloudCloud, ec2: ScriptedEc2, clock: FakeClock
) -> None:
    request = wanted(
        clock,
        networks=["subnet-a", "subnet-b"],
        security_groups=["sg-1", "sg-2"],
        key_name="ops",
        availability_zone="eu-central-1a",
        user_data="id={{isoneph.id}} at {{ isoneph.relay }} {{ds.meta_data}}",
        relay="10.1.0.5",
        arguments={"ex_iamprofile": "worker"},
    )
    ec2.on("RunInstances", made(one_of(request)))
    cloud.create_vm(request)
    (form,) = ec2.sent
    assert form["KeyName"] == "ops"
    assert form["Placement.AvailabilityZone"] == "eu-central-1a"
    assert form["IamInstanceProfile.Name"] == "worker"
    for n, subnet in enumerate(("subnet-a", "subnet-b"), 1):
        assert form[f"NetworkInterface.{n}.DeviceIndex"] == str(n - 1)
        assert form[f"NetworkInterface.{n}.SubnetId"] == subnet
        assert form[f"NetworkInterface.{n}.SecurityGroupId.2"] == "sg-2"
        assert form[f"NetworkInterface.{n}.DeleteOnTermination"] == "true"
    assert "SecurityGroupId.1" not in form
    told = base64.b64decode(form["UserData"]).decode()
    assert told == f"id={request.id} at 10.1.0.5 {{{{ds.meta_data}}}}"


def test_names_are_looked_up_once_and_again_after_a_refusal(
    cloud: LibcloudCloud, ec2: ScriptedEc2, clock: FakeClock
) -> None:
    images = "<imagesSet><item><imageId>ami-9</imageId><name>worker</name></item></imagesSet>"
    groups = (
        "<securityGroupInfo><item><groupId>sg-9</groupId><groupName>redis</groupName></item>"
        "</securityGroupInfo>"
    )
    ec2.on("DescribeImages", answer("DescribeImages", images))
    ec2.on("DescribeSecurityGroups", answer("DescribeSecurityGroups", groups))
    request = wanted(clock, image="worker", security_groups=["redis"])
    again = wanted(clock, image="worker", security_groups=["redis"])
    ec2.on("RunInstances", made(one_of(request)), refusal("InvalidAMIID.NotFound"))
    cloud.create_vm(request)
    error = error_of(lambda: cloud.create_vm(again))
    assert isinstance(error, InvalidRequest)
    assert IMAGE in error.message
    assert len(ec2.forms("DescribeImages")) == 1
    assert ec2.forms("DescribeImages")[0]["Owner.1"] == "self"
    assert ec2.forms("RunInstances")[0]["ImageId"] == "ami-9"
    assert ec2.forms("RunInstances")[0]["SecurityGroupId.1"] == "sg-9"
    error_of(lambda: cloud.create_vm(again))
    assert len(ec2.forms("DescribeImages")) == 2


def test_a_lost_answer_is_asked_for_once_more_with_the_same_token(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest
) -> None:
    ec2.on("RunInstances", requests.ReadTimeout(), made(one_of(request_)))
    assert cloud.create_vm(request_).cloud_id == "i-1"
    first, second = ec2.sent
    assert first == second


@pytest.mark.parametrize(
    "second", [requests.ReadTimeout(), refusal("RequestLimitExceeded"), refusal("InvalidAMIID.X")]
)
def test_after_a_lost_answer_only_a_vm_is_an_answer(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest, second: Any
) -> None:
    ec2.on("RunInstances", refusal("InternalError", status=500), second)
    error = error_of(lambda: cloud.create_vm(request_))
    assert isinstance(error, OutcomeUnknown)
    assert "InternalError" in error.message
    assert "asked again" in error.message
    assert len(ec2.sent) == 2


def test_without_time_there_is_no_second_try(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest, clock: FakeClock
) -> None:
    def late(form: Any, context: Any) -> str:
        clock.advance(27.0)
        raise requests.ReadTimeout

    with requests_mock.Mocker() as mocker:
        mocker.post(requests_mock.ANY, text=late)
        error = error_of(lambda: cloud.create_vm(request_))
        assert isinstance(error, OutcomeUnknown)
        assert mocker.call_count == 1


def test_a_token_that_was_used_leads_to_what_it_made(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest
) -> None:
    before = replace(request_, tags={**request_.tags, identity.TAG_PLACED_AT: "1"})
    other = replace(request_, tags={**request_.tags, identity.TAG_ATTEMPT: "1"})
    ec2.on("RunInstances", refusal("IdempotentParameterMismatch"))
    ec2.on(
        "DescribeInstances",
        described(),
        described(one_of(other, "i-0", "running"), one_of(before, "i-7", "running")),
    )
    vm = cloud.create_vm(request_)
    assert (vm.cloud_id, vm.placed_at) == ("i-7", 1.0)
    assert len(ec2.forms("RunInstances")) == 1


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("IdempotentParameterMismatch", True),
        ("IdempotentParameterMismatch", False),
        ("IdempotentInstanceTerminated", False),
    ],
)
def test_a_token_whose_vm_is_gone_is_replaced(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest, code: str, shown: bool
) -> None:
    gone = one_of(request_, "i-0", "terminated", reason="Client.UserInitiatedShutdown")
    ec2.on("RunInstances", refusal(code), made(one_of(request_)))
    ec2.on("DescribeInstances", described(*([gone] if shown else [])))
    assert cloud.create_vm(request_).cloud_id == "i-1"
    first, second = ec2.forms("RunInstances")
    assert first["ClientToken"] != second["ClientToken"]
    assert len(second["ClientToken"]) <= 64


def test_a_token_that_nothing_accounts_for_leaves_it_open(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest
) -> None:
    ec2.on("RunInstances", refusal("IdempotentParameterMismatch"))
    ec2.on("DescribeInstances", described())
    assert isinstance(error_of(lambda: cloud.create_vm(request_)), OutcomeUnknown)


def test_a_cloud_that_drops_the_tags_is_found_out(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest
) -> None:
    ec2.on("RunInstances", made(instance("i-1", {})))
    ec2.on("TerminateInstances", terminated())
    error = error_of(lambda: cloud.create_vm(request_))
    assert isinstance(error, InvalidRequest)
    assert ec2.forms("TerminateInstances")[0]["InstanceId.1"] == "i-1"


def test_what_ended_while_it_was_created_is_no_vm(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest
) -> None:
    gone = one_of(request_, state="terminated", reason="Client.UserInitiatedShutdown")
    ec2.on("RunInstances", made(gone))
    assert isinstance(error_of(lambda: cloud.create_vm(request_)), OutcomeUnknown)


def test_an_unknown_argument_is_told_before_anything_is_sent(
    cloud: LibcloudCloud, ec2: ScriptedEc2, clock: FakeClock
) -> None:
    request = wanted(clock, arguments={"ex_iam_profile": "x"})
    error = error_of(lambda: cloud.create_vm(request))
    assert isinstance(error, InvalidRequest)
    assert "'ex_iam_profile'; did you mean ex_iamprofile?" in error.message
    assert not ec2.sent


def test_user_data_without_its_relay_is_told(
    cloud: LibcloudCloud, ec2: ScriptedEc2, clock: FakeClock
) -> None:
    request = wanted(clock, user_data="relay={{isoneph.relay}}")
    error = error_of(lambda: cloud.create_vm(request))
    assert isinstance(error, InvalidRequest)
    assert (
        "types.worker.options.user_data: it names {{isoneph.relay}}; say in option" in error.message
    )


def test_a_name_that_users_gave_stays_a_tag(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest
) -> None:
    request = replace(request_, tags={**request_.tags, "Name": "mine"})
    ec2.on("RunInstances", made(instance("i-1", request.tags)))
    vm = cloud.create_vm(request)
    assert vm.tags["Name"] == "mine"
    assert vm.name == request.name
