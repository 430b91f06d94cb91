"""Security groups and their rules.

https://docs.openstack.org/api-ref/network/v2/#security-groups-security-groups
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from isoneph.core.model import Finding, Outcome
from isoneph.plugins.clouds.openstack.preparing.description import (
    Entry,
    RuleKey,
    is_everywhere,
    is_prefix,
    protocol_number,
    rule_key,
)
from isoneph.plugins.clouds.openstack.preparing.pruning import Extra, prune_tagged, settle_extra
from isoneph.plugins.clouds.openstack.preparing.run import NETWORK, Found, Run
from isoneph.plugins.clouds.openstack.preparing.things import Failure, Thing, settle

_RULES = "/security-group-rules"
#: The group that every project has.
_DEFAULT = "default"


class Group(Thing):
    """A security group of the project."""

    kind = "security group"

    def find(self) -> Sequence[Found]:
        """The project's groups of this name."""
        return self.run.listing(
            NETWORK,
            "/security-groups",
            "security_groups",
            name=self.name,
            project_id=self.run.project,
        )

    def make(self) -> Found:
        """Make it, with nothing but the rules that Neutron gives to every group."""
        body = {"name": self.name, "description": self.run.mark}
        return self.run.post(NETWORK, "/security-groups", "security_group", body)

    def remove(self, found: Found) -> None:
        """Remove it."""
        self.run.delete(NETWORK, f"/security-groups/{found['id']}")

    def complete(self, found: Found) -> Found:
        """Put our tag on it."""
        self.run.claim(NETWORK, f"/security-groups/{found['id']}", found)
        return found


class Rule(Thing):
    """A rule of a security group. It has nothing that could be changed: another is another."""

    kind = "security group rule"

    def __init__(self, run: Run, group: Found, described: Entry, ids: Mapping[str, str]) -> None:
        """``ids`` are those of the groups that rules may name."""
        self._described = described
        key = rule_key(described)
        super().__init__(run, f"{group['name']}: {key}")
        self._group = group
        self._names_group = key.remote is not None and not is_prefix(key.remote)
        self.key = key._replace(remote=ids.get(key.remote or "", key.remote))

    def find(self) -> Sequence[Found]:
        """The group's rules that say the same."""
        if len(self._matches()) > 1:
            self._look_again()
        return self._matches()

    def _matches(self) -> Sequence[Found]:
        return [rule for rule in self._group["security_group_rules"] if key_of(rule) == self.key]

    def make(self) -> Found:
        """Add it to the group."""
        key = self.key
        if self._names_group and key.remote == rule_key(self._described).remote:
            raise Failure(f"there is no security group '{key.remote}'")
        first, last = key.ports or (None, None)
        body = {
            "security_group_id": self._group["id"],
            "description": self.run.mark,
            "direction": key.direction,
            "ethertype": key.ethertype,
            "protocol": None if key.protocol is None else self._described["protocol"],
            "port_range_min": first,
            "port_range_max": last,
            "remote_group_id" if self._names_group else "remote_ip_prefix": key.remote,
        }
        try:
            return self.run.post(NETWORK, _RULES, "security_group_rule", body)
        finally:
            self._look_again()

    def remove(self, found: Found) -> None:
        """Remove it."""
        self.run.delete(NETWORK, f"{_RULES}/{found['id']}")
        self._look_again()

    def _look_again(self) -> None:
        """Other runs may have changed the group too."""
        self._group["security_group_rules"] = self.run.listing(
            NETWORK, _RULES, "security_group_rules", security_group_id=self._group["id"]
        )


def key_of(rule: Found) -> RuleKey:
    """The key of a rule of Neutron's; its remote group is an id."""
    prefix, addresses = rule["remote_ip_prefix"], rule.get("remote_address_group_id")
    first, last = rule["port_range_min"], rule["port_range_max"]
    return RuleKey(
        direction=rule["direction"],
        ethertype=rule["ethertype"],
        protocol=protocol_number(rule["protocol"]),
        ports=None if first is None else (first, last),
        remote=rule["remote_group_id"]
        or (f"address group {addresses}" if addresses else None)
        or (None if is_everywhere(prefix) else prefix),
    ).canonical()


def prepare_groups(run: Run) -> Iterator[Finding]:
    """All described groups, and then their rules, which may name other groups."""
    described = run.described_rules
    groups: dict[str, Found] = {}
    for name in described:
        group = yield from settle(Group(run, name))
        if group is not None:
            groups[name] = group
    ids = _ids(run, described, groups)
    for name, rules in described.items():
        if name in groups:
            for rule in rules:
                yield from settle(Rule(run, groups[name], rule, ids))
            yield from _extra_rules(run, groups[name], rules, ids)
        elif not run.change:
            for rule in rules:
                yield run.finding(Rule.kind, f"{name}: {rule_key(rule)}", Outcome.MISSING)


def _ids(
    run: Run, described: Mapping[str, Sequence[Entry]], groups: Mapping[str, Found]
) -> Mapping[str, str]:
    """The ids of the groups that rules name: those described, or others of the project."""
    remotes = {rule_key(rule).remote for rules in described.values() for rule in rules}
    named = {name for name in remotes if name is not None and not is_prefix(name)}
    ids = {name: group["id"] for name, group in groups.items()}
    for name in sorted(named - described.keys()):
        found = Group(run, name).find()
        if len(found) == 1:
            ids[name] = found[0]["id"]
    return ids


def _extra_rules(
    run: Run, group: Found, described: Sequence[Entry], ids: Mapping[str, str]
) -> Iterator[Finding]:
    """The rules that are described no more; those of other applications are their business."""
    wanted = {Rule(run, group, rule, ids).key for rule in described}
    names = {each: name for name, each in ids.items()}
    limits_egress = any(key.direction == "egress" for key in wanted)
    for rule in group["security_group_rules"]:
        key = key_of(rule)
        if key in wanted or run.is_of_others(rule):
            continue
        if _is_neutrons_own(rule, group, limits_egress=limits_egress):
            continue
        shown = key._replace(remote=names.get(key.remote or "", key.remote))
        yield settle_extra(run, _extra_rule(run, group, rule, shown))


def _extra_rule(run: Run, group: Found, rule: Found, shown: RuleKey) -> Extra:
    ours = run.is_ours(rule) or run.is_ours(group)
    return Extra(
        kind=Rule.kind,
        name=f"{group['name']}: {shown}",
        remove=partial(run.delete, NETWORK, f"{_RULES}/{rule['id']}"),
        kept="" if ours else "not described, and not made by isoneph: it stays",
    )


def _is_neutrons_own(rule: Found, group: Found, *, limits_egress: bool) -> bool:
    """Whether it is one of those that Neutron gives to every group: all may leave, and in the
    project's default group all may come from each other. Once the description limits what may
    leave, the first would defeat it."""
    key = key_of(rule)
    if key.protocol is not None or key.ports is not None:
        return False
    if key.direction == "egress":
        return key.remote is None and not limits_egress
    own: str = group["id"]
    return group["name"] == _DEFAULT and key.remote == own


def prune_groups(run: Run) -> Iterator[Finding]:
    """The application's groups that are described no more, and its rules in such groups that
    stay."""
    described = run.described_rules
    path, key = "/security-groups", "security_groups"
    for group in run.listing(NETWORK, path, key, project_id=run.project):
        goes = run.is_ours(group) and not run.other_owners(group)
        if group["name"] in described or goes:
            continue
        for rule in group["security_group_rules"]:
            if run.is_ours(rule):
                yield settle_extra(run, _extra_rule(run, group, rule, key_of(rule)))
    yield from prune_tagged(run, Group.kind, key, described, users_by="security_groups")
