from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from isoneph.core.clock import SystemClock
from isoneph.core.errors import Unreachable
from isoneph.core.testing import make_environment
from isoneph.plugins.clouds.mock import MockCloud, Simulation

# Creates VMs, and says so after each. It imports little, to be quick.
CREATOR = """
import logging, sys
from isoneph.core import identity as i
from isoneph.core.clock import SystemClock
from isoneph.core.model import VmRequest, VmType
from isoneph.core.plugin import Environment
from isoneph.plugins.clouds.mock import MockCloud

environment = Environment(
    name="east", clock=SystemClock(), logger=logging.getLogger(), metrics=None
)
cloud = MockCloud({"state": sys.argv[1]}, environment)
cloud.start()
for _ in range(int(sys.argv[2])):
    id = i.new_id()
    tags = {i.TAG_APPLICATION: "app", i.TAG_ID: id}
    type = VmType(name="small")
    cloud.create_vm(VmRequest(id=id, application="app", type=type, name=id, tags=tags))
    print(id, flush=True)
cloud.close()
"""


def start_creator(path: Path, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CREATOR, str(path), str(count)], stdout=subprocess.PIPE, text=True
    )


def read_all(process: subprocess.Popen[str]) -> list[str]:
    with process:
        assert process.stdout is not None
        return process.stdout.read().split()


def test_processes_share_a_file_and_may_be_killed(tmp_path: Path) -> None:
    path = tmp_path / "clouds.db"
    doomed, *others = (start_creator(path, count) for count in (10**6, 25, 25))
    told = [vm_id for process in others for vm_id in read_all(process)]
    doomed.kill()
    told += [vm_id for vm_id in read_all(doomed) if len(vm_id) == 36]
    environment = make_environment("east", clock=SystemClock())
    cloud = MockCloud({"state": str(path)}, environment)
    cloud.start()
    vms = cloud.list_vms("app")
    made = {vm.id for vm in vms}
    assert len(told) >= 50
    assert made >= set(told)
    assert len(made) - len(told) <= 1  # what was made when the kill came
    assert len({vm.cloud_id for vm in vms}) == len({vm.addresses["mock"] for vm in vms}) == len(vms)
    cloud.delete_vm(vms[0])
    assert len(cloud.list_vms("app")) == len(vms) - 1
    cloud.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_home_is_expanded_and_folders_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    cloud = MockCloud({"state": "~/some/where/clouds.db"}, make_environment())
    cloud.start()
    cloud.close()
    assert (tmp_path / "some/where/clouds.db").exists()


def test_opening_waits_for_others(tmp_path: Path) -> None:
    path = tmp_path / "clouds.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.05, other.rollback)
    release.start()
    with Simulation(path, "east") as simulation:
        assert simulation.add_vm() == "east-1"
    release.join()
    other.close()


def test_a_file_that_is_no_state_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and not to be harmed\n" * 100)
    cloud = MockCloud({"state": str(path)}, make_environment())
    with pytest.raises(Unreachable, match=f"mock state file {path}: file is not a database"):
        cloud.start()
    assert path.read_text().startswith("not a database")


def test_a_file_of_another_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "clouds.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Unreachable, match=f"{path}: it has version 99, this driver needs 1"):
        MockCloud({"state": str(path)}, make_environment()).start()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "clouds.db"
    with pytest.raises(Unreachable, match=f"mock state file {path}: .*File exists"):
        Simulation(path, "east").vms()


def test_what_comes_after_close_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clouds.db"
    cloud = MockCloud({"state": str(path)}, make_environment())
    cloud.start()
    cloud.close()
    with pytest.raises(Unreachable, match=f"mock state file {path}: it is closed"):
        cloud.list_vms("app")
    cloud.start()
    assert cloud.list_vms("app") == []
    cloud.close()


def test_what_fails_halfway_is_undone(tmp_path: Path) -> None:
    simulation = Simulation(tmp_path / "clouds.db", "east")
    with simulation:
        simulation.add_vm()
        with sqlite3.connect(tmp_path / "clouds.db") as db:
            db.execute(
                "CREATE TRIGGER full BEFORE INSERT ON vm BEGIN SELECT RAISE(ABORT, 'x'); END"
            )
        db.close()
        with pytest.raises(Unreachable):
            simulation.add_vm()
        with sqlite3.connect(tmp_path / "clouds.db") as db:
            db.execute("DROP TRIGGER full")
        db.close()
        assert simulation.add_vm() == "east-2"
