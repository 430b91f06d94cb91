"""The WSGI application that uWSGI runs for each API: the service's own, behind a front.

The front writes down each call, shows the faults that a test asks for, and keeps the tokens that
the service has found valid, so that they can be forgotten.

Environment variables: ``TESTBED_APPLICATION``, the module of the service's own application;
``TESTBED_FAULTS``, the file of rules, see `openstack_testbed/faults.py`; ``TESTBED_CALLS``, where
the calls go, a JSON object a line; ``TESTBED_REVOKED``, a file: when it changes, tokens are
forgotten; ``TESTBED_AGENT``, the User-Agent that is let through unseen.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Rule = Mapping[str, Any]


class Tokens:
    """What ``[keystone_authtoken] cache`` names: an object with memcache's verbs."""

    def __init__(self, revoked: str) -> None:
        self._revoked = revoked
        self._seen = _changed(revoked)
        self._values: dict[str, Any] = {}

    def forget_revoked(self) -> Tokens:
        """Forget all tokens if some have been revoked since the last call."""
        if (changed := _changed(self._revoked)) != self._seen:
            self._seen = changed
            self._values = {}
        return self

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def set(self, key: str, value: Any, time: int = 0) -> None:  # memcache's word
        self._values[key] = value


class Faults:
    """The rules in a file, read again when it has changed. Thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: object = None
        self._rules: list[Rule] = []
        self._uses: dict[int, int] = {}

    def matching(self, method: str, path: str, agent: str) -> Rule:
        """The first rule that is about such a request; an empty one when there is none."""
        with self._lock:
            self._refresh()
            for number, rule in enumerate(self._rules):
                if not (
                    re.fullmatch(rule.get("method", ".*"), method)
                    and re.search(rule.get("path", ""), path)
                    and re.search(rule.get("agent", ""), agent)
                ):
                    continue
                uses = self._uses.get(number, 0)
                if uses < rule.get("times", uses + 1):
                    self._uses[number] = uses + 1
                    return rule
        return {}

    def _refresh(self) -> None:
        changed = _changed(self._path)
        if changed != self._seen:
            self._seen = changed
            self._uses = {}
            try:
                with open(self._path) as file:  # noqa: PTH123  # as fast as can be
                    self._rules = json.load(file)
            except (OSError, ValueError):
                self._rules = []


class Front:
    """The application before a service's own.

    Args:
        service: The service's own application.
        faults: What to do instead, or before, or after.
        tokens: For the service.
        calls: The file for the calls.
        agent: The User-Agent that is neither disturbed nor written down.
        cut: Cuts the connection of the request that is being handled.
    """

    def __init__(
        self,
        service: WSGIApplication,
        faults: Faults,
        tokens: Tokens,
        *,
        calls: str,
        agent: str,
        cut: Callable[[], None],
    ) -> None:
        self._service = service
        self._faults = faults
        self._tokens = tokens
        self._calls = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._agent = agent
        self._cut = cut

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["isoneph.tokens"] = self._tokens.forget_revoked()
        agent = environ.get("HTTP_USER_AGENT", "")
        if agent == self._agent:
            return self._service(environ, start_response)
        method = environ["REQUEST_METHOD"]
        # Before the service looks at them: on its way some of it moves from one to the other.
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        rule = self._faults.matching(method, path, agent)
        call = _Call(
            method, path, environ.get("QUERY_STRING", ""), agent, str(rule.get("lose", ""))
        )
        if rule.get("delay"):
            time.sleep(rule["delay"])

        def record(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            os.write(self._calls, call.line(status, environ))
            return start_response(status, headers, *more)

        if rule.get("lose") == "request":
            os.write(self._calls, call.line("0", environ))
            return self._lose(start_response)
        if rule.get("status"):
            return _refuse(rule, record)
        answer = self._service(environ, record)
        if rule.get("lose") == "answer":
            _exhaust(answer)
            return self._lose(start_response)
        return answer

    def _lose(self, start_response: StartResponse) -> Iterable[bytes]:
        self._cut()
        return [b""]


class _Call:
    """One line of the calls' file in the making."""

    def __init__(self, method: str, path: str, query: str, agent: str, lost: str) -> None:
        self._began = time.time()
        self._words = {"method": method, "path": path, "query": query, "agent": agent, "lost": lost}

    def line(self, status: str, environ: WSGIEnvironment) -> bytes:
        """The line, now that the status, and who called, is known."""
        line = {
            "at": round(self._began, 4),
            **self._words,
            "status": int(status.partition(" ")[0]),
            "seconds": round(time.time() - self._began, 4),
            # As the service's own check of the token has written it there.
            "user": environ.get("HTTP_X_USER_NAME", ""),
            "through": environ.get("HTTP_X_SERVICE_USER_NAME", ""),
        }
        return json.dumps(line).encode() + b"\n"


def _refuse(rule: Rule, start_response: Callable[..., Any]) -> Iterable[bytes]:
    message = rule.get("message", "as the testbed was told")
    body = json.dumps({"error": {"code": rule["status"], "message": message}}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if "retry_after" in rule:
        headers.append(("Retry-After", str(rule["retry_after"])))
    start_response(f"{rule['status']} Testbed", headers)
    return [body]


def _exhaust(answer: Iterable[bytes]) -> None:
    try:
        for _ in answer:
            pass
    finally:
        if close := getattr(answer, "close", None):
            close()


def _changed(path: str) -> object:
    """Something that is different after the file has changed."""
    try:
        status = os.stat(path)  # noqa: PTH116  # as fast as can be: once a request
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _cut_connection() -> None:
    """Cut the connection that uWSGI serves in this thread."""
    uwsgi = importlib.import_module("uwsgi")  # there is one only inside uWSGI
    with socket.socket(fileno=os.dup(uwsgi.connection_fd())) as connection:
        connection.shutdown(socket.SHUT_RDWR)


def make() -> Front:
    """The application of this process, as its environment describes it."""
    environment = os.environ
    service = importlib.import_module(environment["TESTBED_APPLICATION"]).application
    return Front(
        service,
        Faults(environment["TESTBED_FAULTS"]),
        Tokens(environment["TESTBED_REVOKED"]),
        calls=environment["TESTBED_CALLS"],
        agent=environment["TESTBED_AGENT"],
        cut=_cut_connection,
    )
