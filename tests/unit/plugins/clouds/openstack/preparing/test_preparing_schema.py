"""What a description may say, and what it becomes on one cloud."""

from __future__ import annotations

import pytest
import voluptuous as vol

from isoneph.plugins.clouds.openstack.preparing.description import (
    on_cloud,
    ordered,
    parse_ranges,
    rule_key,
)
from preparations import described

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMBwDmQnTJ0AK1H3UjLm1UqMvUqmJfNLtyMsjEAAqJ4b"

WHOLE = f"""
networks:
  openstack:
    router: gateway
    mtu: {{uniform: 1450, quebec: 1400}}
    port_security: true
    subnets:
      10.1.0.0/24:
        gateway: 10.1.0.1
        dhcp: true
        dns: {{uniform: [10.0.0.53], quebec: [10.0.1.53]}}
        routes: {{10.9.0.0/16: 10.1.0.9}}
        pools:
          uniform: 10.1.0.2 - 10.1.0.100
          quebec: [10.1.0.102-10.1.0.150, 10.1.0.160-10.1.0.200]
      FD00:10:1:0::/64: {{ipv6_mode: slaac}}
  ltemgmt:
    vlan: 3285
    physical_network: {{uniform: physnet2, quebec: physnet7}}
    only: [quebec]
    subnets:
      10.2.0.0/24: {{gateway: none}}
routers:
  gateway: {{external: public}}
security_groups:
  redis:
    - {{protocol: TCP, ports: 7000-7002, from: redis}}
    - {{protocol: 132, from: 10.1.0.0/24}}
    - {{ports: 53, protocol: udp, to: "fd00:0:0::/48"}}
keypairs:
  ops: {{public_key: "{KEY}  me"}}
images:
  worker:
    file: /images/worker.qcow2
    disk_format: qcow2
    properties: {{hw_vif_multiqueue_enabled: true, hw_cpu_sockets: 2}}
"""


def test_a_description_is_brought_to_one_spelling() -> None:
    options = described(WHOLE)
    subnets = options["networks"]["openstack"]["subnets"]
    assert list(subnets) == ["10.1.0.0/24", "fd00:10:1::/64"]
    assert subnets["10.1.0.0/24"]["pools"] == {
        "uniform": ["10.1.0.2-10.1.0.100"],
        "quebec": ["10.1.0.102-10.1.0.150", "10.1.0.160-10.1.0.200"],
    }
    tcp, sctp, dns = options["security_groups"]["redis"]
    assert tcp == {"protocol": "tcp", "ports": "7000-7002", "from": "redis"}
    assert (sctp["protocol"], dns["to"]) == ("132", "fd00::/48")
    assert options["keypairs"]["ops"]["public_key"] == f"{KEY} me"
    worker = options["images"]["worker"]
    assert worker["container_format"] == "bare"
    assert worker["properties"] == {"hw_vif_multiqueue_enabled": "true", "hw_cpu_sockets": "2"}


def test_a_cloud_gets_its_own_part() -> None:
    options = described(WHOLE)
    assert list(on_cloud(options, "networks", "uniform")) == ["openstack"]
    networks = on_cloud(options, "networks", "quebec")
    assert networks["openstack"]["mtu"] == 1400
    assert networks["openstack"]["subnets"]["10.1.0.0/24"]["dns"] == ["10.0.1.53"]
    assert networks["ltemgmt"]["physical_network"] == "physnet7"
    assert networks["ltemgmt"]["vlan"] == 3285


def test_nothing_need_be_described() -> None:
    assert described("{}") == {}


NETWORK = "networks: {n: {subnets: {10.1.0.0/24: {%s}}}}"
RULE = "security_groups: {g: [{%s}]}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("networks: {n: {subnets: {}}}", "there is no subnet; expected at least one"),
        ("networks: {n: {subnets: {10.1.0.1/24: {}}}}", "10.1.0.1/24 has host bits set"),
        ("networks: {n: {subnets: {10.1.0.0: {}}}}", "expected a network such as 10.1.0.0/24 or"),
        ("networks: {n: {subnets: {10.1.0.0/24: {}}, vlan: 1}}", "same group of inclusion"),
        (
            "networks: {n: {subnets: {10.1.0.0/24: {}}, physical_network: p, vlan: 4095}}",
            "expected a whole number from 1 to 4094",
        ),
        (NETWORK % "gateway: maybe", "expected an IP address, or 'none'"),
        (NETWORK % "gateway: {uniform: 10}", "expected an IP address, or 'none'"),
        (NETWORK % "pools: {uniform: 10.1.0.9-10.1.0.2}", "a range of addresses that ends after"),
        (NETWORK % "pools: {uniform: 10.1.0.2-fd00::1}", "a range of addresses that ends after"),
        (NETWORK % "pools: {uniform: []}", "expected at least one range of addresses"),
        (NETWORK % "pools: {uniform: 10.1.0.0/25}", "expected a range of addresses such as"),
        (NETWORK % "dns: [one.example]", "expected an IP address"),
        (NETWORK % "dhcp: maybe", "expected true or false"),
        (NETWORK % "ipv6_mode: magic", "value must be one of"),
        (RULE % "protocol: tpc", "expected any, a number up to 255, or one of ah,"),
        (RULE % "protocol: 256", "expected any, a number up to 255, or one of ah,"),
        (RULE % "protocol: tcp, ports: 0", "expected a port from 1 to 65535, or a range"),
        (RULE % "protocol: tcp, ports: 9-7", "expected a port from 1 to 65535, or a range"),
        (RULE % "protocol: icmp, ports: 7", "expected no ports, or a protocol that has them: dccp"),
        (RULE % "ports: 7", "expected no ports, or a protocol that has them: dccp"),
        (RULE % "from: 10.1.0.0/33", "expected a network such as 10.1.0.0/24: "),
        (RULE % "from: a, to: b", "same group of exclusion"),
        (
            RULE % "from: 10.1.0.0/24, ethertype: IPv6",
            "10.1.0.0/24 is an IPv4 network, expected that as ethertype, or none",
        ),
        ("keypairs: {k: {}}", "expected public_key or public_key_file"),
        ("keypairs: {k: {public_key: ssh-rsa}}", "expected an OpenSSH public key"),
        ("keypairs: {k: {public_key: ssh-rsa AAA}}", "expected an OpenSSH public key"),
        ("keypairs: {k: {public_key_file: key.pub}}", "expected an absolute path"),
        ("images: {i: {file: /i, disk_format: jpeg}}", "value must be one of"),
        ("images: {i: {file: /i, disk_format: raw, checksum: abc}}", "expected a SHA-512, SHA-256"),
    ],
)
def test_a_mistake_is_told(text: str, message: str) -> None:
    with pytest.raises(vol.MultipleInvalid) as caught:
        described(text)
    assert message in str(caught.value)


def test_ranges_that_touch_are_one() -> None:
    ranges = ["10.1.0.9-10.1.0.20", "10.1.0.100-10.1.0.101", "10.1.0.2-10.1.0.8"]
    assert parse_ranges(ranges) == (("10.1.0.2", "10.1.0.20"), ("10.1.0.100", "10.1.0.101"))
    assert ordered([("fd00::1", "fd00::9"), ("fd00::5", "fd00::7")]) == (("fd00::1", "fd00::9"),)


@pytest.mark.parametrize(
    ("rule", "shown"),
    [
        ("{}", "ingress IPv4 from anywhere"),
        ("{from: 0.0.0.0/0}", "ingress IPv4 from anywhere"),
        ("{from: '::/0', protocol: tcp}", "ingress tcp from anywhere"),
        ("{from: '::/0', protocol: icmp}", "ingress icmpv6 from anywhere"),
        ("{protocol: udp, ports: 1-65535}", "ingress udp from anywhere"),
        ("{protocol: 132, from: 10.1.0.0/24}", "ingress sctp from 10.1.0.0/24"),
        ("{protocol: 253, to: web}", "egress protocol 253 to web"),
        ("{protocol: tcp, ports: 7000-7002, from: redis}", "ingress tcp 7000-7002 from redis"),
    ],
)
def test_rules_in_words(rule: str, shown: str) -> None:
    (entry,) = described(f"security_groups: {{g: [{rule}]}}")["security_groups"]["g"]
    assert str(rule_key(entry)) == shown
