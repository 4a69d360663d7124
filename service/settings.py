"""Every setting, read once at start: environment over ``config/*.toml`` over the defaults here.

``load()`` returns one frozen tree or raises ConfigurationError with one line for each fault. Only
``wiring``, ``app``, ``server`` and ``cli`` see the tree; every other part is handed its section.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)
from pydantic_settings.sources import DefaultSettingsSource, NoDecode

from service.errors import ConfigurationError

PREFIX = "TOLLGATE_"
CONFIG_VARIABLE = "TOLLGATE_CONFIG"
DEFAULT_CONFIG = Path("config/tollgate.toml")
_PERIODS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}

Seconds = Annotated[float, Field(gt=0, le=86400 * 366, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Rate(NamedTuple):
    """So many tokens in so many seconds, as in ``30/minute``."""

    tokens: int
    period_s: int

    def __str__(self) -> str:
        units = {seconds: name for name, seconds in _PERIODS_S.items()}
        return f"{self.tokens}/{units[self.period_s]}"


def parse_rate(text: object) -> object:
    """``30/minute`` as a Rate; the units are second, minute, hour, day."""
    if isinstance(text, tuple):
        return text
    match = re.fullmatch(r"\s*([1-9][0-9]{0,8})\s*/\s*(second|minute|hour|day)s?\s*", str(text))
    if not match:
        raise ValueError("must look like 30/minute (units: second, minute, hour, day)")
    return Rate(int(match[1]), _PERIODS_S[match[2]])


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _networks(value: object) -> object:
    """CIDRs as a list, or as one comma-separated string (the form for a variable)."""
    items = value.strip("[]").split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError("must be a list of networks, such as 10.0.0.0/8")
    texts = [str(item).strip().strip("\"'") for item in items]
    return tuple(str(ipaddress.ip_network(text, strict=False)) for text in texts if text)


class ServerSettings(Section):
    host: str = "127.0.0.1"
    port: Port = 8000
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=512)
    role: Literal["web", "jobs", "all"] = "all"
    internal_host: str = "127.0.0.1"
    internal_port: Port = 8090
    #: Networks whose forwarding header is believed; nobody's by default.
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks)] = ()
    #: The one header those proxies write; the other is never looked at.
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    request_timeout: Seconds = 30.0
    body_limit_bytes: int = Field(default=1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    #: After SIGTERM: this long unready but still accepting, so that balancers notice.
    drain_delay: float = Field(default=2.0, ge=0, le=300)
    #: Then this long for requests and jobs in hand to finish.
    shutdown_timeout: Seconds = 35.0
    keepalive_timeout: Seconds = 75.0
    #: Cancel a handler whose client has gone away (aiohttp's own default is not to).
    handler_cancellation: bool = False
    default_flow: str | None = None


class RedisSettings(Section):
    url: SecretStr | None = None
    timeout: Seconds = 0.25
    connect_timeout: Seconds = 0.5
    max_connections: int = Field(default=16, ge=1, le=1000)


class DatabaseSettings(Section):
    url: SecretStr | None = None
    pool_min: int = Field(default=10, ge=1, le=1000)
    pool_max: int = Field(default=20, ge=1, le=1000)
    query_timeout: Seconds = 60.0
    acquire_timeout: Seconds = 2.0
    connect_timeout: Seconds = 3.0


class PaymentSettings(Section):
    url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")
    api_key: SecretStr | None = None
    network: Literal["Preprod", "Mainnet"] = "Preprod"
    #: Seconds a purchaser has to pay, counted from start_job.
    pay_within: Seconds = 1200.0
    #: Seconds until the result must be on chain, counted from start_job.
    submit_within: Seconds = 3600.0
    attempts: int = Field(default=3, ge=1, le=10)
    attempt_timeout: Seconds = 7.0
    connect_timeout: Seconds = 2.0
    #: All attempts of one call together.
    call_timeout: Seconds = 24.0
    #: Calls in flight at once per worker; beyond it a call is refused at once.
    bulkhead: int = Field(default=20, ge=1, le=1000)
    poll_interval: Seconds = 5.0
    #: Waited past pay-by before the chain's silence counts as not paid.
    pay_grace: Seconds = 300.0


class BreakerSettings(Section):
    failure_threshold: int = Field(default=3, ge=1, le=100)
    recovery_seconds: Seconds = 30.0
    #: A probe that has not reported after this long is given up.
    probe_lease_seconds: Seconds = 9.0


class CacheSettings(Section):
    fresh_seconds: Seconds = 300.0
    stale_seconds: Seconds = 86400.0
    local_seconds: float = Field(default=5.0, ge=0, le=60)
    local_entries: int = Field(default=2000, ge=1, le=1_000_000)
    unknown_seconds: Seconds = 10.0


class PolicySettings(Section):
    rate: Annotated[Rate, NoDecode, BeforeValidator(parse_rate)]
    burst: int | None = Field(default=None, ge=1, le=10**9)
    on_outage: Literal["local-share", "closed", "open"] = "local-share"
    shadow: bool = False


class JobSettings(Section):
    concurrency: int = Field(default=20, ge=1, le=10_000)
    lease_seconds: Seconds = 30.0
    poll_interval: Seconds = 1.0
    #: Longest life of one run where no payment sets an earlier end.
    run_timeout: Seconds = 3600.0
    #: How long a purchaser has to answer a question, at most.
    input_timeout: Seconds = 3600.0
    #: An unanswered payment call is looked for this long before its job is given up.
    intent_grace: Seconds = 120.0
    idempotency_seconds: Seconds = 86400.0
    #: How the result hash treats the result: JSON-escaped (SDK, marketplaces) or raw (spec text).
    result_hash: Literal["escaped", "raw"] = "escaped"


class AdminSettings(Section):
    token: SecretStr | None = None


class LoggingSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    #: Share of successful requests that get an access line; failures always do.
    access_sample: float = Field(default=1.0, ge=0, le=1)
    format: Literal["json", "console"] = "json"


def _per_minute(tokens: int) -> PolicySettings:
    return PolicySettings(rate=Rate(tokens, 60))


class LimitSettings(Section):
    """The policies of the design; a file or variable replaces single fields of them."""

    health: PolicySettings = _per_minute(100)
    health_detailed: PolicySettings = _per_minute(20)
    flows: PolicySettings = _per_minute(30)
    availability: PolicySettings = _per_minute(30)
    input_schema: PolicySettings = _per_minute(30)
    demo: PolicySettings = _per_minute(30)
    start_job: PolicySettings = _per_minute(10)
    status: PolicySettings = _per_minute(60)
    provide_input: PolicySettings = _per_minute(20)
    #: Everything else, unknown paths too.
    default: PolicySettings = _per_minute(30)


class Settings(BaseSettings):
    """The whole tree; its names are those of the variables in docs/configuration.md."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    server: ServerSettings = ServerSettings()
    redis: RedisSettings = RedisSettings()
    database: DatabaseSettings = DatabaseSettings()
    payment: PaymentSettings = PaymentSettings()
    breaker: BreakerSettings = BreakerSettings()
    cache: CacheSettings = CacheSettings()
    limits: LimitSettings = LimitSettings()
    jobs: JobSettings = JobSettings()
    admin: AdminSettings = AdminSettings()
    logging: LoggingSettings = LoggingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The files come in through init; the environment must win over them.
        return (
            env_settings,
            init_settings,
            DefaultSettingsSource(settings_cls, nested_model_default_partial_update=True),
        )

    @model_validator(mode="after")
    def _inner_below_outer(self) -> Settings:
        """An inner time-out at or above its outer one would never be the one that fires."""
        payment, server, database = self.payment, self.server, self.database
        chain = (
            ("payment.connect_timeout", payment.connect_timeout,
             "payment.attempt_timeout", payment.attempt_timeout),
            ("payment.attempt_timeout", payment.attempt_timeout,
             "payment.call_timeout", payment.call_timeout),
            ("payment.call_timeout", payment.call_timeout,
             "server.request_timeout", server.request_timeout),
            ("payment.attempt_timeout", payment.attempt_timeout,
             "breaker.probe_lease_seconds", self.breaker.probe_lease_seconds),
            ("database.acquire_timeout", database.acquire_timeout,
             "server.request_timeout", server.request_timeout),
            ("database.connect_timeout", database.connect_timeout,
             "server.request_timeout", server.request_timeout),
            ("redis.timeout", self.redis.timeout,
             "server.request_timeout", server.request_timeout),
            ("payment.pay_within", payment.pay_within,
             "payment.submit_within", payment.submit_within),
            ("cache.fresh_seconds", self.cache.fresh_seconds,
             "cache.stale_seconds", self.cache.stale_seconds),
        )  # fmt: skip
        faults = [
            f"{inner} ({low:g} s) must be less than {outer} ({high:g} s)"
            for inner, low, outer, high in chain
            if low >= high
        ]
        if database.pool_min > database.pool_max:
            faults.append(
                f"database.pool_min ({database.pool_min}) must not exceed"
                f" database.pool_max ({database.pool_max})"
            )
        # The payment service refuses a shorter time to submit (docs/api.md, "Times").
        if payment.submit_within < 1200:
            faults.append("payment.submit_within must be at least 1200 s")
        if faults:
            raise ValueError("\n".join(faults))
        return self


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings and the files they came from."""

    settings: Settings
    files: tuple[Path, ...]


def load(path: Path | None = None) -> Loaded:
    """Read, merge and check everything.

    ``path`` or ``TOLLGATE_CONFIG`` names the main file (it must then exist); ``limits.toml`` is
    looked for beside it. Raises ConfigurationError: one line a fault, never a value.
    """
    named = path or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    main = named or DEFAULT_CONFIG
    if named and not main.is_file():
        raise ConfigurationError(f"{CONFIG_VARIABLE}: there is no file {main}")
    files = tuple(f for f in (main, main.with_name("limits.toml")) if f.is_file())
    merged: dict[str, Any] = {}
    for file in files:
        part = _read_toml(file)
        if file != main:
            part = {"limits": part}
        merged |= part
    if faults := _unknown_variables():
        raise ConfigurationError("\n".join(faults))
    try:
        return Loaded(Settings(**merged), files)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_fault_lines(error))) from None
    except SettingsError as error:  # a variable that should hold a list or table, and holds no JSON
        raise ConfigurationError(str(error)) from None


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{file}: {error}") from error


def _unknown_variables() -> list[str]:
    """pydantic-settings passes over a misspelt section silently; an operator must not."""
    sections = Settings.model_fields.keys()
    return [
        f"{name}: no such setting; the sections are {', '.join(sorted(sections))}"
        for name in sorted(os.environ)
        if name.startswith(PREFIX)
        and name != CONFIG_VARIABLE
        and name[len(PREFIX) :].lower().split("__")[0] not in sections
    ]


def _fault_lines(error: ValidationError) -> list[str]:
    lines = []
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        where = ".".join(str(part) for part in fault["loc"])
        text = fault["msg"].removeprefix("Value error, ")
        if not where:
            lines += text.splitlines()
            continue
        variable = PREFIX + "__".join(str(part).upper() for part in fault["loc"])
        lines.append(f"{where}: {text[:1].lower()}{text[1:]} (variable {variable})")
    return lines
