from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from cli_runs import Isoneph
from isoneph.core.config import load_settings


def test_a_good_configuration(isoneph: Isoneph, config: Path) -> None:
    result = isoneph("config", "check")
    assert (result.code, result.out, result.err) == (0, "ok: 2 clouds, 1 application\n", "")
    assert isoneph("config", "check", "--config-dir", str(config)).out == result.out


def test_warnings_are_shown_and_do_not_fail(isoneph: Isoneph, config: Path) -> None:
    (config / "applications" / "shop.yaml").unlink()
    result = isoneph("config", "check")
    assert result.code == 0
    warning, verdict = result.out.splitlines()
    assert warning.startswith(f"warning: {config / 'applications'}: there is no application")
    assert verdict == "ok: 2 clouds, 0 applications"


def test_every_problem_is_a_line(isoneph: Isoneph, config: Path) -> None:
    (config / "clouds.yaml").write_text("clouds: {paris: {driver: mock, sede: 1, seed: x}}")
    result = isoneph("config", "check")
    assert (result.code, result.err) == (1, "")
    assert len(result.out.splitlines()) == 2
    assert "did you mean 'seed'?" in result.out


def test_shows_what_is_in_force_without_secrets(isoneph: Isoneph, config: Path) -> None:
    shown = yaml.safe_load(isoneph("config", "show").out)
    assert shown["clouds"]["paris"]["timeout"] == 60.0
    assert shown["applications"]["shop"]["tokens"][0]["sha256"] == "***"
    as_json = isoneph("config", "show", "-f", "json", "-c", "applications").out
    assert json.loads(as_json) == {"applications": shown["applications"]}


@pytest.mark.parametrize("command", ["config show", "serve", "engine"])
def test_without_a_configuration(isoneph: Isoneph, command: str, tmp_path: Path) -> None:
    result = isoneph(*command.split(), "--config-dir", str(tmp_path / "nowhere"))
    assert result.code == 2
    assert f"{tmp_path / 'nowhere'}: no such directory" in result.err


def test_a_new_token_and_its_lines_belong_together(isoneph: Isoneph, config: Path) -> None:
    result = isoneph("token", "create", "ci", "--scope", "metrics", "--scope", "read")
    assert result.err == "keep the first line: it is not shown again\n"
    token, _, lines = result.out.partition("\n")
    application = yaml.safe_load((config / "applications" / "shop.yaml").read_text())
    application.update(yaml.safe_load(lines))
    (config / "applications" / "shop.yaml").write_text(yaml.safe_dump(application))
    (known,) = load_settings((), (config,)).settings.applications["shop"].tokens
    assert known.sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert (known.name, sorted(known.scopes)) == ("ci", ["metrics", "read"])


def test_tokens_differ_and_read_and_write_by_default(isoneph: Isoneph) -> None:
    first, second = isoneph("token", "create", "a"), isoneph("token", "create", "a")
    assert first.out.splitlines()[0] != second.out.splitlines()[0]
    assert "scopes: [read, write]" in first.out


def test_a_token_needs_a_name_that_the_configuration_takes(isoneph: Isoneph) -> None:
    result = isoneph("token", "create", "9 lives")
    assert (result.code, result.out) == (2, "")
    assert "'9 lives' cannot be a token's name" in result.err
