"""The ``libcloud`` cloud driver."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from isoneph.core import identity
from isoneph.core.errors import (
    CloudError,
    InvalidRequest,
    OutcomeUnknown,
    Throttled,
    Unreachable,
)
from isoneph.core.model import Leftover, Limits, Quota, Vm, VmRequest
from isoneph.core.plugin import Cloud, Environment
from isoneph.plugins.clouds.libcloud.ec2 import Ec2
from isoneph.plugins.clouds.libcloud.ec2_api import Ec2Api
from isoneph.plugins.clouds.libcloud.instances import Call, Dialect, Instance, Order
from isoneph.plugins.clouds.libcloud.options import OPTIONS, TYPE_OPTIONS
from isoneph.plugins.clouds.libcloud.plain import Plain
from isoneph.plugins.clouds.libcloud.providers import (
    ARGUMENTS,
    EC2,
    constructor_problems,
    node_driver_class,
    tag_argument,
)
from isoneph.plugins.clouds.libcloud.transport import Line, Lines, Pace
from isoneph.plugins.clouds.libcloud.user_data import render
from isoneph.plugins.clouds.libcloud.values import WrongOption

#: Of the seconds that a call may take, those that the driver takes: it answers before the core
#: gives up.
SHARE = 0.9
#: Of those, what the first try of a create may take where a second one is safe.
FIRST_TRY = 0.55
#: Seconds without which there is no second try.
SECOND_TRY = 0.5
_PAUSE = 0.5
_MASK = "***"
#: Shorter values are words: masking them would garble messages.
_SHORTEST_SECRET = 6


class LibcloudCloud(Cloud):
    """VMs of public clouds, through Apache Libcloud; EC2 is the one that is tested.

    Each VM is made by one call that carries its tags, so that it is never without: a provider
    of libcloud that cannot do that is refused. On EC2 each create has a client token, so that
    one whose answer is lost is asked for again and there is still one VM.

    Needs ``pip install 'isoneph[libcloud]'``. The page on public clouds says how it is used, and
    which providers there are.
    """

    schema = OPTIONS
    type_schema = TYPE_OPTIONS

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Sequence[str]:
        """What the provider's class needs or does not take."""
        return constructor_problems(options)

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        self._clock = environment.clock
        self._seconds = environment.timeout * SHARE
        self._dialect: Dialect
        if options["provider"] == EC2:
            self._dialect = Ec2(environment, account_limits=options["account_limits"])
            driver: type[Any] = Ec2Api
        else:
            self._dialect = Plain(environment, tag_argument(options["provider"]))
            driver = node_driver_class(options["provider"], options.get("api_version"))
        self._lines = Lines(
            driver,
            _driver_arguments(options, self._seconds),
            clock=self._clock,
            pace=Pace(self._clock, options["calls_per_second"], options["burst"]),
            ca_file=options.get("ca_file"),
        )
        self._made = _Made(environment, self._dialect.settling)
        self._secrets = _secrets(options)

    def close(self) -> None:
        """Let the connections go."""
        self._lines.close()

    def create_vm(self, request: VmRequest) -> Vm:
        """One create call; where the provider takes a token with it, once more when it was not
        answered, at most until the deadline."""
        deadline = self._deadline()
        order = self._order(request, deadline)
        first = deadline
        if self._dialect.idempotent:
            first = self._clock.monotonic() + (deadline - self._clock.monotonic()) * FIRST_TRY
        try:
            vm = self._create(request, order, first)
        except OutcomeUnknown as error:
            left = deadline - self._clock.monotonic()
            if not self._dialect.idempotent or left < SECOND_TRY:
                raise
            self.environment.logger.warning("%s; asking again", error.message)
            self._clock.pause(min(_PAUSE, left / 4))
            try:
                vm = self._create(request, order, deadline)
            except CloudError as again:
                raise OutcomeUnknown(f"{error.message}; asked again: {again.message}") from None
        self._made.add(vm)
        return vm

    def get_vm(self, vm: Vm) -> Vm | None:
        """The VM by its id; what was made a moment ago is believed to be there."""
        call = self._call(f"look up VM {vm.id}")
        with self._answers(call, self._deadline()) as line:
            found = list(self._dialect.by_id(line, (vm.cloud_id,)))
        if found and found[0].state is None:
            self._made.drop(vm.cloud_id)
            return None
        shown = self._vm(found[0], vm.application, vm.id) if found else None
        return shown or self._made.last(vm)

    def list_vms(self, application: str) -> Sequence[Vm]:
        """All VMs of ``application`` in one listing. What it does not show yet of what was made
        a moment ago is asked for by id."""
        with self._answers(self._call("list VMs"), self._deadline()) as line:
            shown = {each.cloud_id: each for each in self._dialect.instances(line, application)}
            unseen = self._made.unseen(application, shown)
            if unseen:
                by_id = self._dialect.by_id(line, [vm.cloud_id for vm in unseen])
                shown |= {each.cloud_id: each for each in by_id}
        for each in shown.values():
            if each.state is None:
                self._made.drop(each.cloud_id)
        vms = {each.cloud_id: self._vm(each, application) for each in shown.values()}
        ours = {key: vm for key, vm in vms.items() if vm is not None}
        return [*ours.values(), *self._made.unseen(application, ours)]

    def delete_vm(self, vm: Vm) -> None:
        """Have it removed. One that was made a moment ago and that the provider does not know
        yet is waited for."""
        deadline = self._deadline()
        call = self._call(f"delete VM {vm.id}", changing=True)
        while True:
            with self._answers(call, deadline) as line:
                known = self._dialect.delete(line, vm)
            if known or self._made.last(vm) is None:
                self._made.drop(vm.cloud_id)
                return
            if self._clock.monotonic() + _PAUSE > deadline:
                raise Unreachable(f"cannot {call.doing}: the provider does not know it yet")
            self._clock.pause(_PAUSE)

    def get_limits(self) -> Limits:
        """``max_vms`` or what the account says, and how many VMs there are of whomever."""
        call = self._call("read the limits")
        most = self.options.get("max_vms")
        if most is None and not self.options["account_limits"]:
            return {}
        with self._answers(call, self._deadline()) as line:
            most = self._dialect.most(line) if most is None else most
            used = self._dialect.count(line)
        return {"instances": Quota(limit=most, used=used)}

    def list_leftovers(self, application: str) -> Sequence[Leftover]:
        """What carries the id of a VM that is not there."""
        with self._answers(self._call("list leftovers"), self._deadline()) as line:
            left = list(self._dialect.leftovers(line, application))
            if not left:
                return ()
            there = {
                instance.tags.get(identity.TAG_ID)
                for instance in self._dialect.instances(line, application)
                if instance.state is not None
            }
        there |= {vm.id for vm in self._made.unseen(application, ())}
        return [one for one in left if one.vm_id not in there]

    def delete_leftover(self, leftover: Leftover) -> None:
        """Have it removed; the provider refuses what a VM holds."""
        call = self._call(f"delete {leftover.kind} {leftover.cloud_id}", changing=True)
        with self._answers(call, self._deadline()) as line:
            self._dialect.delete_leftover(line, leftover)

    def _order(self, request: VmRequest, deadline: float) -> Order:
        if not identity.is_ours(request.tags, request.application):
            raise InvalidRequest(f"the tags of VM {request.id} do not name its application and id")
        call = self._call(f"create VM {request.id}", request=request)
        with self._answers(call, deadline) as line:
            return self._dialect.order(line, request, self._user_data(request))

    def _create(self, request: VmRequest, order: Order, deadline: float) -> Vm:
        call = self._call(f"create VM {request.id}", changing=True, request=request)
        with self._answers(call, deadline) as line:
            instance = self._dialect.create(line, request, order)
        vm = self._vm(instance, request.application, request.id)
        if vm is None:
            raise OutcomeUnknown(f"cannot {call.doing}: it was removed while it was created")
        return vm

    def _user_data(self, request: VmRequest) -> str | None:
        options = request.type.options
        if "user_data" not in options:
            return None
        values = {
            "id": request.id,
            "name": request.name,
            "application": request.application,
            "type": request.type.name,
            "cloud": self.environment.name,
            "relay": options.get("relay"),
        }
        return render(options["user_data"], values)

    def _vm(self, instance: Instance, application: str, vm_id: str | None = None) -> Vm | None:
        """The VM that an instance is, or None when it is gone, or not the one that is meant."""
        if instance.state is None:
            return None
        vm = Vm.from_tags(
            instance.tags,
            application,
            cloud=self.environment.name,
            cloud_id=instance.cloud_id,
            name=instance.name,
            state=instance.state,
            addresses=instance.addresses,
            fault=instance.fault,
            fault_code=instance.fault_code,
        )
        return None if vm is None or vm_id not in (None, vm.id) else vm

    def _deadline(self) -> float:
        return self._clock.monotonic() + self._seconds

    def _call(
        self, doing: str, *, changing: bool = False, request: VmRequest | None = None
    ) -> Call:
        cloud = self.environment.name
        return Call(cloud=cloud, doing=doing, changing=changing, request=request)

    @contextlib.contextmanager
    def _answers(self, call: Call, deadline: float) -> Iterator[Line]:
        """A line for one call; whatever goes wrong on it is told as what it means."""
        line: Line | None = None
        try:
            with self._lines.borrow(deadline) as line:
                yield line
        except CloudError as error:
            kind = type(error)
            if call.changing and line and line.accepted and kind in (Throttled, Unreachable):
                kind = OutcomeUnknown
            raise self._worded(kind, call, error.message, error.retry_after) from None
        except WrongOption as error:
            text = f"{call.place(error.option)}: {error.text}"
            raise self._worded(InvalidRequest, call, text) from None
        except Exception as error:
            told = self._dialect.told(error, call, line)
            if told is None:
                raise
            # The error itself may hold secrets, in a URL or in what was sent.
            raise self._worded(told.kind, call, told.text, told.retry_after) from None

    def _worded(
        self, kind: type[CloudError], call: Call, text: str, retry_after: float | None = None
    ) -> CloudError:
        if kind is InvalidRequest:
            self._dialect.forget()
        message = f"cannot {call.doing} on {call.cloud}: {text}"
        for secret in self._secrets:
            message = message.replace(secret, _MASK)
        return kind(message, retry_after=retry_after)


class _Made:
    """What this process made in the last moments, which the provider may not show everywhere.
    Safe for threads."""

    def __init__(self, environment: Environment, seconds: float) -> None:
        self._clock = environment.clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._vms: dict[str, tuple[float, Vm]] = {}

    def add(self, vm: Vm) -> None:
        """The provider said that it made this VM."""
        now = self._clock.monotonic()
        with self._lock:
            self._vms = {key: made for key, made in self._vms.items() if made[0] > now}
            if self._seconds:
                self._vms[vm.cloud_id] = (now + self._seconds, vm)

    def drop(self, cloud_id: str) -> None:
        """The provider says that it is gone, or was told to remove it."""
        with self._lock:
            self._vms.pop(cloud_id, None)

    def unseen(self, application: str, shown: Collection[str]) -> Sequence[Vm]:
        """Those of ``application`` that are not among the cloud ids ``shown``."""
        now = self._clock.monotonic()
        with self._lock:
            made = list(self._vms.values())
        return [
            vm
            for until, vm in made
            if until > now and vm.application == application and vm.cloud_id not in shown
        ]

    def last(self, vm: Vm) -> Vm | None:
        """The VM as it was made, or as it is known to the caller, when it is too young for the
        provider's word that there is no such thing."""
        with self._lock:
            until, made = self._vms.get(vm.cloud_id, (0.0, None))
        if made is not None and until > self._clock.monotonic():
            return made if made.id == vm.id else None
        return vm if 0 <= self._clock.time() - vm.placed_at < self._seconds else None


def _driver_arguments(options: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
    """What the node driver's class is made of."""
    given = {ARGUMENTS[key]: options[key] for key in ARGUMENTS if key in options}
    more: dict[str, Any] = {"timeout": seconds}
    if options["provider"] == EC2:
        more["signature_version"] = "4"
    if "proxy_url" in options:
        more["proxy_url"] = options["proxy_url"]
    return {**options["arguments"], **given, **more}


def _secrets(options: Mapping[str, Any]) -> Sequence[str]:
    """What no message may repeat, the longest first."""
    keys = ("secret_key", "token", "access_key", "proxy_url")
    named = [options[key] for key in keys if key in options]
    others = [value for value in options["arguments"].values() if isinstance(value, str)]
    texts = {text for text in (*named, *others) if len(text) >= _SHORTEST_SECRET}
    return sorted(texts, key=len, reverse=True)
