"""``isoneph.conf``: what it becomes, every way to get it wrong, and its sample."""

from __future__ import annotations

import io
from dataclasses import fields
from pathlib import Path

import pytest
from oslo_config import cfg, generator
from pytest_mock import MockerFixture

from configured import DIGEST, Directory, FakeRegistry, cases
from isoneph.core.config import load_settings
from isoneph.core.config.options import list_opts
from isoneph.core.errors import ConfigInvalid
from isoneph.core.settings import ServiceSettings, StoreSettings

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize(("text", "problems"), cases("broken_service.txt"))
def test_broken_service(directory: Directory, text: str, problems: list[str]) -> None:
    directory.write("isoneph.conf", text)
    assert directory.problems() == problems


def test_everything_that_the_service_can_be_told(directory: Directory) -> None:
    directory.write(
        "isoneph.conf",
        """\
[DEFAULT]
log_level = DEBUG
log_format = json
[API]
host = "::1"
port: 80
allow_unauthenticated = yes
default_application = mme
max_body = 1
max_wait = 2
graceful_timeout = 0
[engine]
enabled = off
interval = 1
lease = 1.5
[store]
driver = memory
timeout = 0.5
""",
    )
    settings = directory.load().settings
    assert settings.service == ServiceSettings(
        host="::1",
        port=80,
        allow_unauthenticated=True,
        default_application="mme",
        max_body=1,
        max_wait=2.0,
        graceful_timeout=0.0,
        engine_enabled=False,
        engine_interval=1.0,
        engine_lease=1.5,
        log_level="DEBUG",
        log_format="json",
    )
    assert settings.store == StoreSettings(driver="memory", timeout=0.5)


def test_without_a_file_the_defaults_apply(directory: Directory) -> None:
    settings = directory.load().settings
    assert settings.service == ServiceSettings(default_application="mme")
    assert settings.store == StoreSettings()


def test_every_setting_of_the_service_has_an_option() -> None:
    names = {opt.dest for _, options in list_opts() for opt in options}
    wanted = {field.name.removeprefix("engine_") for field in fields(ServiceSettings)}
    assert wanted <= names


def test_store_options_are_read_as_text_or_else_as_yaml(directory: Directory) -> None:
    directory.write(
        "isoneph.conf",
        "[store]\ndriver = network\nurl = 4711\nconnections = 8\nhosts = [a, b]\n"
        "password = 0815$$\n",
    )
    assert directory.load().settings.store.options == {
        "url": "4711",
        "connections": 8,
        "hosts": ["a", "b"],
        "password": "0815$",
    }


def test_a_store_option_that_is_no_yaml_is_a_problem(directory: Directory) -> None:
    directory.write("isoneph.conf", "[store]\ndriver = network\nurl = x\nconnections = [8\n")
    assert directory.problems() == [
        "isoneph.conf:4: store.connections: expected a whole number, at least 1, found text"
    ]


def test_the_environment_wins_over_the_files(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.write("isoneph.conf", "[api]\nport = 1\n[store]\ndriver = network\nurl = x\n")
    monkeypatch.setenv("OS_API__PORT", "2")
    monkeypatch.setenv("OS_STORE__PASSWORD", "from outside")
    settings = directory.load().settings
    assert settings.service.port == 2
    assert settings.store.options["password"] == "from outside"


def test_a_bad_value_in_the_environment_names_the_variable(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.write("isoneph.conf", "[api]\nport = 1\n")
    monkeypatch.setenv("OS_API__PORT", "x")
    assert directory.problems() == [
        "environment variable OS_API__PORT: expected a port number from 0 to 65535"
    ]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_needs_no_token(directory: Directory, host: str) -> None:
    directory.write("isoneph.conf", f"[api]\nhost = {host}\n")
    assert directory.load().settings.service.host == host


@pytest.mark.parametrize("how", ["tokens", "allow"])
def test_other_machines_may_reach_what_is_guarded_or_meant_to_be_open(
    directory: Directory, how: str
) -> None:
    allow = "allow_unauthenticated = true\n" if how == "allow" else ""
    directory.write("isoneph.conf", f"[api]\nhost = 0.0.0.0\n{allow}")
    if how == "tokens":
        application = directory.path / "applications/mme.yaml"
        token = f"tokens: [{{name: a, sha256: {DIGEST}, scopes: [read]}}]\n"
        application.write_text(application.read_text() + token)
    assert directory.load().settings.service.host == "0.0.0.0"  # noqa: S104 (nothing is opened)


def test_later_files_win_and_each_is_checked_by_itself(directory: Directory) -> None:
    base = directory.write("base.conf", "[api]\nport = 1\nmax_body = 7\n")
    (directory.path / "more").mkdir()
    directory.write("more/10.conf", "[api]\nport = 2\n")
    directory.write("more/20.conf", "[api]\nport = 3\n")
    directory.write("more/30.txt", "[api]\nport = 4\n")
    loaded = load_settings([base], [directory.path / "more"], FakeRegistry())
    assert (loaded.settings.service.port, loaded.settings.service.max_body) == (3, 7)
    assert [str(path.relative_to(directory.path)) for path in loaded.files] == [
        "base.conf",
        "more/10.conf",
        "more/20.conf",
        "clouds.yaml",
        "applications/mme.yaml",
    ]
    directory.write("more/20.conf", "[api]\nport = x\n")
    with pytest.raises(ConfigInvalid) as caught:
        load_settings([base], [directory.path / "more"], FakeRegistry())
    assert directory.shorten(caught.value.problems) == [
        "more/20.conf:2: api.port: expected a port number from 0 to 65535"
    ]


def test_a_file_that_is_asked_for_must_be_there(directory: Directory) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load_settings([directory.path / "isoneph.conf"], (), FakeRegistry())
    assert directory.shorten(caught.value.problems) == ["isoneph.conf: no such file"]


def test_paths_are_relative_to_the_file_that_sets_them(directory: Directory) -> None:
    (directory.path / "conf").mkdir()
    directory.write("conf/isoneph.conf", "[DEFAULT]\nclouds_file = ../clouds.yaml\n")
    (directory.path / "conf" / "applications").symlink_to(directory.path / "applications")
    loaded = load_settings([directory.path / "conf" / "isoneph.conf"], (), FakeRegistry())
    assert set(loaded.settings.clouds) == {"uniform", "quebec"}


def test_a_path_may_begin_at_home(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(directory.path))
    (directory.path / "clouds.yaml").rename(directory.path / "other.yaml")
    directory.write("isoneph.conf", "[DEFAULT]\nclouds_file = ~/other.yaml\n")
    assert set(directory.load().settings.clouds) == {"uniform", "quebec"}


def test_the_sample_is_what_the_options_generate(mocker: MockerFixture) -> None:
    """If not: oslo-config-generator --config-file tools/config-generator.conf"""
    found = [("isoneph", list_opts)]
    mocker.patch.object(generator, "_get_raw_opts_loaders", return_value=found)
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(["--config-file", str(ROOT / "tools/config-generator.conf")])
    generated = io.StringIO()
    generator.generate(conf, generated)
    assert (ROOT / "etc/isoneph/isoneph.conf").read_text() == generated.getvalue()
