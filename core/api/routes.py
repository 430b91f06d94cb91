"""Every URL of the API, and what stands for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from isoneph.core.api.clouds import (
    CloudCollection,
    OneCloud,
    OneType,
    PlacementQuestion,
    TypeCollection,
)
from isoneph.core.api.operations import Operation, Resource, operation_of
from isoneph.core.api.service import (
    ApplicationCollection,
    Document,
    Live,
    MetricsPage,
    Ready,
    Root,
)
from isoneph.core.api.vms import OneVm, VmCollection

#: Under the base URL of an application.
OF_APPLICATION: Sequence[tuple[str, type[Resource]]] = (
    ("/vm", VmCollection),
    ("/vm/{vm_id}", OneVm),
    ("/type", TypeCollection),
    ("/type/{name}", OneType),
    ("/cloud", CloudCollection),
    ("/cloud/{name}", OneCloud),
    ("/placement", PlacementQuestion),
)
#: Under the service's own.
OF_SERVICE: Sequence[tuple[str, type[Resource]]] = (
    ("/", Root),
    ("/v1", ApplicationCollection),
    ("/health/live", Live),
    ("/health/ready", Ready),
    ("/metrics", MetricsPage),
    ("/openapi.json", Document),
)
#: The base URLs of an application: by its name, and of the default one.
BASES = ("/v1/{application}", "")

METHODS = ("get", "post", "delete")


@dataclass(frozen=True, slots=True)
class Route:
    """A URL template and its resource."""

    path: str
    resource: type[Resource]

    def operations(self) -> Iterator[tuple[str, Operation]]:
        """Its operations by method, in lower case."""
        for method in METHODS:
            responder = getattr(self.resource, f"on_{method}", None)
            if responder is not None:
                yield method, operation_of(responder)


def routes() -> Iterator[Route]:
    """All of them."""
    for path, resource in OF_SERVICE:
        yield Route(path, resource)
    for base in BASES:
        for path, resource in OF_APPLICATION:
            yield Route(base + path, resource)
