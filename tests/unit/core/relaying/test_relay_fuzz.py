"""Whatever bytes come: what reads them gives something of its own or an error of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from control_channel import ONE
from isoneph.core.errors import RelayRefused
from isoneph.core.relaying.control import (
    Answer,
    Broken,
    Drain,
    Proof,
    Report,
    Request,
    Status,
    Update,
    Welcome,
    decode,
    encode,
    read_request,
)
from isoneph.core.relaying.exposition import Exposition
from isoneph.core.relaying.remembering import Remembered, StateFile

REQUESTS = (Status(), Update([ONE], {"a": 1.0}), Drain({"a": 1.0}), Report())
FRAMES = [encode(each) for each in (*REQUESTS, Proof(b"n", b"p"), Welcome(b"p"), Answer())]
STATE = encode(Remembered(members=(ONE,), draining={"a": 1.0}))


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """``valid`` with some bytes taken out and others put there."""
    start = draw(st.integers(0, len(valid)))
    end = draw(st.integers(start, min(start + 8, len(valid))))
    return valid[:start] + draw(st.binary(max_size=8)) + valid[end:]


def anything(*valid: bytes) -> st.SearchStrategy[bytes]:
    """Bytes of any kind, and what is nearly right."""
    return st.binary(max_size=200) | st.sampled_from(valid).flatmap(damaged)


@settings(max_examples=300)
@given(anything(*FRAMES))
def test_a_request_is_one_or_broken(frame: bytes) -> None:
    with contextlib.suppress(Broken):
        assert isinstance(read_request(frame), Request)


@settings(max_examples=300)
@given(anything(*FRAMES), st.sampled_from([Answer, Proof, Welcome]))
def test_an_answer_is_one_or_broken(frame: bytes, kind: type[Answer | Proof | Welcome]) -> None:
    with contextlib.suppress(Broken):
        assert isinstance(decode(frame, kind), kind)


@settings(max_examples=100, deadline=None)
@given(anything(STATE))
def test_a_state_is_remembered_set_aside_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = StateFile(Path(directory), "mme")
        file.path.write_bytes(content)
        with contextlib.suppress(RelayRefused):  # it is of another version
            remembered = asyncio.run(file.read())
            assert remembered == Remembered() or file.path.exists()


@settings(max_examples=50, deadline=None)
@given(requests=st.lists(anything(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), max_size=8))
def test_who_asks_for_figures_gets_them_or_nothing_and_the_next_is_served(
    requests: list[bytes],
) -> None:
    asyncio.run(_ask_for_figures(requests))


async def _ask_for_figures(requests: list[bytes]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    exposition = Exposition(f"127.0.0.1:{port}", lambda: asyncio.sleep(0, b"isoneph_x 1\n"))
    await exposition.start()
    for request in [*requests, b"GET /metrics HTTP/1.1\r\n\r\n"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = b""
        with contextlib.suppress(ConnectionError):
            writer.write(request)
            writer.write_eof()
            answer = await reader.read()
        writer.close()
        assert answer == b"" or answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 404"))
    assert answer.endswith(b"isoneph_x 1\n")
    await exposition.close()
