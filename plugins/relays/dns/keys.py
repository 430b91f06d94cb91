"""TSIG keys (RFC 8945) from where the options say. No error tells a secret."""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dns.exception
import dns.name
import dns.tsig

from isoneph.plugins.relays.dns.options import ALGORITHMS

_LONGEST_FILE = 4096
_COMMENT = re.compile(r"(?m)^\s*(#|//).*$")
_LINE = re.compile(r"(?P<algorithm>[\w-]+):(?P<name>[^\s:]+):(?P<secret>\S+)")
# As BIND and Knot write them: ``key "name" { algorithm ...; secret "..."; };`` and YAML.
_NAME = re.compile(r'\bkey\s+"?([^\s"{;]+)"?\s*\{|\bid:\s*"?([^\s"]+)')
_ALGORITHM = re.compile(r'\balgorithm:?\s+"?([\w-]+)')
_SECRET = re.compile(r'\bsecret:?\s+"?([A-Za-z0-9+/=]+)')


class KeyUnfit(Exception):
    """There is no key that could be used; says where, and why."""


def load_key(options: Mapping[str, Any]) -> dns.tsig.Key | None:
    """The key that the relay's options name; None when they name none. Raises KeyUnfit."""
    if "key_file" in options:
        file = options["key_file"]
        try:
            return parse_key(_read(file))
        except KeyUnfit as error:
            raise KeyUnfit(f"key_file {file}: {error}") from None
    if "key" not in options:
        return None
    key = options["key"]
    if "secret_file" in key:
        source = f"key.secret_file {key['secret_file']}"
        try:
            secret = _read(key["secret_file"]).strip()
        except KeyUnfit as error:
            raise KeyUnfit(f"{source}: {error}") from None
    else:
        source = f"the environment variable {key['secret_env']} (key.secret_env)"
        secret = os.environ.get(key["secret_env"], "").strip()
    try:
        return _key(key["name"], key["algorithm"], secret)
    except KeyUnfit as error:
        raise KeyUnfit(f"{source}: {error}") from None


def parse_key(text: str) -> dns.tsig.Key:
    """The key in a key file's text. Raises KeyUnfit."""
    text = _COMMENT.sub("", text).strip()
    line = _LINE.fullmatch(text)
    if line is not None:
        return _key(line["name"], line["algorithm"], line["secret"])
    name, algorithm, secret = _NAME.search(text), _ALGORITHM.search(text), _SECRET.search(text)
    if name is None or algorithm is None or secret is None:
        raise KeyUnfit("expected a key with name, algorithm and secret, as tsig-keygen prints it")
    return _key(name[1] or name[2], algorithm[1], secret[1])


def _key(name: str, algorithm: str, secret: str) -> dns.tsig.Key:
    if algorithm.lower().rstrip(".") not in ALGORITHMS:
        raise KeyUnfit(f"expected one of the algorithms {', '.join(ALGORITHMS)}")
    try:
        content = base64.b64decode(secret, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not content:
        raise KeyUnfit("expected the secret in base64")
    try:
        return dns.tsig.Key(dns.name.from_text(name), content, algorithm.lower())
    except dns.exception.DNSException as error:
        raise KeyUnfit(f"the name of the key is no domain name: {error}") from None


def _read(file: str) -> str:
    try:
        path = Path(file).expanduser()
        mode = path.stat().st_mode
        with path.open("rb") as opened:
            content = opened.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise KeyUnfit(f"cannot be read: {error.strerror}") from None
    except RuntimeError:
        raise KeyUnfit("cannot be read: there is no home directory for ~") from None
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise KeyUnfit("others can open it, and it holds a secret: chmod 600")
    if len(content) > _LONGEST_FILE or not content.isascii():
        raise KeyUnfit("expected a short text")
    return content.decode()
