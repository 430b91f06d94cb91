"""``cloud``, ``type`` and ``placement``: where VMs can be, of which kinds, and where the next
one would go."""

from __future__ import annotations

from isoneph.core.api import examples
from isoneph.core.api.answers import (
    Cloud,
    CloudList,
    Placement,
    VmType,
    VmTypeList,
    cloud_of,
    placement_of,
    type_of,
)
from isoneph.core.api.operations import Answer, ApplicationResource, operation
from isoneph.core.api.problems import Refused
from isoneph.core.api.requests import VmCreate
from isoneph.core.api.tracing import Request
from isoneph.core.application import Application


class CloudCollection(ApplicationResource):
    """The clouds that an application uses."""

    @operation(
        name="list_clouds",
        summary="List clouds",
        text="With their health, and what the application runs there.",
        scope="read",
        answers={200: Answer(text="All.", types=(CloudList,), example=examples.CLOUD_LIST)},
    )
    async def on_get(self, application: Application, *, req: Request) -> CloudList:
        """List clouds."""
        return CloudList([cloud_of(status) for status in await application.balancer.clouds()])

    on_head = on_get


class OneCloud(ApplicationResource):
    """One cloud."""

    @operation(
        name="get_cloud",
        summary="Show a cloud",
        scope="read",
        answers={200: Answer(text="The cloud.", types=(Cloud,), example=examples.CLOUD)},
        problems=("unknown_name",),
    )
    async def on_get(self, application: Application, *, req: Request, name: str) -> Cloud:
        """Show a cloud."""
        if name not in application.settings.clouds:
            raise Refused("unknown_name", f"{application.settings.name} uses no cloud '{name}'")
        statuses = await application.balancer.clouds()
        return next(cloud_of(status) for status in statuses if status.cloud == name)

    on_head = on_get


class TypeCollection(ApplicationResource):
    """The VM types of an application."""

    @operation(
        name="list_types",
        summary="List VM types",
        scope="read",
        answers={200: Answer(text="All.", types=(VmTypeList,), example=examples.TYPE_LIST)},
    )
    async def on_get(self, application: Application, *, req: Request) -> VmTypeList:
        """List VM types."""
        types = application.settings.types
        return VmTypeList([type_of(name, clouds) for name, clouds in types.items()])

    on_head = on_get


class OneType(ApplicationResource):
    """One VM type."""

    @operation(
        name="get_type",
        summary="Show a VM type",
        scope="read",
        answers={200: Answer(text="The VM type.", types=(VmType,), example=examples.TYPE)},
        problems=("unknown_name",),
    )
    async def on_get(self, application: Application, *, req: Request, name: str) -> VmType:
        """Show a VM type."""
        clouds = application.settings.types.get(name)
        if clouds is None:
            raise Refused("unknown_name", f"{application.settings.name} has no VM type '{name}'")
        return type_of(name, clouds)

    on_head = on_get


class PlacementQuestion(ApplicationResource):
    """Where the next VM would go."""

    @operation(
        name="explain_placement",
        summary="Explain where a VM would go",
        text="Takes what creating a VM takes; nothing is created or reserved.",
        scope="read",
        body=VmCreate,
        body_example=examples.CREATE,
        answers={
            200: Answer(
                text="The clouds with all reasons, the best first.",
                types=(Placement,),
                example=examples.PLACEMENT,
            )
        },
        problems=("unknown_cloud", "unknown_type"),
    )
    async def on_post(self, application: Application, *, req: Request, body: VmCreate) -> Placement:
        """Explain where a VM would go."""
        return placement_of(await application.balancer.explain(body.request(None)))
