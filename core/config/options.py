"""The options of ``isoneph.conf``, from which its sample and its reference are generated."""

from __future__ import annotations

from collections.abc import Sequence

from oslo_config import cfg

from isoneph.core.settings import ServiceSettings, StoreSettings

_SERVICE = ServiceSettings()
_STORE = StoreSettings()

DEFAULT = cfg.OptGroup(
    "DEFAULT",
    help="The service's own configuration. Every option can also be set in the environment, which "
    "wins over the files: OS_API__PORT is port in [api], OS_DEFAULT__LOG_LEVEL is log_level. "
    "In a value, $NAME stands for the option of that name; write $$ for a dollar sign.",
)
API = cfg.OptGroup("api", help="The REST API.")
ENGINE = cfg.OptGroup("engine", help="The engine, which keeps the applications' VMs whole.")
STORE = cfg.OptGroup(
    "store",
    help="What several replicas of the service coordinate through. Further options in this "
    "section are the driver's own; 'isoneph plugin show' tells them. Where the driver does not "
    "take a value as text, it is read as YAML: 5, true, [a, b].",
)


def list_opts() -> Sequence[tuple[cfg.OptGroup, Sequence[cfg.Opt]]]:
    """All options by section, for this package and for ``oslo-config-generator``."""
    return [
        (DEFAULT, _default_options()),
        (API, _api_options()),
        (ENGINE, _engine_options()),
        (STORE, _store_options()),
    ]


def _default_options() -> Sequence[cfg.Opt]:
    return [
        cfg.StrOpt(
            "log_level",
            default=_SERVICE.log_level,
            choices=[
                ("DEBUG", "every call"),
                ("INFO", "every decision"),
                ("WARNING", "what should be looked at"),
                ("ERROR", "what failed"),
                ("CRITICAL", "what stops the service"),
            ],
            help="The least severe messages that are logged.",
        ),
        cfg.StrOpt(
            "log_format",
            default=_SERVICE.log_format,
            choices=[("text", "one line for people"), ("json", "one JSON object a line")],
            help="The form of the log.",
        ),
        cfg.StrOpt(
            "clouds_file",
            default="clouds.yaml",
            help="The clouds. A relative path starts at the directory of the file it stands in.",
        ),
        cfg.StrOpt(
            "applications_dir",
            default="applications",
            help="The directory that has one YAML file for each application; relative as above.",
        ),
    ]


def _api_options() -> Sequence[cfg.Opt]:
    return [
        cfg.HostAddressOpt("host", default=_SERVICE.host, help="The address to listen on."),
        cfg.PortOpt("port", default=_SERVICE.port, help="The port to listen on."),
        cfg.BoolOpt(
            "allow_unauthenticated",
            default=_SERVICE.allow_unauthenticated,
            help="Whether applications without tokens are served on an address that other "
            "machines can reach.",
        ),
        cfg.StrOpt(
            "default_application",
            default=_SERVICE.default_application,
            help="The application that requests mean when they name none. By default the one "
            "whose file says 'default: true', or the only one.",
        ),
        cfg.IntOpt(
            "max_body", default=_SERVICE.max_body, min=1, help="Bytes that a request may have."
        ),
        cfg.FloatOpt(
            "max_wait",
            default=_SERVICE.max_wait,
            min=0,
            help="Seconds that a request may wait for a VM to become ready.",
        ),
        cfg.FloatOpt(
            "graceful_timeout",
            default=_SERVICE.graceful_timeout,
            min=0,
            help="Seconds that requests under way are given when the service is stopped.",
        ),
    ]


def _engine_options() -> Sequence[cfg.Opt]:
    return [
        cfg.BoolOpt(
            "enabled",
            default=_SERVICE.engine_enabled,
            help="Whether this process runs the engine. Of several that do, one is active.",
        ),
        cfg.FloatOpt(
            "interval",
            default=_SERVICE.engine_interval,
            min=0.01,
            help="Seconds between two rounds of the engine.",
        ),
        cfg.FloatOpt(
            "lease",
            default=_SERVICE.engine_lease,
            min=0.01,
            help="Seconds after which another process may take over from an engine that is no "
            "longer heard of. Longer than the interval.",
        ),
    ]


def _store_options() -> Sequence[cfg.Opt]:
    return [
        cfg.StrOpt(
            "driver",
            default=_STORE.driver,
            help="The store's plugin. 'memory' serves a single process.",
        ),
        cfg.FloatOpt(
            "timeout", default=_STORE.timeout, min=0.01, help="Seconds that one call may take."
        ),
    ]
