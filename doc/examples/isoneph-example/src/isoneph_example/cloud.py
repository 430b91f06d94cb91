"""A cloud driver: VMs that exist on paper only."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from isoneph.core import errors
from isoneph.core.model import Limits, Quota, Vm, VmRequest, VmState
from isoneph.core.plugin import Cloud, Environment, OptionSchema
from voluptuous import All, Match, Msg, Optional, Range, Required
from voluptuous import Any as OneOf

PATH = Msg(All(str, Match("/")), "expected an absolute path")
NUMBER = Msg(All(OneOf(int, float), Range(min=0, max=1e9)), "expected a number from 0 to 1e9")


class PaperCloud(Cloud):
    """VMs on paper: each one is a JSON file in a directory.

    All drivers that name the directory, in whatever process, share the cloud. A VM builds for
    as long as its image says and is ACTIVE from then on; nothing runs.
    """

    schema: ClassVar[OptionSchema] = {
        Required("directory", description="where the files are; made if it is not there"): PATH,
        Required("images", description="by image: seconds that a VM builds"): {str: NUMBER},
        Optional("quotas", default=dict, description="by resource: the limit"): {str: NUMBER},
    }
    type_schema: ClassVar[OptionSchema] = {
        Required("image", description="what it boots, one of the cloud's images"): str,
    }

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self._directory = Path(options["directory"])
        self._lock = self._directory / "lock"

    def start(self) -> None:
        """Make the directory and the lock."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._lock.touch()

    def create_vm(self, request: VmRequest) -> Vm:
        """As :meth:`Cloud.create_vm`."""
        images, image = self.options["images"], request.type.options["image"]
        if image not in images:
            raise errors.InvalidRequest(f"there is no image '{image}', only {', '.join(images)}")
        cloud_id = str(uuid.uuid4())
        paper = {
            "name": request.name,
            "tags": dict(request.tags),
            "resources": {"instances": 1, **request.type.resources},
            "active_at": self.environment.clock.time() + images[image],
        }
        vm = self._vm(cloud_id, paper, request.application)
        if vm is None:
            raise errors.InvalidRequest("the tags are not those of a VM of the application")
        with self._visit(fcntl.LOCK_EX):
            self._check_quotas(paper["resources"])
            self._write(cloud_id, paper)
        return vm

    def get_vm(self, vm: Vm) -> Vm | None:
        """As :meth:`Cloud.get_vm`."""
        with self._visit(fcntl.LOCK_SH):
            return self._find(vm)

    def list_vms(self, application: str) -> Sequence[Vm]:
        """As :meth:`Cloud.list_vms`."""
        with self._visit(fcntl.LOCK_SH):
            papers = self._read_all()
        vms = (self._vm(cloud_id, paper, application) for cloud_id, paper in papers.items())
        return [vm for vm in vms if vm is not None]

    def delete_vm(self, vm: Vm) -> None:
        """As :meth:`Cloud.delete_vm`."""
        with self._visit(fcntl.LOCK_EX):
            if self._find(vm) is not None:
                self._path(vm.cloud_id).unlink()

    def get_limits(self) -> Limits:
        """As :meth:`Cloud.get_limits`: the quotas."""
        with self._visit(fcntl.LOCK_SH):
            used = self._used()
        quotas: Mapping[str, float] = self.options["quotas"]
        return {name: Quota(limit=limit, used=used[name]) for name, limit in quotas.items()}

    @contextmanager
    def _visit(self, lock: int) -> Iterator[None]:
        """Hold the cloud's lock, shared or exclusive, and raise what goes wrong as CloudError.

        A lock of this kind belongs to an open file. Opened anew by every call, it keeps apart
        threads as well as processes, and it goes with a process that dies. Only ``start`` makes
        the file: when it is not there the disk is missing, not the VMs.
        """
        try:
            with self._lock.open("r+") as file:
                fcntl.flock(file, lock)
                yield
        except PermissionError as error:
            raise errors.Unauthorized(f"{error.filename}: {error.strerror}") from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise errors.NoCapacity(f"{self._directory}: {error.strerror}") from error
            raise errors.Unreachable(f"{self._directory}: {error.strerror}") from error

    def _path(self, cloud_id: str) -> Path:
        return self._directory / f"{cloud_id}.json"

    def _read_all(self) -> Mapping[str, Any]:
        """What stands in all files, whosever VMs they are, by cloud id."""
        paths = (path for path in self._directory.iterdir() if path.suffix == ".json")
        return {path.stem: json.loads(path.read_bytes()) for path in paths}

    def _write(self, cloud_id: str, paper: Mapping[str, Any]) -> None:
        """Add a file in one step: wherever this is cut short, it is all there or not at all."""
        unfinished = self._directory / "unfinished"  # one is enough: the lock is exclusive
        with unfinished.open("w") as file:
            json.dump(paper, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path(cloud_id))
        try:
            _sync(self._directory)
        except OSError as error:  # the VM is there, but may not outlast a loss of power
            raise errors.OutcomeUnknown(f"{self._directory}: {error.strerror}") from error

    def _find(self, vm: Vm) -> Vm | None:
        """What stands under the VM's cloud id, if it is that VM."""
        try:
            paper = json.loads(self._path(vm.cloud_id).read_bytes())
        except FileNotFoundError:
            return None
        found = self._vm(vm.cloud_id, paper, vm.application)
        return found if found is not None and found.id == vm.id else None

    def _vm(self, cloud_id: str, paper: Mapping[str, Any], application: str) -> Vm | None:
        """A file's content as the core knows a VM; None when it is not the application's."""
        building = self.environment.clock.time() < paper["active_at"]
        return Vm.from_tags(
            paper["tags"],
            application,
            cloud=self.environment.name,
            cloud_id=cloud_id,
            name=paper["name"],
            state=VmState.BUILDING if building else VmState.ACTIVE,
        )

    def _used(self) -> Mapping[str, float]:
        used: dict[str, float] = defaultdict(float)
        for paper in self._read_all().values():
            for name, amount in paper["resources"].items():
                used[name] += amount
        return used

    def _check_quotas(self, resources: Mapping[str, float]) -> None:
        used = self._used()
        for name, limit in self.options["quotas"].items():
            amount = resources.get(name, 0)
            if used[name] + amount > limit:
                raise errors.QuotaExceeded(
                    f"{name}: {used[name]:g} of {limit:g} used, {amount:g} wanted"
                )


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
