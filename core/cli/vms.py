"""``isoneph vm``: listing, showing, creating and deleting VMs."""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from cliff.lister import Lister
from cliff.show import ShowOne

from isoneph.core.cli.access import add_access_options, connect
from isoneph.core.cli.base import Command, DisplayCommand, given
from isoneph.core.cli.columns import Addresses, Optional, Pairs, Placement, RelayedBy, Time, Why
from isoneph.core.cli.failures import CommandFailed, Refused, UsageError
from isoneph.core.cli.progress import progress
from isoneph.core.model import VmState

if TYPE_CHECKING:
    from isoneph.core.cli.client import Client

#: Seconds that ``--wait`` waits by default.
DEFAULT_WAIT = 300.0

#: How the fields of a VM are shown, where not as they are.
_COLUMNS = {
    "addresses": Addresses,
    "tags": Pairs,
    "placed_at": Time,
    "placement": Placement,
    "fault": Optional,
    "fault_code": Optional,
    "near": Optional,
    "relay": RelayedBy,
    "sessions": Optional,
    "drain_deadline": Time,
}
_FIELDS = ("id", "type", "cloud", "state", "addresses")
#: Of what the relay says of a VM, where there is one: they stand beside the others.
_RELAY_FIELDS = ("sessions", "drain_deadline")
_MORE_FIELDS = ("placed_at", "name", "cloud_id", "attempt", "tags", "near", "fault", "fault_code")

Table = tuple[Sequence[str], Iterable[Any]]


def _with_relay(
    vms: Sequence[Mapping[str, Any]], fields: Sequence[str]
) -> tuple[Sequence[Mapping[str, Any]], Sequence[str]]:
    """The VMs with the relay's fields among their own, if a relay brings traffic to any."""
    if not any("relay" in vm for vm in vms):
        return vms, fields
    nothing = dict.fromkeys(_RELAY_FIELDS)
    shown = [{**nothing, **vm.get("relay", {}), **vm} for vm in vms]
    return shown, (*_FIELDS, *_RELAY_FIELDS, *fields[len(_FIELDS) :])


def _row(vm: Mapping[str, Any], fields: Iterable[str]) -> tuple[Any, ...]:
    return tuple(_COLUMNS[name](vm[name]) if name in _COLUMNS else vm[name] for name in fields)


def tag(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` of the command line."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=VALUE")
    return name, value


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 on")
    return int(text)


def seconds(text: str) -> float:
    """A duration."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds")
    return value


class ListVms(DisplayCommand, Lister):
    """List the VMs in order of placement."""

    examples = """\
  isoneph vm list
  isoneph vm list --cloud paris --state ERROR --long
  isoneph vm list --tag role=web -f value -c id"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--type", metavar="TYPE", help="only VMs of this type")
        parser.add_argument("--cloud", metavar="NAME", help="only VMs on this cloud")
        parser.add_argument(
            "--state", type=str.upper, choices=[*map(str, VmState)], help="only VMs in this state"
        )
        parser.add_argument(
            "--tag",
            dest="tags",
            type=tag,
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="only VMs with this tag; may be repeated",
        )
        parser.add_argument("--limit", type=count, metavar="N", help="at most so many VMs")
        parser.add_argument("--long", action="store_true", help="show more columns")
        add_access_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        """One row for each VM."""
        filters = given(parsed_args, "type", "cloud", "state")
        filters.update({f"tag.{name}": value for name, value in parsed_args.tags})
        with connect(parsed_args) as client:
            listing = client.list_vms(filters, parsed_args.limit)
        for silence in listing.incomplete:
            self.app.warn(
                f"cloud {silence['cloud']} cannot be asked, its VMs are shown as last seen: "
                f"{silence['detail']}"
            )
        wanted = (*_FIELDS, *_MORE_FIELDS) if parsed_args.long else _FIELDS
        vms, fields = _with_relay(listing.vms, wanted)
        return fields, (_row(vm, fields) for vm in vms)


class ShowVm(DisplayCommand, ShowOne):
    """Show a VM, and how it came to be where it is."""

    examples = "  isoneph vm show 2b7c3f6e-9b7e-4c39-9d0a-6f0e4a7b1c55"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument("id", metavar="ID", help="the VM's id in 'vm list'")
        add_access_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        """Its fields."""
        with connect(parsed_args) as client:
            vm = client.get_vm(parsed_args.id)
        return tuple(vm), _row(vm, vm)


class CreateVms(DisplayCommand, Lister):
    """Create VMs.

    They build when this returns, unless told to wait. A create that is repeated with the same
    key gives the same VMs instead of more.
    """

    examples = """\
  isoneph vm create web
  isoneph vm create web --count 10 --min-count 8 --tag role=web
  isoneph vm create web --near paris --wait --timeout 120
  isoneph vm create web --wait ready"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument("type", metavar="TYPE", help="one of 'type list'")
        parser.add_argument("--count", type=count, default=1, metavar="N", help="how many")
        parser.add_argument(
            "--min-count", type=count, metavar="N", help="keep none if fewer can be created"
        )
        parser.add_argument("--cloud", metavar="NAME", help="on this cloud only")
        parser.add_argument("--near", metavar="PLACE", help="near this place, cloud or VM")
        parser.add_argument(
            "--tag",
            dest="tags",
            type=tag,
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="kept with the VM; may be repeated",
        )
        parser.add_argument(
            "--key", metavar="KEY", help="the idempotency key; a new one by default"
        )
        parser.add_argument(
            "--wait",
            nargs="?",
            const="ACTIVE",
            type=str.upper,
            choices=["ACTIVE", "READY"],
            metavar="STATE",
            help="wait until they are active, or ready for traffic: where a relay brings it",
        )
        parser.add_argument(
            "--timeout",
            type=seconds,
            metavar="SECONDS",
            help=f"how long to wait at most, {DEFAULT_WAIT:g} by default",
        )
        add_access_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        """One row for each VM that was created."""
        if parsed_args.timeout is not None and not parsed_args.wait:
            raise UsageError("--timeout is for --wait only")
        key = parsed_args.key or secrets.token_hex(16)
        vms: Sequence[Mapping[str, Any]] = ()
        try:
            with connect(parsed_args) as client:
                created = self._create(client, parsed_args, key)
                vms = created["vms"]
                if parsed_args.wait:
                    timeout = DEFAULT_WAIT if parsed_args.timeout is None else parsed_args.timeout
                    vms = self._wait(client, vms, parsed_args.wait, timeout)
        except KeyboardInterrupt:
            there = f" ({', '.join(vm['id'] for vm in vms)})" if vms else ""
            self.app.warn(f"interrupted; to have the same VMs{there}: --key {key}")
            raise
        for failure in created["failures"]:
            self.app.warn(f"not all could be created: {failure}")
        rows = [
            (*_row(vm, _FIELDS), made["existed"], Why(vm["placement"]))
            for vm, made in zip(vms, created["vms"], strict=True)
        ]
        return (*_FIELDS, "existed", "why"), rows

    def _create(
        self, client: Client, parsed_args: argparse.Namespace, key: str
    ) -> Mapping[str, Any]:
        body = given(parsed_args, "type", "count", "min_count", "cloud", "near")
        body["tags"] = dict(parsed_args.tags)
        with self._progress(lambda: f"creating {parsed_args.count} {parsed_args.type}"):
            return client.create_vms(body, key, expect=parsed_args.wait)

    def _wait(
        self, client: Client, vms: Sequence[Mapping[str, Any]], state: str, timeout: float
    ) -> Sequence[Mapping[str, Any]]:
        """The VMs when they are in ``state``; those that are not in time, as they were."""
        deadline = time.monotonic() + timeout
        seen: list[Mapping[str, Any]] = []
        failures: dict[str, CommandFailed] = {}
        with self._progress(lambda: f"waiting for {len(vms) - len(seen)} of {len(vms)} VMs"):
            for vm in vms:
                left = max(deadline - time.monotonic(), 0.0)
                try:
                    seen.append(client.wait(vm["id"], state, left))
                except CommandFailed as error:
                    failures[error.message] = error
                    seen.append(vm)
        for failure in failures.values():
            self.exit_code = self.app.report(failure)
        return seen

    def _progress(self, text: Callable[[], str]) -> AbstractContextManager[None]:
        return progress(self.app.stderr, text, enabled=not self.app.quiet)


class DeleteVms(Command):
    """Delete VMs and print the id of each.

    Those that are named, or with --any the one that can be spared best by the application's
    victim policies; why it was that one is told on standard error. A VM that has sessions of a
    relay is drained first: it is gone when they are over.
    """

    examples = """\
  isoneph vm delete 2b7c3f6e-9b7e-4c39-9d0a-6f0e4a7b1c55
  isoneph vm delete --any --cloud paris
  isoneph vm delete --now 2b7c3f6e-9b7e-4c39-9d0a-6f0e4a7b1c55
  isoneph vm list --state ERROR -f value -c id | xargs isoneph vm delete"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument("ids", metavar="ID", nargs="*", help="the VMs' ids in 'vm list'")
        parser.add_argument("--any", action="store_true", help="one that can be spared")
        parser.add_argument("--type", metavar="TYPE", help="with --any: of this type")
        parser.add_argument("--cloud", metavar="NAME", help="with --any: on this cloud")
        parser.add_argument(
            "--key", metavar="KEY", help="with --any: the idempotency key; a new one by default"
        )
        parser.add_argument(
            "--now", action="store_true", help="at once, whatever sessions they have"
        )
        add_access_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Delete them one after the other, those after one that fails too."""
        if bool(parsed_args.ids) == parsed_args.any:
            raise UsageError("name the VMs to delete, or say --any; one of the two")
        if parsed_args.any:
            self._delete_any(parsed_args)
            return
        if parsed_args.type or parsed_args.cloud or parsed_args.key:
            raise UsageError("--type, --cloud and --key are for --any only")
        with connect(parsed_args) as client:
            for vm_id in dict.fromkeys(parsed_args.ids):
                try:
                    left = client.delete_vm(vm_id, drain=not parsed_args.now)
                except Refused as error:
                    self.exit_code = self.app.report(error)
                else:
                    print(vm_id, file=self.app.stdout, flush=True)
                    self._tell_draining(left)

    def _delete_any(self, parsed_args: argparse.Namespace) -> None:
        filters = given(parsed_args, "type", "cloud")
        with connect(parsed_args) as client:
            key = parsed_args.key or secrets.token_hex(16)
            removal = client.delete_any(filters, key, drain=not parsed_args.now)
        vm = removal["vm"]
        if vm is None:
            self.app.warn("what this key deleted is gone already")
            return
        print(vm["id"], file=self.app.stdout)
        if removal["ranking"]:
            reasons = "; ".join(reason["text"] for reason in removal["ranking"][0]["reasons"])
            self.app.warn(f"deleted a {vm['type']} on {vm['cloud']}: {reasons}")
        self._tell_draining(vm)

    def _tell_draining(self, vm: Mapping[str, Any]) -> None:
        """Say so of a VM that is not gone yet."""
        relay = vm.get("relay") or {}
        if vm.get("state") == VmState.DRAINING and relay.get("drain_deadline") is not None:
            sessions = "" if relay["sessions"] is None else f", {relay['sessions']} sessions"
            latest = Time(relay["drain_deadline"]).human_readable()
            self.app.warn(f"{vm['id']} drains{sessions}, until {latest} at the latest")
