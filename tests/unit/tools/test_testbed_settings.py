from __future__ import annotations

from pathlib import Path

import pytest

from openstack_testbed.report import Failure
from openstack_testbed.settings import (
    API_PORTS,
    CLOUDS,
    HIGHEST_PORT,
    SHARED_PORTS,
    Settings,
    resolve,
    saved,
)

#: Where Linux puts the near ends of connections.
EPHEMERAL = 32768


def test_options_come_before_variables_and_these_before_defaults(tmp_path: Path) -> None:
    variables = {"ISONEPH_TESTBED_DIR": str(tmp_path), "ISONEPH_TESTBED_PORT": "3000"}
    assert resolve({}, variables).port == 3000
    assert resolve({"port": "4000"}, variables).port == 4000
    assert resolve({}, {"ISONEPH_TESTBED_DIR": str(tmp_path)}).port == 26000
    assert resolve({"clouds": "quebec"}, variables).clouds == ("quebec",)


def test_the_default_directory_is_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert resolve({}, {}).directory == Path("/somewhere/isoneph/openstack-testbed")


def test_a_testbed_is_found_again_as_it_was_set_up(tmp_path: Path) -> None:
    variables = {"ISONEPH_TESTBED_DIR": str(tmp_path)}
    first = resolve({"port": "5000", "clouds": "uniform"}, variables)
    first.save(versions="abc")
    assert resolve({}, variables) == first
    assert saved(tmp_path)["versions"] == "abc"
    assert resolve({"clouds": "uniform quebec"}, variables).clouds == ("uniform", "quebec")


def test_what_is_fixed_at_the_first_time_is_refused_later(tmp_path: Path) -> None:
    variables = {"ISONEPH_TESTBED_DIR": str(tmp_path)}
    resolve({"port": "5000"}, variables).save()
    with pytest.raises(Failure, match=r"set up with port 5000, not 6000.*wipe"):
        resolve({"port": "6000"}, variables)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": "many"}, "port many: expected a number"),
        ({"port": "80"}, "port 80: expected a number"),
        ({"port": "40000"}, "port 40000: expected a number"),
        ({"clouds": "uniform,tango"}, "cloud tango: expected one of uniform, quebec"),
    ],
)
def test_values_that_cannot_be_are_refused(
    tmp_path: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(Failure, match=message):
        resolve({"dir": str(tmp_path), **options}, {})


def test_damaged_settings_are_named(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(Failure, match=r"settings\.json.*remove it"):
        resolve({"dir": str(tmp_path)}, {})


def test_no_port_is_used_twice_or_where_connections_are(tmp_path: Path) -> None:
    settings = Settings(tmp_path, HIGHEST_PORT)
    ports = [settings.shared_port(name) for name in SHARED_PORTS]
    ports += [settings.api_port(cloud, kind) for cloud in CLOUDS for kind in API_PORTS]
    assert len(set(ports)) == len(ports)
    assert max(ports) < EPHEMERAL


def test_the_password_is_made_once_for_each_testbed(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "one")
    assert settings.password == Settings(tmp_path / "one").password
    assert settings.password != Settings(tmp_path / "two").password
    assert (tmp_path / "one" / "password").stat().st_mode & 0o077 == 0
