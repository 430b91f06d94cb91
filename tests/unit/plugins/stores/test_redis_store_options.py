from __future__ import annotations

from typing import Any

import pytest
from voluptuous import Invalid, Schema

from isoneph.core.errors import StoreUnavailable
from isoneph.core.testing import make_environment
from isoneph.plugins.stores.redis import RedisStore

validate = Schema(RedisStore.schema)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost/",
        "redis://:password@[::1]:6380/3",
        "redis://user:p%40ss@redis.example.org:6379?db=3",
        "rediss://redis.example.org/0?ssl_ca_certs=/etc/ssl/redis.pem&ssl_cert_reqs=required",
        "unix:///run/redis/redis.sock",
        "unix://:password@/run/redis/redis.sock?db=1",
    ],
)
def test_urls_that_redis_knows_are_taken(url: str) -> None:
    options = validate({"url": url})
    assert options == {"url": url, "prefix": "isoneph:"}
    RedisStore(options, make_environment())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://hidden@localhost", "begins with redis://, rediss:// or unix://"),
        ("hidden", "begins with redis://"),
        (None, "begins with redis://"),
        ("redis://", "expected a host"),
        ("redis://:hidden@/0", "expected a host"),
        ("unix://", "expected the path of the socket"),
        ("redis://:hidden@host/first", "expected the number of a database"),
        ("redis://:hidden@host?db=first", "expected the number of a database"),
        ("redis://:hidden@host:99999", "a port from 1 to 65535"),
        ("redis://:hidden@host:port", "a port from 1 to 65535"),
        ("redis://:hidden@[host", "expected a URL"),
        ("redis://host?password=hidden", "expected of parameters only db: password is none"),
        ("redis://host?ssl_ca_certs=/hidden", "only db: ssl_ca_certs is none of a redis:// URL"),
        ("rediss://host?timeout=1", "ssl_keyfile: timeout is none of a rediss:// URL"),
    ],
)
def test_other_urls_are_told_what_is_expected(url: object, expected: str) -> None:
    with pytest.raises(Invalid, match=expected) as caught:
        validate({"url": url})
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"password_file": "/a", "password_env": "B"}, "password_file or password_env, not both"),
        ({"prefix": ""}, "expected a text that is not empty"),
        ({"password_env": 7}, "expected a text that is not empty"),
    ],
)
def test_other_options_are_told_what_is_expected(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(Invalid, match=expected):
        validate({"url": "redis://localhost", **options})


async def test_errors_name_the_server_without_its_password() -> None:
    options = validate({"url": "redis://me:hidden@127.0.0.1:1/0"})
    store = RedisStore(options, make_environment(timeout=2.0))
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1: Error") as caught:
        await store.start()
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1 is not open"):
        await store.get("k")
    assert "hidden" not in f"{caught.value} {caught.value.__cause__!r}"
