from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoneph.core.errors import RelayError, RelayRefused, RelayUnreachable
from isoneph.core.traffic import Address
from isoneph.plugins.relays.dns.records import Place
from isoneph.plugins.relays.dns.servers import Conversation, NameServer

NAME = dns.name.from_text("mme.example.com")
PLACE = Place(NAME, dns.rdatatype.A)
KEY = dns.tsig.Key("relay", base64.b64decode("c2VjcmV0LXNlY3JldC1zZWNyZXQ="), "hmac-sha256")
OTHER = dns.tsig.Key("relay", base64.b64decode("b3RoZXItb3RoZXItb3RoZXItb3RoZXI="), "hmac-sha256")

Answer = Callable[[dns.message.Message], bytes]


def reply(
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR,
    *records: str,
    flags: int = dns.flags.AA,
    key: dns.tsig.Key | None = None,
) -> Answer:
    """What answers with these records, signed by ``key``."""

    def answer(question: dns.message.Message) -> bytes:
        message = dns.message.make_response(question)
        if key is not None:
            message.use_tsig(key)
        message.flags |= flags
        message.set_rcode(rcode)
        for record in records:
            name, kind, data = record.split(" ", 2)
            message.answer.append(dns.rrset.from_text(name, 30, "IN", kind, data))
        return message.to_wire()

    return answer


@asynccontextmanager
async def answering(
    answer: Answer, key: dns.tsig.Key | None = None, patience: float = 5.0, away: float = 0.0
) -> AsyncIterator[NameServer]:
    """A name server that answers everything alike; what it says takes ``away`` seconds."""
    loop = asyncio.get_running_loop()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                size = int.from_bytes(await reader.readexactly(2))
                wire = await reader.readexactly(size)
                keyring = {KEY.name: KEY} if key is not None else None
                text = answer(dns.message.from_wire(wire, keyring=keyring))
                loop.call_later(away, writer.write, len(text).to_bytes(2) + text)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield NameServer(Address("127.0.0.1", port), key, patience)


async def look_up(server: NameServer) -> dns.rrset.RRset | None:
    async with server.conversation() as conversation:
        return (await conversation.look_up([PLACE]))[PLACE]


async def update(server: NameServer) -> None:
    message = dns.update.UpdateMessage("example.com")
    message.add("mme", 30, "A", "192.0.2.1")
    async with server.conversation() as conversation:
        await conversation.update(message)


async def test_several_questions_go_over_one_connection() -> None:
    good = reply(dns.rcode.NOERROR, "mme.example.com. A 192.0.2.1", key=KEY)
    async with answering(good, KEY) as server, server.conversation() as conversation:
        for _ in range(3):
            found = (await conversation.look_up([PLACE]))[PLACE]
            assert found is not None
            assert [each.to_text() for each in found] == ["192.0.2.1"]


def places(number: int) -> list[Place]:
    """Places that all have another name."""
    return [Place(dns.name.from_text(f"vm-{each}", NAME), PLACE.kind) for each in range(number)]


def address_of(question: dns.message.Message) -> str:
    """The one address of a name, by its number."""
    return f"192.0.2.{question.question[0].name.labels[0].decode().removeprefix('vm-')}"


async def test_many_places_are_asked_for_at_once() -> None:
    def answer(question: dns.message.Message) -> bytes:
        name = question.question[0].name
        return reply(dns.rcode.NOERROR, f"{name} A {address_of(question)}", key=KEY)(question)

    far = answering(answer, KEY, patience=3.0, away=0.1)
    async with far as server, server.conversation() as conversation:
        found = await conversation.look_up(places(200))
    assert list(found) == places(200)
    for number, rrset in enumerate(found.values()):
        assert rrset is not None
        assert [each.to_text() for each in rrset] == [f"192.0.2.{number}"]


async def test_answers_may_come_in_any_order() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        texts = []
        for _ in range(3):
            size = int.from_bytes(await reader.readexactly(2))
            question = dns.message.from_wire(await reader.readexactly(size))
            record = f"{question.question[0].name} A {address_of(question)}"
            texts.append(reply(dns.rcode.NOERROR, record)(question))
        writer.writelines(len(text).to_bytes(2) + text for text in reversed(texts))
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as scrambling:
        port = scrambling.sockets[0].getsockname()[1]
        server = NameServer(Address("127.0.0.1", port), None, 5.0)
        async with server.conversation() as conversation:
            found = await conversation.look_up(places(3))
    texts = {place: rrset[0].to_text() for place, rrset in found.items() if rrset is not None}
    assert texts == {place: f"192.0.2.{number}" for number, place in enumerate(places(3))}


async def test_nothing_to_ask_is_nothing_found() -> None:
    async with answering(reply()) as server, server.conversation() as conversation:
        assert await conversation.look_up([]) == {}


async def test_no_such_name_is_no_records() -> None:
    async with answering(reply(dns.rcode.NXDOMAIN)) as server:
        assert await look_up(server) is None


@pytest.mark.parametrize(
    ("answer", "kind", "complaint"),
    [
        (reply(dns.rcode.REFUSED), RelayRefused, r"refuses \(REFUSED: its access list"),
        (reply(dns.rcode.NOTAUTH), RelayRefused, r"refuses \(NOTAUTH: it is not responsible"),
        (reply(dns.rcode.YXRRSET), RelayRefused, r"refuses \(YXRRSET\)"),
        (reply(dns.rcode.SERVFAIL), RelayUnreachable, r"in trouble itself \(SERVFAIL\)"),
        (reply(flags=0), RelayRefused, "no authority over mme"),
        (
            reply(dns.rcode.NOERROR, "mme.example.com. CNAME a.example.com."),
            RelayRefused,
            "is an alias",
        ),
        (lambda question: b"", RelayUnreachable, "its answer is no DNS message"),
        (lambda question: bytes(12), RelayUnreachable, "belongs to another question"),
        (lambda question: question.to_wire(), RelayUnreachable, "belongs to another question"),
        (lambda question: b"\1\1" + bytes(10), RelayUnreachable, "belongs to another question"),
    ],
)
async def test_refusals_and_nonsense(
    answer: Answer, kind: type[RelayError], complaint: str
) -> None:
    async with answering(answer) as server:
        with pytest.raises(kind, match=complaint):
            await look_up(server)


async def test_refused_updates() -> None:
    async with answering(reply(dns.rcode.NOTZONE)) as server:
        with pytest.raises(RelayRefused, match=r"NOTZONE: the name is not in the zone"):
            await update(server)


@pytest.mark.parametrize(
    ("key", "code", "complaint"),
    [
        (None, dns.rcode.NOERROR, "is not signed as it should be"),
        (None, dns.rcode.REFUSED, r"refuses \(REFUSED"),
        (OTHER, dns.rcode.NOERROR, "is not signed as it should be"),
    ],
)
async def test_an_answer_must_be_signed_with_the_key(
    key: dns.tsig.Key | None, code: dns.rcode.Rcode, complaint: str
) -> None:
    good = reply(code, "mme.example.com. A 192.0.2.1", key=key)

    def answer(question: dns.message.Message) -> bytes:
        if key is None:  # no signature at all
            bare = dns.message.make_query(NAME, dns.rdatatype.A)
            bare.id = question.id
            return good(bare)
        return good(question)

    async with answering(answer, KEY) as server:
        with pytest.raises(RelayError, match=complaint):
            await look_up(server)


async def test_a_silent_server_is_unreachable_in_time() -> None:
    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(keep_silent, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        server = NameServer(Address("127.0.0.1", port), None, 0.05)
        started = time.monotonic()
        with pytest.raises(RelayUnreachable, match=r"no answer within 0\.05 s"):
            await look_up(server)
        assert time.monotonic() - started < 2


async def test_an_update_that_is_too_large_is_told() -> None:
    message = dns.update.UpdateMessage("example.com")
    for number in range(6000):
        message.add(f"a-rather-long-name-{number}", 30, "A", "192.0.2.1")
    async with answering(reply()) as server:
        with pytest.raises(RelayRefused, match="more than fit into one update"):
            async with server.conversation() as conversation:
                await conversation.update(message)


@given(st.binary(max_size=200), st.integers(0, 40))
def test_no_answer_breaks_the_reader(garbage: bytes, kept: int) -> None:
    question = dns.message.make_query(NAME, dns.rdatatype.A)
    question.use_tsig(KEY)
    question.to_wire()
    good = reply(dns.rcode.NOERROR, "mme.example.com. A 192.0.2.1")(
        dns.message.make_query(NAME, dns.rdatatype.A)
    )
    unused = cast("asyncio.StreamReader", SimpleNamespace())
    conversation = Conversation(
        Address("192.0.2.53", 53), KEY, unused, cast("asyncio.StreamWriter", unused)
    )
    with pytest.raises(RelayError):
        conversation._read(question, good[:kept] + garbage)
