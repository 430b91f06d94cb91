"""Running ``isoneph`` in this process, against answers that the test lays out."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import httpx
import pytest

from cli_runs import FakeService, Isoneph, Result
from isoneph.core.cli import client
from isoneph.core.cli.main import main


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
