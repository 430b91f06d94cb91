"""Keypairs, in Nova. They belong to the user of the credentials, and carry no mark of isoneph's:
none is ever removed.

https://docs.openstack.org/api-ref/compute/#keypairs-keypairs
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from voluptuous import Invalid

from isoneph.core.model import Finding
from isoneph.plugins.clouds.openstack.errors import NotFound
from isoneph.plugins.clouds.openstack.preparing.description import Entry
from isoneph.plugins.clouds.openstack.preparing.run import COMPUTE, Found, Run
from isoneph.plugins.clouds.openstack.preparing.things import Failure, Thing, settle
from isoneph.plugins.clouds.openstack.preparing.values import public_key


class Keypair(Thing):
    """A keypair with a public key that we have."""

    kind = "keypair"
    unique = True

    def __init__(self, run: Run, name: str, entry: Entry) -> None:
        super().__init__(run, name)
        self._entry = entry
        self._path = f"/os-keypairs/{quote(name, safe='')}"

    @cached_property
    def wanted(self) -> Mapping[str, Any]:
        """The fingerprint of its public key."""
        return {"fingerprint": fingerprint(self._key)}

    @cached_property
    def _key(self) -> str:
        return _read(self._entry)

    def find(self) -> Sequence[Found]:
        """The user's keypair of this name."""
        try:
            return [self.run.get(COMPUTE, self._path, "keypair")]
        except NotFound:
            return []

    def make(self) -> Found:
        """Import the public key."""
        body = {"name": self.name, "public_key": self._key}
        return self.run.post(COMPUTE, "/os-keypairs", "keypair", body)

    def remove(self, found: Found) -> None:
        """Remove it."""
        self.run.delete(COMPUTE, self._path)


def fingerprint(key: str) -> str:
    """The fingerprint of an OpenSSH public key as Nova shows it: MD5, in pairs."""
    blob = base64.b64decode(key.split()[1])
    return hashlib.md5(blob, usedforsecurity=False).digest().hex(":")


def prepare_keypairs(run: Run) -> Iterator[Finding]:
    """Every described keypair."""
    for name, entry in run.described("keypairs").items():
        yield from settle(Keypair(run, name, entry))


def _read(entry: Entry) -> str:
    """The public key, from the description or the file that it names."""
    if "public_key" in entry:
        return str(entry["public_key"])
    file = entry["public_key_file"]
    try:
        return public_key(Path(file).read_text(encoding="utf-8").strip())
    except (Invalid, UnicodeDecodeError):
        raise Failure(f"{file}: there is no OpenSSH public key in it") from None
