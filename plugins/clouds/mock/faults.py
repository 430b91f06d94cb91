"""The faults that a mock cloud can be told to show, and the errors that they raise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voluptuous import All, Invalid, Optional, Required, Schema

from isoneph.core.errors import (
    CloudError,
    InvalidRequest,
    NoCapacity,
    OutcomeUnknown,
    QuotaExceeded,
    Throttled,
    Unauthorized,
    Unreachable,
)
from isoneph.plugins.clouds.mock.values import ANY, CALLS, count, number, probability, text

_WRITES = ("create", "delete")

#: Which calls each fault can befall.
FAULTS: Mapping[str, Sequence[str]] = {
    "quota": ("create",),
    "no_capacity": ("create",),
    "invalid": _WRITES,
    "error_after_accept": ("create",),
    "timeout_before": _WRITES,
    "timeout_after": _WRITES,
    "leave_port": ("delete",),
    "ignored": ("delete",),
    "throttle": CALLS,
    "unauthorized": CALLS,
    "hang": CALLS,
    "outage": CALLS,
}

_ERRORS: Mapping[str, tuple[type[CloudError], str]] = {
    "quota": (QuotaExceeded, "quota exceeded"),
    "no_capacity": (NoCapacity, "no host has room"),
    "invalid": (InvalidRequest, "the request is invalid"),
    "timeout_before": (OutcomeUnknown, "no answer came"),
    "timeout_after": (OutcomeUnknown, "no answer came"),
    "throttle": (Throttled, "too many calls"),
    "unauthorized": (Unauthorized, "the credentials are not accepted"),
    "hang": (Unreachable, "no answer came, nothing was done"),
    "outage": (Unreachable, "the cloud is down"),
}
#: The fault text of a VM that fails to boot, in Nova's words.
BOOT_FAULT = "No valid host was found."


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One scripted fault; the fields are those of :data:`FAULT_OPTIONS`, durations in seconds."""

    fault: str
    call: str = ANY
    probability: float = 1.0
    count: int | None = None
    types: Sequence[str] = ()
    seconds: float = 0.0
    visible_after: float = 0.0
    retry_after: float | None = None
    message: str | None = None
    after: float = 0.0
    lasts: float | None = None

    def concerns(self, call: str, type_name: str) -> bool:
        """Whether a ``call`` for a VM of type ``type_name`` ("" for none) can meet this fault."""
        return (
            self.call in (ANY, call)
            and call in FAULTS[self.fault]
            and (not self.types or type_name in self.types)
        )

    @property
    def strikes_first(self) -> bool:
        """Whether the call fails before anything is done."""
        return self.fault in _ERRORS and self.fault != "timeout_after"

    def error(self) -> CloudError:
        """What the call raises."""
        kind, told = _ERRORS[self.fault]
        return kind(self.message or told, retry_after=self.retry_after)


def _fault_name(value: Any) -> str:
    if value not in FAULTS:
        raise Invalid(f"expected one of {', '.join(FAULTS)}")
    return str(value)


def _call_name(value: Any) -> str:
    if value not in (*CALLS, ANY):
        raise Invalid(f"expected one of {', '.join((*CALLS, ANY))}")
    return str(value)


def _fits(spec: dict[str, Any]) -> dict[str, Any]:
    """The fault with its call, when the one can befall the other."""
    fault, call = spec["fault"], spec["call"]
    if call not in (*FAULTS[fault], ANY):
        raise Invalid(f"fault '{fault}' befalls only {', '.join(FAULTS[fault])}", path=["call"])
    if fault == "hang" and not spec["seconds"]:
        raise Invalid("fault 'hang' needs the seconds that it lasts", path=["seconds"])
    return spec


FAULT_OPTIONS = {
    Required(
        "fault",
        description="What happens. create: `quota`, `no_capacity`, `error_after_accept` (the VM "
        "ends in ERROR); create and delete: `invalid`, `timeout_before` (outcome unknown, nothing "
        "done), `timeout_after` (outcome unknown, all done); delete: `leave_port` (a leftover "
        "stays), `ignored` (accepted, and nothing done); every call: `throttle`, `unauthorized`, "
        "`hang` (unreachable after `seconds`), "
        "`outage` (unreachable; goes before all other faults).",
    ): _fault_name,
    Optional("call", default=ANY, description="The call that it befalls, or `any`."): _call_name,
    Optional("probability", default=1.0, description="How likely, from 0 to 1."): probability,
    Optional("count", description="How many calls meet it; without it, all."): count,
    Optional("types", default=list, description="The VM types it befalls; empty: all."): [text],
    Optional("seconds", default=0.0, description="Seconds that pass before it shows."): number,
    Optional(
        "visible_after",
        default=0.0,
        description="For `timeout_after` of create: seconds until the VM can be seen.",
    ): number,
    Optional("retry_after", description="Seconds that the answer asks to wait."): number,
    Optional("message", description="The error's text, or the failed VM's fault."): text,
    Optional("after", default=0.0, description="Seconds until it begins."): number,
    Optional("lasts", description="Seconds that it lasts; without it, for ever."): number,
}
#: Validates one fault, filling in defaults.
FAULT = All(Schema(FAULT_OPTIONS), _fits)


def parse_fault(spec: Mapping[str, Any]) -> Fault:
    """The fault that ``spec`` says; raises ``voluptuous.Invalid`` when it is none."""
    return Fault(**Schema(FAULT)(dict(spec)))
