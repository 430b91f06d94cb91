"""Telling which configured values are secret, and keeping them out of what people read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

MASK = "***"

_SECRET = re.compile(
    r"pass(word|wd|phrase|code)|secret|token|credential|(private|api|access)[_-]?key|sha256"
    r"|(^|[_-])(auth|pwd)($|[_-])",
    re.IGNORECASE,
)
_PUBLIC = re.compile(r"(url|type|name|id|file|path|methods)$", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^/@\s:\[]*:)\S+@")


def is_secret(key: object) -> bool:
    """Whether what stands under ``key`` should not be shown, going by the key's words.

    ``auth_url`` or ``token_file`` tell where to go, not how to get in.
    """
    return bool(_SECRET.search(str(key)) and not _is_public(key))


def _is_public(key: object) -> bool:
    return bool(_PUBLIC.search(str(key)))


def mask(value: Any, *, secret: bool = False) -> Any:
    """A copy of ``value`` in which secrets are ``***``, passwords inside URLs included.

    With ``secret`` the value stands under a secret key itself: then all in it is masked but
    the likes of ``username``.
    """
    if isinstance(value, Mapping):
        return {
            key: mask(item, secret=_inherits(key, secret=secret)) for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [mask(item, secret=secret) for item in value]
    if secret and value is not None:
        return MASK
    return mask_urls(value) if isinstance(value, str) else value


def mask_urls(text: str) -> str:
    """``text`` with the password of every URL in it masked."""
    return _URL_PASSWORD.sub(rf"\1{MASK}@", text)


def secrets_in(value: Any, *, secret: bool = False) -> Iterator[str]:
    """The texts of all secret values in ``value``; ``secret`` as for :func:`mask`."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from secrets_in(item, secret=_inherits(key, secret=secret))
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from secrets_in(item, secret=secret)
    elif secret and value is not None and str(value):
        yield str(value)
    elif isinstance(value, str) and mask_urls(value) != value:
        yield value


def _inherits(key: object, *, secret: bool) -> bool:
    return is_secret(key) or (secret and not _is_public(key))
