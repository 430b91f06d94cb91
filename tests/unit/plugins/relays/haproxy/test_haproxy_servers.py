from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from isoneph.core.traffic import Backend
from isoneph.plugins.relays.haproxy.runtime import Server
from isoneph.plugins.relays.haproxy.servers import (
    Step,
    config_lines,
    name_of,
    parameters,
    steps,
    targets,
    unfit,
)

HOW = "check"
APPLICATION = "web"
ONE = Backend(id="one", addresses=["192.0.2.1"])
TWO = Backend(id="two", addresses=["2001:DB8::2"], weight=0.5)


def server(name: str = "isoneph-web:one", **changes: Any) -> Server:
    """A server as HAProxy has it when all is as it should be."""
    good = Server(
        name=name,
        host="192.0.2.1",
        port=80,
        weight=100,
        running=True,
        maintenance=False,
        draining=False,
        checked=True,
    )
    return good._replace(**changes)


def commands(found: Mapping[str, Server], *backends: Backend) -> list[list[str]]:
    wanted = targets(backends, 80, APPLICATION)
    return [
        [step.command for step in each] for each in steps("vms", wanted, found, HOW, APPLICATION)
    ]


def test_weights_are_shares_of_the_largest() -> None:
    weights = (4.0, 1.0, 0.0001, 0.0)
    backends = [
        Backend(id=str(weight), addresses=["192.0.2.1"], weight=weight) for weight in weights
    ]
    assert [target.weight for target in targets(backends, 80, APPLICATION).values()] == [
        100,
        25,
        1,
        0,
    ]
    nothing = targets([replace(ONE, weight=0.0)], 80, APPLICATION)
    assert nothing["isoneph-web:one"].weight == 0


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (ONE, None),
        (Backend(id="a b", addresses=["192.0.2.1"]), "cannot call a server by its id"),
        (Backend(id="x" * 65, addresses=["192.0.2.1"]), "cannot call a server by its id"),
        (Backend(id="a", addresses=[]), "it has no address"),
        (Backend(id="a", addresses=["host"]), "'host' is no address"),
        (Backend(id="a", addresses=["fe80::1%eth0"]), "'fe80::1%eth0' is no address"),
    ],
)
def test_what_cannot_be_a_server_is_told_and_left_out(backend: Backend, reason: str | None) -> None:
    said = unfit(backend)
    assert (said is None) == (reason is None)
    assert reason is None or (said is not None and reason in said)
    assert (name_of(APPLICATION, backend.id) in targets([backend], 80, APPLICATION)) == (
        reason is None
    )


def test_nothing_is_to_be_done_when_all_is_as_it_should_be() -> None:
    assert commands({"isoneph-web:one": server()}, ONE) == []
    down = server(running=False)
    assert commands({"isoneph-web:one": down}, ONE) == []


@pytest.mark.parametrize("name", ["theirs", "isoneph-shop:one", "isoneph-web-shop:one"])
def test_what_others_have_in_the_backend_is_left_alone(name: str) -> None:
    assert commands({name: server(name, maintenance=True)}) == []


def test_a_new_server_is_down_until_checks_bring_it_up() -> None:
    assert commands({}, TWO) == [
        [
            "add server vms/isoneph-web:two [2001:db8::2]:80 weight 100 check",
            "enable health vms/isoneph-web:two",
            "set server vms/isoneph-web:two state drain",
            "set server vms/isoneph-web:two health down",
            "set server vms/isoneph-web:two state ready",
        ]
    ]
    (draining,) = commands({}, replace(ONE, draining=True))
    assert draining[-1] == "set server vms/isoneph-web:one health down"


def test_one_that_was_half_added_is_brought_up() -> None:
    (todo,) = commands({"isoneph-web:one": server(maintenance=True, checked=False)}, ONE)
    assert todo[0] == "enable health vms/isoneph-web:one"
    assert todo[-1] == "set server vms/isoneph-web:one state ready"


def test_weight_and_drain_are_set_where_they_differ() -> None:
    assert commands({"isoneph-web:one": server(weight=7)}, ONE) == [
        ["set server vms/isoneph-web:one weight 100"]
    ]
    draining = replace(ONE, draining=True)
    assert commands({"isoneph-web:one": server()}, draining) == [
        ["set server vms/isoneph-web:one state drain"]
    ]
    assert commands({"isoneph-web:one": server(draining=True)}, ONE) == [
        ["set server vms/isoneph-web:one state ready"]
    ]


def test_another_address_is_another_server() -> None:
    (todo,) = commands({"isoneph-web:one": server(port=81)}, ONE)
    assert todo[:3] == [
        "set server vms/isoneph-web:one state maint",
        "shutdown sessions server vms/isoneph-web:one",
        "del server vms/isoneph-web:one",
    ]
    assert todo[3].startswith("add server vms/isoneph-web:one 192.0.2.1:80 ")


def test_new_ones_come_before_old_ones_go() -> None:
    todo = commands({"isoneph-web:one": server()}, TWO)
    assert [each[0].split()[0] for each in todo] == ["add", "set"]
    assert todo[1][-1] == "del server vms/isoneph-web:one"
    again = commands({"isoneph-web:one": server(maintenance=True)})
    assert again == [
        ["shutdown sessions server vms/isoneph-web:one", "del server vms/isoneph-web:one"]
    ]


def test_answers_tell_what_was_done() -> None:
    silent = Step("set server a/b state ready")
    assert silent.is_done("")
    assert not silent.is_done("No such server.")
    (todo,) = steps("vms", {}, {"isoneph-web:one": server()}, HOW, APPLICATION)
    removal = todo[-1]
    assert removal.is_done("Server deleted.")
    pending = "Server still has connections attached to it, cannot remove it."
    assert removal.is_pending(pending)
    assert not removal.is_done(pending)
    assert not removal.is_pending("No such server.")
    assert not silent.is_pending("")


def test_what_a_haproxy_begins_with() -> None:
    check = {"interval": 0.001, "rise": 1, "fall": 2, "port": 81}
    how = parameters(check, {"backend": 9})
    assert how == (
        "check inter 1 fastinter 1 downinter 1 rise 1 fall 2 "
        "pool-max-conn -1 pool-purge-delay 5s port 81 maxconn 9"
    )
    wanted = targets([ONE, replace(TWO, draining=True)], 80, APPLICATION)
    assert list(config_lines(wanted, HOW)) == [
        "server isoneph-web:one 192.0.2.1:80 weight 100 check",
        "server isoneph-web:two [2001:db8::2]:80 weight 50 check disabled",
    ]
