"""For plugin authors' tests: conformance suites to inherit, a clock to hold, an environment.

A plugin passes its kind's suite when a test class of ten lines inherits it::

    from isoneph.core.testing import CloudConformance, build_plugin

    class TestMyCloud(CloudConformance):
        def make_cloud(self, tmp_path):
            return build_plugin(MyCloud, {"option": 1}, name="here")

The suites need pytest (and pytest-asyncio for stores) and nothing else.
"""

from typing import TYPE_CHECKING, Any

try:
    import pytest
except ModuleNotFoundError as error:
    raise ImportError("isoneph.core.testing needs pytest: pip install pytest") from error

# A failing suite then shows its figures, as the plugin author's own tests do.
pytest.register_assert_rewrite(
    "isoneph.core.testing.clouds",
    "isoneph.core.testing.policies",
    "isoneph.core.testing.stores",
)

from isoneph.core.clock import SystemClock  # noqa: E402 (sorted with the others)
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
    from isoneph.core.testing.stores import StoreConformance

__all__ = [
    "CloudConformance",
    "FakeClock",
    "NullMetrics",
    "PlacementConformance",
    "StoreConformance",
    "SystemClock",
    "VictimsConformance",
    "build_plugin",
    "make_environment",
    "make_request",
]


def __getattr__(name: str) -> Any:
    """Import the suite of stores when it is asked for: it alone needs pytest-asyncio."""
    if name != "StoreConformance":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    try:
        from isoneph.core.testing.stores import StoreConformance  # noqa: PLC0415 (see above)
    except ModuleNotFoundError as error:
        raise ImportError(
            "StoreConformance needs pytest-asyncio: pip install pytest-asyncio"
        ) from error
    return StoreConformance
