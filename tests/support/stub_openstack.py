"""A small OpenStack of its own thread: real sockets, answers that the test scripts."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

CATALOG = {"compute": "/compute/v2.1", "network": "/network", "image": "/image"}
PASSWORD = "correct horse"


@dataclass(frozen=True)
class Reply:
    """What a route answers: ``body`` is JSON, or bytes as they are. ``drop`` ends the connection
    instead of it, after ``sent`` bytes of the body when that is given; ``pause`` comes first."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    pause: float = 0.0
    drop: bool = False
    sent: int = 0


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


Route = Callable[[Seen], Reply]


class StubCloud:
    """``routes`` maps method and path (below the service's, as in ``POST compute/servers``) to
    what answers. Everything else is 404, in the form of that service."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.seen: list[Seen] = []
        self.catalog = dict(CATALOG)
        self.microversion: str | None = "2.103"
        #: What everything below a path is answered with instead, by the path.
        self.away: dict[str, Reply] = {}
        self.tokens: set[str] = set()
        self.token_seconds = 3600.0
        self.logins = 0
        self.login: Route = self._log_in
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True
        )

    def options(self, **more: Any) -> dict[str, Any]:
        """What ``clouds.yaml`` says of this cloud."""
        return {
            "region_name": "One",
            "auth": {
                "auth_url": f"{self.url}/v3",
                "username": "bot",
                "password": PASSWORD,
                "project_name": "p",
                "user_domain_name": "Default",
                "project_domain_name": "Default",
            },
            **more,
        }

    def on(self, request: str, *replies: Reply) -> None:
        """Let ``request`` be answered with ``replies`` in turn, the last one again and again."""
        waiting = list(replies)
        self.routes[request] = lambda _: waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def asked(self, request: str) -> list[Seen]:
        """The requests of that method and path."""
        method, _, path = request.partition(" ")
        return [one for one in self.seen if (one.method, self._below(one.path)) == (method, path)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, seen: Seen) -> Reply:
        """Keystone's own answers, and those of the routes to whoever has a token."""
        path = seen.path.partition("?")[0].rstrip("/")
        for root, reply in self.away.items():
            if path.startswith(root):
                return reply
        versions: dict[str | None, Any] = {
            "/v3": {"version": self._version("v3.14", "/v3")},
            self.catalog.get("compute"): {"version": self._compute_version(path)},
            "/image": {"versions": [self._version("v2.9", "/image/v2")]},
        }
        if path == "/v3/auth/tokens":
            return self.login(seen)
        if path in versions:
            return Reply(200, versions[path])
        if seen.headers.get("X-Auth-Token") not in self.tokens:
            return Reply(401, {"error": {"code": 401, "message": "requires authentication"}})
        below = self._below(path)
        missing = Reply(404, {"itemNotFound": {"code": 404, "message": f"{below}: not found"}})
        if below == path:
            missing = Reply(404, b"<html><h1>404 Not Found</h1></html>")
        route = self.routes.get(f"{seen.method} {below}")
        return missing if route is None else route(seen)

    def _log_in(self, seen: Seen) -> Reply:
        user = seen.body["auth"]["identity"].get("password", {}).get("user", {})
        given = seen.body["auth"]["identity"].get("token", {}).get("id")
        if user.get("password") != PASSWORD and given not in self.tokens:
            return Reply(401, {"error": {"code": 401, "message": "Wrong."}})
        self.logins += 1
        token = f"token-number-{self.logins}"
        self.tokens.add(token)
        now = datetime.now(UTC)
        answer = {
            "methods": ["password"],
            "user": {"id": "u", "name": "bot", "domain": {"id": "default", "name": "Default"}},
            "project": {"id": "p1", "name": "p", "domain": {"id": "default", "name": "Default"}},
            "issued_at": now.isoformat(),
            "expires_at": (now + timedelta(seconds=self.token_seconds)).isoformat(),
            "catalog": [self._service(kind, path) for kind, path in self.catalog.items()],
        }
        return Reply(201, {"token": answer}, {"X-Subject-Token": token})

    def _service(self, kind: str, path: str) -> dict[str, Any]:
        url = path if "://" in path else self.url + path
        endpoint = {"id": kind, "interface": "public", "region": "One", "region_id": "One"}
        return {"type": kind, "name": kind, "endpoints": [{**endpoint, "url": url}]}

    def _version(self, name: str, path: str) -> dict[str, Any]:
        links = [{"rel": "self", "href": f"{self.url}{path}/"}]
        return {"id": name, "status": "stable", "links": links}

    def _compute_version(self, path: str) -> dict[str, Any]:
        version = {**self._version("v2.1", path), "status": "CURRENT"}
        if self.microversion is not None:
            version |= {"version": self.microversion, "min_version": "2.1"}
        return version

    def _below(self, path: str) -> str:
        path = path.partition("?")[0]
        for service, root in self.catalog.items():
            if path.startswith(f"{root}/"):
                return service + re.sub(r"^/v\d(\.\d+)?(?=/)", "", path.removeprefix(root))
        return path

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: else the client waits 40 ms for the second
            disable_nagle_algorithm = True

            def serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                content = self.rfile.read(length)
                body = json.loads(content) if content else None
                seen = Seen(self.command, self.path, dict(self.headers), body)
                cloud.seen.append(seen)
                reply = cloud.answer(seen)
                time.sleep(reply.pause)
                with contextlib.suppress(ConnectionError):
                    self.reply(reply)

            def reply(self, reply: Reply) -> None:
                body = reply.body
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                content = b"" if body is None else content
                self.close_connection = self.close_connection or reply.drop
                if reply.drop and not reply.sent:
                    return
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(content)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content[: reply.sent] if reply.drop else content)
                self.wfile.flush()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            do_GET = do_POST = do_PUT = do_DELETE = serve  # noqa: N815 (as http.server calls them)

        return Handler


@contextlib.contextmanager
def stub_cloud() -> Iterator[StubCloud]:
    """A cloud that runs in the block."""
    with StubCloud() as cloud:
        yield cloud
