"""For plugin authors' tests: conformance suites to inherit, a clock to hold, an environment.

A plugin passes its kind's suite when a test class of ten lines inherits it::

    from isoneph.core.testing import CloudConformance, make_environment

    class TestMyCloud(CloudConformance):
        def make_cloud(self, tmp_path):
            return MyCloud({"option": 1}, make_environment("here"))

The suites need pytest (and pytest-asyncio for stores) and nothing else.
"""

from isoneph.core.testing.environment import FakeClock, NullMetrics, make_environment

__all__ = ["FakeClock", "NullMetrics", "make_environment"]
