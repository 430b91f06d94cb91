"""How a relay and a worker come to trust one another, without I/O.

::

    worker                                                       relay
    ------                                                       -----
    NEW                                                          NEW
     │ start()                                                    │
     │ ── HELLO versions, nonce, capacity, window, names ───────▶ │
    GREETED                                                      CHALLENGED, or refuses: version
     │ ◀──────────────────────────── CHALLENGE version, nonce ─── │
     │ ── PROOF HMAC(secret, "worker", HELLO, CHALLENGE) ───────▶ │
    PROVED                                                       PROVEN, or refuses: secret,
     │                                                            │ application
     │                                                            │ welcome(), or refuses for a
     │                                                            │ reason of the relay's own
     │ ◀─ WELCOME HMAC(secret, "relay", HELLO, CHALLENGE, PROOF, WELCOME's rest) ── │
    UP, or refuses: secret                                       UP

A refusal is a LinkRefused here and a REFUSED on the wire, after which the relay closes. A frame
that is not the one drawn next is a ProtocolViolation, reason ``unexpected``.

Each side proves that it knows the secret by an HMAC-SHA256 (RFC 2104) over all that was said
before, both nonces among it, and its own role: nothing can be replayed in another handshake,
nothing reflected, and nobody in between can alter versions, names or limits. The secret never
travels. A relay tells a stranger nothing but whether it speaks his version.

Time is not looked at here: who drives this bounds the whole handshake.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from enum import Enum, auto
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from isoneph.core.errors import LinkError, LinkRefused, ProtocolViolation
from isoneph.core.link.frames import (
    MAC_BYTES,
    NONCE_BYTES,
    VERSIONS,
    Challenge,
    Frame,
    Hello,
    Limits,
    Proof,
    Refused,
    Welcome,
)

#: More than this from a worker before it has proved itself is a violation.
HANDSHAKE_BYTES: Final = 1024
#: A shorter secret can be found by trying.
SECRET_BYTES: Final = 16
_MOST_SECRET_BYTES: Final = 4096


class Stage(Enum):
    """How far a side of the handshake is; see the drawing above."""

    NEW = auto()
    GREETED = auto()
    CHALLENGED = auto()
    PROVED = auto()
    PROVEN = auto()
    UP = auto()


def read_secret(path: Path) -> bytes:
    """The shared secret in a file, without white space at its ends. Raises LinkError when the
    file cannot be read, when others can open it, or its group write to it, and when it holds less
    than 16 bytes or more than 4096."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read(_MOST_SECRET_BYTES + 1).strip()
    except OSError as error:
        raise LinkError(f"the secret file {path} cannot be read: {error.strerror}") from None
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise LinkError(f"others can open {path}, which holds a secret; chmod 600 {path}")
    if not SECRET_BYTES <= len(secret) <= _MOST_SECRET_BYTES:
        raise LinkError(
            f"the secret file {path} holds {len(secret)} bytes, "
            f"expected {SECRET_BYTES} to {_MOST_SECRET_BYTES}"
        )
    return secret


class WorkerHandshake:
    """The worker's side. ``hello`` is what it says; ``welcome`` what the relay said, once
    ``stage`` is UP."""

    welcome: Welcome

    def __init__(
        self,
        secret: bytes,
        *,
        application: str,
        vm_id: str,
        capacity: int = 1,
        window: int = 256,
        versions: tuple[int, int] = VERSIONS,
        nonce: bytes | None = None,
    ) -> None:
        self.stage = Stage.NEW
        self._secret = secret
        own_nonce = nonce or secrets.token_bytes(NONCE_BYTES)
        self.hello = Hello(versions, own_nonce, capacity, window, application, vm_id)
        self._said = b""

    def start(self) -> bytes:
        """What to send first."""
        self.stage = Stage.GREETED
        self._said = self.hello.encode()
        return self._said

    def receive(self, frame: Frame) -> bytes:
        """Take the relay's next frame; returns what to send, if anything.

        Raises LinkRefused when the relay refuses us, or does not know the secret itself.
        """
        match self.stage, frame:
            case ((Stage.GREETED | Stage.PROVED), Refused(reason=reason, explanation=text)):
                raise LinkRefused(reason, text)
            case Stage.GREETED, Challenge():
                return self._prove(frame)
            case Stage.PROVED, Welcome():
                self._check(frame)
                return b""
        raise _unexpected(frame, self.stage)

    def _prove(self, challenge: Challenge) -> bytes:
        lowest, highest = self.hello.versions
        if not lowest <= challenge.version <= highest:
            raise ProtocolViolation("unexpected", f"version {challenge.version} was not offered")
        self._said += challenge.encode()
        proof = Proof(_mac(self._secret, b"worker", self._said)).encode()
        self._said += proof
        self.stage = Stage.PROVED
        return proof

    def _check(self, welcome: Welcome) -> None:
        if not hmac.compare_digest(welcome.mac, _relay_mac(self._secret, self._said, welcome)):
            raise LinkRefused("secret", "the relay does not know the secret")
        self.welcome = welcome
        self.stage = Stage.UP


class RelayHandshake:
    """The relay's side. ``hello`` is who the worker says it is; true once ``stage`` is PROVEN."""

    hello: Hello

    def __init__(
        self,
        secret: bytes,
        *,
        application: str,
        versions: tuple[int, int] = VERSIONS,
        nonce: bytes | None = None,
    ) -> None:
        self.stage = Stage.NEW
        self._secret = secret
        self._application = application
        self._versions = versions
        self._nonce = nonce or secrets.token_bytes(NONCE_BYTES)
        self._said = b""

    def receive(self, frame: Frame) -> bytes:
        """Take the worker's next frame; returns what to send, if anything.

        Raises LinkRefused when the worker is not to be let in.
        """
        match self.stage, frame:
            case Stage.NEW, Hello():
                return self._challenge(frame)
            case Stage.CHALLENGED, Proof():
                self._check(frame)
                return b""
        raise _unexpected(frame, self.stage)

    def welcome(self, interval: float, timeout: float, limits: Limits) -> bytes:
        """What to send to let the proven worker in; the heartbeat's times are in seconds."""
        plain = Welcome(bytes(MAC_BYTES), round(interval * 1000), round(timeout * 1000), limits)
        self.stage = Stage.UP
        return replace(plain, mac=_relay_mac(self._secret, self._said, plain)).encode()

    def _challenge(self, hello: Hello) -> bytes:
        version = min(hello.versions[1], self._versions[1])
        if version < max(hello.versions[0], self._versions[0]):
            raise LinkRefused(
                "version",
                "it speaks versions {} to {}, this relay {} to {}".format(
                    *hello.versions, *self._versions
                ),
            )
        self.hello = hello
        challenge = Challenge(version, self._nonce).encode()
        self._said = hello.encode() + challenge
        self.stage = Stage.CHALLENGED
        return challenge

    def _check(self, proof: Proof) -> None:
        if not hmac.compare_digest(proof.mac, _mac(self._secret, b"worker", self._said)):
            raise LinkRefused("secret", "it does not know the secret")
        if self.hello.application != self._application:
            raise LinkRefused("application", f"this relay serves {self._application}")
        self._said += proof.encode()
        self.stage = Stage.PROVEN


def _mac(secret: bytes, role: bytes, said: bytes) -> bytes:
    return hmac.digest(secret, b"isoneph link " + role + b"\0" + said, "sha256")


def _relay_mac(secret: bytes, said: bytes, welcome: Welcome) -> bytes:
    return _mac(secret, b"relay", said + replace(welcome, mac=bytes(MAC_BYTES)).encode())


def _unexpected(frame: Frame, stage: Stage) -> ProtocolViolation:
    name = type(frame).__name__.upper()
    return ProtocolViolation("unexpected", f"{name} in the handshake's stage {stage.name}")
