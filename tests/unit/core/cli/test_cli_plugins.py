from __future__ import annotations

import json
from pathlib import Path

import pytest
from stevedore import ExtensionManager

from cli_runs import Isoneph
from isoneph.core.plugin import KINDS


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package whose plugin does not import."""
    info = tmp_path / "site" / "faulty-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[isoneph.victims]\nfaulty = no_such_module:Plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(ExtensionManager, "ENTRY_POINT_CACHE", {})


@pytest.mark.usefixtures("broken")
def test_lists_what_is_installed_and_what_is_broken(isoneph: Isoneph) -> None:
    result = isoneph("plugin", "list", "--kind", "victims", "-f", "json")
    assert (result.code, result.err) == (0, "")
    plugins = {plugin["name"]: plugin for plugin in json.loads(result.out)}
    assert plugins["oldest"]["status"] == "ok"
    assert plugins["oldest"]["package"].startswith("isoneph ")
    assert plugins["oldest"]["summary"]
    faulty = plugins["faulty"]
    assert (faulty["package"], faulty["summary"]) == ("faulty 1.2", None)
    assert faulty["status"].startswith("broken: ")
    assert "No module named 'no_such_module'" in faulty["status"]


def test_lists_all_kinds(isoneph: Isoneph) -> None:
    listed = isoneph("plugin", "list", "-f", "value", "-c", "kind").out.split()
    assert list(dict.fromkeys(listed)) == list(KINDS)


def test_shows_every_option(isoneph: Isoneph) -> None:
    shown = json.loads(isoneph("plugin", "show", "clouds", "mock", "-f", "json").out)
    assert shown["summary"].startswith("A simulated cloud")
    options = {option["name"]: option for option in shown["options"]}
    seed = options["seed"]
    assert (seed["required"], seed["default"]) == (False, "0")
    assert all(option["description"] and option["type"] for option in options.values())
    assert [option["name"] for option in shown["type_options"]] == ["boot_seconds"]


def test_the_options_read_well(isoneph: Isoneph) -> None:
    out = isoneph("plugin", "show", "clouds", "mock").out
    assert "; default 0)" in out
    assert "All chance follows from this number" in out
    assert "none" in isoneph("plugin", "show", "victims", "oldest", "-c", "options").out


def test_a_plugin_that_is_not_there(isoneph: Isoneph) -> None:
    result = isoneph("plugin", "show", "victims", "oldset")
    assert (result.code, result.out) == (2, "")
    assert "did you mean 'oldest'?" in result.err
