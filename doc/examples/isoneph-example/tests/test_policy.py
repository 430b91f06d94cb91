from isoneph.core.model import Weight
from isoneph.core.plugin import Placement
from isoneph.core.testing import PlacementConformance, build_plugin

from isoneph_example.policy import Green

GRAMS = {"oslo": 30, "paris": 60, "katowice": 660}


class TestGreen(PlacementConformance):
    clouds = tuple(GRAMS)

    def make_policy(self) -> Placement:
        return build_plugin(Green, {"grams_per_kwh": GRAMS, "max_grams_per_kwh": 500})

    # What the suite cannot know: what this policy prefers.

    def test_prefers_the_cleanest(self, policy: Placement) -> None:
        request, (oslo, paris, _) = self.scene("first VM")
        assert policy.weigh(oslo, request) == Weight(-30, "30 g CO2 per kWh")
        assert policy.weigh(oslo, request).value > policy.weigh(paris, request).value

    def test_keeps_the_limit(self, policy: Placement) -> None:
        request, (oslo, _, katowice) = self.scene("first VM")
        assert policy.reject(oslo, request) is None
        assert policy.reject(katowice, request) == "660 g CO2 per kWh, the limit is 500"
