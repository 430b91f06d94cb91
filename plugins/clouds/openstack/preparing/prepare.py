"""All of a description, in the order in which its parts need each other."""

from __future__ import annotations

from collections.abc import Iterator

from isoneph.core.model import Finding, Preparation
from isoneph.core.plugin import Environment
from isoneph.plugins.clouds.openstack.api import Api
from isoneph.plugins.clouds.openstack.preparing.groups import prepare_groups, prune_groups
from isoneph.plugins.clouds.openstack.preparing.images import prepare_images, prune_images
from isoneph.plugins.clouds.openstack.preparing.keypairs import prepare_keypairs
from isoneph.plugins.clouds.openstack.preparing.needs import check_needs
from isoneph.plugins.clouds.openstack.preparing.networks import prepare_networks, prune_networks
from isoneph.plugins.clouds.openstack.preparing.routers import prepare_routers, prune_routers
from isoneph.plugins.clouds.openstack.preparing.run import Run


def prepare(
    api: Api, admin: Api | None, preparation: Preparation, environment: Environment
) -> Iterator[Finding]:
    """See :meth:`isoneph.core.plugin.Cloud.prepare`; ``admin`` is the same cloud with an
    administrator's credentials. What is described no more comes last, users before the used."""
    run = Run(
        cloud=environment.name,
        api=api,
        admin=admin,
        preparation=preparation,
        clock=environment.clock,
        logger=environment.logger,
    )
    yield from prepare_groups(run)
    subnets = yield from prepare_networks(run)
    yield from prepare_routers(run, subnets)
    yield from prepare_keypairs(run)
    yield from prepare_images(run)
    yield from check_needs(run)
    yield from prune_routers(run)
    yield from prune_networks(run)
    yield from prune_groups(run)
    yield from prune_images(run)
