import errno
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from isoneph.core.errors import NoCapacity, QuotaExceeded, Unreachable
from isoneph.core.model import VmState
from isoneph.core.plugin import Cloud
from isoneph.core.testing import CloudConformance, build_plugin

from isoneph_example.cloud import PaperCloud


class TestPaperCloud(CloudConformance):
    type_options = {"image": "debian"}
    bad_type_options = {"image": "unheard-of"}
    has_addresses = False

    def make_cloud(self, tmp_path: Path) -> Cloud:
        self.directory = tmp_path / "cloud"
        options = {"directory": str(self.directory), "images": {"debian": 5}}
        return build_plugin(PaperCloud, {**options, "quotas": {"instances": 30}}, name="here")

    # What the suite cannot do by itself: somebody else's VM.

    def add_foreign_vm(self, cloud: Cloud) -> str | None:
        paper = {"name": "theirs", "tags": {}, "resources": {}, "active_at": 0}
        (self.directory / "theirs.json").write_text(json.dumps(paper))
        return "theirs"

    def has_foreign_vm(self, cloud: Cloud, cloud_id: str) -> bool:
        return (self.directory / f"{cloud_id}.json").exists()

    # What the suite cannot know: how this cloud refuses and fails.

    def test_builds_as_long_as_its_image_says(self, cloud: Cloud, application: str) -> None:
        vm = cloud.create_vm(self.make_request(application))
        assert vm.state is VmState.BUILDING
        self.wait(cloud, 4.9)
        assert cloud.get_vm(vm) == vm
        self.wait(cloud, 0.2)
        assert [vm.state for vm in cloud.list_vms(application)] == [VmState.ACTIVE]

    def test_keeps_to_its_quota_when_many_ask_at_once(self, cloud: Cloud, application: str) -> None:
        def refused(_: int) -> bool:
            try:
                cloud.create_vm(self.make_request(application))
            except QuotaExceeded as error:
                assert error.message == "instances: 30 of 30 used, 1 wanted"
                return True
            return False

        with ThreadPoolExecutor(20) as threads:
            assert sum(threads.map(refused, range(40))) == 10
        assert len(cloud.list_vms(application)) == 30

    def test_a_full_disk_leaves_nothing_behind(
        self, cloud: Cloud, application: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            with pytest.raises(NoCapacity, match="No space left"):
                cloud.create_vm(self.make_request(application))
        assert cloud.list_vms(application) == []
        cloud.create_vm(self.make_request(application))

    def test_a_missing_disk_is_not_an_empty_cloud(self, cloud: Cloud, application: str) -> None:
        vm = cloud.create_vm(self.make_request(application))
        shutil.rmtree(self.directory)
        with pytest.raises(Unreachable):
            cloud.list_vms(application)
        with pytest.raises(Unreachable):
            cloud.get_vm(vm)
