"""What is there and described no more: told, and with ``prune`` removed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from isoneph.core.model import Finding, Outcome
from isoneph.plugins.clouds.openstack.errors import Conflict, NotFound
from isoneph.plugins.clouds.openstack.preparing.run import NETWORK, Found, Run
from isoneph.plugins.clouds.openstack.preparing.things import REFUSALS

#: Users of something that are named when they keep it from being removed.
_MOST_USERS = 5
#: Ports that Neutron makes by itself, and takes away with their network.
_NEUTRONS_OWN = ("network:dhcp", "network:distributed", "network:local_ip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """Something that is there and described no more.

    ``remove`` returns the other applications that it stays for, if any; ``users`` names what may
    keep it from being removed, and ``kept`` says why it is never tried.
    """

    kind: str
    name: str
    remove: Callable[[], Sequence[str] | None]
    users: Callable[[], Sequence[str]] = tuple
    kept: str = ""


def settle_extra(run: Run, extra: Extra) -> Finding:
    """Tell of it, or with ``prune`` remove it, or release it to others."""

    def told(outcome: Outcome, text: str) -> Finding:
        return run.finding(extra.kind, extra.name, outcome, text)

    if extra.kept or not run.prune:
        return told(Outcome.EXTRA, extra.kept or "not described")
    try:
        others = extra.remove()
    except NotFound:
        others = None
    except Conflict as error:
        users = [*extra.users()]
        shown = ", ".join(users[:_MOST_USERS]) + (", ..." if len(users) > _MOST_USERS else "")
        return told(Outcome.FAILED, f"in use by {shown}" if users else error.message)
    except REFUSALS as error:
        return told(Outcome.FAILED, error.message)
    outcome = Outcome.RELEASED if others else Outcome.REMOVED
    run.logger.info("cloud %s: %s %s %s", run.cloud, extra.kind, extra.name, outcome)
    return told(outcome, f"it stays for {', '.join(others)}" if others else "")


def prune_tagged(
    run: Run,
    kind: str,
    collection: str,
    described: Collection[str],
    *,
    users_by: str,
    first: Callable[[Found], None] | None = None,
    kept: Callable[[Found], str] = lambda _: "",
) -> Iterator[Finding]:
    """What in a collection of Neutron's has the application's tag and is not ``described``.

    ``users_by`` is the filter of ports that tells who uses a thing; ``first`` is called before
    one is given up, and ``kept`` says why one is not.
    """
    path = f"/{collection.replace('_', '-')}"
    try:
        tagged = run.listing(NETWORK, path, collection, project_id=run.project, tags=run.tag)
    except NotFound:  # a Neutron without routers
        return
    for found in tagged:
        # A Neutron that does not know the filter gives everything.
        if run.tag in found.get("tags", ()) and found["name"] not in described:
            extra = Extra(
                kind=kind,
                name=found["name"],
                remove=partial(give_up, run, NETWORK, f"{path}/{found['id']}", found, first),
                users=partial(port_users, run, **{users_by: found["id"]}),
                kept=kept(found),
            )
            yield settle_extra(run, extra)


def give_up(
    run: Run,
    service: str,
    path: str,
    found: Found,
    first: Callable[[Found], None] | None = None,
) -> Sequence[str]:
    """Remove something, or only our tag while other applications want it; returns these.
    ``first`` is called before."""
    others = run.other_owners(found)
    if first is not None:
        first(found)
    run.delete(service, f"{path}/tags/{run.tag}" if others else path)
    return others


def port_users(run: Run, **filters: str) -> list[str]:
    """Who has the ports of a listing."""
    ports = run.listing(NETWORK, "/ports", "ports", **filters)
    return [
        f"{port['device_owner'] or 'port'} {port['device_id'] or port['id']}"
        for port in ports
        if not port["device_owner"].startswith(_NEUTRONS_OWN)
    ]
