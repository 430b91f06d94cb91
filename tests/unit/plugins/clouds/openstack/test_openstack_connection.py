import copy
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import requests
from keystoneauth1.identity import V3ApplicationCredential, V3OidcAccessToken

from isoneph.core.errors import Unauthorized, Unreachable
from isoneph.core.testing import FakeClock
from isoneph.plugins.clouds.openstack.connection import (
    CONNECT_TIMEOUT,
    NotSent,
    TimedSession,
    connect,
    is_openstack_key,
)
from isoneph.plugins.clouds.openstack.deadline import Deadline
from stub_openstack import StubCloud, stub_cloud

AUTH = {
    "auth_url": "http://keystone.example/v3",
    "username": "bot",
    "password": "correct horse",
    "project_name": "mme",
    "user_domain_name": "Default",
    "project_domain_name": "Default",
}


def options(**more: Any) -> dict[str, Any]:
    return {"region_name": "One", "auth": copy.deepcopy(AUTH), **more}


def without(*keys: str, **more: Any) -> dict[str, Any]:
    return {**options(**more), "auth": {key: AUTH[key] for key in AUTH if key not in keys}}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Making a connection asks nobody."""
    if "cloud" not in request.fixturenames:

        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("a connection was made without need")

        monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.fixture
def cloud() -> Iterator[StubCloud]:
    with stub_cloud() as cloud:
        yield cloud


def test_the_options_arrive_and_are_left_as_they_are() -> None:
    given = options(
        interface="internal",
        cacert="/etc/ca.pem",
        compute_endpoint_override="http://nova.example/v2.1",
        compute_default_microversion="2.79",
        network_region_name="Two",
    )
    before = copy.deepcopy(given)
    config = connect(given, "uniform", 30.0).config
    assert given == before
    assert config.name == "uniform"
    assert config.get_region_name("compute") == "One"
    assert config.get_region_name("network") == "Two"
    assert config.get_interface("compute") == "internal"
    assert config.get_endpoint("compute") == "http://nova.example/v2.1"
    assert config.get_default_microversion("compute") == "2.79"
    assert config.get_session().verify == "/etc/ca.pem"
    assert config.get_auth_args()["auth_url"] == AUTH["auth_url"]


@pytest.mark.parametrize(
    ("more", "verify", "cert"),
    [
        ({}, True, None),
        ({"verify": False}, False, None),
        ({"insecure": True}, False, None),
        ({"cert": "/c.pem", "key": "/k.pem"}, True, ("/c.pem", "/k.pem")),
    ],
)
def test_tls(more: dict[str, Any], verify: Any, cert: Any) -> None:
    session = connect(options(**more), "uniform", 30.0).session
    assert (session.verify, session.cert) == (verify, cert)


def test_neither_environment_nor_files_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, text in (("clouds.yaml", "clouds: {uniform: {region_name: File}}"), ("secure", "x")):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
    monkeypatch.setenv("OS_CLOUD", "other")
    monkeypatch.setenv("OS_CLOUD_NAME", "uniform")
    monkeypatch.setenv("OS_REGION_NAME", "Environment")
    monkeypatch.setenv("OS_PASSWORD", "environment")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/environment.pem")
    connection = connect(without("password") | {"password": "top"}, "uniform", 30.0)
    assert connection.config.get_region_name("compute") == "One"
    assert connection.config.get_auth_args()["password"] == "top"
    assert connection.session.session.trust_env is False


@pytest.mark.parametrize(
    ("timeout", "given", "expected"),
    [(30.0, None, 30.0), (30.0, 5, 5.0), (30.0, "5", 5.0), (30.0, 60, 30.0)],
)
def test_there_is_always_a_time_out(timeout: float, given: Any, expected: float) -> None:
    assert connect(options(api_timeout=given), "uniform", timeout).session.timeout == expected


def test_nothing_is_ever_sent_again() -> None:
    given = options(compute_connect_retries=3, status_code_retries=5, image_connect_retries=1)
    config = connect(given, "uniform", 30.0).config
    for service in ("compute", "network", "image", "block-storage", "baremetal"):
        assert config.get_connect_retries(service) == 0
        assert config.get_status_code_retries(service) == 0


def test_keys_of_isonephs_own_are_left_out() -> None:
    config = connect(options(calls_per_second=3, server_name="{not}-{theirs}"), "uniform", 3.0)
    assert "calls_per_second" not in config.config.config
    assert is_openstack_key("compute-endpoint-override")
    assert is_openstack_key("auth_type")
    assert not is_openstack_key("burst")


def test_application_credentials() -> None:
    auth = {
        "auth_url": AUTH["auth_url"],
        "application_credential_id": "a",
        "application_credential_secret": "s",
    }
    given = {"auth_type": "v3applicationcredential", "auth": auth}
    assert isinstance(connect(given, "uniform", 30.0).session.auth, V3ApplicationCredential)


def test_openid_connect() -> None:
    auth = {
        "auth_url": AUTH["auth_url"],
        "identity_provider": "idp",
        "protocol": "openid",
        "access_token": "t",
    }
    given = {"auth_type": "v3oidcaccesstoken", "auth": auth}
    assert isinstance(connect(given, "uniform", 30.0).session.auth, V3OidcAccessToken)


def test_a_vendors_profile_fills_in_what_is_not_said() -> None:
    connection = connect(without("auth_url", profile="elastx"), "uniform", 30.0)
    assert connection.config.get_auth_args()["auth_url"].startswith(
        "https://ops.elastx.cloud:5000/"
    )


def test_no_authentication_needs_nothing() -> None:
    given = {"auth_type": "none", "compute_endpoint_override": "http://nova.example/v2.1"}
    assert connect(given, "uniform", 30.0).session.get_token() == "notused"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (without("auth_url"), "auth: auth_url is missing"),
        ({}, "auth: auth_url is missing"),
        (without("password"), "auth: password is missing"),
        (without("username"), "auth: username or user_id is missing"),
        (without("user_domain_name"), "auth: user_id or user_domain_id or user_domain_name or"),
        (options() | {"auth": {**AUTH, "usrname": "x"}}, "auth.usrname: the auth type takes no"),
        (options() | {"auth": "text"}, "auth: expected a mapping"),
        (options() | {"auth": {**AUTH, "auth_url": 5}}, "auth.auth_url: expected text"),
        (options() | {"auth": {**AUTH, "auth_url": "h:5000"}}, "auth.auth_url: expected a URL"),
        (options(auth_type="pasword"), "auth_type: there is no auth type of that name; expected"),
        (options(auth_type=["password"]), "auth_type: expected text"),
        (options(auth_type="v3websso"), "auth: identity_provider and protocol is missing"),
        (options(auth_type="token"), "auth.username: the auth type takes no argument"),
        (
            {"auth_type": "token", "auth": {"auth_url": AUTH["auth_url"]}},
            "missing 1 required positional argument: 'token'",
        ),
        (
            {
                "auth_type": "v3oidcdeviceauthz",
                "auth": {
                    "auth_url": AUTH["auth_url"],
                    "identity_provider": "i",
                    "protocol": "p",
                    "client_id": "c",
                    "discovery_endpoint": "http://idp.example",
                },
            },
            "auth_type: v3oidcdeviceauthz needs a person",
        ),
        (options(profile="nobody"), "profile: there is no vendor of that name; expected a URL or"),
        (options(profile=5), "profile: expected text"),
        (options(regions=[{"nome": "One"}]), "regions: expected names, or mappings with a name"),
        (options(api_timeout="soon"), "api_timeout: expected a positive number"),
        (options(api_timeout=0), "api_timeout: expected a positive number"),
        (options(cacert="/{nowhere}/ca.pem"), " a value has braces"),
    ],
)
def test_what_is_wrong_is_told_by_its_place(given: dict[str, Any], message: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        connect(given, "uniform", 30.0)
    text = str(caught.value)
    assert text.startswith("clouds.yaml: clouds.uniform")
    assert message in text
    assert "correct horse" not in text


def test_a_profile_that_cannot_be_fetched_is_unreachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise requests.ConnectionError

    monkeypatch.setattr("openstack.config.vendors.requests.get", fail)
    with pytest.raises(Unreachable, match=r"clouds.uniform.profile: its URL does not answer"):
        connect(options(profile="https://vendor.example"), "uniform", 30.0)


def session_of(cloud: StubCloud, timeout: float) -> TimedSession:
    return cast("TimedSession", connect(cloud.options(), "uniform", timeout).session)


def test_every_request_of_a_block_ends_at_its_deadline(
    cloud: StubCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts: list[Any] = []
    clock = FakeClock()
    send = requests.Session.request

    def request(self: requests.Session, *arguments: Any, **named: Any) -> requests.Response:
        timeouts.append(named["timeout"])
        clock.advance(4.0)
        return send(self, *arguments, **named)

    monkeypatch.setattr(requests.Session, "request", request)
    session = session_of(cloud, 30.0)
    with session.until(Deadline.after(clock, 8.0)):
        session.get_token()  # asks Keystone for its versions, then for a token
        with pytest.raises(NotSent):
            session.get(f"{cloud.url}/v3")
    assert timeouts == [(8.0, 8.0), (4.0, 4.0)]
    session.get(f"{cloud.url}/v3")
    assert timeouts[-1] == (CONNECT_TIMEOUT, 30.0)
    session.get(f"{cloud.url}/v3", timeout=900.0)
    assert timeouts[-1] == (900.0, 900.0)


def test_a_deadline_is_of_one_thread_only(cloud: StubCloud) -> None:
    session = session_of(cloud, 30.0)
    statuses: list[int] = []
    with session.until(Deadline.after(FakeClock(), -1.0)):
        other = threading.Thread(
            target=lambda: statuses.append(session.get(f"{cloud.url}/v3").status_code)
        )
        other.start()
        other.join()
        with pytest.raises(NotSent):
            session.get(f"{cloud.url}/v3")
    assert statuses == [200]
