"""For plugin authors' tests: conformance suites to inherit, a clock to hold, an environment.

A plugin passes its kind's suite when a test class of ten lines inherits it::

    from isoneph.core.testing import CloudConformance, build_plugin

    class TestMyCloud(CloudConformance):
        def make_cloud(self, tmp_path):
            return build_plugin(MyCloud, {"option": 1}, name="here")

The suites need pytest (and pytest-asyncio for relays, stores and transports) and nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    import pytest
except ModuleNotFoundError as error:
    raise ImportError("isoneph.core.testing needs pytest: pip install pytest") from error

# A failing suite then shows its figures, as the plugin author's own tests do.
pytest.register_assert_rewrite(
    "isoneph.core.testing.associations",
    "isoneph.core.testing.cloud_fixtures",
    "isoneph.core.testing.clouds",
    "isoneph.core.testing.policies",
    "isoneph.core.testing.relays",
    "isoneph.core.testing.stores",
    "isoneph.core.testing.transport_fixtures",
    "isoneph.core.testing.transports",
)

from isoneph.core.clock import SystemClock  # noqa: E402 (sorted with the others)
from isoneph.core.testing.associations import (  # noqa: E402 (after the rewriting)
    Door,
    EchoHandler,
    RecordingHandler,
)
from isoneph.core.testing.clouds import CloudConformance  # noqa: E402 (after the rewriting)
from isoneph.core.testing.environment import (  # noqa: E402 (sorted with the others)
    FakeClock,
    NullMetrics,
    build_plugin,
    make_environment,
    make_request,
)
from isoneph.core.testing.policies import (  # noqa: E402 (after the rewriting)
    PlacementConformance,
    VictimsConformance,
)

if TYPE_CHECKING:
    from isoneph.core.testing.relays import RelayConformance
    from isoneph.core.testing.stores import StoreConformance
    from isoneph.core.testing.transports import TransportConformance

__all__ = [
    "CloudConformance",
    "Door",
    "EchoHandler",
    "FakeClock",
    "NullMetrics",
    "PlacementConformance",
    "RecordingHandler",
    "RelayConformance",
    "StoreConformance",
    "SystemClock",
    "TransportConformance",
    "VictimsConformance",
    "build_plugin",
    "make_environment",
    "make_request",
]

#: The suites that need pytest-asyncio, and the modules they are in.
_ASYNCHRONOUS = {
    "RelayConformance": "isoneph.core.testing.relays",
    "StoreConformance": "isoneph.core.testing.stores",
    "TransportConformance": "isoneph.core.testing.transports",
}


def __getattr__(name: str) -> Any:
    """Import a suite that needs pytest-asyncio when it is asked for."""
    if name not in _ASYNCHRONOUS:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    try:
        module = import_module(_ASYNCHRONOUS[name])
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} needs pytest-asyncio: pip install pytest-asyncio") from error
    return getattr(module, name)
