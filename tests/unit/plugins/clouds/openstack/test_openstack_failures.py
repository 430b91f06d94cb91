"""What it means when a request gets no answer, or a login fails."""

import json
import ssl
from collections.abc import Mapping
from typing import Any

import pytest
import requests
import urllib3.exceptions as urllib3
from keystoneauth1 import exceptions as ksa

from error_sorting import CREATE, NOW, OPTIONS, READ
from isoneph.core.errors import CloudError, OutcomeUnknown, Throttled, Unauthorized, Unreachable
from isoneph.plugins.clouds.openstack.errors import EndpointGone, Sorter, was_dropped


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
