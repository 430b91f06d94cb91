"""A store in Redis, for replicas on several hosts."""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar
from urllib.parse import SplitResult, parse_qs, urlsplit

from voluptuous import Exclusive, Invalid, Optional, Required

from isoneph.core.errors import ConfigInvalid, StoreUnavailable, VersionConflict
from isoneph.core.plugin import Environment, OptionSchema, Store, Versioned

try:
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ReadOnlyError, RedisError
except ImportError as error:
    raise ImportError(f"{error}; the redis store needs: pip install 'isoneph[redis]'") from error

T = TypeVar("T")

#: Calls at once; the others wait for their turn within their time-out.
_CONNECTIONS = 16
_SCAN_PAGE = 1000

# An entry is a hash of its value and version. One counter gives the versions of all keys, so
# that a key that comes back after it was deleted or expired never repeats one; the server's
# time in microseconds is its floor, so that not even a Redis that lost its data, or a replica
# that lags behind, does. (A Lua number holds that exactly until the year 2255.)
_PUT = """
local found = redis.call('HGET', KEYS[1], 'version') or '0'
if ARGV[2] ~= '' and ARGV[2] ~= found then return {0, found} end
local now = redis.call('TIME')
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local version = string.format('%.0f', math.max(last + 1, now[1] * 1000000 + now[2]))
redis.call('SET', KEYS[2], version)
redis.call('HSET', KEYS[1], 'value', ARGV[1], 'version', version)
if ARGV[3] ~= '' then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
    redis.call('PERSIST', KEYS[1])
end
return {1, version}
"""
_DELETE = """
local found = redis.call('HGET', KEYS[1], 'version') or '0'
if ARGV[1] ~= '' and ARGV[1] ~= found then return {0, found} end
redis.call('DEL', KEYS[1])
return {1, found}
"""

#: What may follow the ``?`` of a URL, by scheme.
_PARAMETERS = {"redis": {"db"}, "unix": {"db"}}
_PARAMETERS["rediss"] = {
    "db",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
}


def _url(value: object) -> str:
    """Never says in an error what it was given: a password may be in it."""
    parts, parameters = _split(value)
    if parts.scheme not in _PARAMETERS:
        raise Invalid("expected a URL that begins with redis://, rediss:// or unix://")
    if parts.scheme == "unix":
        if len(parts.path) < 2:  # noqa: PLR2004 (a slash and a name)
            raise Invalid("expected the path of the socket: unix:///run/redis/redis.sock")
    elif not parts.hostname:
        raise Invalid(f"expected a host: {parts.scheme}://host:6379/0")
    elif not re.fullmatch(r"/?|/\d+", parts.path):
        raise Invalid(f"expected the number of a database: {parts.scheme}://host:6379/0")
    if not all(re.fullmatch(r"\d+", number) for number in parameters.get("db", ())):
        raise Invalid("expected the number of a database: ?db=0")
    unknown = sorted(parameters.keys() - _PARAMETERS[parts.scheme])
    if unknown:
        raise Invalid(
            f"expected of parameters only {', '.join(sorted(_PARAMETERS[parts.scheme]))}: "
            f"{', '.join(unknown)} is none of a {parts.scheme}:// URL"
        )
    return str(value)


def _split(value: object) -> tuple[SplitResult, dict[str, list[str]]]:
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        _ = parts.port  # raises when it is none
        return parts, parse_qs(parts.query, keep_blank_values=True)
    except ValueError:
        raise Invalid("expected a URL, with a port from 1 to 65535 if any") from None


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Invalid("expected a text that is not empty")
    return value


class _Client(NamedTuple):
    """What is there between start and close. Untyped: redis types its methods as if they
    answered now or later, depending on the client."""

    redis: Any
    put: Any
    delete: Any


class RedisStore(Store):
    """In Redis 5 or newer, or Valkey: for replicas on several hosts.

    One server, or one address that a failover moves to another; not a Redis Cluster. The
    server must not evict (``maxmemory-policy noeviction``). Expiry is judged by its clock.

    After a lost connection the next call makes a new one. No write is ever repeated: whether
    the one whose answer was lost has been done is for the caller to find out.
    """

    schema: ClassVar[OptionSchema] = {
        Required(
            "url",
            description=(
                "`redis://[user[:password]@]host[:port][/db]`; `rediss://...` for TLS, with "
                "`?ssl_ca_certs=`, `ssl_certfile=`, `ssl_keyfile=` and the like; or "
                "`unix:///path/of/socket[?db=0]`"
            ),
        ): _url,
        Exclusive(
            "password_file",
            "password",
            msg="expected password_file or password_env, not both",
            description="a file that holds the password, read at the start",
        ): _text,
        Exclusive(
            "password_env",
            "password",
            msg="expected password_file or password_env, not both",
            description="the environment variable that holds the password, read at the start",
        ): _text,
        Optional(
            "prefix",
            default="isoneph:",
            description="what all keys begin with; the replicas of one service name the same",
        ): _text,
    }

    def __init__(self, options: Mapping[str, Any], environment: Environment) -> None:
        super().__init__(options, environment)
        parts = urlsplit(options["url"])
        #: The URL without its secrets, for people.
        self._where = parts.path
        if parts.scheme != "unix":
            self._where = f"{parts.hostname}:{parts.port or 6379}"
        self._entry_prefix = f"{options['prefix']}key:".encode()
        self._counter = f"{options['prefix']}version".encode()
        self._timeout = environment.timeout * 0.9
        self._client: _Client | None = None
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Connect. Raises ConfigInvalid when there is no password where it should be."""
        if self._client is not None:
            return
        password = await asyncio.to_thread(self._read_password)
        redis: Any = Redis.from_pool(
            BlockingConnectionPool.from_url(
                self.options["url"],
                max_connections=_CONNECTIONS,
                timeout=self._timeout,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                retry=Retry(NoBackoff(), 0),
                # With the newer protocol the password goes into a command that an old Redis
                # does not know, and repeats in its error.
                protocol=2,
                **({"password": password} if password else {}),
            )
        )
        self._client = _Client(redis, redis.register_script(_PUT), redis.register_script(_DELETE))
        try:
            await self._answer(redis.ping())
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish what is under way, and disconnect."""
        client, self._client = self._client, None
        if client is not None:
            # The pool would connect anew for calls that still wait for their turn.
            await self._idle.wait()
            with suppress(RedisError, OSError):  # a connection that broke is closed as well
                await client.redis.aclose()

    async def get(self, key: str) -> Versioned | None:
        """The value under ``key``."""
        redis = self._opened().redis
        value, version = await self._answer(redis.hmget(self._entry(key), "value", "version"))
        return None if version is None else Versioned(value, int(version))

    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, ttl: float | None = None
    ) -> int:
        """Write ``value``. After StoreUnavailable it may or may not have been written."""
        keys = (self._entry(key), self._counter)
        milliseconds = "" if ttl is None else max(1, math.ceil(ttl * 1000))
        script = self._opened().put
        answer = script(keys, (value, "" if expect is None else expect, milliseconds))
        return self._version(await self._answer(answer), key, expect)

    async def delete(self, key: str, *, expect: int | None = None) -> None:
        """Remove ``key``. After StoreUnavailable it may or may not have been removed."""
        script = self._opened().delete
        answer = script((self._entry(key),), ("" if expect is None else expect,))
        self._version(await self._answer(answer), key, expect)

    async def scan(self, prefix: str) -> Sequence[str]:
        """The keys that begin with ``prefix``; one that comes or goes meanwhile may be missed."""
        return await self._answer(self._scan(self._opened().redis, self._entry(prefix)))

    async def _scan(self, redis: Any, prefix: bytes) -> list[str]:
        pattern = re.sub(rb"[*?\[\]\\]", rb"\\\g<0>", prefix) + b"*"
        start = len(self._entry_prefix)
        # Redis may give a key twice.
        found = {key async for key in redis.scan_iter(match=pattern, count=_SCAN_PAGE)}
        return [key[start:].decode() for key in found]

    def _opened(self) -> _Client:
        if self._client is None:
            raise StoreUnavailable(f"the store in Redis at {self._where} is not open")
        return self._client

    def _entry(self, key: str) -> bytes:
        return self._entry_prefix + key.encode()

    async def _answer(self, call: Awaitable[T]) -> T:
        """What Redis answers in time."""
        self._under_way += 1
        self._idle.clear()
        try:
            async with asyncio.timeout(self._timeout):
                return await call
        except (RedisError, OSError) as error:
            if isinstance(error, ReadOnlyError) and self._client is not None:
                # A failover made a replica of this server: look the address up anew.
                await self._client.redis.connection_pool.disconnect(inuse_connections=False)
            text = str(error) or f"no answer within {self._timeout:g} s"
            raise StoreUnavailable(f"the store in Redis at {self._where}: {text}") from error
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    @staticmethod
    def _version(answer: Sequence[Any], key: str, expect: int | None) -> int:
        done, version = answer
        if not done:
            raise VersionConflict(f"expected version {expect} of {key!r}, found {int(version)}")
        return int(version)

    def _read_password(self) -> str:
        """The password that stands apart from the URL; empty when there is none."""
        if "password_file" in self.options:
            path = Path(self.options["password_file"])
            try:
                password = path.expanduser().read_text().rstrip("\r\n")
            except (OSError, RuntimeError, UnicodeDecodeError) as error:
                raise self._invalid(f"password_file {path} cannot be read: {error}") from error
            source = f"password_file {path}"
        elif "password_env" in self.options:
            source = f"the environment variable {self.options['password_env']} (password_env)"
            password = os.environ.get(self.options["password_env"], "")
        else:
            return ""
        if not password:
            raise self._invalid(f"{source} holds no password")
        if urlsplit(self.options["url"]).password:
            raise self._invalid(f"there is a password in the url and in {source}; keep one")
        return password

    def _invalid(self, problem: str) -> ConfigInvalid:
        return ConfigInvalid([f"store '{self.environment.name}': {problem}"])
