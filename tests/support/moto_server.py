"""An EC2 of our own: moto's server in a process, with the client tokens that moto leaves out.

As a script it is that server; :class:`MotoServer` starts it and is its remote control. What EC2
does with client tokens: https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import httpx

STARTED_WITHIN = 60.0
REGIONS = ("eu-central-1", "us-east-1")
#: One of the images that moto has from the beginning, in every region.
IMAGE = "ami-12c6146b"
ACCESS_KEY, SECRET_KEY = "AKIAISONEPHEXAMPLE00", "wJalrXUtnFEMIisonephEXAMPLEKEY0000000000"
_CONTROL = "/isoneph-tests"
_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>{code}</Code>'
    "<Message>{text}</Message></Error></Errors><RequestID>test</RequestID></Response>"
)
#: A signature that moto reads the region from, and does not check.
_SCOPE = "AWS4-HMAC-SHA256 Credential=test/20200101/{region}/ec2/aws4_request, Signature=0"


class MotoServer:
    """One EC2, for all regions. To be closed."""

    def __init__(self, log: Path) -> None:
        self._log = log
        environment = {
            **os.environ,
            "MOTO_ENABLE_AMI_VALIDATION": "true",
            "MOTO_ENABLE_KEYPAIR_VALIDATION": "true",
            "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true",
        }
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=environment,
            )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline() or b"0")
        assert self.port, f"moto does not start: {log.read_text()}"
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        for region in REGIONS:  # the first call of each takes seconds
            self.call("DescribeInstances", region)

    def options(self, region: str = REGIONS[0], **others: Any) -> dict[str, Any]:
        """What a cloud of driver ``libcloud`` says to use it."""
        return {
            "driver": "libcloud",
            "provider": "ec2",
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
            "region": region,
            "host": "127.0.0.1",
            "port": self.port,
            "secure": False,
            **others,
        }

    def call(self, action: str, region: str = REGIONS[0], **parameters: str) -> str:
        """A request past isoneph; dots in names are written ``__``. The answer's text."""
        form = {name.replace("__", "."): value for name, value in parameters.items()}
        answer = self._client.post(
            "/",
            data={"Action": action, "Version": "2016-11-15", **form},
            headers={"Authorization": _SCOPE.format(region=region)},
        )
        return answer.raise_for_status().text

    def fail(
        self,
        action: str,
        *,
        times: int = 1,
        region: str = "",
        code: str = "",
        text: str = "as the test wants it",
        status: int = 400,
        late: float = 0.0,
    ) -> None:
        """Let the next calls of an action go wrong: refused with ``code``, or carried out and
        answered ``late`` by so many seconds."""
        fault = {
            "action": action,
            "times": times,
            "region": region,
            "code": code,
            "text": text,
            "status": status,
            "late": late,
        }
        self._client.post(_CONTROL, json=fault).raise_for_status()

    def mend(self) -> None:
        """Nothing goes wrong any more."""
        self._client.delete(_CONTROL).raise_for_status()

    def calls(self) -> Counter[str]:
        """How often each action was called, since the beginning."""
        return Counter(self._client.get(_CONTROL).raise_for_status().json())

    def close(self) -> None:
        """End it."""
        self._client.close()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class Front:
    """Stands before moto: client tokens, faults, and one call at a time, as moto wants it."""

    def __init__(self, moto: Any) -> None:
        self._moto = moto
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._faults: list[dict[str, Any]] = []
        self._tokens: dict[tuple[str, str], tuple[str, list[bytes]]] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """One request, as WSGI has it."""
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        if environ["PATH_INFO"] == _CONTROL:
            return self._control(environ["REQUEST_METHOD"], body, start_response)
        environ["wsgi.input"] = io.BytesIO(body)
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        region = environ.get("HTTP_AUTHORIZATION", "///").split("/")[2]
        with self._lock:
            self._calls[form.get("Action", "")] += 1
            fault = self._fault(form.get("Action", ""), region)
            if fault.get("code"):
                return _refuse(start_response, fault["code"], fault["text"], fault["status"])
            answer = self._idempotent(form, region, environ, start_response)
        time.sleep(fault.get("late", 0.0))
        return answer

    def _control(self, method: str, body: bytes, start_response: Any) -> list[bytes]:
        with self._lock:
            if method == "POST":
                self._faults.append(json.loads(body))
            elif method == "DELETE":
                self._faults.clear()
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self._calls).encode()]

    def _fault(self, action: str, region: str) -> Mapping[str, Any]:
        for fault in self._faults:
            if fault["action"] == action and fault["times"] and fault["region"] in ("", region):
                fault["times"] -= 1
                return fault
        return {}

    def _idempotent(
        self, form: Mapping[str, str], region: str, environ: dict[str, Any], start_response: Any
    ) -> list[bytes]:
        token = form.get("ClientToken")
        if form.get("Action") != "RunInstances" or token is None:
            return list(self._moto(environ, start_response))
        digest = hashlib.sha256(repr(sorted(form.items())).encode()).hexdigest()
        known = self._tokens.get((region, token))
        if known is None:
            answer = list(self._moto(environ, start_response))
            if b"<instanceId>" in b"".join(answer):
                self._tokens[region, token] = (digest, answer)
            return answer
        if known[0] != digest:
            text = "Arguments on this idempotent request are inconsistent with arguments used"
            return _refuse(start_response, "IdempotentParameterMismatch", text, 400)
        start_response("200 OK", [("Content-Type", "text/xml")])
        return known[1]


def _refuse(start_response: Any, code: str, text: str, status: int) -> list[bytes]:
    start_response(f"{status} Refused", [("Content-Type", "text/xml")])
    return [_ERROR.format(code=code, text=escape(text)).encode()]


def main() -> None:
    """Serve on a free port, print which, and end when whoever started it does."""
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 (only the server needs moto)
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server  # noqa: PLC0415 (as above)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    front = Front(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, front, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
