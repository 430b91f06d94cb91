"""The page on public clouds: its examples are valid, and its sessions print what they show."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from doc_session import Shell, steps
from moto_server import MotoServer
from services import Service

DOC = Path(__file__).parents[2] / "doc"
#: Where the page says that moto listens.
SHOWN = "port: 5000"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The page's configuration, with ports of our own."""
    with closing(MotoServer(tmp_path / "moto.log")) as ec2:
        service = Service(tmp_path / "etc")
        shutil.copytree(DOC / "examples" / "overflow-moto", tmp_path / "etc", dirs_exist_ok=True)
        service.write_service()
        clouds = service.directory / "clouds.yaml"
        assert SHOWN in clouds.read_text()
        clouds.write_text(clouds.read_text().replace(SHOWN, f"port: {ec2.port}"))
        yield service
        service.kill()


def test_the_sessions_of_the_page(service: Service, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"HOME": str(tmp_path), "PATH": path, "TZ": "UTC"}
    service.start(env=environment)
    shell = Shell(tmp_path, {**environment, "ISONEPH_URL": service.urls()[-1]})
    page = (DOC / "source" / "libcloud.rst").read_text()
    played = [step for step in steps(page) if not step.command.startswith("pip ")]
    assert len(played) == 6
    try:
        for step in played:
            shell.check(step)
    finally:
        shell.run("isoneph vm list -f value -c id | xargs -r isoneph vm delete")
        shell.close()


def test_the_example_with_openstack_is_valid(tmp_path: Path) -> None:
    etc = shutil.copytree(DOC / "examples" / "overflow", tmp_path / "etc")
    (etc / "clouds.yaml").chmod(0o600)
    check = subprocess.run(
        [str(Path(sys.executable).parent / "isoneph"), "config", "check", "--config-dir", str(etc)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (check.returncode, check.stderr) == (0, ""), check.stdout
    assert "ok: 2 clouds, 1 application" in check.stdout
