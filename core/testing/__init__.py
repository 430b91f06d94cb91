"""For plugin authors' tests: conformance suites to inherit, a clock to hold, an environment.

A plugin passes its kind's suite when a test class of ten lines inherits it::

    from isoneph.core.testing import CloudConformance, make_environment

    class TestMyCloud(CloudConformance):
        def make_cloud(self, tmp_path):
            return MyCloud({"option": 1}, make_environment("here"))

The suites need pytest (and pytest-asyncio for stores) and nothing else.
"""

import pytest

# A failing suite then shows its figures, as the plugin author's own tests do.
pytest.register_assert_rewrite("isoneph.core.testing.clouds")

from isoneph.core.testing.clouds import CloudConformance  # noqa: E402 (after the line above)
from isoneph.core.testing.environment import (  # noqa: E402 (sorted with the others)
    FakeClock,
    NullMetrics,
    make_environment,
)

__all__ = ["CloudConformance", "FakeClock", "NullMetrics", "make_environment"]
