"""Calls of OpenStack's APIs with the rights of one user; the standard library is enough."""

from __future__ import annotations

import http.client
import json
from typing import Any

from .report import Failure
from .settings import PROJECT, Settings

#: What every call of ours says it comes from; the services neither record nor disturb such calls.
AGENT = "openstack-testbed"
_TIMEOUT = 60
#: Nova's and Cinder's newest microversion: all that has been added is wanted.
_VERSIONS = {"compute": "compute latest", "block-storage": "volume latest"}


class Refusal(Failure):
    """An API answered with an error."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Rest:
    """One user of one cloud. Not thread-safe."""

    def __init__(self, settings: Settings, cloud: str, user: str, project: str) -> None:
        self._settings = settings
        self._cloud = cloud
        self._user = user
        self._project = project
        self._token = ""
        self.user_id = ""
        self.project_id = ""

    @classmethod
    def admin(cls, settings: Settings, cloud: str) -> Rest:
        """The administrator."""
        return cls(settings, cloud, "admin", "admin")

    @classmethod
    def member(cls, settings: Settings, cloud: str) -> Rest:
        """The ordinary user that isoneph is."""
        return cls(settings, cloud, PROJECT, PROJECT)

    def login(self) -> None:
        """Get a new token.

        Raises:
            Failure: Keystone is not there.
            Refusal: It refuses.
        """
        domain = {"name": "Default"}
        user = {"name": self._user, "domain": domain, "password": self._settings.password}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": self._project, "domain": domain}},
            }
        }
        status, headers, answer = self._send("identity", "POST", "/auth/tokens", body)
        if status != http.client.CREATED:
            raise Refusal(f"{self._cloud}: no token for {self._user}: {answer}", status)
        self._token = headers["X-Subject-Token"]
        self.user_id = answer["token"]["user"]["id"]
        self.project_id = answer["token"]["project"]["id"]

    def call(self, kind: str, method: str, path: str, body: object = None) -> Any:
        """What the API of a cloud's service ``kind`` answers: JSON, or None.

        Args:
            kind: The service's type in the catalog.
            method: Of HTTP.
            path: Below the service's URL.
            body: Bytes, or what becomes JSON.

        Raises:
            Failure: The service is not there.
            Refusal: It answers with an error.
        """
        if not self._token:
            self.login()
        status, _, answer = self._send(kind, method, path, body)
        if status == http.client.UNAUTHORIZED:
            self.login()
            status, _, answer = self._send(kind, method, path, body)
        if status >= http.client.BAD_REQUEST:
            raise Refusal(f"{self._cloud}: {method} {kind} {path}: {status} {answer}", status)
        return answer

    def _send(
        self, kind: str, method: str, path: str, body: object
    ) -> tuple[int, http.client.HTTPMessage, Any]:
        headers = {"User-Agent": AGENT, "Accept": "application/json"}
        if self._token:
            headers["X-Auth-Token"] = self._token
        if kind in _VERSIONS:
            headers["OpenStack-API-Version"] = _VERSIONS[kind]
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/octet-stream"
        elif body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body).encode()
        port = self._settings.api_port(self._cloud, kind)
        prefix = self._settings.url(self._cloud, kind).partition(f":{port}")[2]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
        try:
            connection.request(method, prefix + path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{self._cloud}: {kind} on port {port}: {error}") from None
        finally:
            connection.close()
        return answer.status, answer.headers, _parsed(content)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except ValueError:
        return content.decode(errors="replace")
