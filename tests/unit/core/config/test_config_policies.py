"""What the schemas of policies cannot see is found all the same, with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from isoneph.core.config import load_settings
from isoneph.core.errors import ConfigInvalid

CLOUDS = "clouds:\n  uniform: {driver: mock}\n  quebec: {driver: mock}\n"


def problems(path: Path, application: str) -> list[str]:
    (path / "applications").mkdir()
    (path / "clouds.yaml").write_text(CLOUDS)
    (path / "applications" / "mme.yaml").write_text("types: {worker: {}}\n" + application)
    with pytest.raises(ConfigInvalid) as invalid:
        load_settings(config_dirs=[str(path)])
    return [line.replace(f"{path}/", "") for line in invalid.value.problems]


def test_options_that_do_not_go_together_are_told_with_their_place(tmp_path: Path) -> None:
    assert problems(tmp_path, "placement:\n  - quota\n  - latency-aware\n") == [
        "applications/mme.yaml:4: placement[1]: expected 'links', 'measurements' or both"
    ]


@pytest.mark.parametrize(
    "entry",
    [
        "placement: [{policy: overflow, order: [uniform, quebeck]}]",
        "placement: [{policy: overflow, order: [uniform], keep: {quebeck: 3}}]",
        "placement: [{policy: cost-aware, currency: EUR, prices: {quebeck: {worker: 1}}}]",
        "victims: [{policy: most-expensive, currency: EUR, prices: {quebeck: {worker: 1}}}]",
    ],
)
def test_a_misspelt_cloud_in_a_policys_options_is_told(tmp_path: Path, entry: str) -> None:
    (line,) = problems(tmp_path, entry + "\n")
    kind = entry.partition(":")[0]
    assert line == (
        f"applications/mme.yaml:2: {kind}[0]: 'quebeck': unknown cloud; expected one of uniform, "
        "quebec; did you mean 'quebec'?"
    )
