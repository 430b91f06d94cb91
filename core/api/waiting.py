"""Waiting for VMs in a request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from isoneph.core import model
from isoneph.core.api.operations import ApplicationResource
from isoneph.core.api.problems import Mistake, Refused
from isoneph.core.api.requests import DEFAULT_WAIT, WaitQuery
from isoneph.core.balancer import Balancer
from isoneph.core.errors import BadRequest
from isoneph.core.model import VmState

#: Problems of whatever waits.
PROBLEMS = ("bad_request", "vm_leaving", "wait_timeout", "shutting_down")

#: The state to wait for, and for how many seconds.
Awaited = tuple[VmState, float]


class WaitingResource(ApplicationResource):
    """A resource whose operations can wait for VMs."""

    def awaited(self, query: WaitQuery) -> Awaited | None:
        """The state to wait for and the seconds, None for not at all. Raises Refused."""
        longest = self.deployment.settings.service.max_wait
        if query.wait is UNSET:
            if query.timeout is not UNSET:
                raise Refused("bad_request", "timeout means something only with wait")
            return None
        state = VmState(query.wait)
        if query.timeout is UNSET:
            return state, min(DEFAULT_WAIT, longest)
        if query.timeout > longest:
            raise Refused("bad_request", f"timeout: expected at most {longest:g} seconds")
        return state, query.timeout

    async def ready(
        self, balancer: Balancer, ids: Sequence[str], awaited: Awaited
    ) -> list[model.Vm]:
        """Wait until all of these VMs have reached a state. Raises what :meth:`Balancer.wait`
        raises, and Refused when the service is stopped meanwhile."""
        waits = [asyncio.create_task(balancer.wait(vm_id, *awaited)) for vm_id in ids]
        closing = asyncio.create_task(self.context.closing.wait())
        left: set[asyncio.Task[Any]] = {closing, *waits}
        try:
            while left != {closing}:
                done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                if closing in done:
                    raise Refused("shutting_down", "the service is being stopped; wait again")
                for task in done:
                    task.result()
            return [task.result() for task in waits]
        finally:
            for task in (closing, *waits):
                task.cancel()
            await asyncio.gather(closing, *waits, return_exceptions=True)


def check_reachable(balancer: Balancer, type_name: str, **states: str | UnsetType) -> None:
    """That VMs of a type can reach the states at all, each given as the query's parameter that
    names it. Raises Refused."""
    for parameter, state in states.items():
        if state == VmState.READY:
            try:
                balancer.check_carried(type_name)
            except BadRequest as error:
                text = error.message
                raise Refused("invalid_query", text, errors=[Mistake(parameter, text)]) from error
