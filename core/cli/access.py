"""Which application a command works on, and through what: a service, or the clouds directly."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from isoneph.core.cli.base import add_config_options, load_config
from isoneph.core.cli.failures import UsageError

if TYPE_CHECKING:
    from isoneph.core.cli.client import Client


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """Where the service is, or that none is needed; and which application is meant."""
    group = parser.add_argument_group("service")
    group.add_argument(
        "--url",
        default=os.environ.get("ISONEPH_URL"),
        help="the service's address, by default $ISONEPH_URL or http://127.0.0.1:8642",
    )
    group.add_argument(
        "--application",
        metavar="NAME",
        default=os.environ.get("ISONEPH_APPLICATION"),
        help="by default $ISONEPH_APPLICATION or the service's default application",
    )
    group.add_argument(
        "--token-file",
        metavar="FILE",
        help="a file with the bearer token, by default it is $ISONEPH_TOKEN",
    )
    group.add_argument(
        "--local",
        action="store_true",
        help="work on the clouds directly, without a service, by the configuration's word",
    )
    add_config_options(parser)


def connect(parsed_args: argparse.Namespace) -> Client:
    """A client for what the options name. Raises ConfigInvalid, CommandFailed."""
    # Slow imports: help and completion do without.
    from isoneph.core.cli.client import DEFAULT_URL, Client  # noqa: PLC0415

    if parsed_args.local:
        from isoneph.core.cli import local  # noqa: PLC0415
        from isoneph.core.registry import Registry  # noqa: PLC0415

        registry = Registry()
        transport = local.LocalTransport(load_config(parsed_args, registry).settings, registry)
        return Client(local.URL, application=parsed_args.application, transport=transport)
    if parsed_args.config_dir or parsed_args.config_file:
        raise UsageError("--config-dir and --config-file are for --local only")
    return Client(
        parsed_args.url or DEFAULT_URL,
        application=parsed_args.application,
        token=_token(parsed_args.token_file),
    )


def _token(file: str | None) -> str | None:
    if file is None:
        token, source = os.environ.get("ISONEPH_TOKEN", ""), "ISONEPH_TOKEN"
    else:
        token, source = Path(file).read_text(encoding="utf-8"), file
    token = token.strip()
    if file is not None and not token:
        raise UsageError(f"{source} holds no token")
    if not (token.isascii() and token.isprintable()):
        raise UsageError(f"{source} does not hold a token: it has characters that no token has")
    return token or None
