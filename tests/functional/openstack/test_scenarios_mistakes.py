"""Mistakes in the configuration that only the clouds can find: one clear error each, which
names the place; what has no mistake is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from openstack_world import CLOUDS, PATIENCE, QUEBEC, UNIFORM, World, at_once, clouds_of
from services import wait_for

#: A busy machine takes several times as long as a quiet one.
pytestmark = pytest.mark.timeout(300)

#: By type: the options that are wrong, and what the error must say beside the place: the option
#: and its value.
MISTAKES: Mapping[str, tuple[Mapping[str, Any], str, str]] = {
    "image": ({"image": "tinny"}, "image", "has no image 'tinny'; did you mean 'tiny'?"),
    "flavor": ({"flavor": "hug"}, "flavor", "has no flavor 'hug'"),
    "network": ({"networks": ["lteusr"]}, "networks", "has no network 'lteusr'"),
    "keypair": ({"key_name": "nobody"}, "key_name", "has no keypair 'nobody'"),
    "security-group": (
        {"security_groups": ["mme_fe"]},
        "security_groups",
        "has no security group 'mme_fe'",
    ),
    "zone": (
        {"availability_zone": "mars"},
        "availability_zone",
        "has no availability zone 'mars'",
    ),
    "server-group": (
        {"server_group": {"name": "rack-7"}},
        "server_group.name",
        "has no server group 'rack-7'",
    ),
}


def test_each_mistake_of_a_type_is_told_with_its_place_and_other_types_work(world: World) -> None:
    world.write_application(
        types={
            name: {"options": {**world.connected, **wrong}}
            for name, (wrong, _, _) in MISTAKES.items()
        }
    )
    world.start()
    answers = dict(
        zip(MISTAKES, at_once(lambda name: world.post({"type": name}), MISTAKES), strict=True)
    )
    for name, answer in answers.items():
        _, option, text = MISTAKES[name]
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, "invalid_request"), problem
        place = f"application {world.application}: types.{name}.options.{option}: "
        assert problem["detail"].startswith(place), problem["detail"]
        assert text in problem["detail"]
    vms = world.burst(2)
    assert clouds_of(vms) == {UNIFORM: 1, QUEBEC: 1}
    world.wait_until_exactly(vm["id"] for vm in vms)
    assert {cloud: world.cloud(cloud)["breaker"] for cloud in CLOUDS} == dict.fromkeys(
        CLOUDS, "closed"
    )


def test_what_the_role_does_not_allow_is_told_with_the_user_and_the_place(world: World) -> None:
    """To name the host is for administrators."""
    forced = {"availability_zone": f"nova:{UNIFORM}-compute"}
    world.write_application(types={"forced": {"options": {**world.worker, **forced}}})
    world.start()
    answer = world.post({"type": "forced"})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_request"), problem
    assert problem["detail"].startswith(f"application {world.application}: types.forced")
    assert "403" in problem["detail"]
    assert "clouds.uniform.auth" in problem["detail"]
    vm = world.create()
    world.wait_until_exactly([vm["id"]])


def test_a_wrong_password_is_told_and_the_other_cloud_serves(world: World) -> None:
    wrong = "not-the-password"
    world.write_clouds(uniform={"auth": {"password": wrong}})
    world.start()
    vms = world.burst(4)
    assert clouds_of(vms) == {QUEBEC: 4}
    wait_for(lambda: world.cloud(UNIFORM)["breaker"] == "open", "the breaker opens", PATIENCE)
    (told,) = world.get("/vm")["incomplete"]
    assert told["cloud"] == UNIFORM
    for text in (told["detail"], world.cloud(UNIFORM)["last_error"]):
        assert "unauthorized: clouds.yaml: clouds.uniform.auth: Keystone at " in text
        assert "does not accept user 'isoneph' and its password" in text
    assert wrong not in world.said()
    world.wait_until_exactly(vm["id"] for vm in vms)
