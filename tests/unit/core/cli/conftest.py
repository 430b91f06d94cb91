"""Running ``isoneph`` in this process, against answers that the test lays out."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from isoneph.core.cli import client
from isoneph.core.cli.main import main


class Result(NamedTuple):
    code: int
    out: str
    err: str


Isoneph = Callable[..., Result]


class FakeService:
    """Gives the answers in ``answers`` one after the other, and keeps the requests."""

    def __init__(self) -> None:
        self.answers: list[httpx.Response | Exception] = []
        self.requests: list[httpx.Request] = []

    def answer(self, body: Any = None, status: int = 200, **headers: str) -> None:
        content = {} if body is None else {"json": body}
        self.answers.append(httpx.Response(status, headers=headers, **content))

    def problem(self, status: int, code: str, detail: str, **more: Any) -> None:
        self.answer({"code": code, "detail": detail, **more}, status)

    def fail(self, error: Exception) -> None:
        self.answers.append(error)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def lines(self) -> list[str]:
        """The requests as method and URL from the path on."""
        return [f"{one.method} {one.url.raw_path.decode()}" for one in self.requests]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("URL", "APPLICATION", "TOKEN", "CONFIG_DIR"):
        monkeypatch.delenv(f"ISONEPH_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(client, "RETRY_PAUSES", (0.0, 0.0))


@pytest.fixture
def isoneph(capsys: pytest.CaptureFixture[str]) -> Isoneph:
    """Runs a command line and gives what came of it."""

    def run(*arguments: str) -> Result:
        code = main(arguments)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeService:
    """What the commands speak to instead of the network."""
    fake = FakeService()
    transport = httpx.MockTransport(fake.handle)
    init = functools.partialmethod(client.Client.__init__, transport=transport)
    monkeypatch.setattr(client.Client, "__init__", init)
    return fake


CLOUDS = """\
clouds:
  paris: {driver: mock, state: STATE, quotas: {instances: 3}}
  oslo: {driver: mock, state: STATE}
"""
APPLICATION = f"""\
types:
  web: {{resources: {{cores: 1}}}}
placement:
  - policy: quota
  - policy: count-balance
tokens:
  - {{name: ops, sha256: {hashlib.sha256(b"t").hexdigest()}, scopes: [read]}}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of two mock clouds whose VMs outlive a command."""
    directory = tmp_path / "etc"
    (directory / "applications").mkdir(parents=True)
    store = f"[store]\ndriver = sqlite\npath = {tmp_path / 'store.sqlite'}\n"
    (directory / "isoneph.conf").write_text(store)
    clouds = CLOUDS.replace("STATE", str(tmp_path / "mock.sqlite"))
    (directory / "clouds.yaml").write_text(clouds)
    (directory / "applications" / "shop.yaml").write_text(APPLICATION)
    monkeypatch.setenv("ISONEPH_CONFIG_DIR", str(directory))
    return directory
