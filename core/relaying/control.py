"""The control channel: what is said over it, in which frames, and who may say it.

A connection carries frames, each a length of four bytes (the most significant first) and that
many bytes of JSON. The relay's side begins::

    server                                   client
      HELLO version, application, nonce  -->
                                         <-- PROOF nonce, proof      (over TCP alone)
      WELCOME proof                      -->                         (over TCP alone)
                                         <-- a request
      its answer                         -->
                                         <-- ...

A Unix socket is guarded by its mode. Over TCP both prove that they know the secret: by an
HMAC-SHA256 (RFC 2104) of it over their role, the application and both nonces. It also makes a
key for each direction, by which every further frame ends in an HMAC over its number and its
content: nobody can send, change, repeat or leave out one on the way. Nothing here is hidden from
who can read the network.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from isoneph.core import link
from isoneph.core.errors import LinkError, RelayRefused, RelayUnreachable
from isoneph.core.relaying.values import Member, Standing
from isoneph.core.traffic import RelayReport

S = TypeVar("S")

VERSION = 1
#: Bytes: before it is known who speaks, of a request, and of an answer.
MAX_GREETING = 1024
MAX_FRAME = 16 * 1024 * 1024
#: Seconds: until a greeting is there, and from a frame's first byte to its last.
GREETING_TIMEOUT = 5.0
FRAME_TIMEOUT = 10.0
_LENGTH = 4
_NONCE = 32
_MAC = 32

Role = Literal["client", "server"]


class Hello(msgspec.Struct, tag="hello"):
    """The server's first word."""

    version: int
    application: str
    nonce: bytes


class Proof(msgspec.Struct, tag="proof"):
    """The client's answer to it."""

    nonce: bytes
    proof: bytes


class Welcome(msgspec.Struct, tag="welcome"):
    """The server's proof."""

    proof: bytes


class Status(msgspec.Struct, tag="status"):
    """Asks how the relay stands."""


class Update(msgspec.Struct, tag="update"):
    """These are the backends, and these of them drain, since then."""

    members: list[Member]
    since: dict[str, float] = {}


class Drain(msgspec.Struct, tag="drain"):
    """These drain too, since then."""

    since: dict[str, float]


class Report(msgspec.Struct, tag="report"):
    """Asks for what a person wants to see."""


Request = Status | Update | Drain | Report


class Answer(msgspec.Struct, omit_defaults=True):
    """What a request comes to; ``error`` in words, ``code`` as in :mod:`isoneph.core.errors`."""

    standing: Standing | None = None
    report: RelayReport | None = None
    error: str = ""
    code: str = ""


class Broken(Exception):
    """The peer does not keep to the protocol, or is not who it should be; the text tells a
    person, the ``word`` counts it."""

    def __init__(self, word: str, text: str) -> None:
        super().__init__(text)
        self.word = word


_requests = msgspec.json.Decoder(Request)


def read_request(frame: bytes) -> Request:
    """The request in a frame. Raises Broken."""
    try:
        request: Request = _requests.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Broken("malformed", f"not a request: {error}") from None
    return request


def encode(message: object) -> bytes:
    """A message as JSON; what JSON has no form for becomes text."""
    return msgspec.json.encode(message, enc_hook=str)


def decode(frame: bytes, kind: type[S]) -> S:
    """The message of a ``kind`` in a frame. Raises Broken."""
    try:
        return msgspec.json.decode(frame, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Broken("malformed", f"not what belongs here: {error}") from None


def split_endpoint(control: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, an IPv6 host without its brackets."""
    host, _, port = control.rpartition(":")
    return host.strip("[]"), int(port)


def read_secret(file: str) -> bytes:
    """The shared secret in a file; see :func:`isoneph.core.link.read_secret`. Raises
    RelayRefused."""
    try:
        return link.read_secret(Path(file))
    except LinkError as error:
        raise RelayRefused(error.message) from error


class Channel:
    """One connection, seen from one side: whole frames in time, or Broken; and once both have
    proved who they are, frames that only the other can have sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._keys: Mapping[Role, bytes] | None = None
        self._role: Role = "client"
        self._numbers: dict[Role, int] = {"client": 0, "server": 0}

    def seal(self, role: Role, keys: Mapping[Role, bytes]) -> None:
        """From now on every frame carries its proof; we are ``role``."""
        self._role, self._keys = role, keys

    async def send(self, message: object) -> None:
        """Send a message; raises OSError, or Broken when it is not taken in time."""
        frame = encode(message)
        frame += self._mac(self._role, frame)
        if len(frame) > MAX_FRAME:
            raise Broken("too_large", f"a message of {len(frame)} bytes is too large")
        self._writer.write(len(frame).to_bytes(_LENGTH) + frame)
        try:
            async with asyncio.timeout(FRAME_TIMEOUT):
                await self._writer.drain()
        except TimeoutError:
            raise Broken("slow", "what was sent is not taken") from None

    async def receive(self, limit: int = MAX_FRAME, patience: float | None = None) -> bytes:
        """The next frame; empty when the peer has closed in between. ``patience`` is the seconds
        until it begins, None for any number."""
        try:
            async with asyncio.timeout(patience):
                first = await self._reader.read(1)
        except TimeoutError:
            raise Broken("idle", f"nothing came within {patience:g} s") from None
        if not first:
            return b""
        try:
            async with asyncio.timeout(FRAME_TIMEOUT):
                rest = await self._reader.readexactly(_LENGTH - 1)
                length = int.from_bytes(first + rest)
                if not 0 < length <= limit:
                    raise Broken("too_large", f"a frame of {length} bytes, not of 1 to {limit}")
                frame = await self._reader.readexactly(length)
        except TimeoutError:
            raise Broken("slow", "no whole frame in time") from None
        except asyncio.IncompleteReadError:
            raise Broken("cut_off", "the connection ended within a frame") from None
        return self._opened(frame)

    def close(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

    def _opened(self, frame: bytes) -> bytes:
        if self._keys is None:
            return frame
        content, given = frame[:-_MAC], frame[-_MAC:]
        peer: Role = "server" if self._role == "client" else "client"
        if not hmac.compare_digest(given, self._mac(peer, content)):
            raise Broken("forged", "a frame that the other side cannot have sent")
        return content

    def _mac(self, sender: Role, content: bytes) -> bytes:
        if self._keys is None:
            return b""
        number = self._numbers[sender]
        self._numbers[sender] += 1
        return _hmac(self._keys[sender], number.to_bytes(8), content)


def _hmac(key: bytes, *texts: bytes) -> bytes:
    # Each with its length, so that no two lists of texts come to the same.
    return hmac.digest(key, b"".join(len(text).to_bytes(4) + text for text in texts), "sha256")


def _shown(secret: bytes, what: str, application: str, nonces: tuple[bytes, bytes]) -> bytes:
    return _hmac(secret, b"isoneph relay control", what.encode(), application.encode(), *nonces)


def _keys(secret: bytes, application: str, nonces: tuple[bytes, bytes]) -> dict[Role, bytes]:
    return {
        "client": _shown(secret, "key of client", application, nonces),
        "server": _shown(secret, "key of server", application, nonces),
    }


async def greet(channel: Channel, application: str, secret: bytes | None) -> None:
    """The server's part of the beginning. Raises Broken, OSError."""
    nonce = secrets.token_bytes(_NONCE)
    await channel.send(Hello(VERSION, application, nonce))
    if secret is None:
        return
    proof = decode(await channel.receive(MAX_GREETING, GREETING_TIMEOUT), Proof)
    nonces = (nonce, proof.nonce)
    if not hmac.compare_digest(proof.proof, _shown(secret, "client", application, nonces)):
        raise Broken("wrong_secret", "the client does not prove to know the secret")
    await channel.send(Welcome(_shown(secret, "server", application, nonces)))
    channel.seal("server", _keys(secret, application, nonces))


async def meet(channel: Channel, application: str, secret: bytes | None) -> None:
    """The client's part. Raises Broken, OSError, RelayRefused when it is the wrong relay."""
    frame = await channel.receive(MAX_GREETING, GREETING_TIMEOUT)
    if not frame:
        raise RelayUnreachable("it closes the connection at once: it has too many clients")
    hello = decode(frame, Hello)
    if hello.version != VERSION:
        raise RelayRefused(f"it speaks version {hello.version} of the protocol, we {VERSION}")
    if hello.application != application:
        raise RelayRefused(f"it is the relay of application {hello.application}")
    if secret is None:
        return
    nonces = (hello.nonce, secrets.token_bytes(_NONCE))
    await channel.send(Proof(nonces[1], _shown(secret, "client", application, nonces)))
    frame = await channel.receive(MAX_GREETING, GREETING_TIMEOUT)
    if not frame:
        raise RelayRefused("it does not take our secret")
    welcome = decode(frame, Welcome)
    if not hmac.compare_digest(welcome.proof, _shown(secret, "server", application, nonces)):
        raise RelayRefused("it does not prove to know the secret")
    channel.seal("client", _keys(secret, application, nonces))
