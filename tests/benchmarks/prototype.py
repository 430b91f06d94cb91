"""The named alternative: a Flask-RESTful balancer as of 2015, for gunicorn's sync worker.

It does what the prototype did: one request at a time, the cloud with the fewest VMs, a count in
memory, every answer trusted. ``PROTOTYPE_VMS`` VMs are there from the start; a create takes
``PROTOTYPE_CREATE_SECONDS``, the cloud's own time.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from typing import Any

from flask import Flask, request
from flask_restful import Api, Resource

CLOUDS = ("uniform", "quebec")
CREATE_SECONDS = float(os.environ.get("PROTOTYPE_CREATE_SECONDS", "0"))
NUMBERS = itertools.count()


def make_vm(cloud: str) -> dict[str, Any]:
    """A VM with the fields that isoneph's answers have."""
    number = next(NUMBERS)
    vm_id = f"00000000-0000-4000-8000-{number:012}"
    return {
        "id": vm_id,
        "application": "mme",
        "type": "worker",
        "cloud": cloud,
        "cloud_id": f"{cloud}-{number}",
        "name": f"mme-worker-{vm_id[:8]}",
        "state": "ACTIVE",
        "attempt": 1,
        "placed_at": 1795363521.8389878,
        "addresses": {"mock": ["10.44.122.130"]},
        "tags": {},
    }


VMS = {
    vm["id"]: vm
    for vm in (make_vm(CLOUDS[n % 2]) for n in range(int(os.environ.get("PROTOTYPE_VMS", "0"))))
}


class Vms(Resource):  # type: ignore[misc]  # the library has no types
    """All VMs, and the way to one more."""

    def get(self) -> dict[str, Any]:
        """The VMs that are there."""
        return {"vms": list(VMS.values()), "total": len(VMS)}

    def post(self) -> tuple[dict[str, Any], int]:
        """One more, on the cloud with the fewest."""
        if "type" not in request.get_json():
            return {"message": "type is missing"}, 400
        counts = Counter(vm["cloud"] for vm in VMS.values())
        vm = make_vm(min(CLOUDS, key=lambda cloud: counts[cloud]))
        time.sleep(CREATE_SECONDS)
        VMS[vm["id"]] = vm
        return vm, 201


class Types(Resource):  # type: ignore[misc]  # the library has no types
    """The small request."""

    def get(self) -> dict[str, Any]:
        """The types on offer."""
        clouds = {cloud: {"resources": {"instances": 1}} for cloud in CLOUDS}
        return {"types": [{"name": "worker", "clouds": clouds}]}


app = Flask(__name__)
api = Api(app)
api.add_resource(Vms, "/vm")
api.add_resource(Types, "/type")
