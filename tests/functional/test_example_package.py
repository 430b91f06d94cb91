"""A third party's plugins: installed with pip, used through configuration alone."""

from __future__ import annotations

import ast
import json
import shutil
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from installed import CHECKOUT, Distributions, Virtualenv

pytestmark = pytest.mark.timeout(600)  # packages may come over a slow network

GUIDE = CHECKOUT / "doc" / "source" / "plugin-guide.rst"
EXAMPLE = CHECKOUT / "doc" / "examples" / "isoneph-example"
#: Where the sample configuration of the example has its clouds.
CLOUDS = "/var/tmp/isoneph-example"  # noqa: S108 (only to be replaced)

#: All that a plugin may import from isoneph, with the suites for its tests.
PUBLIC = {f"isoneph.core.{name}" for name in ("errors", "identity", "model", "plugin", "testing")}

Rows = Sequence[dict[str, Any]]
Isoneph = Callable[..., Rows]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, as an author has it to begin with."""
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build")
    target = tmp_path_factory.mktemp("author") / EXAMPLE.name
    return Path(shutil.copytree(EXAMPLE, target, ignore=left_out))


@pytest.fixture(scope="module")
def virtualenv(distributions: Distributions, package: Path) -> Virtualenv:
    """Holds isoneph, the example, and what the example's tests need."""
    virtualenv = Virtualenv(package.parent / "venv")
    virtualenv.install(str(distributions.wheel), f"{package}[test]")
    return virtualenv


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The sample configuration of the example, with the clouds in a place of their own."""
    directory = Path(shutil.copytree(EXAMPLE / "etc", tmp_path / "etc"))
    replace(directory / "clouds.yaml", CLOUDS, str(tmp_path / "clouds"))
    return directory


@pytest.fixture
def isoneph(virtualenv: Virtualenv, config: Path) -> Isoneph:
    """Runs a command on the clouds of the configuration and returns the rows that it prints."""

    def isoneph(*command: str) -> Rows:
        local = ("--local", "--config-dir", str(config), "-f", "json")
        rows: Rows = json.loads(virtualenv.run("isoneph", *command, *local))
        return rows

    return isoneph


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_its_plugins_are_listed_with_the_shipped_ones(virtualenv: Virtualenv) -> None:
    rows = json.loads(virtualenv.run("isoneph", "plugin", "list", "-f", "json"))
    listed = {(row["kind"], row["name"]): row for row in rows}
    for kind, name, summary in (
        ("clouds", "paper", "VMs on paper: each one is a JSON file in a directory."),
        ("placement", "green", "The cloud with the cleanest electricity first, within a limit."),
    ):
        row = listed[kind, name]
        assert row["package"] == "isoneph-example 1.0.0"
        assert (row["summary"], row["status"]) == (summary, "ok")
    assert listed["clouds", "mock"]["status"] == "ok"


def test_its_options_have_a_reference(virtualenv: Virtualenv) -> None:
    shown = json.loads(virtualenv.run("isoneph", "plugin", "show", "clouds", "paper", "-f", "json"))
    assert {option["name"] for option in shown["options"]} == {"directory", "images", "quotas"}
    assert [option["name"] for option in shown["type_options"]] == ["image"]
    assert all(option["description"] for option in (*shown["options"], *shown["type_options"]))


def test_its_configuration_is_valid(virtualenv: Virtualenv, config: Path) -> None:
    said = virtualenv.run("isoneph", "config", "check", "--config-dir", config)
    assert said == "ok: 3 clouds, 1 application\n"


def test_mistakes_in_its_options_are_told_with_their_place(
    virtualenv: Virtualenv, config: Path
) -> None:
    replace(config / "clouds.yaml", "{debian: 0.5}", "{debian: soon}")
    replace(config / "applications" / "web.yaml", "katowice: 660", "katowice: lots")
    said = virtualenv.run("isoneph", "config", "check", "--config-dir", config, expect=1)
    first, *_, last = said.replace(f"{config.parent}/", "").splitlines()
    assert first == (
        "etc/clouds.yaml:5: clouds.oslo.images.debian: expected a number from 0 to 1e9, found text"
    )
    assert f"   {last}\n" in GUIDE.read_text(), "the guide shows the line"


def test_its_policy_decides_between_its_clouds(virtualenv: Virtualenv, config: Path) -> None:
    said = virtualenv.run("isoneph", "explain", "--local", "--config-dir", config, "server")
    for reason in ("30 g CO2 per kWh", "660 g CO2 per kWh, the limit is 500"):
        assert f"green: {reason}" in said
    assert textwrap.indent(said, "   ") in GUIDE.read_text(), "the guide shows the table"


def test_vms_live_on_its_clouds(virtualenv: Virtualenv, config: Path, isoneph: Isoneph) -> None:
    made = isoneph("vm", "create", "server", "--count", "3", "--wait", "--timeout", "30")
    places = sorted(vm["cloud"] for vm in made)
    assert places == ["oslo", "oslo", "paris"], "the quota of oslo is two"
    listed = isoneph("vm", "list")
    assert {vm["id"] for vm in listed} == {vm["id"] for vm in made}
    assert {vm["state"] for vm in listed} == {"ACTIVE"}
    ids = [vm["id"] for vm in made]
    virtualenv.run("isoneph", "vm", "delete", "--local", "--config-dir", config, *ids)
    assert isoneph("vm", "list") == []


def test_its_own_tests_pass(virtualenv: Virtualenv, package: Path) -> None:
    said = virtualenv.run("pytest", "-q", "-W", "error", package)
    assert " passed" in said
    assert "skipped" not in said


def test_it_imports_only_what_is_public() -> None:
    imported = set()
    for path in EXAMPLE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "isoneph.core":
                imported |= {f"isoneph.core.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module))
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
    from_isoneph = {name for name in imported if name.startswith("isoneph.")}
    assert from_isoneph <= PUBLIC
    assert {"isoneph.core.plugin", "isoneph.core.testing"} <= from_isoneph
