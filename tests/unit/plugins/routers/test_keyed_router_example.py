"""The router that the documentation shows, and what it shows of it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from isoneph.core.plugin import Router
from isoneph.core.testing import build_plugin
from isoneph.core.traffic import Message
from relay_pieces import Pieces

DOC = Path(__file__).parents[4] / "doc"


def load() -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("keyed", DOC / "examples" / "keyed_router.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


@pytest.fixture
def router() -> Router:
    keyed: type[Router] = load()["Keyed"]
    return build_plugin(keyed)


def test_the_session_that_the_page_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOC / "examples")
    page = (DOC / "source" / "relays" / "routers.rst").read_text()
    shown = re.findall(r"^   >>> (.*)\n((?:   (?!>>>).+\n)*)", page, re.MULTILINE)
    names: dict[str, Any] = {}
    assert len(shown) > 5
    for source, expected in shown:
        if " = " in source or source.startswith(("from", "import")):
            exec(source, names)  # noqa: S102 (it is our own page)
        else:
            found = eval(source, names)  # noqa: S307 (as above)
            assert repr(found) == " ".join(expected.split()), source


def test_keys_are_each_clients_own_and_come_back_with_answers(router: Router) -> None:
    pieces = Pieces(router)
    clients = [pieces.client(), pieces.client()]
    worker, link = pieces.worker("w")
    for client, _ in clients:
        client.received(Message(b"the key hello", ppid=18))
    assert [each[1:3] for each in link.dispatched] == [(1, b"hello"), (2, b"hello")]
    pieces.answer(worker, 2, b"answer")
    assert clients[1][1].sent == [Message(b"the key answer")]
    pieces.conversations.answered(worker, 1, [], None, True)
    clients[0][0].received(Message(b"the key again", ppid=18))
    assert link.dispatched[-1][1:3] == (3, b"again")
    for client, association in clients:
        association.abort()
        assert client.over
    assert len(pieces.conversations) == 0
