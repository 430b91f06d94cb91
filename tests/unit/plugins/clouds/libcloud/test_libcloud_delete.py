from __future__ import annotations

from isoneph.core import identity
from isoneph.core.errors import (
    InvalidRequest,
    Unreachable,
)
from isoneph.core.model import VmRequest, VmState
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.libcloud import LibcloudCloud
from scripted_ec2 import (
    ScriptedEc2,
    answer,
    error_of,
    known,
    refusal,
    terminated,
)


def test_a_failed_launch_is_removed_by_its_tags(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest
) -> None:
    ec2.on("DeleteTags", answer("DeleteTags", "<return>true</return>"))
    cloud.delete_vm(known(request_, VmState.ERROR))
    (form,) = ec2.sent
    assert form["ResourceId.1"] == "i-1"
    assert {form["Tag.1.Key"], form["Tag.2.Key"]} == {
        identity.TAG_APPLICATION,
        identity.TAG_ID,
    }
    assert "Tag.3.Key" not in form


def test_what_had_ended_before_it_was_deleted_loses_its_tags_too(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest
) -> None:
    ec2.on("TerminateInstances", terminated("terminated"))
    ec2.on("DeleteTags", answer("DeleteTags", "<return>true</return>"))
    cloud.delete_vm(known(request_))
    assert [form["Action"] for form in ec2.sent] == ["TerminateInstances", "DeleteTags"]


def test_a_vm_that_ec2_does_not_know_yet_is_deleted_when_it_does(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest
) -> None:
    unknown = refusal("InvalidInstanceID.NotFound")
    ec2.on("TerminateInstances", unknown, unknown, terminated("pending"))
    cloud.delete_vm(known(request_))
    assert len(ec2.sent) == 3


def test_a_vm_that_ec2_never_knows_is_not_believed_to_be_gone_while_it_is_young(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest, clock: FakeClock
) -> None:
    ec2.on("TerminateInstances", refusal("InvalidInstanceID.NotFound"))
    assert isinstance(error_of(lambda: cloud.delete_vm(known(request_))), Unreachable)
    clock.advance(61)
    cloud.delete_vm(known(request_))


def test_a_protected_vm_is_told(
    cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest
) -> None:
    ec2.on("TerminateInstances", refusal("OperationNotPermitted", "may not be terminated"))
    error = error_of(lambda: cloud.delete_vm(known(request_)))
    assert isinstance(error, InvalidRequest)
    assert error.message.endswith("EC2 answered OperationNotPermitted: may not be terminated")
