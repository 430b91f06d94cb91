from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from fake_holdings import ident
from fake_openstack import FakeApi
from isoneph.core.errors import InvalidRequest, Unreachable
from isoneph.plugins.clouds.openstack.groups import KEPT as GROUPS_KEPT
from isoneph.plugins.clouds.openstack.groups import Groups
from isoneph.plugins.clouds.openstack.names import BELIEVED, FLAVOR, IMAGE, KEPT, Names


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def names(api: FakeApi) -> Names:
    return Names(api, "uniform", api.clock)  # type: ignore[arg-type]  # it has the same face


def flavor(names: Names, api: FakeApi, word: str) -> str:
    return names.id_of(FLAVOR, word, "here", api.deadline())


def test_names_are_read_once_in_a_while(api: FakeApi, names: Names) -> None:
    for word in ("tiny", "small", "tiny"):
        assert flavor(names, api, word) == api.flavors[word]
    assert api.calls["GET /flavors"] == 1
    api.clock.advance(KEPT + 1)
    flavor(names, api, "tiny")
    assert api.calls["GET /flavors"] == 2


def test_what_was_forgotten_is_read_anew(api: FakeApi, names: Names) -> None:
    flavor(names, api, "tiny")
    names.forget()
    api.flavors["tiny"] = ident()
    assert flavor(names, api, "tiny") == api.flavors["tiny"]


def test_a_new_name_is_found_soon(api: FakeApi, names: Names) -> None:
    flavor(names, api, "tiny")
    api.flavors["huge"] = ident()
    api.clock.advance(BELIEVED + 1)
    assert flavor(names, api, "huge") == api.flavors["huge"]


def test_an_id_is_as_good_as_a_name(api: FakeApi, names: Names) -> None:
    assert flavor(names, api, api.flavors["tiny"]) == api.flavors["tiny"]
    api.flavors["old"] = "42"
    names.forget()
    assert flavor(names, api, "42") == "42"
    hidden = ident()
    assert flavor(names, api, hidden) == hidden, "the cloud may let us use what it does not list"


def test_a_name_that_several_have_is_refused(api: FakeApi, names: Names) -> None:
    first, second = ident(), ident()
    api.images["tiny"] = first
    api.twins["images"] = [{"id": second, "name": "tiny"}]
    with pytest.raises(InvalidRequest, match=f"2 images called 'tiny'; .* id: {first}, {second}"):
        names.id_of(IMAGE, "tiny", "here", api.deadline())


def test_long_lists_are_cut(api: FakeApi, names: Names) -> None:
    api.flavors = {f"flavor-{number:03}": ident() for number in range(100)}
    with pytest.raises(InvalidRequest, match=r"flavor-019 \.\.\.\)$"):
        flavor(names, api, "zzz")


def test_an_error_is_nobodys_answer_for_long(api: FakeApi, names: Names) -> None:
    api.faults["GET /flavors"] = [Unreachable("down")]
    with pytest.raises(Unreachable):
        flavor(names, api, "tiny")
    assert flavor(names, api, "tiny") == api.flavors["tiny"]


# Server groups.


@pytest.mark.parametrize(
    ("version", "said"),
    [((2, 63), {"policies": ["affinity"]}), ((2, 64), {"policy": "affinity"})],
)
def test_a_group_says_its_policy_as_the_version_wants(
    version: tuple[int, int], said: dict[str, object]
) -> None:
    api = FakeApi(version=version)
    groups = Groups(api, api.clock)  # type: ignore[arg-type]  # it has the same face
    group_id = groups.ensure("g", "affinity", api.deadline())
    assert api.groups == {group_id: {"id": group_id, "members": [], "name": "g", **said}}


def test_who_needs_a_group_at_once_has_it_made_once(api: FakeApi) -> None:
    groups = Groups(api, api.clock)  # type: ignore[arg-type]  # as above
    with ThreadPoolExecutor(8) as threads:
        made = threads.map(lambda _: groups.ensure("g", "affinity", api.deadline()), range(20))
        assert set(made) == set(api.groups)
    assert api.calls["POST /os-server-groups"] == 1
    assert api.calls["GET /os-server-groups"] < 12, "who waited for it does not ask again"


def test_a_group_that_vanishes_at_once_is_told(api: FakeApi) -> None:
    groups = Groups(api, api.clock)  # type: ignore[arg-type]  # as above
    posted = Counter[str]()

    def vanish(name: str) -> None:
        posted[name] += 1
        if posted["POST /os-server-groups"]:
            api.groups.clear()

    api.before = vanish
    with pytest.raises(Unreachable, match="was removed by somebody"):
        groups.ensure("g", "affinity", api.deadline())


def test_two_processes_agree_on_a_group(api: FakeApi) -> None:
    mine, theirs = (Groups(api, api.clock) for _ in range(2))  # type: ignore[arg-type]  # as above
    for groups in (mine, theirs):
        groups.ensure("other", "affinity", api.deadline())

    def meanwhile(name: str) -> None:
        if name == "POST /os-server-groups":
            api.before = lambda name: None
            theirs.ensure("g", "affinity", api.deadline())

    api.before = meanwhile
    mine.ensure("g", "affinity", api.deadline())
    assert sum(group["name"] == "g" for group in api.groups.values()) == 2
    api.clock.advance(GROUPS_KEPT + 1)
    found = {groups.ensure("g", "affinity", api.deadline()) for groups in (mine, theirs)}
    assert len(found) == 1
    api.calls.clear()
    mine.ensure("g", "affinity", api.deadline())
    assert not api.calls
