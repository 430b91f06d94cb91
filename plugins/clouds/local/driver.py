"""The ``local`` cloud driver."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from isoneph.core import identity
from isoneph.core.errors import (
    CloudError,
    InvalidRequest,
    NoCapacity,
    OutcomeUnknown,
    QuotaExceeded,
    Unreachable,
)
from isoneph.core.model import Limits, Quota, Vm, VmRequest, VmState
from isoneph.core.plugin import Cloud, Environment
from isoneph.plugins.clouds.local.directory import Directory, discard
from isoneph.plugins.clouds.local.home import Home, Record, RecordUnreadable
from isoneph.plugins.clouds.local.options import OPTIONS, TYPE_OPTIONS, default_network
from isoneph.plugins.clouds.local.start import Start

NETWORK = "local"

#: What the machine says when it is full, or the command is more than it can take.
_REFUSALS: Mapping[int | None, type[CloudError]] = {
    errno.ENOSPC: NoCapacity,
    errno.EDQUOT: NoCapacity,
    errno.EAGAIN: NoCapacity,
    errno.ENOMEM: NoCapacity,
    errno.E2BIG: InvalidRequest,
}
#: How much of the time of a call a single step of it may take.
_SHARE = 0.4
_KILL_SECONDS = 1.0
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.1


class LocalCloud(Cloud):
    """VMs are processes of this machine: for trying out, for tests and for single hosts.

    A VM is the session of processes that its type's ``command`` grows into. It lives on when
    isoneph ends or is killed, and is found again through the cloud's directory, which holds
    all that is known of it. Several isoneph processes may use one directory at once.

    Each VM has a loopback address of its own, on network ``local``. Its environment holds
    ISONEPH_ID, ISONEPH_NAME, ISONEPH_APPLICATION, ISONEPH_TYPE, ISONEPH_CLOUD,
    ISONEPH_ADDRESS and ISONEPH_DIRECTORY, what its type adds, and of isoneph's own only PATH,
    HOME, LANG, LC_*, TZ, TMPDIR, PYTHONPATH and VIRTUAL_ENV: no secret gets there.

    A command that ends, whatever its exit status, leaves its VM in ERROR; one whose process
    group was sent SIGSTOP is STOPPED. A process that leaves its session to become a daemon is
    no longer part of the VM: commands stay in the foreground. When isoneph runs as a systemd
    service, ``KillMode=process`` keeps its VMs alive over a restart.
    """

    schema = OPTIONS
    type_schema = TYPE_OPTIONS

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        network = options.get("network") or default_network(environment.name)
        self._directory = Directory(Path(options["directory"]), network, environment)

    def start(self) -> None:
        """Make the directory ours. Raises ConfigInvalid when it cannot be."""
        self._directory.prepare()

    def create_vm(self, request: VmRequest) -> Vm:
        """Start the process. The same id and attempt again is the same VM, not started twice."""
        home = self._home_of(request)
        with _answers(f"create VM {request.id}", _REFUSALS):
            start = None
            with self._directory.locked():
                known = self._record(home)
                record = known or self._new_record(home, request)
                if not home.claimed:
                    start = Start.of(request, home, record, self.environment.name)
                if known is None:
                    self._directory.add(home, record)
            if start is not None:
                self._start(home, start)
        with _answers(f"look up VM {request.id}", otherwise=OutcomeUnknown):
            vm = self._vm(home, record, request.application)
        if vm is None:
            raise OutcomeUnknown(f"VM {request.id} was deleted while it was created")
        return vm

    def get_vm(self, vm: Vm) -> Vm | None:
        """The VM as it is now; one whose record cannot be read is in ERROR."""
        home = self._home_that_has(vm)
        if home is None:
            return None
        with _answers(f"look up VM {vm.id}"):
            self._directory.check()
            try:
                record = home.record()
            except RecordUnreadable as error:
                fault = f"its record cannot be read: {error}"
                return dataclasses.replace(vm, state=VmState.ERROR, fault=fault)
            return None if record is None else self._vm(home, record, vm.application)

    def list_vms(self, application: str) -> Sequence[Vm]:
        """All VMs of ``application``; also finishes deletions that nobody waits for."""
        with _answers("list VMs"):
            vms = [
                self._vm(home, record, application)
                for home, record in self._directory.records()
                if identity.is_ours(record.tags, application)
            ]
        return [vm for vm in vms if vm is not None]

    def delete_vm(self, vm: Vm) -> None:
        """End the process, gently at first; normally the VM is gone on return.

        Once the deletion is noted it no longer depends on this call: the next listing goes on
        with it, and uses force when it is due.
        """
        home = self._home_that_has(vm)
        if home is None:
            return
        clock = self.environment.clock
        stop = self.options["stop_seconds"]
        with _answers(f"delete VM {vm.id}", otherwise=OutcomeUnknown):
            self._directory.check()
            record = self._record(home)
            if record is None or not identity.is_ours(record.tags, vm.application):
                return
            home.note("deleting", str(clock.time() + stop))
            patience = min(stop + _KILL_SECONDS, self.environment.timeout * _SHARE)
            patience += clock.monotonic()
            pause = _FIRST_PAUSE
            with contextlib.suppress(Unreachable):  # the next listing goes on
                while not self._advance_deletion(home) and clock.monotonic() < patience:
                    clock.pause(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)

    def get_limits(self) -> Limits:
        """``max_vms``, and how many VMs there are in whatever state."""
        with _answers("read limits"):
            used = sum(1 for _ in self._directory.records())
        return {"instances": Quota(limit=self.options.get("max_vms"), used=used)}

    def _home_of(self, request: VmRequest) -> Home:
        attempt = request.tags.get(identity.TAG_ATTEMPT, "1")
        home = self._directory.home(f"{request.application}-{request.id}-{attempt}")
        if home is None or not identity.is_ours(request.tags, request.application):
            raise InvalidRequest(
                f"the tags of VM {request.id} do not name its application, id and attempt"
            )
        return home

    def _home_that_has(self, vm: Vm) -> Home | None:
        home = self._directory.home(vm.cloud_id)
        if home is not None and home.name.startswith(f"{vm.application}-{vm.id}-"):
            return home
        return None

    def _record(self, home: Home) -> Record | None:
        try:
            return home.record()
        except RecordUnreadable as error:
            raise InvalidRequest(
                f"the record cannot be read: {error}; end its process, if it has one, and "
                f"remove {home.path}"
            ) from error

    def _new_record(self, home: Home, request: VmRequest) -> Record:
        records = [record for _, record in self._directory.records()]
        limit = self.options.get("max_vms")
        if limit is not None and len(records) >= limit:
            raise QuotaExceeded(f"{len(records)} of at most {limit} VMs are there (max_vms)")
        return Record(
            tags=request.tags,
            name=request.name,
            address=self._directory.free_address(home.name, records),
            created_at=self.environment.clock.time(),
            ready_port=request.type.options.get("ready_port"),
        )

    def _start(self, home: Home, start: Start) -> None:
        """Start the process, or take the home away again and raise."""
        try:
            start.run(home, self.environment.timeout * _SHARE)
        except (OSError, NoCapacity):
            if home.cancel():  # nobody else has started it meanwhile
                discard(self._directory.retire(home, keep_log=False))
                raise

    def _advance_deletion(self, home: Home) -> bool:
        """Take a deletion one step on; whether the VM is gone."""
        with self._directory.locked():
            if not home.deleting:  # finished by somebody else; what is here now is another VM
                return True
            if not home.advance_deletion(self.environment.clock.time()):
                return False
            remains = self._directory.retire(home, keep_log=self.options["keep_logs"])
        discard(remains)
        return True

    def _vm(self, home: Home, record: Record, application: str) -> Vm | None:
        """The VM as it is now, or None when it is gone."""
        if home.deleting:
            try:
                if self._advance_deletion(home):
                    return None
            except (OSError, Unreachable) as error:
                self.environment.logger.warning("cannot delete VM %s yet: %s", home.name, error)
        state, fault = home.state(record, self.environment.clock.time())
        home.bound_log(self.options["log_bytes"])
        if not home.exists():  # then what was just read may be half of what there was
            return None
        return Vm.from_tags(
            record.tags,
            application,
            cloud=self.environment.name,
            cloud_id=home.name,
            name=record.name,
            state=state,
            addresses={NETWORK: (record.address,)},
            fault=fault,
        )


@contextlib.contextmanager
def _answers(
    doing: str,
    refusals: Mapping[int | None, type[CloudError]] | None = None,
    *,
    otherwise: type[CloudError] = Unreachable,
) -> Iterator[None]:
    """Turn what the operating system says into what a cloud says, naming the path."""
    try:
        yield
    except OSError as error:
        kind = (refusals or {}).get(error.errno, otherwise)
        where = f": {error.filename}" if error.filename else ""
        raise kind(f"cannot {doing}: {error.strerror}{where}") from error
