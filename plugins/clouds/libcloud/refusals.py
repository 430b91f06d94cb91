"""What errors of libcloud, and of the HTTP client below it, amount to.

What decides is whether something may have been done: only when surely nothing was is a create
that got no answer ``Unreachable``.
"""

from __future__ import annotations

import re
from http import HTTPStatus

import requests
from libcloud.common.exceptions import BaseHTTPError
from libcloud.common.types import InvalidCredsError, LibcloudError, MalformedResponseError
from urllib3.exceptions import NewConnectionError

from isoneph.core.errors import (
    CloudError,
    InvalidRequest,
    OutcomeUnknown,
    QuotaExceeded,
    Throttled,
    Unauthorized,
    Unreachable,
)
from isoneph.plugins.clouds.libcloud.instances import Call, Told
from isoneph.plugins.clouds.libcloud.transport import Line

_QUOTA = re.compile(r"quota|limit exceeded|exceeds? .*limit", re.IGNORECASE)
#: What a quota may be answered with; each of them may also be something else.
_QUOTA_STATUS = (HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
#: Failures of TLS that come before any request.
_HANDSHAKE = re.compile(r"certificate|handshake|wrong_version|unknown_protocol", re.IGNORECASE)
_NEVER_SENT = (
    requests.exceptions.ConnectTimeout,
    requests.exceptions.ProxyError,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
)
#: What libcloud raises when it is used in a way that it does not like.
_MISUSE = (ValueError, TypeError, AttributeError, LookupError, NotImplementedError, LibcloudError)
_LONGEST_TEXT = 500


def told(error: Exception, call: Call, line: Line | None) -> Told | None:
    """What ``error`` means; None when it is none of those that can come."""
    if isinstance(error, requests.RequestException):
        return _unanswered(error, call, line)
    if isinstance(error, MalformedResponseError):
        where = call.place("host", "port", "path", "secure")
        return unclear(call, line, f"the answer is not one of the provider's API; see {where}")
    if isinstance(error, InvalidCredsError):
        return Told(
            Unauthorized, f"the provider does not take our credentials; see {call.account()}"
        )
    if isinstance(error, BaseHTTPError):
        return _answered(error, call, line)
    if isinstance(error, _MISUSE) and (line is None or not line.sent):
        text = str(getattr(error, "value", error))
        return Told(InvalidRequest, f"libcloud says: {_short(text)}; see {call.place('arguments')}")
    return None


def unclear(call: Call, line: Line | None, text: str) -> Told:
    """No answer that tells: Unreachable only when nothing can have been done."""
    done = call.changing and (line is None or line.sent > 0)
    return Told(OutcomeUnknown if done else Unreachable, text)


def _unanswered(error: requests.RequestException, call: Call, line: Line | None) -> Told:
    """The text names no URL: some providers want credentials in it."""
    accepted = line is not None and line.accepted > 0
    if not accepted and _surely_not_sent(error):
        kind: type[CloudError] = Unreachable
    else:
        kind = unclear(call, line, "").kind
    if isinstance(error, requests.Timeout):
        return Told(kind, "the provider did not answer in time")
    if isinstance(error, requests.exceptions.SSLError):
        where = call.place("secure", "port", "ca_file")
        return Told(kind, f"no TLS connection to the provider; see {where}")
    if isinstance(error, requests.exceptions.ProxyError):
        return Told(kind, f"the proxy does not answer; see {call.place('proxy_url')}")
    if kind is Unreachable and _surely_not_sent(error):
        return Told(kind, f"no connection to the provider; see {call.place('host', 'port')}")
    return Told(kind, f"the connection to the provider broke: {type(error).__name__}")


def _surely_not_sent(error: requests.RequestException) -> bool:
    if isinstance(error, requests.exceptions.SSLError):
        return _HANDSHAKE.search(str(error)) is not None
    cause = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, _NEVER_SENT) or isinstance(cause, NewConnectionError)


def _answered(error: BaseHTTPError, call: Call, line: Line | None) -> Told:
    """An answer with a status alone: what it says in words is in no common form."""
    status, text = int(error.code), _short(str(error.message))
    if line is not None and line.accepted:
        return unclear(call, line, f"after the request was accepted: {status}: {text}")
    told = f"the provider answered {status}: {text}"
    if status in _QUOTA_STATUS and _QUOTA.search(text):
        return Told(QuotaExceeded, told)
    if status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.TOO_MANY_REQUESTS):
        return Told(Throttled, told, getattr(error, "retry_after", None) or None)
    refused = status == HTTPStatus.FORBIDDEN and not call.changing
    if status == HTTPStatus.UNAUTHORIZED or refused:
        return Told(Unauthorized, f"{told}; see {call.account()}")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return unclear(call, line, told)
    options = ("size", "image", "networks", "security_groups", "key_name", "arguments")
    return Told(InvalidRequest, f"{told}; see {call.place(*options)}" if call.request else told)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + " ..."
