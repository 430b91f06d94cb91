from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from voluptuous import Schema

from isoneph.plugins.relays.haproxy import HaproxyRelay
from isoneph.plugins.relays.haproxy.configuration import Configuration


def configuration(**options: Any) -> Configuration:
    given = {"listen": ["127.0.0.1:80", "[::]:443 ssl crt /a.pem"], "port": 8080, **options}
    return Configuration(
        Schema(HaproxyRelay.schema)(given),
        socket=Path("/run/s"),
        descriptors=[5, 6],
        servers=["server a 192.0.2.1:80"],
    )


def lines(**options: Any) -> list[str]:
    return [line.strip() for line in configuration(**options).text.splitlines()]


def test_http() -> None:
    text = lines()
    assert "stats socket /run/s mode 600 level admin" in text
    assert "mode http" in text
    assert "balance roundrobin" in text
    assert "bind fd@5" in text
    assert "bind fd@6 ssl crt /a.pem" in text
    assert "retry-on conn-failure empty-response" in text
    assert text[-1] == "server a 192.0.2.1:80"
    assert not any("httpchk" in line for line in text)


def test_tcp() -> None:
    text = lines(mode="tcp")
    assert "mode tcp" in text
    assert "balance leastconn" in text
    assert not any(line.startswith(("http-request", "retry-on")) for line in text)


def test_an_http_check() -> None:
    assert "http-check send meth GET uri '/it'\\''s'" in lines(check={"path": "/it's"})
    text = lines(check={"path": "/", "host": "vm.example"})
    assert "http-check send meth GET uri '/' ver HTTP/1.1 hdr Host vm.example" in text


def test_hashes_are_consistent_because_others_take_no_servers_at_run_time() -> None:
    assert "hash-type consistent" in lines(balance="source")
    assert "hash-type consistent" not in lines(balance="leastconn")


def test_times_are_in_milliseconds() -> None:
    text = lines(timeouts={"connect": 0.25, "keep_alive": 3})
    assert "timeout connect 250ms" in text
    assert "timeout http-keep-alive 3000ms" in text
    assert "timeout server 60000ms" in text


@pytest.mark.parametrize("section", ["global", "defaults", "frontend", "backend"])
def test_complaints_are_told_with_their_place(section: str) -> None:
    checked = configuration(lines={section: ["first", "second"]})
    number = checked.text.splitlines().index("  second") + 1
    output = (
        "[NOTICE]   (1) : haproxy version is 2.6.12\n"
        f"[ALERT]    (1) : config : parsing [/haproxy.cfg:{number}] : unknown keyword 'second'\n"
        "[ALERT]    (1) : config : Error(s) found in configuration file : /tmp/haproxy.cfg\n"
        "[ALERT]    (1) : config : Fatal errors found in configuration.\n"
    )
    assert list(checked.complaints(output)) == [f"lines.{section}[1]: unknown keyword 'second'"]


def test_complaints_without_a_place_are_told_too() -> None:
    output = f"[ALERT]    (1) : config : the backend is odd {'x' * 500}\n"
    (complaint,) = configuration().complaints(output)
    assert complaint.startswith("the backend is odd x")
    assert complaint.endswith(" ...")
    assert len(complaint) < 250
    (elsewhere,) = configuration().complaints("[ALERT]  (1) : config : parsing [/a:9999] : odd")
    assert elsewhere == "odd"
