"""What a redis.url may be, and the connection options that hold for every kind of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from service.errors import ConfigurationError

if TYPE_CHECKING:
    from service.settings import RedisSettings

_SINGLE = ("redis", "rediss", "unix")
_CLUSTER = ("redis+cluster", "rediss+cluster")
#: Understood, but not built yet.
_LATER = ("redis+sentinel", "rediss+sentinel")
_DEFAULT_PORT = 6379


def is_cluster(url: str) -> bool:
    """Raises ConfigurationError for what names no servers we know."""
    scheme = url.partition("://")[0]
    if scheme in _LATER:
        raise ConfigurationError(
            f"redis.url: {scheme}:// is not supported yet; name one server with redis://"
            " or a cluster with redis+cluster://"
        )
    if scheme not in _SINGLE + _CLUSTER:
        raise ConfigurationError(
            "redis.url: must begin with redis://, rediss://, unix:// or redis+cluster://, "
            f"not {scheme if '://' in url else 'nothing'}"
        )
    return scheme in _CLUSTER


def single_address(url: str) -> str:
    """Host, port and database; never user or password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError("redis.url: not a URL (redis://host:port/database)") from None
    if parts.scheme == "unix":
        return parts.path
    return f"{host or 'localhost'}:{port or _DEFAULT_PORT}{parts.path.rstrip('/')}"


def cluster_hosts(url: str) -> list[tuple[str, int]]:
    """redis+cluster://user:password@host:port,host:port/: some of the nodes, by which to begin."""
    hosts = []
    for text in urlsplit(url).netloc.rpartition("@")[2].split(","):
        try:
            parts = urlsplit(f"redis://{text}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host:
            raise ConfigurationError(
                "redis.url: not a cluster's URL (redis+cluster://host:port,host:port)"
            )
        hosts.append((host, port or _DEFAULT_PORT))
    return hosts


def cluster_credentials(url: str) -> dict[str, Any]:
    """User, password and encryption as redis-py's options."""
    parts = urlsplit(url)
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    options: dict[str, Any] = {"ssl": parts.scheme.startswith("rediss")}
    if user:
        options["username"] = unquote(user)
    if password:
        options["password"] = unquote(password)
    return options


def connection_options(settings: RedisSettings) -> dict[str, Any]:
    """Short time-outs, and nothing repeated by the library."""
    return {
        # A repeated script would be charged twice; who may repeat decides that itself.
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": settings.timeout,
        "socket_connect_timeout": settings.connect_timeout,
        "socket_keepalive": True,
        "max_connections": settings.max_connections,
        "client_name": "tollgate",
        # A managed service's announcements; on any other server only an error per connection.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
