"""Conversations with a name server: DNS over TCP (RFC 7766), signed where there is a key.

Every answer is awaited for a bounded time, must belong to its question, and must be signed when
the question was (RFC 8945, section 5.3). A refusal alone may come unsigned: servers that refuse a
question do not always look at its signature.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update

from isoneph.core.errors import RelayError, RelayRefused, RelayUnreachable
from isoneph.core.traffic import Address
from isoneph.plugins.relays.dns.records import Place

_REASONS = {
    dns.rcode.REFUSED: "its access list does not let us",
    dns.rcode.NOTAUTH: "it is not responsible for the zone, or does not take the key",
    dns.rcode.NOTZONE: "the name is not in the zone",
    dns.rcode.NOTIMP: "it takes no dynamic updates",
    dns.rcode.FORMERR: "it does not understand us",
}


class NameServer:
    """One server of a zone; a conversation with it takes at most ``timeout`` seconds."""

    def __init__(self, address: Address, key: dns.tsig.Key | None, timeout: float) -> None:
        self.address = address
        self._key = key
        self._timeout = timeout

    @asynccontextmanager
    async def conversation(self) -> AsyncIterator[Conversation]:
        """One connection, for several questions.

        All that happens in it raises RelayUnreachable when the server does not answer, or no
        sense, and RelayRefused when it says no.
        """
        writer = None
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = await asyncio.open_connection(*self.address)
                yield Conversation(self.address, self._key, reader, writer)
        except TimeoutError:
            raise self._unreachable(f"no answer within {self._timeout:g} s") from None
        except asyncio.IncompleteReadError:
            raise self._unreachable("it broke off the connection") from None
        except OSError as error:
            raise self._unreachable(reason_of(error)) from error
        finally:
            if writer is not None:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    def _unreachable(self, why: str) -> RelayUnreachable:
        return RelayUnreachable(f"name server {self.address}: {why}")


class Conversation:
    """Questions and updates over one connection to a server."""

    def __init__(
        self,
        address: Address,
        key: dns.tsig.Key | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._address = address
        self._key = key
        self._reader = reader
        self._writer = writer

    async def look_up(self, places: Iterable[Place]) -> Mapping[Place, dns.rrset.RRset | None]:
        """The records that the server, which has to be one of the zone, has itself in ``places``.

        It is asked for all at once, and may answer in any order (RFC 7766, section 6.2.1.1): so
        many take little longer than one, however far away it is.
        """
        asked = dict(enumerate(places))
        waiting: dict[int, dns.message.Message] = {
            number: dns.message.make_query(place.name, place.kind, flags=0, id=number)
            for number, place in asked.items()
        }
        self._send(waiting.values())
        found: dict[Place, dns.rrset.RRset | None] = {}
        while waiting:
            answer = await self._receive(waiting)
            place = asked[answer.id]
            found[place] = self._records(place, answer)
        return found

    async def update(self, changes: dns.update.UpdateMessage) -> None:
        """Have all of the changes made, or none (RFC 2136, section 3)."""
        self._send([changes])
        answer = await self._receive({changes.id: changes})
        if answer.rcode() != dns.rcode.NOERROR:
            raise self._refused(answer.rcode())

    def _records(self, place: Place, answer: dns.message.Message) -> dns.rrset.RRset | None:
        name, kind = place
        if answer.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
            raise self._refused(answer.rcode())
        if not answer.flags & dns.flags.AA:
            raise RelayRefused(f"name server {self._address} has no authority over {name}")
        for found in answer.answer:
            if found.rdtype == dns.rdatatype.CNAME:
                raise RelayRefused(f"{name} is an alias (CNAME): it cannot have other records")
        return answer.get_rrset(dns.message.ANSWER, name, dns.rdataclass.IN, kind)

    def _send(self, questions: Iterable[dns.message.Message]) -> None:
        self._writer.writelines(self._framed(each) for each in questions)

    def _framed(self, question: dns.message.Message) -> bytes:
        """As it goes over TCP, signed where there is a key."""
        if self._key is not None:
            question.use_tsig(self._key)
        try:
            wire = question.to_wire()
        except dns.exception.TooBig:
            raise RelayRefused("the records are more than fit into one update") from None
        return len(wire).to_bytes(2) + wire

    async def _receive(self, waiting: dict[int, dns.message.Message]) -> dns.message.Message:
        """The next answer to one of the questions, by their ids; that one waits no more."""
        size = int.from_bytes(await self._reader.readexactly(2))
        wire = await self._reader.readexactly(size)
        question = waiting.pop(int.from_bytes(wire[:2]), None)
        if question is None:
            raise self._nonsense("its answer belongs to another question")
        return self._read(question, wire)

    def _read(self, question: dns.message.Message, wire: bytes) -> dns.message.Message:
        try:
            answer = dns.message.from_wire(wire, keyring=question.keyring, request_mac=question.mac)
        except dns.tsig.PeerError as error:
            raise RelayRefused(f"name server {self._address}: {self._about_key(error)}") from error
        except (dns.exception.DNSException, ValueError) as error:
            raise self._unreadable(question, wire) from error
        if not question.is_response(answer):
            raise self._nonsense("its answer belongs to another question")
        if self._key is not None and not answer.had_tsig:
            raise self._unreadable(question, wire)
        return answer

    def _about_key(self, error: dns.tsig.PeerError) -> str:
        if isinstance(error, dns.tsig.PeerBadKey):
            return f"it does not know the key {self._key_name} with this algorithm"
        if isinstance(error, dns.tsig.PeerBadSignature):
            return f"the key {self._key_name} has another secret there"
        if isinstance(error, dns.tsig.PeerBadTime):
            return "its clock and ours differ too much for signed messages"
        return f"it does not take the key {self._key_name}"

    @property
    def _key_name(self) -> str:
        return self._key.name.to_text(omit_final_dot=True) if self._key is not None else "none"

    def _unreadable(self, question: dns.message.Message, wire: bytes) -> RelayError:
        """What an answer without a good signature amounts to: a refusal, or nothing."""
        try:
            answer = dns.message.from_wire(wire, keyring=False)
        except (dns.exception.DNSException, ValueError):
            return self._nonsense("its answer is no DNS message")
        good = {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}
        if answer.id == question.id and answer.rcode() not in good:
            return self._refused(answer.rcode())
        return self._nonsense("its answer is not signed as it should be")

    def _nonsense(self, why: str) -> RelayUnreachable:
        return RelayUnreachable(f"name server {self._address}: {why}")

    def _refused(self, code: dns.rcode.Rcode) -> RelayError:
        text = dns.rcode.to_text(code)
        if code == dns.rcode.SERVFAIL:
            return self._nonsense(f"it is in trouble itself ({text})")
        reason = _REASONS.get(code)
        explained = f"{text}: {reason}" if reason else text
        return RelayRefused(f"name server {self._address} refuses ({explained})")


def reason_of(error: OSError) -> str:
    """What is wrong, in the system's words: asyncio's own repeat the address."""
    return os.strerror(error.errno) if error.errno else str(error)
