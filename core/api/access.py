"""Who may do what: bearer tokens, of which only digests are known."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Literal

from isoneph.core.api.problems import Refused
from isoneph.core.api.tracing import Request
from isoneph.core.settings import ApplicationSettings, TokenSettings

Scope = Literal["read", "write", "metrics"]
CHALLENGE = 'Bearer realm="isoneph"'


def admit(req: Request, applications: Iterable[ApplicationSettings], scope: Scope) -> None:
    """Let a request pass that has a token with ``scope`` for any of ``applications``, or none
    where none of them has tokens. Raises Refused; notes the token's name with the request."""
    tokens = [token for application in applications for token in application.tokens]
    if not tokens:
        return
    found = find(req, tokens)
    req.token = found[0].name
    if not any(scope in token.scopes for token in found):
        raise Refused(
            "forbidden",
            f"the token has no scope '{scope}'",
            headers={
                "www-authenticate": f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"'
            },
        )


def find(req: Request, tokens: Iterable[TokenSettings]) -> list[TokenSettings]:
    """Those of ``tokens`` that the request's token is. Raises Refused when it is none.

    How long it takes does not depend on which one it is, or nearly is.
    """
    digest = _digest(req)
    found = [token for token in tokens if hmac.compare_digest(token.sha256, digest)]
    if not found:
        raise Refused(
            "unauthenticated",
            "the token is not known here",
            headers={"www-authenticate": f'{CHALLENGE}, error="invalid_token"'},
        )
    return found


def _digest(req: Request) -> str:
    """The digest of the request's token, in hex. Raises Refused when it has none."""
    scheme, _, token = (req.auth or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Refused(
            "unauthenticated",
            "expected a header 'Authorization: Bearer TOKEN'",
            headers={"www-authenticate": CHALLENGE},
        )
    return hashlib.sha256(token.encode()).hexdigest()
