"""EC2's error codes, and what they amount to.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from isoneph.core.errors import (
    CloudError,
    InvalidRequest,
    NoCapacity,
    OutcomeUnknown,
    QuotaExceeded,
    Throttled,
    Unauthorized,
)
from isoneph.plugins.clouds.libcloud.instances import Call, Told
from isoneph.plugins.clouds.libcloud.refusals import unclear
from isoneph.plugins.clouds.libcloud.transport import Line

#: Seconds for which a cloud that asks for fewer requests is left alone: EC2 gives no figure, and
#: fills its buckets several times a second.
THROTTLED_FOR = 5.0

#: Codes that say that what is to be removed is not there.
GONE: Mapping[str, Sequence[str]] = {
    "instance": ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "InvalidID"),
    "volume": ("InvalidVolume.NotFound", "InvalidVolumeID.Malformed"),
    "network interface": ("InvalidNetworkInterfaceID.NotFound",),
}
#: Codes that say that a client token was used before.
TOKEN_USED = frozenset({"IdempotentParameterMismatch", "IdempotentInstanceTerminated"})

_THROTTLED = re.compile(
    r"RequestLimitExceeded|Throttl|RequestThrottled|EC2ThrottledException|SlowDown|TooManyRequests"
)
_CREDENTIALS = frozenset(
    {
        *("AuthFailure", "InvalidClientTokenId", "SignatureDoesNotMatch", "IncompleteSignature"),
        *("MissingAuthenticationToken", "InvalidAccessKeyId", "UnrecognizedClientException"),
        *("ExpiredToken", "ExpiredTokenException", "RequestExpired", "OptInRequired"),
        *("Blocked", "PendingVerification", "InvalidSecurity"),
    }
)
_FORBIDDEN = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"})
_NO_CAPACITY = re.compile(r"Insufficient|UnfulfillableCapacity|SpotMaxPriceTooLow|HostLimit")
#: Limits of a request, not of the account.
_NO_QUOTA = frozenset({"TagLimitExceeded", "FilterLimitExceeded"})
_QUOTA = re.compile(r"LimitExceeded|MaxSpotInstanceCountExceeded|ResourceCountExceeded")

#: The type's options that a refusal is about, by what its code and text are searched for.
_OPTIONS: Sequence[tuple[re.Pattern[str], Sequence[str]]] = tuple(
    (re.compile(pattern, re.IGNORECASE), options)
    for pattern, options in (
        (r"InvalidAMI|\bAMI\b|\bami-|image", ("image",)),
        (r"instance ?type", ("size",)),
        (r"KeyPair|key pair", ("key_name",)),
        (r"SecurityGroup|InvalidGroup|security group", ("security_groups",)),
        (r"Subnet|NetworkInterface|Vpc", ("networks",)),
        (r"availability ?zone|InvalidZone", ("availability_zone",)),
        (r"user ?data", ("user_data",)),
        (r"instance ?profile", ("arguments",)),
    )
)
_ANY = ("size", "image", "arguments")


class Ec2Refusal(Exception):
    """An error that EC2 answered with. ``code`` is empty when the answer holds none."""

    def __init__(self, code: str, text: str, status: int) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.status = status


def told(refusal: Ec2Refusal, call: Call, line: Line | None) -> Told:
    """What a refusal means for the call that got it."""
    said = f"EC2 answered {refusal.code or refusal.status}: {refusal.text}".rstrip(" :")
    if refusal.code in TOKEN_USED:  # what used it is not to be found
        return Told(OutcomeUnknown, said)
    if _THROTTLED.search(refusal.code):
        return Told(Throttled, said, THROTTLED_FOR)
    limit = _limit(refusal.code)
    if limit is not None:  # before the status: AWS counts lack of capacity among its own errors
        return Told(limit, said)
    if not refusal.code or refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return unclear(call, line, said)
    return _refused(refusal, said, call)


def _refused(refusal: Ec2Refusal, said: str, call: Call) -> Told:
    """Something is wrong with the request, or with who sends it."""
    if refusal.code in _FORBIDDEN:
        return _forbidden(said, call)
    about = _about(refusal)
    if refusal.code in _CREDENTIALS and not about:
        return Told(Unauthorized, f"{said}; see {call.account()}, and this machine's clock")
    see = f"; see {call.place(*(about or _ANY))}" if call.request else ""
    return Told(InvalidRequest, f"{said}{see}")


def fault_code(text: str) -> str | None:
    """The code of the error that a failed launch amounts to, where it is more than that."""
    kind = _limit(text.partition(":")[0].rpartition(".")[2].strip())
    return None if kind is None else kind.code


def _limit(code: str) -> type[CloudError] | None:
    if _NO_CAPACITY.match(code):
        return NoCapacity
    return QuotaExceeded if _QUOTA.search(code) and code not in _NO_QUOTA else None


def _about(refusal: Ec2Refusal) -> Sequence[str]:
    if refusal.code in _CREDENTIALS and "Not authorized for" not in refusal.text:
        return ()  # what it names was never looked at
    searched = f"{refusal.code} {refusal.text}"
    for pattern, options in _OPTIONS:
        if pattern.search(searched):
            return options
    return ()


def _forbidden(said: str, call: Call) -> Told:
    """The credentials are good, but not for this: of a create that says nothing of the rest."""
    needed = "allow ec2:RunInstances and ec2:CreateTags to" if call.request else "allow it to"
    text = f"{said}; {needed} the owner of {call.account()}"
    return Told(InvalidRequest if call.changing else Unauthorized, text)
