from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from voluptuous import Schema

from isoneph.core import identity
from isoneph.core.clock import SystemClock
from isoneph.core.plugin import Cloud
from isoneph.core.testing import CloudConformance, make_environment
from isoneph.plugins.clouds.local import LocalCloud
from local_vms import nothing_left_running


class TestLocalCloud(CloudConformance):
    type_options: ClassVar[Mapping[str, Any]] = Schema(LocalCloud.type_schema)(
        {"command": ["sleep", "60"]}
    )
    bad_type_options: ClassVar[Mapping[str, Any] | None] = {
        **type_options,
        "command": ["no-such-program"],
    }
    boot_timeout = 10.0
    delete_timeout = 10.0

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> Iterator[None]:
        self.directory = tmp_path / "vms"
        with nothing_left_running(tmp_path):
            yield

    def make_cloud(self, tmp_path: Path) -> Cloud:
        # So patient that a VM which misses SIGTERM is not gone in time.
        options = Schema(LocalCloud.schema)(
            {"directory": str(tmp_path / "vms"), "stop_seconds": 60}
        )
        return LocalCloud(options, make_environment("here", clock=SystemClock()))

    def unknown_cloud_id(self) -> str:
        return f"app-{identity.new_id()}-1"

    def add_foreign_vm(self, cloud: Cloud) -> str | None:
        cloud_id = self.unknown_cloud_id()
        home = self.directory / cloud_id
        home.mkdir()
        record = {"tags": {}, "name": "foreign", "address": "127.0.0.9", "created_at": 0}
        (home / "vm.json").write_text(json.dumps(record))
        return cloud_id

    def has_foreign_vm(self, cloud: Cloud, cloud_id: str) -> bool:
        return [path.name for path in (self.directory / cloud_id).iterdir()] == ["vm.json"]
