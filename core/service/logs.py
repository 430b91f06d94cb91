"""The service's log: one line for each event, for people or as JSON, on standard error."""

from __future__ import annotations

import functools
import logging
import sys
import time
from typing import Any

import msgspec

from isoneph.core.api.tracing import REQUEST_ID, Ended

#: The logger above all of isoneph's; of others only warnings are of interest.
NAME = "isoneph"


class TextFormatter(logging.Formatter):
    """For people: ``TIME LEVEL LOGGER [REQUEST ID] MESSAGE``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and after it the traceback if there is one."""
        request_id = REQUEST_ID.get()
        about = f" [{request_id}]" if request_id else ""
        message = _printable(record.getMessage())
        line = f"{_stamp(record)} {record.levelname} {record.name}{about} {message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """For programs: one JSON object on a line; of how a request ended, with its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry: dict[str, Any] = {
            "time": _stamp(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            entry["request_id"] = request_id
        if isinstance(record.msg, Ended):
            entry |= record.msg._asdict()
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def configure_logging(level: str, form: str) -> None:
    """Log to standard error, and nowhere else, from ``level`` on; ``form`` is text or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(NAME).setLevel(level)
    logging.captureWarnings(capture=True)
    # What nobody shows need not be found out for each line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _stamp(record: logging.LogRecord) -> str:
    return f"{_second(int(record.created))}.{int(record.msecs):03d}Z"


@functools.lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _printable(text: str) -> str:
    """``text`` on one line, whatever somebody put into it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
