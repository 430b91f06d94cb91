from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
import yaml

from openstack_testbed.configuration import Configuration, render, without_sections
from openstack_testbed.infrastructure import Infrastructure
from openstack_testbed.installation import Installation
from openstack_testbed.processes import Processes
from openstack_testbed.report import Progress
from openstack_testbed.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, 27000)


@pytest.fixture
def configuration(settings: Settings) -> Configuration:
    processes = Processes(settings.directory)
    installation = Installation(settings, processes, Progress())
    nova = installation.virtualenv / "etc" / "nova"
    nova.mkdir(parents=True)
    (nova / "api-paste.ini").write_text("")
    return Configuration(settings, installation, Infrastructure(settings, processes))


def parsed(path: Path) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=False)
    found.read_string(path.read_text())
    return found


def test_placeholders_are_replaced() -> None:
    values = {"name": lambda _: "uniform", "url": lambda kind: f"http://{kind}"}
    assert render("a @name@ b @url:image@ c@d", values) == "a uniform b http://image c@d"


def test_sections_are_left_out() -> None:
    text = "[a]\nx = 1\n\n[b]\ny = 2\n\n[c]\nz = 3\n"
    assert without_sections(text, "b") == "[a]\nx = 1\n\n[c]\nz = 3\n"
    assert without_sections(text, "a", "c") == "[b]\ny = 2\n\n"


def test_every_service_gets_a_whole_configuration(
    settings: Settings, configuration: Configuration
) -> None:
    configuration.write("quebec")
    etc = settings.state("quebec") / "etc"
    for path in etc.iterdir():
        assert not re.search(r"@\w+(:\w+)?@", path.read_text()), path
    nova = parsed(etc / "nova.conf")
    assert nova["database"]["connection"].startswith("mysql+pymysql://testbed:")
    assert nova["neutron"]["auth_url"] == "http://127.0.0.1:27200/v3"
    assert nova["DEFAULT"]["host"] == "quebec-compute"
    compute = parsed(etc / "nova-compute.conf")
    assert set(nova.sections()) - set(compute.sections()) == {"database", "api_database"}


def test_three_files_name_the_clouds_for_clients(
    settings: Settings, configuration: Configuration
) -> None:
    configuration.write_clouds()
    read = {}
    for name in ("clouds", "admin-clouds", "clouds-appcred"):
        path = settings.directory / f"{name}.yaml"
        assert path.stat().st_mode & 0o777 == 0o600
        read[name] = yaml.safe_load(path.read_text())["clouds"]
        assert list(read[name]) == ["uniform", "quebec"]
        for cloud, offset in (("uniform", 100), ("quebec", 200)):
            auth = read[name][cloud]["auth"]
            assert auth["auth_url"] == f"http://127.0.0.1:{27000 + offset}/v3"
    assert read["clouds"]["uniform"]["auth"]["project_name"] == "isoneph"
    assert read["admin-clouds"]["uniform"]["auth"]["username"] == "admin"
    assert read["clouds-appcred"]["quebec"]["auth_type"] == "v3applicationcredential"
