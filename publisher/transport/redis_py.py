"""What is used of the redis package to open connections, for its versions 5.0 to 8.

It opens connections (TCP, TLS, Unix sockets, authentication). Its pools and its retries are not used:
what a failure means for a call is decided here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self, TypeAlias
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import redis
import redis.asyncio
import redis.asyncio.client
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.client
import redis.cluster
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from publisher.contract.redis_url import check_url
from publisher.errors import InvalidURL
from publisher.transport.valkey_py import is_a, translated

_PORT: Final = 6379

UNLIMITED: Final = 2**31
"""As ``max_connections``: what the redis package means by no limit."""

Client: TypeAlias = "redis.Redis | redis.asyncio.Redis"

ClusterClient: TypeAlias = "redis.RedisCluster | redis.asyncio.RedisCluster"

PIPELINES: Final[tuple[type, ...]] = (
    redis.client.Pipeline,
    redis.cluster.ClusterPipeline,
    redis.asyncio.client.Pipeline,
    redis.asyncio.cluster.ClusterPipeline,
)
"""What collects commands and looks like a client."""

Host: TypeAlias = tuple[str, int]
"""The name or the IP address of a server, and its port."""

# Options that a client or its pool adds by itself, for features that are not used here.
_ADDED: Final = (
    "event_dispatcher",
    "himport_",
    "maint_notifications_",
    "oss_cluster_maint_",
    "orig_",
)

# A Sentinel's pool makes the former, which ask for the primary by themselves; we ask, and make the latter.
_PLAIN: Final[tuple[tuple[Any, Any], ...]] = (
    (redis.sentinel.SentinelManagedSSLConnection, redis.SSLConnection),
    (redis.sentinel.SentinelManagedConnection, redis.Connection),
    (redis.asyncio.sentinel.SentinelManagedSSLConnection, redis.asyncio.SSLConnection),
    (redis.asyncio.sentinel.SentinelManagedConnection, redis.asyncio.Connection),
)

_FILES: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_DRIVER: Final[dict[str, Any]] = {}
with contextlib.suppress(ImportError):
    from redis.driver_info import DriverInfo

    # Made once: left to itself, the package looks its version up on disk for every connection.
    _DRIVER["driver_info"] = DriverInfo()


def blocking_client(url: str, timeout: float) -> redis.Redis:
    """A client as ``url`` says; opening, writing and reading take at most ``timeout`` seconds each.

    Raises:
        InvalidURL: the URL, or an option in it, cannot be used.
    """
    client: redis.Redis = _checked(
        redis.Redis, url, socket_timeout=timeout, socket_connect_timeout=timeout
    )
    return client


def asyncio_client(url: str) -> redis.asyncio.Redis:
    """A client as ``url`` says. Whoever opens a connection limits the time.

    Raises:
        InvalidURL: the URL, or an option in it, cannot be used.
    """
    # A timeout on the socket would start a task for each write.
    client: redis.asyncio.Redis = _checked(redis.asyncio.Redis, url, socket_timeout=None)
    return client


def _checked(kind: Any, url: str, **options: Any) -> Any:
    check_url(url)
    client = _made(kind, url, options)
    if client is None:
        raise InvalidURL(_about_options(kind, url, options))
    _check_files(url)
    return client


def _check_files(url: str) -> None:
    """See to it that the files of TLS can be read: later errors name neither the option nor the file.

    Raises:
        InvalidURL: one cannot be read.
    """
    for name, value in parse_qsl(url.partition("?")[2]):
        if name in _FILES:
            try:
                Path(value).open("rb").close()
            except OSError as error:
                raise InvalidURL(
                    f"the file that its option {name} names cannot be read: {error.strerror}"
                ) from None


def _made(kind: Any, url: str, options: dict[str, Any]) -> Any:
    """A client as ``url`` says; ``None`` where it cannot be used: the error may quote a part of the password."""
    try:
        checked = options | _verification(url)
        client = kind.from_url(url, max_connections=UNLIMITED, **checked, **_DRIVER)
        # Options are only read when a connection is made; one that is never opened shows now.
        Connector.of(client)()
    except (ValueError, TypeError, AttributeError, RedisError):
        return None
    return client


def _about_options(kind: Any, url: str, options: dict[str, Any]) -> str:
    """What is wrong with the options of a URL that is right without them."""
    place, _, query = url.partition("?")
    wrong = [
        name
        for name, value in parse_qsl(query)
        if _made(kind, f"{place}?{urlencode({name: value})}", options) is None
    ]
    if not wrong:
        return "its options cannot be used together"
    told = f"the redis package has no option {wrong[0]!r}, or cannot use the value"
    if wrong[0].startswith("ssl_") and urlsplit(url).scheme == "redis":
        return f"{told}; options of TLS go with rediss://, rediss+sentinel:// and rediss+cluster://"
    return told


def _verification(url: str) -> dict[str, Any]:
    """The server's name is compared with its certificate: before its version 6 the package does not by itself."""
    parts = urlsplit(url)
    asked = parse_qs(parts.query).get("ssl_cert_reqs", ["required"])[0]
    return {"ssl_check_hostname": True} if parts.scheme == "rediss" and asked != "none" else {}


class Connector:
    """Makes connections to one Redis, none of which is open yet. Can be pickled if its options can.

    ``most``: how many there may be at a time; :data:`UNLIMITED` for any number.
    """

    def __init__(self, connection: Callable[..., Any], options: dict[str, Any], most: int) -> None:
        self._connection = connection
        self._options = options
        self.most = most

    def __reduce__(self) -> tuple[Any, ...]:
        return Connector, (self._connection, self._options, self.most)

    @classmethod
    def of(cls, client: Client) -> Self:
        """As the pool of ``client`` connects, with connections of our own."""
        pool: Any = client.connection_pool
        # Tried again is a whole call, or nothing.
        once = Retry if is_a(client, redis.Redis) else AsyncRetry
        kind, given = translated(pool.connection_class, pool.connection_kwargs)
        options = {name: value for name, value in given.items() if not name.startswith(_ADDED)}
        options |= {"retry": once(NoBackoff(), 0), "protocol": 2}
        plain = [
            each for managed, each in _PLAIN if isinstance(kind, type) and issubclass(kind, managed)
        ]
        if plain:
            kind = plain[0]
            options.pop("connection_pool", None)
        return cls(kind, options, pool.max_connections)

    @classmethod
    def of_cluster(cls, client: ClusterClient) -> Self:
        """As ``client`` connects to each of the servers; :meth:`at` says to which."""
        one: Any = client
        manager = one.nodes_manager
        if is_a(client, redis.RedisCluster):
            create = getattr(manager, "create_redis_node", None) or manager.create_valkey_node
            return cls.of(create("localhost", _PORT, **manager.connection_kwargs))
        node: Any = next(iter(manager.startup_nodes.values()))
        options = {**one.connection_kwargs}
        options.pop("response_callbacks", None)
        options.pop("path", None)
        most = options.pop("max_connections", UNLIMITED)
        kind, options = translated(options.pop("connection_class", node.connection_class), options)
        options = {name: value for name, value in options.items() if not name.startswith(_ADDED)}
        options |= {"retry": AsyncRetry(NoBackoff(), 0), "protocol": 2}
        return cls(kind, options, most)

    def within(self, seconds: float) -> Self:
        """The same, where opening and reading take at most so long. For connections that block."""
        limits = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        return type(self)(self._connection, self._options | limits, self.most)

    def at(self, host: Host) -> Self:
        """The same, to this server."""
        name, port = host
        return type(self)(self._connection, self._options | {"host": name, "port": port}, self.most)

    @property
    def timeout(self) -> float | None:
        """Seconds that reading from a blocking connection may take; ``None`` for ever."""
        timeout: float | None = self._options.get("socket_timeout")
        return timeout

    @property
    def database(self) -> int:
        """The number of the database that its connections use."""
        return int(self._options.get("db") or 0)

    @property
    def login(self) -> tuple[str, str]:
        """The user's name and password; each is empty where none is given."""
        return self._options.get("username") or "", self._options.get("password") or ""

    @property
    def address(self) -> str:
        """Where its connections lead, as a person reads it: ``localhost:6379``, or the path of a socket."""
        if path := self._options.get("path"):
            return str(path)
        return shown((self._options.get("host", "localhost"), self._options.get("port") or _PORT))

    @property
    def tls(self) -> bool:
        """Whether its connections use TLS."""
        of_tls = redis.SSLConnection, redis.asyncio.SSLConnection
        return isinstance(self._connection, type) and issubclass(self._connection, of_tls)

    def __call__(self) -> Any:
        """A new connection."""
        return self._connection(**self._options)


def shown(host: Host) -> str:
    """A server's address as a person reads it."""
    name, port = host
    return f"{f'[{name}]' if ':' in name else name}:{port}"
