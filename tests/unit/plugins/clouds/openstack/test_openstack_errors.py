"""What each answer of OpenStack means; the texts are those of its own services."""

import json
import ssl
from collections.abc import Mapping
from typing import Any

import pytest
import requests
import urllib3.exceptions as urllib3
from keystoneauth1 import exceptions as ksa

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
    was_dropped,
)

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


def raised(error: Exception, *causes: Exception) -> Exception:
    """``error`` as keystoneauth raises it: while it handled the first of ``causes``, and so on."""
    error.__context__ = raised(*causes) if causes else None
    return error


REFUSED = urllib3.NewConnectionError(None, "refused")  # type: ignore[arg-type]  # no pool at hand
CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (raised(ksa.ConnectFailure("x"), requests.ConnectionError(REFUSED)), EndpointGone),
        (raised(ksa.ConnectTimeout("x"), requests.ConnectTimeout()), EndpointGone),
        (raised(ksa.SSLError("x"), requests.exceptions.SSLError(CERTIFICATE)), EndpointGone),
        (raised(ksa.ConnectTimeout("x"), requests.ReadTimeout()), OutcomeUnknown),
        (
            raised(
                ksa.ConnectFailure("x"),
                requests.ConnectionError(
                    urllib3.ProtocolError("x", ConnectionResetError(104, "y"))
                ),
            ),
            OutcomeUnknown,
        ),
        (
            ksa.UnknownConnectionError("x", requests.exceptions.ChunkedEncodingError()),
            OutcomeUnknown,
        ),
        (ksa.ConnectFailure("nobody knows"), OutcomeUnknown),
        (OSError("whatever"), OutcomeUnknown),
    ],
)
def test_what_surely_was_not_sent_is_told_apart(
    error: Exception, expected: type[CloudError]
) -> None:
    sorter = Sorter("uniform", OPTIONS)
    assert type(sorter.of_failure(error, CREATE)) is expected
    assert isinstance(sorter.of_failure(error, READ), Unreachable)


def test_an_earlier_failure_says_nothing_of_this_one() -> None:
    earlier = raised(Unreachable("earlier"), ksa.ConnectFailure("x"), REFUSED)
    error = raised(ksa.ConnectTimeout("x"), requests.ReadTimeout(), earlier)
    assert type(Sorter("uniform", OPTIONS).of_failure(error, CREATE)) is OutcomeUnknown


def test_a_certificate_names_what_to_set() -> None:
    error = raised(ksa.SSLError("x"), requests.exceptions.SSLError(CERTIFICATE))
    sorter = Sorter("uniform", OPTIONS)
    for found in (sorter.of_failure(error, CREATE), sorter.of_login(error, NOW)):
        assert isinstance(found, Unreachable)
        assert "clouds.yaml: clouds.uniform.cacert and .verify" in str(found)


def test_only_a_dropped_connection_is_worth_another_try() -> None:
    dropped = urllib3.ProtocolError("aborted", ConnectionResetError(104, "reset"))
    assert was_dropped(raised(ksa.ConnectFailure("x"), requests.ConnectionError(dropped)))
    assert not was_dropped(raised(ksa.ConnectFailure("x"), requests.ReadTimeout()))
    assert not was_dropped(raised(ksa.ConnectFailure("x"), REFUSED, ConnectionRefusedError()))


def keystone(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Exception:
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps(body).encode()
    response.headers.update(headers or {})
    return ksa.from_response(response, "POST", "http://keystone/v3/auth/tokens")


FAULT = {"error": {"code": 0, "message": "Keystone says so."}}


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (keystone(401, FAULT), Unauthorized, "does not accept user 'bot' and its password, for"),
        (keystone(403, FAULT), Unauthorized, r"\(403\): Keystone says so"),
        (keystone(404, FAULT), Unauthorized, r"\(404\): Keystone says so"),
        (keystone(404, "nginx"), Unauthorized, "auth.auth_url: not Keystone"),
        (keystone(500, FAULT), Unreachable, "auth.auth_url: Keystone at http://keystone/v3"),
        (keystone(503, FAULT), Unreachable, "with 503"),
        (keystone(503, FAULT, {"Retry-After": "3"}), Throttled, "with 503"),
        (keystone(429, FAULT, {"Retry-After": "3"}), Throttled, "with 429"),
        (ksa.ConnectFailure("no way"), Unreachable, "auth_url: Keystone at .*: no way"),
        (
            raised(ksa.DiscoveryFailure("x"), ksa.ConnectFailure("no way")),
            Unreachable,
            "auth_url: Keystone at .*: no way",
        ),
        (ksa.DiscoveryFailure("x"), Unauthorized, "auth_url: what answers at http://keystone/v3"),
        (KeyError("X-Subject-Token"), Unauthorized, "auth_url: what answers at"),
        (ksa.EmptyCatalog("x"), Unauthorized, "expected project_name or project_id"),
        (ksa.AuthorizationFailure("no auth"), Unauthorized, "clouds.uniform.auth: no auth"),
        (
            ksa.AuthorizationFailure("says 'correct horse'"),
            Unauthorized,
            r"says '\*\*\*'",
        ),
        (OSError("invalid path: /x.pem"), Unreachable, "clouds.uniform: invalid path: /x.pem"),
    ],
)
def test_a_failed_login_is_never_in_doubt(
    error: Exception, expected: type[CloudError], words: str
) -> None:
    found = Sorter("uniform", OPTIONS).of_login(error, NOW)
    assert type(found) is expected
    with pytest.raises(expected, match=words):
        raise found
    assert "clouds.yaml: clouds.uniform" in str(found) or isinstance(found, Throttled)
    assert found.retry_after == (3.0 if expected is Throttled else None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"auth_type": "v3applicationcredential", "auth": {"application_credential_id": "a1"}},
            "application credential 'a1' and its secret",
        ),
        ({"auth_type": "v3token", "auth": {"token": "t0k3n"}}, "does not accept the token"),
        ({"auth": {"user_id": "u1"}}, "user 'u1' and its password"),
        ({"auth_type": "v3kerberos"}, "this user and its password"),
    ],
)
def test_the_credentials_are_called_by_their_kind(options: Mapping[str, Any], words: str) -> None:
    assert words in str(Sorter("uniform", options).of_login(keystone(401, FAULT), NOW))


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
