"""Which files are read, what must hold between them, and that nothing but ConfigInvalid comes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configured import APPLICATION, CLOUDS, DIGEST, Directory, FakeRegistry
from isoneph.core.config import default_directory, describe, load_settings
from isoneph.core.config.applications import APPLICATION as SCHEMA
from isoneph.core.config.applications import HEALING
from isoneph.core.config.clouds import CLOUD
from isoneph.core.config.masking import is_secret, mask
from isoneph.core.config.validation import check
from isoneph.core.errors import ConfigInvalid
from isoneph.core.registry import Registry
from isoneph.core.settings import ApplicationSettings, CloudSettings, HealingSettings, RelaySettings

ROOT = Path(__file__).parents[4]
SAMPLES = ROOT / "etc" / "isoneph"


def test_the_problems_of_all_files_are_told_at_once(directory: Directory) -> None:
    directory.write("isoneph.conf", "[api]\nport = x\n")
    directory.write("clouds.yaml", "clouds:\n  uniform: {driver: fake}\n  quebec: {driver: bare}\n")
    directory.write("applications/mme.yaml", "types: {worker: {}}\nvictims: [x]\n")
    directory.write("applications/other.yml", "- 1\n")
    assert directory.problems() == [
        "isoneph.conf:2: api.port: expected a port number from 0 to 65535",
        "clouds.yaml:2: clouds.uniform.region: missing; expected text (Where it is)",
        "applications/mme.yaml:1: types.worker.options.flavor: missing; expected text (on uniform)",
        "applications/mme.yaml:2: victims[0].policy: no victims plugin 'x'",
        "applications/other.yml:1: expected a mapping, found a list",
    ]


def test_the_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISONEPH_CONFIG_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_directory() == Path("/etc/isoneph")
    (tmp_path / ".config" / "isoneph").mkdir(parents=True)
    assert default_directory() == tmp_path / ".config" / "isoneph"
    monkeypatch.setenv("ISONEPH_CONFIG_DIR", "elsewhere")
    assert default_directory() == Path("elsewhere")


@pytest.mark.parametrize("has_file", [True, False])
def test_the_default_directory_is_read(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, has_file: bool
) -> None:
    if has_file:
        directory.write("isoneph.conf", "[api]\nport = 1\n")
    directory.write("other.conf", "[api]\nport = 2\n")
    monkeypatch.setenv("ISONEPH_CONFIG_DIR", str(directory.path))
    loaded = load_settings(registry=FakeRegistry())
    assert loaded.settings.service.port == (1 if has_file else 8642)
    assert [path.name for path in loaded.files] == [
        *(["isoneph.conf"] if has_file else []),
        "clouds.yaml",
        "mme.yaml",
    ]


def test_a_directory_that_is_not_there(directory: Directory) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load_settings(config_dirs=[directory.path / "nowhere"], registry=FakeRegistry())
    assert directory.shorten(caught.value.problems) == [
        "nowhere: no such directory; name another with --config-dir or $ISONEPH_CONFIG_DIR"
    ]


def test_files_that_are_no_applications_are_left_alone(directory: Directory) -> None:
    for name in (".mme.yaml.swp", ".hidden.yaml", "mme.yaml~", "README", "mme.yaml.sample"):
        directory.write(f"applications/{name}", "no application")
    assert list(directory.load().settings.applications) == ["mme"]


def test_without_applications_there_is_a_warning(directory: Directory) -> None:
    (directory.path / "applications/mme.yaml").unlink()
    loaded = directory.load()
    assert loaded.settings.service.default_application is None
    assert directory.shorten(loaded.warnings) == [
        "applications: there is no application; expected a file NAME.yaml for each"
    ]


@pytest.mark.parametrize(
    ("first", "second", "given", "default"),
    [
        ("", "", "", None),
        ("", "default: true", "", "second"),
        ("default: false", "default: true", "", "second"),
        ("", "", "first", "first"),
        ("default: true", "", "first", "first"),
    ],
)
def test_the_default_application(
    directory: Directory, first: str, second: str, given: str, default: str | None
) -> None:
    _write_two(directory, first, second, given)
    assert directory.load().settings.service.default_application == default


@pytest.mark.parametrize(
    ("first", "second", "given", "problem"),
    [
        (
            "default: true",
            "default: true",
            "",
            "default: applications/first.yaml says so too; expected one default application",
        ),
        (
            "",
            "default: true",
            "first",
            "default: [api] default_application names another one: first",
        ),
        (
            "application: same",
            "application: same",
            "",
            "application: applications/first.yaml has the same name: same",
        ),
    ],
)
def test_applications_that_contradict_one_another(
    directory: Directory, first: str, second: str, given: str, problem: str
) -> None:
    _write_two(directory, first, second, given)
    assert directory.problems() == [f"applications/second.yaml:4: {problem}"]


def _write_two(directory: Directory, first: str, second: str, given: str) -> None:
    (directory.path / "applications/mme.yaml").unlink()
    directory.write("applications/first.yaml", APPLICATION + first)
    directory.write("applications/second.yaml", APPLICATION + second)
    if given:
        directory.write("isoneph.conf", f"[api]\ndefault_application = {given}\n")


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("clouds.yaml", CLOUDS + "cache: {auth: {password: x}}\n", ""),
        (
            "isoneph.conf",
            "[store]\ndriver = network\nurl = x\npassword = x\n",
            ":4: store.password",
        ),
        (
            "isoneph.conf",
            "[store]\ndriver = network\nurl = redis://me:pw@host/0\n",
            ":3: store.url",
        ),
    ],
)
def test_a_secret_that_others_can_read_is_a_warning(
    directory: Directory, name: str, text: str, place: str
) -> None:
    path = directory.write(name, text)
    path.chmod(0o640)
    assert directory.shorten(directory.load().warnings) == [
        f"{name}{place}: holds a secret, and others can open it (mode 0640); chmod 600 {name}"
    ]
    path.chmod(0o600)
    assert not directory.load().warnings


def test_what_only_looks_secret_is_no_warning(directory: Directory) -> None:
    directory.write(
        "clouds.yaml",
        "clouds:\n  auth: {driver: bare, auth_url: x, auth: {username: x, project_name: x}}\n",
    )
    directory.write(
        "applications/mme.yaml",
        "types: {token: {options: {script: x}}}\n"
        f"tokens: [{{name: a, sha256: {DIGEST}, scopes: [read]}}]\n",
    )
    assert not directory.load().warnings


def test_the_description_shows_everything_but_secrets(directory: Directory) -> None:
    directory.write(
        "clouds.yaml",
        """\
clouds:
  token:
    driver: bare
    auth: {auth_url: https://x, username: me, password: s3cret, passcode: [s3cret]}
    api_key: s3cret
    proxy: https://me:s3cret@proxy:3128
""",
    )
    directory.write(
        "applications/mme.yaml",
        "types: {worker: {options: {script: run}}}\n"
        f"tokens: [{{name: front-end, sha256: {DIGEST}, scopes: [write, read]}}]\n",
    )
    directory.write(
        "isoneph.conf", "[store]\ndriver = network\nurl = redis://:s3cret@host/0\npassword=s3cret\n"
    )
    described = describe(directory.load().settings)
    assert "s3cret" not in json.dumps(described)
    assert DIGEST not in json.dumps(described)
    assert described["clouds"]["token"]["options"] == {
        "auth": {"auth_url": "https://x", "username": "me", "password": "***", "passcode": ["***"]},
        "api_key": "***",
        "proxy": "https://me:***@proxy:3128",
    }
    assert described["store"]["options"]["url"] == "redis://:***@host/0"
    mme = described["applications"]["mme"]
    assert mme["tokens"] == [{"name": "front-end", "sha256": "***", "scopes": ["read", "write"]}]
    assert mme["types"]["worker"]["token"]["options"] == {"script": "run"}
    assert described["service"]["port"] == 8642


@pytest.mark.parametrize(
    "key",
    ["password", "os_password", "Secret", "client_secret", "auth", "token", "api-key", "sha256"],
)
def test_keys_that_are_secret(key: str) -> None:
    assert is_secret(key)
    assert mask({key: "x"}) == {key: "***"}


@pytest.mark.parametrize(
    "key", ["auth_url", "auth_type", "token_file", "password_file", "key_name", "author", "private"]
)
def test_keys_that_are_not_secret(key: str) -> None:
    assert not is_secret(key)


def test_every_setting_can_be_configured() -> None:
    def names(settings_class: type) -> set[str]:
        return {field.name for field in fields(settings_class)}

    assert names(ApplicationSettings) == {*map(str, SCHEMA), "name"} - {"application", "default"}
    assert names(HealingSettings) == set(map(str, HEALING))
    assert names(CloudSettings) == {"name", "driver", "options", *map(str, CLOUD["isoneph"])}


# The samples that are installed.


def test_the_samples_load(tmp_path: Path) -> None:
    samples = shutil.copytree(SAMPLES, tmp_path / "isoneph")
    (samples / "clouds.yaml").chmod(0o600)
    loaded = load_settings(config_dirs=[samples], registry=Registry())
    assert not loaded.warnings
    assert {name: cloud.driver for name, cloud in loaded.settings.clouds.items()} == {
        "uniform": "openstack",
        "quebec": "openstack",
    }
    mme = loaded.settings.applications["mme"]
    assert list(mme.types) == ["mme_fe", "mme_worker", "redis", "spgw", "ssh_gw"]
    assert set(mme.types["mme_worker"]) == {"uniform", "quebec"}
    assert mme.types["mme_fe"]["quebec"].resources["ports"] == 2
    assert [each.policy for each in mme.placement] == ["quota", "count-balance"]


def test_the_sample_describes_all_that_its_types_name() -> None:
    mme = load_settings(config_dirs=[SAMPLES], registry=Registry()).settings.applications["mme"]
    described = mme.prepare["openstack"]
    types = [on_clouds["uniform"].options for on_clouds in mme.types.values()]
    assert {name for each in types for name in each["networks"]} == set(described["networks"])
    groups = {name for each in types for name in each["security_groups"]}
    assert groups == set(described["security_groups"])
    assert {each["image"] for each in types} == set(described["images"])
    assert {each["key_name"] for each in types} == set(described["keypairs"])


def test_the_samples_load_with_their_examples_in_force(tmp_path: Path) -> None:
    (tmp_path / "applications").mkdir()
    for name in ("clouds.yaml", "applications/mme.yaml"):
        text = _with_examples((SAMPLES / name).read_text())
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    loaded = load_settings(config_dirs=[tmp_path], registry=Registry())
    assert set(loaded.settings.clouds) == {"uniform", "quebec", "tango", "oslo"}
    mme = loaded.settings.applications["mme"]
    assert len(mme.placement) == 5
    assert len(mme.victims) == 5
    assert mme.relay is not None
    assert (mme.relay.driver, mme.relay.types) == ("sctp", ("mme_fe",))
    assert mme.relay.drain == RelaySettings(driver="").drain
    assert {token.name for token in mme.tokens} == {"mme-front-end", "prometheus"}
    assert mme.types["mme_worker"]["quebec"].resources["cores"] == 2.0
    # What stands in an example is the default, so that it tells the truth.
    default = load_settings(config_dirs=[SAMPLES], registry=Registry()).settings
    assert mme.healing == default.applications["mme"].healing
    assert (mme.freshness, mme.patience, mme.deadline) == (2.0, 3.0, 120.0)


def _with_examples(text: str) -> str:
    """A sample with the comment signs taken from its examples: from keys, items and what is
    indented below them, while sentences stay comments."""
    example = re.compile(r"^(\s*)# ((?:\s*- |\s*[a-z_]+:(?: |$)|\s{2,}).*)$", re.MULTILINE)
    return example.sub(r"\1\2", text)


# Whatever stands in the files.

TEXTS = st.sampled_from(
    ["uniform", "clouds", "types", "driver", "fake", "bare", "policy", "priced", "password",
     "options", "no", "~", "<<", "a b", "-", "*x", "&x", "!x", "\n", "\t", "{", "]", "'", "x: y"]
) | st.text(max_size=8)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCALARS, inner, max_size=4),
    max_leaves=12,
)
CLOUD_LIKE = st.fixed_dictionaries(
    {"clouds": st.dictionaries(TEXTS, VALUES | st.dictionaries(TEXTS, VALUES, max_size=4))}
)
APPLICATION_LIKE = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(map(str, SCHEMA), VALUES)
    | {"types": st.dictionaries(TEXTS, st.dictionaries(TEXTS, VALUES, max_size=3), max_size=3)},
)


def _dumped(values: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    return values.map(lambda value: yaml.safe_dump(value, allow_unicode=True))


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    clouds=_dumped(CLOUD_LIKE | VALUES) | st.text() | st.binary(),
    application=_dumped(APPLICATION_LIKE | VALUES) | st.text() | st.binary(),
    service=st.lists(st.sampled_from(["[api]", "[store]", "port = 1", "driver = network", "url:"])
                     | st.text(max_size=20)).map("\n".join) | st.binary(),
)  # fmt: skip
def test_nothing_but_config_invalid_comes_of_any_files(
    directory: Directory, clouds: str | bytes, application: str | bytes, service: str | bytes
) -> None:
    for name, text in (
        ("clouds.yaml", clouds),
        ("applications/mme.yaml", application),
        ("isoneph.conf", service),
    ):
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        directory.write(name, data)
    lines: Sequence[str] = ()
    try:
        lines = directory.load().warnings
    except ConfigInvalid as error:
        lines = error.problems or ["\n"]
    assert all(line.isprintable() for line in lines)


@settings(max_examples=40, deadline=None)
@given(VALUES)
def test_validation_never_raises(value: Any) -> None:
    told: list[Any] = []
    checked = check(SCHEMA, value, lambda *each: told.append(each))
    assert (checked is None) == bool(told)
