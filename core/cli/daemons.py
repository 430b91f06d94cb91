"""``isoneph serve`` and ``isoneph engine``: the processes that stay."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from isoneph.core.cli.base import Command, add_config_options, given, load_config

if TYPE_CHECKING:
    from isoneph.core.application import Deployment
    from isoneph.core.plugin import Store
    from isoneph.core.settings import Settings

LOG = logging.getLogger("isoneph.cli")

#: Seconds that closing is given beyond what the configuration allows requests under way.
CLOSING = 5.0


def port(text: str) -> int:
    """A TCP port; 0 has the system choose one."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):  # noqa: PLR2004 (the last)
        raise argparse.ArgumentTypeError(f"'{text}' is not a port from 0 to 65535")
    return int(text)


def settings_loader(parsed_args: argparse.Namespace, **service: Any) -> Callable[[], Settings]:
    """Reads the configuration each time it is called; ``service`` wins over what it says."""

    def load() -> Settings:
        loaded = load_config(parsed_args)
        for warning in loaded.warnings:
            LOG.warning("%s", warning)
        return replace(loaded.settings, service=replace(loaded.settings.service, **service))

    return load


class Serve(Command):
    """Serve the REST API and, unless the configuration says otherwise, run the engine.

    Runs until SIGTERM or SIGINT, and reads the configuration again on SIGHUP. It logs to
    standard error, as the configuration says.
    """

    examples = """\
  isoneph serve
  isoneph serve --config-dir ./etc/isoneph --port 8080"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--host", metavar="ADDRESS", help="listen here, not as configured")
        parser.add_argument(
            "--port", type=port, metavar="PORT", help="on this port; 0 has the system choose one"
        )
        add_config_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Serve until told to stop."""
        from isoneph.core.service import serve  # noqa: PLC0415 (slow; help does without)

        return serve(settings_loader(parsed_args, **given(parsed_args, "host", "port")))


class RunEngine(Command):
    """Run the engine alone, without the API.

    For services that share a store: the engine places again what failed and removes what nobody
    owns, whatever '[engine] enabled' says, which is for the services. Of several engines one
    is at work and the others stand by. Runs until SIGTERM or SIGINT, and reads the
    configuration again on SIGHUP.
    """

    examples = "  isoneph engine --config-dir ./etc/isoneph"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        add_config_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Run until told to stop."""
        from isoneph.core.service.logs import configure_logging  # noqa: PLC0415 (as above)

        load = settings_loader(parsed_args, engine_enabled=True)
        settings = load()
        configure_logging(settings.service.log_level, settings.service.log_format)
        asyncio.run(_run_engine(settings, load))


async def _run_engine(settings: Settings, load: Callable[[], Settings]) -> None:
    from isoneph.core.application import Deployment  # noqa: PLC0415 (as above)

    stop, reload_wanted = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload_wanted.set)
    deployment = Deployment(settings)
    store = cast("type[Store]", deployment.registry.load("stores", settings.store.driver))
    if not store.shared:
        LOG.warning(
            "the store '%s' is this process's own: there must be no other engine, nor a service",
            settings.store.driver,
        )
    await deployment.start()
    LOG.info("the engine runs")
    reloading = asyncio.create_task(_reload_when_wanted(deployment, load, reload_wanted))
    await stop.wait()
    LOG.info("stopping")
    reloading.cancel()
    try:
        async with asyncio.timeout(settings.service.graceful_timeout + CLOSING):
            await deployment.close()
    except TimeoutError:
        LOG.warning("what is still under way is left; the VMs will be found by their tags")
    LOG.info("stopped")


async def _reload_when_wanted(
    deployment: Deployment, load: Callable[[], Settings], wanted: asyncio.Event
) -> None:
    from isoneph.core.service.reloading import reload  # noqa: PLC0415 (as above)

    while True:
        await wanted.wait()
        wanted.clear()
        await reload(deployment, load, ())
