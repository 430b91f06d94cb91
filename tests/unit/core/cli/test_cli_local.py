from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli_runs import Isoneph


def rows(isoneph: Isoneph, *arguments: str) -> list[dict[str, Any]]:
    result = isoneph(*arguments, "--local", "-f", "json")
    assert (result.code, result.err) == (0, "")
    listed: list[dict[str, Any]] = json.loads(result.out)
    return listed


def test_creates_lists_shows_and_deletes(isoneph: Isoneph, config: Path) -> None:
    made = rows(isoneph, "vm", "create", "web", "--count", "2", "--tag", "role=front", "--wait")
    assert {vm["cloud"] for vm in made} == {"paris", "oslo"}
    assert [vm["state"] for vm in made] == ["ACTIVE", "ACTIVE"]

    listed = rows(isoneph, "vm", "list", "--tag", "role=front", "--long")
    assert {vm["id"] for vm in listed} == {vm["id"] for vm in made}
    assert listed[0]["tags"] == {"role": "front"}

    shown = isoneph("vm", "show", made[0]["id"], "--local", "-f", "json")
    assert json.loads(shown.out)["name"].startswith("shop-web-")

    deleted = isoneph("vm", "delete", made[0]["id"], made[1]["id"], "--local")
    assert deleted.out.split() == [made[0]["id"], made[1]["id"]]
    assert rows(isoneph, "vm", "list") == []


def test_a_key_gives_the_same_vms_again(isoneph: Isoneph, config: Path) -> None:
    first = rows(isoneph, "vm", "create", "web", "--key", "k")
    again = rows(isoneph, "vm", "create", "web", "--key", "k")
    assert [(vm["id"], vm["existed"]) for vm in again] == [(first[0]["id"], True)]


def test_nothing_is_created_to_wait_for_what_it_cannot_become(
    isoneph: Isoneph, config: Path
) -> None:
    result = isoneph("vm", "create", "web", "--wait", "ready", "--local")
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "isoneph: a VM of shop is never READY: shop has no relay; wait for ACTIVE\n"
    )
    assert rows(isoneph, "vm", "list") == []


def test_explains_why(isoneph: Isoneph, config: Path) -> None:
    rows(isoneph, "vm", "create", "web", "--count", "3", "--cloud", "paris")
    first, second = rows(isoneph, "explain", "web")
    assert (first["cloud"], first["verdict"]) == ("oslo", "first choice")
    assert (second["cloud"], second["verdict"], second["score"]) == ("paris", "rejected", None)
    table = isoneph("explain", "web", "--local").out
    assert "quota: instances: " in table


def test_takes_away_the_one_that_can_be_spared(isoneph: Isoneph, config: Path) -> None:
    made = rows(isoneph, "vm", "create", "web", "--cloud", "oslo")
    result = isoneph("vm", "delete", "--any", "--type", "web", "--local")
    assert result.out.strip() == made[0]["id"]
    assert "deleted a web on oslo: " in result.err


def test_shows_clouds_and_types(isoneph: Isoneph, config: Path) -> None:
    assert [cloud["name"] for cloud in rows(isoneph, "cloud", "list")] == ["paris", "oslo"]
    shown = isoneph("cloud", "show", "paris", "--local")
    assert "instances: 0 used of 3" in shown.out
    assert rows(isoneph, "type", "list") == [{"name": "web", "clouds": ["paris", "oslo"]}]


def test_a_refused_create_tells_why(isoneph: Isoneph, config: Path) -> None:
    rows(isoneph, "vm", "create", "web", "--count", "3", "--cloud", "paris")
    result = isoneph("vm", "create", "web", "--cloud", "paris", "--local")
    assert (result.code, result.out) == (1, "")
    assert "isoneph: no cloud can take a VM of type web: paris: " in result.err


def test_one_delete_that_fails_does_not_keep_the_others(isoneph: Isoneph, config: Path) -> None:
    made = rows(isoneph, "vm", "create", "web")
    result = isoneph("vm", "delete", "no-id", made[0]["id"], "--local")
    assert (result.code, result.out.strip()) == (1, made[0]["id"])
    assert "isoneph: 'no-id' is not the id of a VM" in result.err


def test_an_unknown_application_is_named(isoneph: Isoneph, config: Path) -> None:
    result = isoneph("vm", "list", "--local", "--application", "nope")
    assert result.code == 1
    assert result.err == (
        "isoneph: there is no application 'nope'\n"
        "hint: name one with --application or ISONEPH_APPLICATION\n"
    )


def test_a_wrong_configuration_is_the_users_to_mend(isoneph: Isoneph, config: Path) -> None:
    (config / "clouds.yaml").write_text("clouds: {paris: {driver: mokc}}")
    result = isoneph("vm", "list", "--local")
    assert result.code == 2
    assert "did you mean 'mock'?" in result.err
    assert "Traceback" not in result.err
