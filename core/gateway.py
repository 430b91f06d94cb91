"""One cloud as the core uses it: its driver behind deadlines, a breaker and typed errors.

Whatever a driver does, the callers here see a result in time or a
:class:`~isoneph.core.errors.CloudError`. One gateway serves all applications that use the
cloud. For the tasks of one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from isoneph.core.calls import CallNotStarted, CallPool, CallUnfinished
from isoneph.core.errors import (
    CloudError,
    OutcomeUnknown,
    QuotaExceeded,
    Throttled,
    Unreachable,
)
from isoneph.core.health import Avoidance, Breaker
from isoneph.core.model import Leftover, Limits, Vm, VmRequest
from isoneph.core.plugin import Clock, Cloud, Metrics
from isoneph.core.settings import CloudSettings

LOG = logging.getLogger(__name__)
T = TypeVar("T")

#: Threads for calls that only read, so that slow creates never hold up a listing.
READERS = 8
#: Creates that are remembered until the limits are read again.
MOST_RECENT = 10_000
#: Seconds until limits that could not be read are asked for again.
LIMITS_RETRY = 30.0
#: Seconds in which a cloud's limits show that a VM was deleted.
FREED_WITHIN = 60.0
#: Calls that change something: an unexpected end leaves the outcome unknown.
CHANGING = frozenset({"create_vm", "delete_vm", "delete_leftover"})


class CloudGateway:
    """The way to one cloud."""

    def __init__(
        self, settings: CloudSettings, cloud: Cloud, clock: Clock, metrics: Metrics
    ) -> None:
        self.name = settings.name
        self.settings = settings
        self.breaker = Breaker(clock, settings.breaker_failures, settings.breaker_pause)
        self.avoidance = Avoidance(clock, settings.breaker_pause)
        self._cloud = cloud
        self._clock = clock
        self._metrics = metrics
        self._readers = CallPool(f"{settings.name}-read", READERS)
        self._writers = CallPool(f"{settings.name}-write", settings.calls)
        self._limits: Limits | None = None
        self._limits_at = 0.0
        self._limits_read = float("-inf")  # on the monotonic clock
        self._freed_at = float("-inf")
        self._reading_limits: asyncio.Task[None] | None = None
        self._unanswered: dict[str, float] = {}
        self._recent: deque[tuple[float, str, Mapping[str, float]]] = deque(maxlen=MOST_RECENT)

    async def start(self) -> None:
        """Have the driver open what it needs; its error is the caller's."""
        await self._readers.run(self.settings.timeout, self._cloud.start)

    async def close(self) -> None:
        """Let the driver go, at most for as long as one call may take."""
        if self._reading_limits is not None:
            self._reading_limits.cancel()
        try:
            await self._readers.run(self.settings.timeout, self._cloud.close)
        except Exception:
            LOG.exception("cloud %s: the driver failed to close", self.name)
        self._readers.close()
        self._writers.close()

    async def create_vm(self, request: VmRequest) -> Vm:
        """See :meth:`Cloud.create_vm`."""
        self._unanswered[request.id] = self._clock.monotonic()
        try:
            vm = await self._call("create_vm", self._cloud.create_vm, request)
        except CloudError as error:
            self.avoidance.note(error, request.type.name)
            if isinstance(error, QuotaExceeded):
                self._limits, self._limits_read = None, float("-inf")
            raise
        finally:
            self._unanswered.pop(request.id, None)
        if not isinstance(vm, Vm) or vm.id != request.id or vm.cloud != self.name:
            raise self._named(OutcomeUnknown("the driver returned something else than the VM"))
        self.avoidance.forget(request.type.name)
        self._recent.append((self._clock.time(), request.application, request.type.resources))
        return vm

    async def get_vm(self, vm: Vm) -> Vm | None:
        """See :meth:`Cloud.get_vm`."""
        return await self._call("get_vm", self._cloud.get_vm, vm)

    async def list_vms(self, application: str) -> Sequence[Vm]:
        """See :meth:`Cloud.list_vms`."""
        return await self._call("list_vms", self._cloud.list_vms, application)

    async def delete_vm(self, vm: Vm, *, makes_room: bool = True) -> None:
        """See :meth:`Cloud.delete_vm`; what the cloud could not run makes no room there."""
        await self._call("delete_vm", self._cloud.delete_vm, vm)
        if makes_room:
            self.avoidance.forget()
        self._freed_at = self._clock.monotonic()

    async def list_leftovers(self, application: str) -> Sequence[Leftover]:
        """See :meth:`Cloud.list_leftovers`."""
        return await self._call("list_leftovers", self._cloud.list_leftovers, application)

    async def delete_leftover(self, leftover: Leftover) -> None:
        """See :meth:`Cloud.delete_leftover`."""
        await self._call("delete_leftover", self._cloud.delete_leftover, leftover)

    def slow(self) -> str | None:
        """Why others should be preferred while a create waits longer for its answer than it
        should, or None."""
        oldest = min(self._unanswered.values(), default=float("inf"))
        waiting = self._clock.monotonic() - oldest
        if waiting < self.settings.slow_create:
            return None
        return f"a create has been waiting for its answer for {waiting:.0f} s"

    def left_alone(self) -> str:
        """What the breaker says of this cloud, in words."""
        error = self.breaker.last_error
        why = f": {error.code}: {error.message}" if error is not None else ""
        return f"left alone by the circuit breaker for {self.breaker.retry_in:.0f} s more{why}"

    @property
    def limits(self) -> Limits | None:
        """The limits as last read, None when they are not known or were proved wrong."""
        return self._limits

    @property
    def limits_at(self) -> float:
        """When they were read, in seconds since the epoch."""
        return self._limits_at

    def planned_by_others(self, application: str) -> Mapping[str, float]:
        """What other applications placed here since the limits were read."""
        planned: dict[str, float] = {}
        for at, owner, resources in self._recent:
            if owner != application and at >= self._limits_at:
                for resource, amount in resources.items():
                    planned[resource] = planned.get(resource, 0.0) + amount
        return planned

    def refresh_limits(self) -> None:
        """Read the limits again in the background when they are old or were changed."""
        now = self._clock.monotonic()
        age, freed = now - self._limits_read, now - self._freed_at
        # A cloud may give back what a deleted VM held some time after it said yes.
        settling = freed <= age or (freed < FREED_WITHIN and age > FREED_WITHIN / 10)
        due = age > self.settings.limits_age or settling
        busy = self._reading_limits is not None and not self._reading_limits.done()
        if due and not busy and self.breaker.available:
            self._reading_limits = asyncio.create_task(self._read_limits())

    async def first_limits(self, patience: float) -> None:
        """Read the limits if they never were, waiting at most ``patience`` seconds."""
        self.refresh_limits()
        if self._reading_limits is not None:
            await asyncio.wait((self._reading_limits,), timeout=patience)

    async def _read_limits(self) -> None:
        begun, read = self._clock.time(), self._clock.monotonic()
        try:
            self._limits = await self._call("get_limits", self._cloud.get_limits)
        except CloudError as error:
            LOG.warning("cloud %s: limits not read: %s: %s", self.name, error.code, error.message)
            self._limits_read = read - self.settings.limits_age + LIMITS_RETRY
            return
        self._limits_at, self._limits_read = begun, read
        while self._recent and self._recent[0][0] < begun:
            self._recent.popleft()

    async def _call(self, verb: str, function: Callable[..., T], *arguments: Any) -> T:
        """One call of the driver; every way it can end is a value or a CloudError."""
        create = verb == "create_vm"
        if not self.breaker.allow(create=create):
            raise self._named(
                Unreachable(self.left_alone(), retry_after=self.breaker.retry_in or None)
            )
        pool = self._writers if verb in CHANGING else self._readers
        begun = self._clock.monotonic()
        try:
            result = await pool.run(self.settings.timeout, function, *arguments)
        except CloudError as error:
            raise self._note(verb, error, begun) from error.__cause__
        except CallNotStarted:
            busy = Unreachable(f"{verb}: all calls are busy since {self.settings.timeout:g} s")
            raise self._note(verb, busy, begun) from None
        except CallUnfinished:
            late = f"{verb}: no answer within {self.settings.timeout:g} s"
            raise self._note(verb, self._uncertain(verb, late), begun) from None
        except Exception as error:
            LOG.exception("cloud %s: the driver failed in %s", self.name, verb)
            fault = f"{verb}: the driver failed: {type(error).__name__} (see the log)"
            raise self._note(verb, self._uncertain(verb, fault), begun) from error
        self._note_answer(create=create)
        self._observe(verb, begun, "ok")
        return result

    def _uncertain(self, verb: str, message: str) -> CloudError:
        return OutcomeUnknown(message) if verb in CHANGING else Unreachable(message)

    def _note(self, verb: str, error: CloudError, begun: float) -> CloudError:
        create = verb == "create_vm"
        if not error.trips_breaker:
            self._note_answer(create=create)
        elif self.breaker.failure(error, create=create):
            LOG.warning("cloud %s: %s", self.name, self.left_alone())
        if isinstance(error, Throttled):
            self.avoidance.note(error, None)
        self._observe(verb, begun, error.code)
        return self._named(error)

    def _note_answer(self, *, create: bool) -> None:
        if self.breaker.success(create=create):
            LOG.info("cloud %s: it answers again, the circuit breaker is closed", self.name)

    def _named(self, error: CloudError) -> CloudError:
        error.cloud = self.name
        return error

    def _observe(self, verb: str, begun: float, outcome: str) -> None:
        seconds = self._clock.monotonic() - begun
        self._metrics.observe(
            "cloud_call_seconds", seconds, cloud=self.name, call=verb, outcome=outcome
        )
