"""EC2's answers as a test wants them, without a server, and what it is asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import pytest
import requests_mock
from voluptuous import Schema

from isoneph.core import identity
from isoneph.core.errors import CloudError
from isoneph.core.model import Vm, VmRequest, VmState, VmType
from isoneph.core.plugin import Clock
from isoneph.core.testing import make_request
from isoneph.plugins.clouds.libcloud import LibcloudCloud

APPLICATION = "mme"
SECRET = "very-secret-key"
#: Where a request's image stands in the configuration.
IMAGE = "application mme: types.worker.options.image"
#: A cloud of driver ``libcloud`` on EC2.
OPTIONS: Mapping[str, Any] = {
    "provider": "ec2",
    "access_key": "AKIAEXAMPLE",
    "secret_key": SECRET,
    "region": "eu-central-1",
}
TYPE = Schema(LibcloudCloud.type_schema)

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
#: An answer: its text, its status and text, or what befalls instead.
Answer = str | tuple[int, str] | Exception


class ScriptedEc2:
    """Answers each action with what is scripted for it, the last for ever, and keeps what was
    sent."""

    def __init__(self, mocker: requests_mock.Mocker, url: Any = requests_mock.ANY) -> None:
        self.sent: list[dict[str, str]] = []
        self._script: dict[str, deque[Answer]] = {}
        mocker.post(url, text=self._answer)
        self.on("DescribeSubnets", answer("DescribeSubnets", "<subnetSet/>"))

    def on(self, action: str, *answers: Answer) -> None:
        """What an action is answered from now on."""
        self._script[action] = deque(answers)

    def forms(self, action: str) -> list[dict[str, str]]:
        """What was sent for an action."""
        return [form for form in self.sent if form["Action"] == action]

    def _answer(self, request: Any, context: Any) -> str:
        form = dict(parse_qsl(request.text, keep_blank_values=True))
        self.sent.append(form)
        script = self._script[form["Action"]]
        scripted = script.popleft() if len(script) > 1 else script[0]
        if isinstance(scripted, Exception):
            raise scripted
        if isinstance(scripted, tuple):
            context.status_code, scripted = scripted
        return scripted


def answer(action: str, content: str) -> str:
    """A whole answer."""
    return (
        f'<?xml version="1.0"?><{action}Response xmlns="{NAMESPACE}">{content}</{action}Response>'
    )


def refusal(code: str, text: str = "the reason", status: int = 400) -> tuple[int, str]:
    """An error, which EC2 gives no namespace."""
    error = f"<Error><Code>{code}</Code><Message>{escape(text)}</Message></Error>"
    return status, f"<Response><Errors>{error}</Errors><RequestID>1</RequestID></Response>"


def instance(
    cloud_id: str,
    tags: Mapping[str, str],
    state: str = "pending",
    reason: str = "",
    *,
    subnets: Mapping[str, Sequence[str]] | None = None,
    public: str = "",
) -> str:
    """An instance as it stands in a set of them."""
    tag_set = "".join(
        f"<item><key>{escape(key)}</key><value>{escape(value)}</value></item>"
        for key, value in tags.items()
    )
    interfaces = "".join(
        f"<item><subnetId>{subnet}</subnetId><privateIpAddressesSet>"
        + "".join(f"<item><privateIpAddress>{ip}</privateIpAddress></item>" for ip in addresses)
        + "</privateIpAddressesSet></item>"
        for subnet, addresses in (subnets or {}).items()
    )
    return (
        f"<item><instanceId>{cloud_id}</instanceId>"
        f"<instanceState><code>0</code><name>{state}</name></instanceState>"
        f"<stateReason><code>{reason}</code><message>{reason and reason + ': told'}</message>"
        f"</stateReason><ipAddress>{public}</ipAddress>"
        f"<networkInterfaceSet>{interfaces}</networkInterfaceSet>"
        f"<tagSet>{tag_set}</tagSet></item>"
    )


def made(*instances: str) -> str:
    """The answer of ``RunInstances``."""
    return answer("RunInstances", f"<instancesSet>{''.join(instances)}</instancesSet>")


def described(*instances: str, more: str = "") -> str:
    """A page of ``DescribeInstances``."""
    reservations = "".join(
        f"<item><instancesSet>{each}</instancesSet></item>" for each in instances
    )
    content = f"<reservationSet>{reservations}</reservationSet>"
    return answer("DescribeInstances", content + (f"<nextToken>{more}</nextToken>" if more else ""))


def terminated(before: str = "running") -> str:
    """The answer of ``TerminateInstances``."""
    states = f"<previousState><name>{before}</name></previousState>"
    return answer("TerminateInstances", f"<instancesSet><item>{states}</item></instancesSet>")


def wanted(clock: Clock, **options: Any) -> VmRequest:
    """A request that was placed just now."""
    options = {"size": "t3.micro", "image": "ami-1", **options}
    request = make_request(APPLICATION, VmType(name="worker", options=TYPE(options)))
    placed_at = identity.format_time(clock.time())
    return replace(request, tags={**request.tags, identity.TAG_PLACED_AT: placed_at})


def one_of(request: VmRequest, cloud_id: str = "i-1", state: str = "pending", **more: Any) -> str:
    """The instance that a request was made into."""
    return instance(cloud_id, {"Name": request.name, **request.tags}, state, **more)


def known(request: VmRequest, state: VmState = VmState.ACTIVE) -> Vm:
    """The VM that a request was made into, as the core knows it."""
    vm = Vm.from_tags(
        request.tags,
        APPLICATION,
        cloud="public",
        cloud_id="i-1",
        name=request.name,
        state=state,
    )
    assert vm is not None
    return vm


def error_of(call: Callable[[], object]) -> CloudError:
    """The error that a call ends with, which tells no secret."""
    with pytest.raises(CloudError) as caught:
        call()
    assert SECRET not in caught.value.message
    return caught.value
