"""``clouds.yaml``: what it becomes, and every way to get it wrong."""

from __future__ import annotations

import pytest

from configured import Directory, cases
from isoneph.core.settings import CloudSettings

NAME = "expected a name: a letter, then at most 62 letters, digits, '_', '.' or '-'"
HIDDEN = "not valid; why is not shown, because it holds a secret"
KEYS = "region, size, mode, auth, ports, crash, driver, isoneph"


def test_a_cloud_has_its_options_with_defaults_and_the_cores_settings(directory: Directory) -> None:
    directory.write(
        "clouds.yaml",
        """\
cache: {expiration_time: 60}
clouds:
  uniform:
    driver: fake
    region: north
    auth: {user: me}
    ports: [{number: 1}, {number: 2, label: [a, b]}]
    isoneph: {calls: 2, timeout: 5, breaker_pause: 0}
  quebec: {driver: bare, verify: false}
""",
    )
    directory.write(
        "applications/mme.yaml", "types: {worker: {options: {flavor: s}}}\nclouds: [uniform]\n"
    )
    assert directory.load().settings.clouds == {
        "uniform": CloudSettings(
            name="uniform",
            driver="fake",
            options={
                "region": "north",
                "size": 10,
                "auth": {"user": "me"},
                "ports": [{"number": 1}, {"number": 2, "label": ["a", "b"]}],
            },
            calls=2,
            timeout=5.0,
            breaker_pause=0.0,
        ),
        "quebec": CloudSettings(name="quebec", driver="bare", options={"verify": False}),
    }


@pytest.mark.parametrize(("text", "problems"), cases("broken_clouds.txt"))
def test_broken_clouds(directory: Directory, text: str, problems: list[str]) -> None:
    directory.write("clouds.yaml", text)
    directory.write("applications/mme.yaml", "types: {worker: {}}\nclouds: [nowhere]\n")
    told = [line for line in directory.problems() if line.startswith("clouds.yaml")]
    assert told == [f"clouds.yaml:{problem}" for problem in problems]


def test_no_value_of_a_secret_option_is_ever_shown(directory: Directory) -> None:
    directory.write(
        "clouds.yaml",
        """\
clouds:
  uniform:
    driver: fake
    region: x
    auth:
      password: "s3cret-1"
      token: s3cret-2
    api_key: s3cret-3
    size: https://me:s3cret-4@example.org/
""",
    )
    assert "s3cret" not in "\n".join(directory.problems())


def test_secrets_may_stand_in_a_file_of_their_own(directory: Directory) -> None:
    directory.write(
        "clouds.yaml", "clouds: {uniform: {driver: bare, auth: {user: me}}, quebec: {driver: bare}}"
    )
    directory.write("applications/mme.yaml", "types: {worker: {}}")
    secure = directory.write("secure.yaml", "clouds: {uniform: {auth: {password: tr1ck}}}")
    loaded = directory.load()
    options = loaded.settings.clouds["uniform"].options
    assert options["auth"] == {"user": "me", "password": "tr1ck"}
    assert loaded.settings.clouds["quebec"].options == {}
    assert secure in loaded.files
    assert [line for line in loaded.warnings if "secure.yaml" in line and "chmod 600" in line]


def test_a_broken_file_of_secrets_is_told_without_them(directory: Directory) -> None:
    directory.write("secure.yaml", "clouds:\n  unifrom: {auth: {password: tr1ck}}\nauth: 1\n")
    problems = directory.problems()
    assert problems[0].startswith("secure.yaml:2: clouds.unifrom: unknown cloud")
    assert problems[1].startswith("secure.yaml:3: auth: unknown key")
    assert "tr1ck" not in "".join(problems)


def test_who_uses_a_cloud_with_problems_is_not_blamed(directory: Directory) -> None:
    directory.write(
        "clouds.yaml", "clouds:\n  uniform: {driver: nope}\n  quebec: {driver: fake, region: 1}\n"
    )
    assert [line.split(":")[0] for line in directory.problems()] == ["clouds.yaml"] * 2
