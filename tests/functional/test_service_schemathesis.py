"""Requests made from the OpenAPI document, fitting it and not: the service does what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import httpx

from services import Service

#: 422 is for what the document cannot say, such as that min_count is at most count. That a VM is
#: not ready in time is no failure of the service.
CONFIG = """
[parameters]
"path.application" = "mme"

[checks.positive_data_acceptance]
expected-statuses = ["2xx", 404, 409, 422, 504]

[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", 504]
"""


def known(document: Any) -> Any:
    """The document with what only this service knows: the names that there are, and that without
    a relay nothing becomes READY; and few VMs at once, as whole numbers without a fraction, which
    JSON Schema does not insist on."""
    body = document["components"]["schemas"]["VmCreate"]["properties"]
    body["type"]["enum"] = ["worker"]
    body["cloud"] = {"enum": ["uniform", "quebec", None]}
    body["count"] = body["min_count"] = {"enum": [1, 2, 3, None]}
    waits = [
        parameter["schema"]
        for path in document["paths"].values()
        for method in ("get", "post")
        for parameter in path.get(method, {}).get("parameters", ())
        if parameter.get("name") in ("wait", "expect")
    ]
    for wait in waits:
        wait["enum"] = ["ACTIVE"]
    return document


def test_the_service_does_what_its_document_says(service: Service) -> None:
    service.start()
    url = service.urls()[-1]
    content = known(httpx.get(f"{url}/openapi.json").json())
    operations = sum(len(item) - 1 for item in content["paths"].values())  # but for parameters
    document = service.directory / "openapi.json"
    document.write_text(json.dumps(content))
    config = service.directory / "schemathesis.toml"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    options = "--checks all --max-examples 10 --seed 1 --no-color --request-timeout 10"
    run = subprocess.run(
        [*command, str(document), "--url", url, *options.split()],
        capture_output=True,
        text=True,
        cwd=service.directory,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert f"Tested: {operations}" in run.stdout
    assert "Traceback" not in service.said()
    assert service.stop() == 0
