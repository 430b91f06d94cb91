"""YAML that is not what it seems, and files that cannot be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from configured import Directory, cases
from isoneph.core.config.documents import MAX_BYTES, Document, read_document
from isoneph.core.config.problems import Problems

BOMB = "\n".join(
    f"{name}: &{name} [{', '.join([value] * 10)}]"
    for name, value in zip("abcdefgh", ["1", *(f"*{name}" for name in "abcdefg")], strict=True)
)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        *cases("broken_documents.txt"),
        pytest.param("", ["clouds.yaml: the file is empty; expected a mapping"], id="empty"),
        pytest.param(
            b"clouds:\n  # caf\xe9\n",
            ["clouds.yaml:2: not in UTF-8; save the file in that encoding"],
            id="latin-1",
        ),
        pytest.param(
            "a: 1\n# \x01",
            ["clouds.yaml:2: a character that YAML does not allow"],
            id="control-character",
        ),
        pytest.param(
            BOMB, ["clouds.yaml:1: more than 50000 values; are aliases nested?"], id="alias-bomb"
        ),
        pytest.param(
            "[" * 500, ["clouds.yaml: nested more than 32 levels deep"], id="deep-in-brackets"
        ),
    ],
)
def test_broken_yaml(directory: Directory, text: str | bytes, problems: list[str]) -> None:
    directory.write("clouds.yaml", text)
    assert directory.problems() == problems


@pytest.mark.parametrize("secret", ["*hunter2", "!hunter2 x", "%hunter2", "'hunter2", "{hunter2"])
def test_a_password_that_breaks_the_yaml_is_not_shown(directory: Directory, secret: str) -> None:
    directory.write("clouds.yaml", f"clouds:\n  a:\n    auth: {{password: {secret}\n    }}\n")
    assert "hunter2" not in "\n".join(directory.problems())


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(Path.mkdir, "this is a directory; expected a file", id="directory"),
        pytest.param(os.mkfifo, "this is not a regular file; expected a file", id="pipe"),
        pytest.param(
            lambda path: path.write_bytes(b"#" * (MAX_BYTES + 1)),
            "larger than 1 MiB, which no configuration is",
            id="huge",
        ),
        pytest.param(lambda path: None, "no such file", id="missing"),
        pytest.param(
            lambda path: path.symlink_to(path),
            "cannot be read: Too many levels of symbolic links",
            id="loop",
        ),
    ],
)
def test_what_is_no_file(
    directory: Directory, make: Callable[[Path], object], problem: str
) -> None:
    path = directory.path / "clouds.yaml"
    path.unlink()
    make(path)
    assert directory.problems() == [f"clouds.yaml: {problem}"]


def test_a_file_that_may_not_be_read(directory: Directory, mocker: MockerFixture) -> None:
    opened = Path.open

    def refuse(path: Path, mode: str = "r") -> Any:
        if path.name == "clouds.yaml":
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, mode)

    mocker.patch.object(Path, "open", refuse)
    assert directory.problems() == ["clouds.yaml: cannot be read: Permission denied"]


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    assert _read(tmp_path, "\ufeffa: 1\n").value == {"a": 1}


def test_merged_mappings_keep_their_lines_and_give_way_to_what_is_written(tmp_path: Path) -> None:
    document = _read(tmp_path, "base: &base {x: 1, y: {z: 1}}\nown:\n  <<: *base\n  x: 2\n")
    assert document.value["own"] == {"x": 2, "y": {"z": 1}}
    assert document.lines["own", "x"] == 4
    assert document.lines["own", "y", "z"] == 1
    assert not document.problems.lines()


def test_dates_and_times_are_text_and_openstacks_booleans_are_booleans(tmp_path: Path) -> None:
    document = _read(tmp_path, "day: 2024-01-31\nports: 22:22\nverify: no\n")
    assert document.value == {"day": "2024-01-31", "ports": "22:22", "verify": False}


def test_a_problem_with_what_is_not_there_stands_at_what_would_hold_it(tmp_path: Path) -> None:
    document = _read(tmp_path, "a:\n  b:\n    - c: 1\n")
    document.problem(("a", "b", 0, "d"), "missing")
    document.problem(("e",), "missing")
    assert document.problems.lines() == (
        f"{document.file}:1: e: missing",
        f"{document.file}:3: a.b[0].d: missing",
    )


def _read(directory: Path, text: str) -> Document:
    path = directory / "f.yaml"
    path.write_text(text, encoding="utf-8")
    document = read_document(path, Problems())
    assert document is not None
    return document
