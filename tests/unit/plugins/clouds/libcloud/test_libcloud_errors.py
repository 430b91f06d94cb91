from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

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
from isoneph.core.model import VmRequest
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.libcloud import LibcloudCloud
from scripted_ec2 import (
    APPLICATION,
    IMAGE,
    SECRET,
    ScriptedEc2,
    described,
    error_of,
    made,
    refusal,
)


@pytest.mark.parametrize(
    ("refused", "kind", "words"),
    [
        (refusal("InstanceLimitExceeded"), QuotaExceeded, "InstanceLimitExceeded"),
        (refusal("VcpuLimitExceeded"), QuotaExceeded, "VcpuLimitExceeded"),
        (refusal("MaxSpotInstanceCountExceeded"), QuotaExceeded, ""),
        (refusal("InsufficientInstanceCapacity", status=500), NoCapacity, ""),
        (refusal("InsufficientFreeAddressesInSubnet"), NoCapacity, ""),
        (refusal("RequestLimitExceeded", status=503), Throttled, ""),
        (refusal("AuthFailure", status=401), Unauthorized, "clouds.public: access_key, secret_key"),
        (refusal("SignatureDoesNotMatch", status=403), Unauthorized, "this machine's clock"),
        (refusal("InvalidClientTokenId", status=403), Unauthorized, ""),
        (
            refusal("AuthFailure", "Not authorized for images: [ami-1]", 403),
            InvalidRequest,
            IMAGE,
        ),
        (refusal("UnauthorizedOperation", status=403), InvalidRequest, "ec2:CreateTags"),
        (refusal("InvalidAMIID.NotFound"), InvalidRequest, IMAGE),
        (refusal("InvalidKeyPair.NotFound"), InvalidRequest, "types.worker.options.key_name"),
        (refusal("InvalidSubnetID.NotFound"), InvalidRequest, "types.worker.options.networks"),
        (refusal("InvalidGroup.NotFound"), InvalidRequest, "types.worker.options.security_groups"),
        (
            refusal("InvalidParameterValue", "Invalid value 'x' for InstanceType."),
            InvalidRequest,
            "types.worker.options.size",
        ),
        (
            refusal("InvalidParameterValue", "Invalid Availability Zone (x)"),
            InvalidRequest,
            "types.worker.options.availability_zone",
        ),
        (refusal("InvalidParameterValue", "User data is limited"), InvalidRequest, "user_data"),
        (
            refusal("NoSuchEntity", "Instance profile x not found"),
            InvalidRequest,
            "types.worker.options.arguments",
        ),
        (
            refusal("TagLimitExceeded"),
            InvalidRequest,
            "types.worker.options: size, image, arguments",
        ),
        (refusal("InternalError", status=500), OutcomeUnknown, ""),
        (refusal("Unavailable", status=503), OutcomeUnknown, ""),
        ((502, "<html>Bad gateway"), OutcomeUnknown, ""),
        ((200, "<html>Welcome"), OutcomeUnknown, "clouds.public: host, port, path, secure"),
        (made(), OutcomeUnknown, ""),
        (requests.ReadTimeout(), OutcomeUnknown, "in time"),
        (requests.ConnectionError("aborted"), OutcomeUnknown, ""),
        (requests.ConnectTimeout(), Unreachable, "in time"),
        (requests.exceptions.SSLError("certificate verify failed"), Unreachable, "ca_file"),
        (requests.exceptions.SSLError("unexpected eof"), OutcomeUnknown, ""),
        (requests.exceptions.ProxyError(), Unreachable, "proxy_url"),
    ],
)
def test_what_a_refused_create_means(
    cloud: LibcloudCloud,
    ec2: ScriptedEc2,
    request_: VmRequest,
    refused: Any,
    kind: type[CloudError],
    words: str,
) -> None:
    ec2.on("RunInstances", refused)
    error = error_of(lambda: cloud.create_vm(request_))
    assert type(error) is kind, error.message
    assert words in error.message
    assert error.message.startswith(f"cannot create VM {request_.id} on public: ")


@pytest.mark.parametrize(
    ("refused", "kind"),
    [
        (refusal("UnauthorizedOperation", status=403), Unauthorized),
        (refusal("InternalError", status=500), Unreachable),
        (refusal("RequestLimitExceeded", status=503), Throttled),
        (requests.ReadTimeout(), Unreachable),
        ((200, "not XML"), Unreachable),
    ],
)
def test_what_a_refused_listing_means(
    cloud: LibcloudCloud, ec2: ScriptedEc2, refused: Any, kind: type[CloudError]
) -> None:
    ec2.on("DescribeInstances", refused)
    error = error_of(lambda: cloud.list_vms(APPLICATION))
    assert type(error) is kind
    assert (error.retry_after is not None) == (kind is Throttled)


def test_nobody_listens(make_cloud: Callable[..., LibcloudCloud], request_: VmRequest) -> None:
    cloud = make_cloud(host="127.0.0.1", port=1, secure=False)
    error = error_of(lambda: cloud.create_vm(request_))
    assert type(error) is Unreachable
    assert error.message.endswith("see clouds.yaml: clouds.public: host, port")


def test_secrets_are_masked(cloud: LibcloudCloud, ec2: ScriptedEc2, request_: VmRequest) -> None:
    ec2.on("RunInstances", refusal("InvalidParameterValue", f"what is {SECRET}?"))
    assert "what is ***?" in error_of(lambda: cloud.create_vm(request_)).message


def test_retries_of_libcloud_stay_off(
    cloud: LibcloudCloud,
    ec2: ScriptedEc2,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LIBCLOUD_RETRY_FAILED_HTTP_REQUESTS", "1")
    ec2.on("DescribeInstances", refusal("RequestLimitExceeded", status=429))
    error_of(lambda: cloud.list_vms(APPLICATION))
    assert len(ec2.sent) == 1


def test_threads_share_no_connection(
    cloud: LibcloudCloud, ec2: ScriptedEc2, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(4, timeout=10)
    users: set[int] = set()
    send = requests.Session.request

    def meet(session: requests.Session, *arguments: Any, **named: Any) -> Any:
        users.add(id(session))
        together.wait()
        return send(session, *arguments, **named)

    ec2.on("DescribeInstances", described())
    monkeypatch.setattr(requests.Session, "request", meet)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(cloud.list_vms, [APPLICATION] * 4))
    assert len(users) == 4
