"""What each answer of OpenStack means; the texts are those of its own services."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import requests

from error_sorting import CREATE, NOW, OPTIONS, READ
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
from isoneph.plugins.clouds.openstack.errors import (
    Conflict,
    EndpointGone,
    Forbidden,
    NotFound,
    Refusal,
    Request,
    Sorter,
    fault_code,
)


def refused(
    status: int,
    body: Any = None,
    request: Request = CREATE,
    headers: Mapping[str, str] | None = None,
) -> CloudError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    refusal = Refusal(status, requests.structures.CaseInsensitiveDict(headers or {}), content)
    return Sorter("uniform", OPTIONS).of_answer(request, refusal, NOW)


def nova(status: int, text: str) -> dict[str, Any]:
    names = {400: "badRequest", 403: "forbidden", 404: "itemNotFound", 409: "conflictingRequest"}
    return {names.get(status, "computeFault"): {"code": status, "message": text}}


def neutron(kind: str, text: str) -> dict[str, Any]:
    return {"NeutronError": {"type": kind, "message": text, "detail": ""}}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, nova(403, "Quota exceeded for instances: Requested 1, but already used 10 of 10")),
        (403, nova(403, "Maximum number of ports exceeded")),
        (403, nova(403, "Quota exceeded, too many servers in group")),
        (403, nova(403, "Quota exceeded, too many server groups.")),
        (403, nova(403, "Maximum number of floating IPs exceeded")),
        (403, nova(403, "Maximum number of security groups or rules exceeded")),
        (403, nova(403, "Project p is over a limit for [Resource servers is over limit of 3]")),
        (409, neutron("OverQuota", "Quota exceeded for resources: ['port'].")),
        (413, {"overLimit": {"message": "VolumeLimitExceeded: Maximum number of volumes allowed"}}),
        (
            413,
            {
                "overLimit": {
                    "message": "Requested volume or snapshot exceeds allowed gigabytes quota."
                }
            },
        ),
        (
            413,
            {"overLimit": {"message": "Maximum number of volumes allowed (10) exceeded for quota"}},
        ),
        (400, nova(400, "Quota exceeded for resources: ['port'].")),
    ],
)
def test_quota(status: int, body: Any) -> None:
    # Cinder puts a Retry-After of 0 beside an exceeded quota.
    assert type(refused(status, body, headers={"Retry-After": "0"})) is QuotaExceeded


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (403, "Only volume-backed servers are allowed for flavors with zero disk."),
        (403, "Maximum number of metadata items exceeds 128"),
        (403, "It is not allowed to create an interface on external network n"),
        (400, "Flavor nix could not be found."),
        (400, "Invalid key_name provided."),
        (413, "The provided image is too large."),
        (415, "Unsupported Content-Type"),
        (501, "not implemented"),
    ],
)
def test_requests_that_no_cloud_would_take(status: int, text: str) -> None:
    error = refused(status, nova(status, text))
    assert type(error) is InvalidRequest
    assert str(error) == f"Nova answers POST /servers with {status}: {text}"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            409,
            neutron("IpAddressGenerationFailure", "No more IP addresses available on network n."),
        ),
        (400, nova(400, "No fixed IP addresses available for network: n")),
    ],
)
def test_no_room(status: int, body: Any) -> None:
    assert type(refused(status, body)) is NoCapacity


@pytest.mark.parametrize(
    "text",
    [
        "Policy doesn't allow os_compute_api:servers:create:forced_host to be performed.",
        "(rule:create_network and rule:create_network:shared) is disallowed by policy",
        "You are not authorized to complete publicize_image action.",
        "User does not have admin privileges",
    ],
)
def test_policy_names_the_user_and_is_told_apart_from_quota(text: str) -> None:
    changing, reading = refused(403, nova(403, text)), refused(403, nova(403, text), READ)
    assert type(changing) is InvalidRequest
    assert type(reading) is Forbidden
    assert isinstance(reading, Unauthorized)
    for error in (changing, reading):
        assert text in str(error)
        assert "the roles of user 'bot' (clouds.yaml: clouds.uniform.auth)" in str(error)


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, {"Retry-After": "12"}, 12.0),
        (429, {"Retry-After": "0.5"}, 0.5),
        (429, {"retry-after": "999999"}, 3600.0),
        (429, {"Retry-After": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        (429, {"Retry-After": "Tue, 14 Nov 2023 22:13:00 GMT"}, 0.0),
        (
            429,
            {
                "Retry-After": "Tue, 14 Nov 2023 23:00:10 GMT",
                "Date": "Tue, 14 Nov 2023 23:00:00 GMT",
            },
            10.0,
        ),
        (429, {"Retry-After": "soon"}, None),
        (429, {"Retry-After": "nan"}, None),
        (429, {"Retry-After": "Tue, 14 Nov 99999 22:13:50 GMT"}, None),
        (429, {}, None),
        (503, {"Retry-After": "5"}, 5.0),
        (413, {"Retry-After": "5"}, 5.0),
    ],
)
def test_throttled(status: int, headers: Mapping[str, str], expected: float | None) -> None:
    error = refused(status, nova(status, "This request was rate-limited."), headers=headers)
    assert type(error) is Throttled
    assert error.retry_after == expected


@pytest.mark.parametrize("status", [408, 500, 502, 504, 507, 300])
def test_what_leaves_a_change_in_doubt(status: int) -> None:
    body = nova(status, "Unexpected API Error.")
    assert type(refused(status, body)) is OutcomeUnknown
    assert type(refused(status, body, READ)) is Unreachable


def test_a_service_that_is_away_has_done_nothing() -> None:
    assert type(refused(503, b"<html><h1>503 Service Unavailable</h1></html>")) is Unreachable
    assert type(refused(503, nova(503, "away"), headers={"Retry-After": "0"})) is Unreachable


def test_a_refused_token_names_the_login() -> None:
    error = refused(401, {"error": {"code": 401, "message": "It is revoked."}})
    assert type(error) is Unauthorized
    assert str(error).startswith("clouds.yaml: clouds.uniform.auth: the token is not accepted")


@pytest.mark.parametrize(
    ("service", "body", "headers", "expected"),
    [
        ("compute", nova(404, "Instance x could not be found."), {}, NotFound),
        ("network", neutron("PortNotFound", "Port x could not be found."), {}, NotFound),
        ("identity", {"error": {"code": 404, "message": "Could not find project"}}, {}, NotFound),
        ("image", b"<h1>404</h1>No image", {"X-OpenStack-Request-Id": "req-1"}, NotFound),
        ("image", b"<h1>404</h1>nginx", {}, EndpointGone),
        ("compute", b"<h1>404</h1>", {"X-OpenStack-Request-Id": "req-1"}, EndpointGone),
        ("compute", {"message": "no Route matched with those values"}, {}, EndpointGone),
        ("compute", b"", {}, EndpointGone),
    ],
)
def test_gone_only_on_the_word_of_the_service_itself(
    service: str, body: Any, headers: Mapping[str, str], expected: type[CloudError]
) -> None:
    request = Request("DELETE", service, "/x", changing=True)
    assert type(refused(404, body, request, headers)) is expected


def test_another_version_or_nothing_more_is_an_endpoint_that_moved() -> None:
    assert type(refused(406, nova(406, "Version 2.103 is not supported"))) is EndpointGone
    assert type(refused(410, b"gone")) is EndpointGone


def test_conflict_is_for_the_driver_to_look_at() -> None:
    error = refused(409, nova(409, "Instance x is locked"))
    assert type(error) is Conflict
    assert isinstance(error, InvalidRequest)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (nova(400, "Bad   thing\n happened\x07."), "Bad thing happened ."),
        (neutron("X", "Neutron says."), "Neutron says."),
        ({"NeutronError": "just text"}, "just text"),
        ({"error": {"code": 1, "message": "Keystone says.", "title": "No"}}, "Keystone says."),
        ({"error": "text"}, "text"),
        (
            {"errors": [{"status": 409, "title": "T", "detail": "Placement says."}]},
            "Placement says.",
        ),
        ({"message": "short"}, "short"),
        (
            b"<head><title>403</title></head><h1>403 Forbidden</h1>Not &lt;you&gt;.<br />",
            "403 Forbidden Not <you>.",
        ),
        (b"plain words", "plain words"),
        (b"", ""),
        ([], ""),
        ({"a": 1}, ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_the_message_is_found_in_every_form(body: Any, expected: str) -> None:
    said = f": {expected}" if expected else ""
    assert str(refused(400, body)) == f"Nova answers POST /servers with 400{said}"


def test_a_message_is_cut_and_carries_the_number_of_its_request() -> None:
    error = refused(400, nova(400, "x" * 5000), headers={"X-Compute-Request-Id": "req-7"})
    assert len(str(error)) < 500
    assert str(error).endswith("xxx ... (req-7)")


def test_no_secret_comes_back() -> None:
    body = {"server": {"adminPass": "s3cr3t!", "personality": [{"contents": "QUJDRA=="}]}}
    request = Request("POST", "compute", "/servers", True, body)
    text = f"Value: {body!r} of 'correct horse'. Not valid"
    said = str(refused(400, nova(400, text), request))
    assert not any(secret in said for secret in ("s3cr3t!", "QUJDRA==", "correct horse"))
    assert said.endswith("Not valid")
    assert "s3cr3t!" not in repr(request)


ABORTED = "Build of instance 1 aborted: "
RETRIES = "Exceeded maximum number of retries. "
FAULTS = {
    "no_capacity": [
        "No valid host was found. ",
        "No valid host was found. There are not enough hosts available.",
        RETRIES + "Exhausted all hosts available for retrying build failures for instance 1.",
        "Insufficient compute resources: Free memory 10.00 MB < requested 64 MB.",
        ABORTED + "Failed to allocate the network(s) with error No fixed IP addresses available "
        "for network: n, not rescheduling.",
    ],
    "quota_exceeded": [
        "Maximum number of ports exceeded",
        RETRIES + "Exceeded max scheduling attempts 3 for instance 1. Last exception: Maximum "
        "number of ports exceeded",
        ABORTED + "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed "
        "gigabytes quota. Requested 10G, quota is 20G and 15G has been consumed.",
        ABORTED + "VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota "
        "'volumes'.",
    ],
    "invalid_request": [
        ABORTED + "Image 2 is unacceptable: Converted to raw, but format is now qcow2",
        ABORTED + "Image 2 is not active.",
        "Image 2 could not be found.",
        "Corrupt image download. Hash was 1 expected 2",
        ABORTED + "Signature verification for the image failed: no signature",
        ABORTED + "Flavor's disk is too small for requested image. Flavor disk is 1 bytes.",
        ABORTED + "Flavor's disk is smaller than the minimum size specified in image metadata.",
        ABORTED + "Volume is smaller than the minimum size specified in image metadata.",
        "Invalid volume: status must be 'available'",
        "Disk format iso is not acceptable",
    ],
    "boot_failed": [
        ABORTED + "Failed to allocate the network(s), not rescheduling.",
        ABORTED + "Block Device Mapping is Invalid.",
        "MessagingTimeout",
        "Virtual Interface creation failed",
        "Timeout while waiting for the quota of patience",
        "",
    ],
}


@pytest.mark.parametrize(
    ("expected", "text"), [(code, text) for code, texts in FAULTS.items() for text in texts]
)
def test_the_fault_of_a_server_in_error(expected: str, text: str) -> None:
    assert fault_code(text) == expected
