"""The REST API of one application, as the commands use it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from isoneph.core.cli.failures import CommandFailed, Refused, UsageError

DEFAULT_URL = "http://127.0.0.1:8642"
#: Seconds in which a connection must come about.
CONNECT_TIMEOUT = 5.0
#: Seconds in which an answer must come: more than a create may take by default.
ANSWER_TIMEOUT = 150.0
#: Seconds before the second and the third try of a request whose connection broke.
RETRY_PAUSES = (0.3, 1.0)
#: Seconds that one request waits for a VM: several in a row do not depend on ``max_wait``.
WAIT = 10.0
#: VMs that the API gives on one page at most.
PAGE = 1000

#: What makes a delete not wait for sessions.
_AT_ONCE: Mapping[str, str] = {"drain": "false"}

Json = dict[str, Any]

_HINTS = {
    "unauthenticated": "set ISONEPH_TOKEN, or name a file that holds the token: --token-file",
    "unknown_application": "name one with --application or ISONEPH_APPLICATION",
}


@dataclass(frozen=True, slots=True)
class Listing:
    """VMs, and the clouds that could not be asked: theirs are shown as they were last seen."""

    vms: Sequence[Json]
    incomplete: Sequence[Json]


class Client:
    """Sends requests and raises :class:`CommandFailed` for what comes back wrong.

    ``transport`` carries them, over the network by default. Every request is safe to repeat,
    creates by their idempotency key, and is repeated when a connection breaks. A context
    manager; not safe for threads.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        application: str | None = None,
        token: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url
        self._base = f"/v1/{quote(application, safe='')}" if application else ""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx.Client(
                base_url=url,
                headers={"Accept": "application/json", **headers},
                timeout=httpx.Timeout(ANSWER_TIMEOUT, connect=CONNECT_TIMEOUT),
                transport=transport,
            )
        except httpx.InvalidURL as error:
            raise UsageError(f"'{url}' is not a URL: {error}") from error
        if self._http.base_url.userinfo:
            raise UsageError("the URL holds a user name or a password, which others could see")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def list_vms(self, filters: Mapping[str, str], limit: int | None = None) -> Listing:
        """The VMs that match, page by page, at most ``limit``."""
        query = dict(filters)
        if limit is not None:
            query["limit"] = str(min(limit, PAGE))
        page = self._send("GET", f"{self._base}/vm", query)
        vms = list(page["vms"])
        while "next" in page and (limit is None or len(vms) < limit):
            page = self._send("GET", page["next"])
            vms += page["vms"]
        return Listing(vms[:limit], page["incomplete"])

    def get_vm(self, vm_id: str) -> Json:
        """One VM, and how it was placed."""
        return self._send("GET", self._vm(vm_id))

    def create_vms(self, body: Mapping[str, Any], key: str, *, expect: str | None = None) -> Json:
        """Create VMs: ``vms`` are those that were placed, ``failures`` why others were not.

        Raises Refused, and nothing is created, when they can never be in the state ``expect``.
        """
        query = None if expect is None else {"expect": expect}
        made = self._send("POST", f"{self._base}/vm", query, body=body, key=key)
        return made if "vms" in made else {"vms": [made], "failures": []}

    def wait(self, vm_id: str, state: str, timeout: float) -> Json:
        """The VM when it is in ``state``, ACTIVE or READY, at the latest after ``timeout``
        seconds.

        One that fails to boot meanwhile is placed again. Raises Refused with the code
        ``wait_timeout`` when it takes longer.
        """
        deadline = time.monotonic() + timeout
        while True:
            left = max(deadline - time.monotonic(), 0.0)
            query = {"wait": state, "timeout": f"{min(left, WAIT):.3f}"}
            try:
                return self._send("GET", self._vm(vm_id), query)
            except Refused as refused:
                if refused.code != "wait_timeout" or left <= WAIT:
                    raise

    def delete_vm(self, vm_id: str, *, drain: bool = True) -> Json:
        """Delete one VM; deleting what is gone succeeds. The VM while it drains, else nothing."""
        return self._send("DELETE", self._vm(vm_id), None if drain else _AT_ONCE)

    def delete_any(self, filters: Mapping[str, str], key: str, *, drain: bool = True) -> Json:
        """Delete the VM that can be spared best; what it was, and why."""
        query = {**filters, **({} if drain else _AT_ONCE)}
        return self._send("DELETE", f"{self._base}/vm", query, key=key)

    def get_cloud(self, name: str) -> Json:
        """One cloud, as the application sees it."""
        return self._send("GET", f"{self._base}/cloud/{quote(name, safe='')}")

    def list_clouds(self) -> Sequence[Json]:
        """All clouds of the application."""
        clouds: Sequence[Json] = self._send("GET", f"{self._base}/cloud")["clouds"]
        return clouds

    def list_types(self) -> Sequence[Json]:
        """The VM types of the application."""
        types: Sequence[Json] = self._send("GET", f"{self._base}/type")["types"]
        return types

    def explain(self, body: Mapping[str, Any]) -> Json:
        """Where the next VM would go, and why."""
        return self._send("POST", f"{self._base}/placement", body=body)

    def _vm(self, vm_id: str) -> str:
        return f"{self._base}/vm/{quote(vm_id, safe='')}"

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> Json:
        request = self._http.build_request(
            method,
            path,
            params=query or None,
            json=body,
            headers={"Idempotency-Key": key} if key else None,
        )
        try:
            response = self._answer(request)
        except httpx.TransportError as error:
            raise self._unanswered(error, key) from error
        if response.is_error:
            raise _failure(response)
        return _content(response)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        """Send it, again if a connection breaks; not if there was none from the beginning."""
        for attempt, pause in enumerate(RETRY_PAUSES):
            try:
                return self._http.send(request)
            except httpx.UnsupportedProtocol:
                raise
            except httpx.TransportError as error:
                if attempt == 0 and isinstance(error, httpx.ConnectError):
                    raise
                time.sleep(pause)
        return self._http.send(request)

    def _unanswered(self, error: httpx.TransportError, key: str | None) -> CommandFailed:
        reason = str(error) or type(error).__name__
        if isinstance(error, httpx.UnsupportedProtocol):
            return UsageError(f"'{self.url}' is not a URL: it begins with http:// or https://")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return CommandFailed(
                f"cannot reach {self.url}: {reason}",
                hint="is it running? start it with 'isoneph serve', or use --local",
            )
        return CommandFailed(
            f"no answer from {self.url}: {reason}",
            hint=f"it may have been done; to repeat it safely: --key {key}" if key else None,
        )


def _content(response: httpx.Response) -> Json:
    """What was answered; nothing at all counts as an empty object."""
    if not response.content:
        return {}
    try:
        content = response.json()
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise CommandFailed(f"{response.url} does not answer as isoneph does")
    return content


def _failure(response: httpx.Response) -> CommandFailed:
    """A problem document in words; what is about several things, one line each, unless the first
    line has it already."""
    try:
        problem = response.json()
        code, detail = problem["code"], problem["detail"]
    except (ValueError, KeyError, TypeError):
        return CommandFailed(
            f"{response.url.copy_with(query=None)} answers {response.status_code} "
            f"{response.reason_phrase}, not as isoneph does"
        )
    lines = [str(detail)]
    lines += [
        f"  {one['path']}: {one['text']}"
        for one in problem.get("errors", ())
        if one["text"] not in lines[0]
    ]
    lines += [
        f"  {one['cloud']}: {one['code']}: {one['text']}" for one in problem.get("refusals", ())
    ]
    lines += [f"  {reason}" for reason in problem.get("reasons", ())]
    lines += [f"  placed all the same: {vm_id}" for vm_id in problem.get("vms", ())]
    retry_after = response.headers.get("retry-after")
    hint = _HINTS.get(code) or (f"try again in {retry_after} s" if retry_after else None)
    return Refused("\n".join(lines), code=code, hint=hint)
