"""The composition root: what the configuration names is loaded, put together and run.

A program that embeds the balancer opens a deployment and uses its applications' balancers::

    async with open_deployment(settings) as deployment:
        mme = deployment.applications["mme"].balancer
        creation = await mme.create(CreateRequest(type="mme_worker"))
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from isoneph.core.balancer import Balancer, Policies
from isoneph.core.calls import CallPool
from isoneph.core.clock import SystemClock
from isoneph.core.engine import Engine
from isoneph.core.gateway import CloudGateway
from isoneph.core.lease import Lease, new_owner
from isoneph.core.ledger import Ledger
from isoneph.core.locks import NameLocks
from isoneph.core.metrics import PrometheusMetrics
from isoneph.core.plugin import Clock, Cloud, Environment, Policy, Store
from isoneph.core.ranking import WeightedPolicy
from isoneph.core.registry import Registry
from isoneph.core.relaying import (
    RelayHost,
    RelayWay,
    RemoteRelay,
    StoredState,
    control_of,
    has_process,
    make_relay,
)
from isoneph.core.settings import (
    ApplicationSettings,
    CloudSettings,
    PolicySettings,
    ServiceSettings,
    Settings,
)

LOG = logging.getLogger(__name__)

#: Seconds that a policy may take to start or to read its figures again.
POLICY_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """One deployed application: its settings and its balancer, put together."""

    settings: ApplicationSettings
    balancer: Balancer
    policies: Policies
    #: The way to its relay, if it has one.
    way: RelayWay | None = None

    def all_policies(self) -> Iterator[WeightedPolicy]:
        """Placement and victim policies."""
        yield from self.policies.placement
        yield from self.policies.victims


class Deployment:
    """All that one process runs. For the tasks of one event loop."""

    def __init__(
        self, settings: Settings, *, registry: Registry | None = None, clock: Clock | None = None
    ) -> None:
        self.settings = settings
        self.registry = registry or Registry()
        self.clock = clock or SystemClock()
        self.metrics = PrometheusMetrics()
        self.owner = new_owner()
        self.applications: dict[str, Application] = {}
        self.engine: Engine | None = None
        self._gateways: dict[str, CloudGateway] = {}
        #: By application; they outlive a reload, in which the old and the new one work on together.
        self._ledgers: dict[str, Ledger] = {}
        self._locks: dict[str, NameLocks] = {}
        self._store: Store | None = None
        self._pool = CallPool("policies", 4)
        self._tasks: list[asyncio.Task[None]] = []
        self._retiring: set[asyncio.Task[None]] = set()

    async def start(self, *, engine: bool = True, background: bool = True) -> None:
        """Load and start every plugin that is named, then the engine if it is asked for and
        configured, and what keeps listings and policies fresh in the background.

        Raises what a plugin's start raises, and PluginError; everything is closed again then.
        """
        try:
            self._store = self._make_store()
            await self._store.start()
            self._gateways, self.applications = await self._assemble(self.settings, {})
        except BaseException:
            await self.close()
            raise
        await asyncio.gather(*(self._first_look(a) for a in self.applications.values()))
        service = self.settings.service
        if engine and service.engine_enabled:
            self.engine = self._make_engine(service)
            self._tasks.append(asyncio.create_task(self.engine.run()))
        if background:
            self._tasks.append(asyncio.create_task(self._keep_fresh(service.engine_interval)))

    async def close(self) -> None:
        """Finish what was begun, stop the engine, let every plugin go."""
        for application in self.applications.values():
            await application.balancer.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._retiring, return_exceptions=True)
        await self._let_go(self.applications.values(), self._gateways.values())
        if self._store is not None:
            await self._store.close()
        self._pool.close()

    async def reload(self, settings: Settings) -> None:
        """Take a new configuration without dropping anything.

        Clouds whose settings are the same keep their driver, breaker and memory. The service
        section and the store are fixed while the process runs. Raises as :meth:`start`; the
        old configuration stays in force then.
        """
        old_applications, old_gateways = self.applications, self._gateways
        keep = {
            name: gateway
            for name, gateway in old_gateways.items()
            if settings.clouds.get(name) == gateway.settings
        }
        gateways, applications = await self._assemble(settings, keep)
        self.settings = settings
        self.applications, self._gateways = applications, gateways
        gone = [gateway for name, gateway in old_gateways.items() if name not in keep]
        retiring = asyncio.create_task(self._retire(list(old_applications.values()), gone))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def _retire(
        self, applications: Sequence[Application], gateways: Sequence[CloudGateway]
    ) -> None:
        for application in applications:
            await application.balancer.drain()
        await self._let_go(applications, gateways, self.applications.values())

    async def _assemble(
        self, settings: Settings, keep: Mapping[str, CloudGateway]
    ) -> tuple[dict[str, CloudGateway], dict[str, Application]]:
        """Build and start all that ``settings`` name; on an error close what was started."""
        gateways = dict(keep)
        applications: dict[str, Application] = {}
        try:
            for name, cloud in settings.clouds.items():
                if name not in gateways:
                    gateways[name] = self._make_gateway(cloud)
                    await gateways[name].start()
            for name, application in settings.applications.items():
                applications[name] = self._make_application(application, gateways)
                for entry in applications[name].all_policies():
                    await self._pool.run(POLICY_TIMEOUT, entry.policy.start)
        except BaseException:
            started = [gateway for name, gateway in gateways.items() if name not in keep]
            await self._let_go(applications.values(), started, self.applications.values())
            raise
        return gateways, applications

    async def _let_go(
        self,
        applications: Iterable[Application],
        gateways: Iterable[CloudGateway],
        staying: Iterable[Application] = (),
    ) -> None:
        """Close all that, but for the ways to relays that others go on with."""
        kept = [one.way for one in staying]
        for application in applications:
            await application.balancer.close()
            if application.way is not None and application.way not in kept:
                await application.way.close()
            for entry in application.all_policies():
                try:
                    await self._pool.run(POLICY_TIMEOUT, entry.policy.close)
                except Exception:
                    LOG.exception("policy %s failed to close", entry.name)
        await asyncio.gather(*(gateway.close() for gateway in gateways))

    async def _first_look(self, application: Application) -> None:
        """List every cloud and read its limits, so that the first request finds them known."""
        fleet = application.balancer.fleet
        patience = application.settings.patience
        errors = await fleet.ensure(0.0, patience=patience)
        gateways = application.balancer.gateways.values()
        await asyncio.gather(*(gateway.first_limits(patience) for gateway in gateways))
        if application.balancer.relayed is not None:
            await application.balancer.relayed.look(0.0)
        for name, error in errors.items():
            LOG.warning("cloud %s: %s: %s", name, error.code, error.message)

    async def _keep_fresh(self, interval: float) -> None:
        """What every replica does in the background, leading or not."""
        while True:
            for application in list(self.applications.values()):
                await application.balancer.fleet.ensure_usable()
                for entry in application.all_policies():
                    await self._refresh(entry)
            await self.clock.sleep(interval)

    async def _refresh(self, entry: WeightedPolicy) -> None:
        try:
            await self._pool.run(POLICY_TIMEOUT, entry.policy.refresh)
        except Exception as error:  # noqa: BLE001 (whatever a policy raises, it keeps what it had)
            LOG.warning("policy %s keeps its old figures: %s", entry.name, error)

    def _make_store(self) -> Store:
        settings = self.settings.store
        kind = cast("type[Store]", self.registry.load("stores", settings.driver))
        environment = self._environment("stores", settings.driver, settings.timeout)
        return kind(settings.options, environment)

    def _make_gateway(self, settings: CloudSettings) -> CloudGateway:
        cloud = make_cloud(settings, self.registry, self.clock, self.metrics)
        return CloudGateway(settings, cloud, self.clock, self.metrics)

    def _make_application(
        self, settings: ApplicationSettings, gateways: Mapping[str, CloudGateway]
    ) -> Application:
        store = cast("Store", self._store)
        policies = Policies(
            placement=[self._make_policy("placement", entry) for entry in settings.placement],
            victims=[self._make_policy("victims", entry) for entry in settings.victims],
        )
        if settings.name not in self._ledgers:
            self._ledgers[settings.name] = Ledger(store, self.clock, settings.name)
            self._locks[settings.name] = NameLocks(
                store,
                self.clock,
                prefix=f"lock/{settings.name}/",
                owner=self.owner,
                timeout=settings.deadline,
            )
        self._locks[settings.name].timeout = settings.deadline
        way = self._way(settings)
        balancer = Balancer(
            settings,
            gateways,
            policies,
            store,
            self._ledgers[settings.name],
            self.clock,
            self.metrics,
            self._locks[settings.name],
            way=way,
        )
        return Application(settings=settings, balancer=balancer, policies=policies, way=way)

    def _way(self, settings: ApplicationSettings) -> RelayWay | None:
        """The way to the application's relay: the one that there is, if nothing has changed."""
        relay, name = settings.relay, settings.name
        if relay is None:
            return None
        known = self.applications.get(name)
        if known is not None and known.way is not None and known.settings.relay == relay:
            return known.way
        if has_process(relay, self.registry):
            return RemoteRelay(name, control_of(settings), relay.control_secret_file)
        made = make_relay(relay, name, self.registry, self.clock, self.metrics)
        state = StoredState(cast("Store", self._store), name)
        return RelayHost(made, state, relay.servers, relay.weights)

    def _make_policy(self, kind: str, settings: PolicySettings) -> WeightedPolicy:
        loaded = cast("type[Policy]", self.registry.load(kind, settings.policy))
        environment = self._environment(kind, settings.policy, POLICY_TIMEOUT)
        policy = loaded(settings.options, environment)
        return WeightedPolicy(settings.policy, policy, settings.weight)

    def _make_engine(self, service: ServiceSettings) -> Engine:
        store = cast("Store", self._store)
        lease = Lease(store, self.clock, "lock/engine", self.owner, service.engine_lease)
        return Engine(
            lambda: [application.balancer for application in self.applications.values()],
            lease,
            self.clock,
            self.metrics,
            service.engine_interval,
        )

    def _environment(self, kind: str, name: str, timeout: float) -> Environment:
        return _environment(kind, name, timeout, self.clock, self.metrics)


def make_cloud(
    settings: CloudSettings, registry: Registry, clock: Clock, metrics: PrometheusMetrics
) -> Cloud:
    """The driver of a cloud, not yet started. Raises PluginError."""
    kind = cast("type[Cloud]", registry.load("clouds", settings.driver))
    environment = _environment("clouds", settings.name, settings.timeout, clock, metrics)
    return kind(settings.options, environment)


def _environment(
    kind: str, name: str, timeout: float, clock: Clock, metrics: PrometheusMetrics
) -> Environment:
    return Environment(
        name=name,
        clock=clock,
        logger=logging.getLogger(f"isoneph.plugins.{kind}.{name}"),
        metrics=metrics.bound(kind=kind, plugin=name),
        timeout=timeout,
    )


@asynccontextmanager
async def open_deployment(settings: Settings, *, engine: bool = False) -> AsyncIterator[Deployment]:
    """A started deployment, closed at the end; without an engine when a service runs one."""
    deployment = Deployment(settings)
    await deployment.start(engine=engine)
    try:
        yield deployment
    finally:
        await deployment.close()
