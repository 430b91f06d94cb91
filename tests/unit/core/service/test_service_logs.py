"""The two forms of the log."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from isoneph.core.api.tracing import REQUEST_ID, Ended
from isoneph.core.service.logs import JsonFormatter, TextFormatter, configure_logging


def record(message: object, *arguments: object) -> logging.LogRecord:
    made = logging.LogRecord("isoneph.x", logging.INFO, "f", 1, message, arguments, None)
    made.created, made.msecs = 1_767_225_600.25, 250.0
    return made


def failing() -> logging.LogRecord:
    made = record("failed")
    try:
        int("no")
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


@pytest.fixture
def request_id() -> Iterator[str]:
    token = REQUEST_ID.set("order-17")
    yield "order-17"
    REQUEST_ID.reset(token)


def test_text_is_one_line_for_people(request_id: str) -> None:
    line = TextFormatter().format(record("%s is %d", "it", 3))
    assert line == "2026-01-01T00:00:00.250Z INFO isoneph.x [order-17] it is 3"


def test_outside_of_a_request_there_is_no_id() -> None:
    assert TextFormatter().format(record("x")).endswith("INFO isoneph.x x")
    assert "request_id" not in json.loads(JsonFormatter().format(record("x")))


def test_nobody_can_write_lines_of_their_own() -> None:
    line = TextFormatter().format(record("%s", "a\nb\x1b[31m\u2028caf\xe9"))
    assert line.endswith(" a\\nb\\x1b[31m\\u2028caf\xe9")


def test_of_how_a_request_ended_programs_get_the_fields(request_id: str) -> None:
    ended = record(Ended("GET", "/vm", 200, 1.234, "reader"))
    assert TextFormatter().format(ended).endswith(" GET /vm 200 1.2 ms token reader")
    assert json.loads(JsonFormatter().format(ended)) == {
        "time": "2026-01-01T00:00:00.250Z",
        "level": "INFO",
        "logger": "isoneph.x",
        "message": "GET /vm 200 1.2 ms token reader",
        "request_id": "order-17",
        "method": "GET",
        "path": "/vm",
        "status": 200,
        "ms": 1.234,
        "token": "reader",
    }


def test_json_is_one_line_too() -> None:
    line = JsonFormatter().format(record("a\nb"))
    assert "\n" not in line
    assert json.loads(line)["message"] == "a\nb"


def test_a_traceback_is_kept() -> None:
    assert "ValueError: " in TextFormatter().format(failing()).splitlines()[-1]
    entry = json.loads(JsonFormatter().format(failing()))
    assert entry["exception"].startswith("Traceback")


def test_only_ours_is_logged_in_detail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, ours = logging.getLogger(), logging.getLogger("isoneph")
    monkeypatch.setattr(root, "handlers", [])
    for name in ("logThreads", "logProcesses", "logMultiprocessing"):
        monkeypatch.setattr(logging, name, getattr(logging, name))
    levels = root.level, ours.level
    try:
        configure_logging("DEBUG", "text")
        logging.getLogger("isoneph.core.x").debug("ours")
        logging.getLogger("httpx").info("theirs")
        logging.getLogger("httpx").warning("theirs, but important")
    finally:
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
        logging.captureWarnings(capture=False)
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 3)[3] for line in said] == ["ours", "theirs, but important"]
