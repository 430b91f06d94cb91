from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cli_runs import FakeService, Isoneph
from isoneph.core.cli import main as cli
from isoneph.core.cli.main import COMMANDS


def test_help_lists_every_command_with_its_summary(isoneph: Isoneph) -> None:
    result = isoneph("--help")
    assert (result.code, result.err) == (0, "")
    for name, point in COMMANDS.items():
        summary = str(point.load().__doc__).partition("\n")[0].rstrip(".")
        assert f"  {name:<14} {summary}\n" in result.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(isoneph: Isoneph, name: str) -> None:
    result = isoneph(*name.split(), "--help")
    assert (result.code, result.err) == (0, "")
    usage, _, examples = result.out.partition("\nexamples:\n")
    assert usage.startswith(f"usage: isoneph {name} ")
    assert f"isoneph {name}" in examples


def test_help_of_a_command_does_not_mind_the_rest_of_the_line(isoneph: Isoneph) -> None:
    wrong = isoneph("vm", "create", "--count", "none", "--help")
    assert (wrong.code, wrong.err) == (0, "")
    assert wrong.out == isoneph("help", "vm", "create").out


def test_nothing_at_all_shows_the_help(isoneph: Isoneph) -> None:
    result = isoneph()
    assert result.code == 2
    assert result.out == isoneph("help").out == isoneph("-h").out


def test_version(isoneph: Isoneph) -> None:
    result = isoneph("--version")
    assert result.code == 0
    assert result.out.startswith("isoneph 0.")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("vm lst", "did you mean 'vm list'"),
        ("vm", "did you mean 'vm create' or 'vm delete' or 'vm list' or 'vm show'?"),
        ("cluod list", "did you mean 'cloud list'"),
        ("explan", "did you mean 'explain'"),
    ],
)
def test_an_unknown_command_gets_suggestions(isoneph: Isoneph, typed: str, hint: str) -> None:
    result = isoneph(*typed.split())
    assert (result.code, result.out) == (2, "")
    assert f"isoneph: there is no command '{typed}'" in result.err
    assert hint in result.err


def test_options_between_the_words_of_a_command(isoneph: Isoneph) -> None:
    result = isoneph("vm", "--local", "list")
    assert result.code == 2
    assert "there is no command 'vm'; " in result.err


def test_a_command_like_no_other_gets_no_suggestion(isoneph: Isoneph) -> None:
    assert "hint" not in isoneph("xyzzy").err


def test_an_option_before_the_command_is_told_where_it_belongs(isoneph: Isoneph) -> None:
    result = isoneph("--url", "http://x", "vm", "list")
    assert result.code == 2
    assert "isoneph: unknown option --url; a command's own options stand after it" in result.err


def test_a_wrong_option_is_a_usage_error(isoneph: Isoneph) -> None:
    result = isoneph("vm", "list", "--colour", "red")
    assert result.code == 2
    assert "isoneph vm list: error: unrecognized arguments: --colour red" in result.err


def test_an_unknown_column_is_a_usage_error(isoneph: Isoneph) -> None:
    result = isoneph("plugin", "list", "--kind", "stores", "-c", "name", "-c", "colour")
    assert (result.code, result.out) == (2, "")
    assert "there is no column 'colour', only kind, name" in result.err


def test_what_nobody_foresaw_is_one_line_unless_debugged(
    isoneph: Isoneph, service: FakeService
) -> None:
    service.fail(LookupError("odd"))
    result = isoneph("type", "list")
    assert result.code == 1
    assert result.err == (
        "isoneph: internal error: LookupError: odd\nhint: --debug shows where it happened\n"
    )
    service.fail(LookupError("odd"))
    assert "Traceback" in isoneph("type", "list", "--debug").err


def test_interrupted(isoneph: Isoneph, service: FakeService) -> None:
    service.fail(KeyboardInterrupt())
    assert isoneph("type", "list").code == 130


def test_logs_go_to_standard_error_and_a_file(
    isoneph: Isoneph, service: FakeService, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    service.answer({"types": []})
    result = isoneph("-v", "type", "list", "--log-file", str(log))
    assert result.err.startswith("isoneph: INFO: HTTP Request: GET ")
    assert " INFO httpx: HTTP Request: GET " in log.read_text()


def test_a_log_file_that_cannot_be_written(isoneph: Isoneph, tmp_path: Path) -> None:
    result = isoneph("type", "list", "--log-file", str(tmp_path))
    assert (result.code, result.err) == (1, f"isoneph: {tmp_path}: Is a directory\n")


def test_a_reader_that_went_away_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert cli.main(["token", "create", "x"]) == 141
    assert capfd.readouterr().err == ""


def test_completes_in_bash(isoneph: Isoneph) -> None:
    result = isoneph("complete")
    assert (result.code, result.err) == (0, "")
    assert "complete -F _isoneph isoneph" in result.out
    assert "cmds_vm='create delete list show'" in result.out
    for option in ("--wait", "--local", "--url"):
        assert option in result.out.partition("cmds_vm_create='")[2].partition("'")[0]
