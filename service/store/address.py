"""What a redis.url may be, and the connection options that hold for every kind of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from service.errors import ConfigurationError

if TYPE_CHECKING:
    from service.settings import RedisSettings

Kind = Literal["single", "cluster", "sentinel"]

_KINDS: dict[str, Kind] = {
    "redis": "single",
    "rediss": "single",
    "unix": "single",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
}
_DEFAULT_PORTS: dict[Kind, int] = {"single": 6379, "cluster": 6379, "sentinel": 26379}
_SHAPES: dict[Kind, str] = {
    "single": "not a Redis URL (redis://host:port/database)",
    "cluster": "not a cluster's URL (redis+cluster://host:port,host:port)",
    "sentinel": "not a Sentinel URL (redis+sentinel://host:port,host:port/service-name)",
}


@dataclass(frozen=True, slots=True)
class ServerList:
    """A URL that names several servers to begin with; the secrets are not in its repr."""

    hosts: tuple[tuple[str, int], ...]
    #: How to log in at the servers that hold data, as redis-py's options.
    login: dict[str, Any]
    #: What Sentinel calls the server that is wanted; empty for a cluster.
    service: str = ""
    #: How to log in at the sentinels.
    sentinel_login: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self.hosts)


def kind_of(url: str) -> Kind:
    """Raises ConfigurationError for what names no servers we know."""
    scheme = url.partition("://")[0]
    if scheme not in _KINDS:
        raise ConfigurationError(
            "redis.url: must begin with redis://, rediss://, unix://, redis+cluster:// or"
            f" redis+sentinel://, not {scheme if '://' in url else 'nothing'}"
        )
    return _KINDS[scheme]


def single_address(url: str) -> str:
    """Host, port and database; never user or password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(bad_url("single")) from None
    if parts.scheme == "unix":
        return parts.path
    return f"{host or 'localhost'}:{port or _DEFAULT_PORTS['single']}{parts.path.rstrip('/')}"


def several(url: str) -> ServerList:
    """redis+cluster://user:password@host:port,host:port/ and redis+sentinel://…/service-name.

    Raises ConfigurationError.
    """
    kind, parts = kind_of(url), urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    found = tuple(_host(text, kind) for text in hosts.split(","))
    if kind == "cluster":
        if parts.path.strip("/") or parts.query:
            raise ConfigurationError(bad_url(kind))
        return ServerList(found, _login(*login.partition(":")[::2]))
    service, options = unquote(parts.path.strip("/")), dict(parse_qsl(parts.query))
    database = options.pop("db", "0")
    sentinels = _login(options.pop("sentinel_user", ""), options.pop("sentinel_password", ""))
    if not service or "/" in service or options or not database.isdecimal():
        raise ConfigurationError(bad_url(kind))
    servers = _login(*login.partition(":")[::2])
    return ServerList(found, {**servers, "db": int(database)}, service, sentinels)


def bad_url(kind: Kind) -> str:
    """The same words for every fault: the URL itself may hold a password."""
    return f"redis.url: {_SHAPES[kind]}"


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
        # CLIENT SETINFO: two more commands for each connection, and a right that old servers lack.
        "driver_info": None,
        # A managed service's announcements; on any other server only an error per connection.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def encryption(settings: RedisSettings, url: str) -> dict[str, Any]:
    """For rediss: whom to believe and who we are; the server's certificate must be for its name."""
    if not url.startswith("rediss"):
        return {}
    options: dict[str, Any] = {
        "connection_class": SSLConnection,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
    }
    if settings.ca_file:
        options["ssl_ca_certs"] = str(settings.ca_file)
    if settings.certificate_file:
        options["ssl_certfile"] = str(settings.certificate_file)
        options["ssl_keyfile"] = str(settings.key_file or settings.certificate_file)
    return options


def _login(user: str, password: str) -> dict[str, Any]:
    options = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in options.items() if value}


def _host(text: str, kind: Kind) -> tuple[str, int]:
    try:
        parts = urlsplit(f"redis://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ConfigurationError(bad_url(kind))
    return host, port or _DEFAULT_PORTS[kind]
