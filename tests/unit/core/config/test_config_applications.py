"""``applications/*.yaml``: what they become, and every way to get them wrong."""

from __future__ import annotations

import pytest

from configured import DIGEST, Directory, cases
from isoneph.core.model import VmType
from isoneph.core.settings import (
    ApplicationSettings,
    HealingSettings,
    PolicySettings,
    TokenSettings,
)

TYPES = "types: {worker: {options: {flavor: s}}}\n"
NAME = "expected a name: a letter, then at most 62 letters, digits, '_', '.' or '-'"
TOKEN_DIGEST = (
    "expected the SHA-256 digest of the token in 64 hexadecimal digits "
    "(as sha256sum prints it), never the token itself"
)
POLICY = "expected a policy's name, or a mapping that has it under 'policy'"


def test_everything_that_an_application_can_say(directory: Directory) -> None:
    directory.write(
        "applications/x.yaml",
        f"""\
application: mme
clouds: [quebec, uniform]
types:
  worker:
    resources: {{cores: 1, ram: 512}}
    options: {{flavor: small}}
    clouds:
      uniform: {{flavor: large, disks: [{{gb: 1}}], resources: {{cores: 4}}}}
  scout:
    options: {{flavor: tiny, image: other}}
    only: [quebec]
placement:
  - count-balance
  - {{policy: priced, weight: -2, prices: {{uniform: 0.5}}}}
victims: []
tokens:
  - {{name: front-end, sha256: {DIGEST.upper()}, scopes: [read, write]}}
healing: {{boot_timeout: 30, attempts: 1, grace: 0}}
freshness: 0
patience: 1
deadline: 9.5
""",
    )
    (directory.path / "applications/mme.yaml").unlink()
    resources = {"instances": 1, "cores": 1.0, "ram": 512.0}
    assert directory.load().settings.applications == {
        "mme": ApplicationSettings(
            name="mme",
            clouds=("quebec", "uniform"),
            types={
                "worker": {
                    "quebec": VmType(
                        name="worker",
                        resources=resources,
                        options={"flavor": "small", "image": "linux"},
                    ),
                    "uniform": VmType(
                        name="worker",
                        resources=resources | {"cores": 4.0},
                        options={"flavor": "large", "image": "linux", "disks": [{"gb": 1}]},
                    ),
                },
                "scout": {
                    "quebec": VmType(name="scout", options={"flavor": "tiny", "image": "other"}),
                },
            },
            placement=(
                PolicySettings(policy="count-balance"),
                PolicySettings(policy="priced", weight=-2.0, options={"prices": {"uniform": 0.5}}),
            ),
            victims=(),
            tokens=(
                TokenSettings(name="front-end", sha256=DIGEST, scopes=frozenset({"read", "write"})),
            ),
            healing=HealingSettings(boot_timeout=30.0, attempts=1, grace=0.0),
            freshness=0.0,
            patience=1.0,
            deadline=9.5,
        )
    }


def test_what_an_application_need_not_say(directory: Directory) -> None:
    settings = directory.load().settings
    worker = VmType(name="worker", options={"flavor": "small", "image": "linux"})
    assert settings.applications == {
        "mme": ApplicationSettings(
            name="mme",
            clouds=("uniform", "quebec"),
            types={"worker": {"uniform": worker, "quebec": worker}},
            placement=(PolicySettings(policy="count-balance"),),
            victims=(PolicySettings(policy="largest-cloud"),),
        )
    }
    assert settings.service.default_application == "mme"


def test_a_driver_counts_what_a_type_takes_and_the_file_goes_before(directory: Directory) -> None:
    options = "options: {flavor: s, disks: [{gb: 1}, {gb: 2}]}"
    directory.write(
        "applications/mme.yaml", f"types: {{worker: {{resources: {{ram: 512}}, {options}}}}}\n"
    )
    offered = directory.load().settings.applications["mme"].types["worker"]
    assert offered["uniform"].resources == {"instances": 1, "drives": 2, "ram": 512.0}


def test_what_is_prepared_is_described_to_the_driver(directory: Directory) -> None:
    described = "{fake: {networks: {mgmt: {pools: {uniform: a, quebec: b}}}}}"
    directory.write("applications/mme.yaml", f"{TYPES}prepare: {described}\n")
    assert directory.load().settings.applications["mme"].prepare == {
        "fake": {"networks": {"mgmt": {"pools": {"uniform": "a", "quebec": "b"}}}}
    }


BOTH_FAKE = "clouds: {uniform: {driver: fake}, quebec: {driver: fake}}"


@pytest.mark.parametrize(
    ("clouds", "used"),
    [
        ("", ""),
        ("\t", ""),
        ("clouds: [uniform, quebec]", ""),
        ("clouds: {uniform: 3, quebec: {driver: fake}}", ""),
        ("clouds: {uniform: {driver: fkae}, quebec: {driver: fake}}", ""),
        ("clouds: {uniform: {driver: fkae}, quebec: {driver: fkae}}", ""),
        (BOTH_FAKE, "clouds: [unifrom, quebec]"),
        (BOTH_FAKE, "clouds: [unifrom]"),
        (BOTH_FAKE, "clouds: uniform"),
        (BOTH_FAKE, "clouds: [[uniform], quebec]"),
    ],
)
def test_what_is_prepared_is_not_blamed_for_what_is_wrong_with_the_clouds(
    directory: Directory, clouds: str, used: str
) -> None:
    described = "{fake: {networks: {mgmt: {pools: {uniform: a, quebec: b}}}}}"
    directory.write("clouds.yaml", clouds)
    directory.write("applications/mme.yaml", f"{used}\n{TYPES}prepare: {described}\n")
    problems = directory.problems()
    assert problems
    assert not [problem for problem in problems if "prepare" in problem]


@pytest.mark.parametrize(("text", "problems"), cases("broken_applications.txt"))
def test_broken_applications(directory: Directory, text: str, problems: list[str]) -> None:
    directory.write("applications/mme.yaml", text)
    expected = [f"applications/mme.yaml:{problem}" for problem in problems]
    # The order of what one line misses is voluptuous' own affair.
    assert sorted(directory.problems()) == sorted(expected)


def test_a_common_option_that_one_driver_does_not_know_names_the_cloud(
    directory: Directory,
) -> None:
    directory.write(
        "clouds.yaml",
        "clouds:\n  uniform: {driver: fake, region: x}\n  quebec: {driver: bare}\n",
    )
    problem = "unknown key; expected one of script (on quebec)"
    assert directory.problems() == [
        f"applications/mme.yaml:3: types.worker.options.flavor: {problem}"
    ]


def test_a_file_name_that_is_no_name_needs_the_application_inside(directory: Directory) -> None:
    directory.write("applications/9.yaml", TYPES)
    assert directory.problems() == [
        f"applications/9.yaml:1: application: missing, and the file's own name does not do; {NAME}"
    ]
