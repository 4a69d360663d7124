"""Every setting, read once at start: environment over ``config/*.toml`` over the defaults here.

``load()`` returns one frozen tree or raises ConfigurationError with one line for each fault. Only
``wiring``, ``app``, ``server`` and ``cli`` see the tree; every other part is handed its section.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)
from pydantic_settings.sources import DefaultSettingsSource

from service.errors import ConfigurationError
from service.settings.limits import LimitSettings
from service.settings.secret_files import secret_variables, with_secret_files
from service.settings.sections import (
    AdminSettings,
    BreakerSettings,
    CacheSettings,
    DatabaseSettings,
    JobSettings,
    LoggingSettings,
    OverloadSettings,
    PaymentSettings,
    RedisSettings,
    ServerSettings,
    ShopSettings,
    TracingSettings,
)

PREFIX = "TOLLGATE_"
CONFIG_VARIABLE = "TOLLGATE_CONFIG"
DEFAULT_CONFIG = Path("config/tollgate.toml")
_ANY_HOST = {"0.0.0.0", "::"}  # noqa: S104 (compared)


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
    overload: OverloadSettings = OverloadSettings()
    jobs: JobSettings = JobSettings()
    admin: AdminSettings = AdminSettings()
    shop: ShopSettings = ShopSettings()
    logging: LoggingSettings = LoggingSettings()
    tracing: TracingSettings = TracingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        environment = EnvSettingsSource(settings_cls)
        environment.env_vars = with_secret_files(
            environment.env_vars, secret_variables(PREFIX, settings_cls.model_fields)
        )
        # The files come in through init; the environment must win over them.
        return (
            environment,
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
            # An intent is not given up while its own request may still call.
            ("payment.call_timeout", payment.call_timeout,
             "jobs.intent_grace", self.jobs.intent_grace),
            ("payment.attempt_timeout", payment.attempt_timeout,
             "breaker.probe_lease_seconds", self.breaker.probe_lease_seconds),
            ("database.acquire_timeout", database.acquire_timeout,
             "server.request_timeout", server.request_timeout),
            ("database.quick_timeout", database.quick_timeout,
             "server.request_timeout", server.request_timeout),
            ("database.write_timeout", database.write_timeout,
             "server.request_timeout", server.request_timeout),
            ("database.connect_timeout", database.connect_timeout,
             "server.request_timeout", server.request_timeout),
            ("redis.limiter_timeout", self.redis.limiter_timeout,
             "server.request_timeout", server.request_timeout),
            ("redis.timeout", self.redis.timeout,
             "server.request_timeout", server.request_timeout),
            ("cache.fresh_seconds", self.cache.fresh_seconds,
             "cache.stale_seconds", self.cache.stale_seconds),
        )  # fmt: skip
        faults = [
            f"{inner} ({low:g} s) must be less than {outer} ({high:g} s)"
            for inner, low, outer, high in chain
            if low >= high
        ]
        hosts = {server.host, server.internal_host}
        if server.port == server.internal_port != 0 and (len(hosts) == 1 or hosts & _ANY_HOST):
            # Workers share their ports, so both would be bound, and clients reach either by chance.
            faults.append(
                f"server.port and server.internal_port must differ (both are {server.port}):"
                " metrics and operations would be public"
            )
        if database.pool_min > database.pool_max:
            faults.append(
                f"database.pool_min ({database.pool_min}) must not exceed"
                f" database.pool_max ({database.pool_max})"
            )
        if database.reserve is not None and database.reserve >= database.pool_max:
            faults.append(
                f"database.reserve ({database.reserve}) must be less than"
                f" database.pool_max ({database.pool_max})"
            )
        if payment.pay_within + self.jobs.settle_margin >= payment.submit_within:
            faults.append(
                f"payment.pay_within ({payment.pay_within:g} s) and jobs.settle_margin"
                f" ({self.jobs.settle_margin:g} s) together must be less than"
                f" payment.submit_within ({payment.submit_within:g} s): who pays at the last moment"
                " would have paid for a run that has no time"
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


def load(path: Path | None = None, *, limits: Path | None = None) -> Loaded:
    """Read, merge and check everything.

    ``path`` or ``TOLLGATE_CONFIG`` names the main file (it must then exist); ``limits.toml`` is
    looked for beside it, unless ``limits`` names another file in its place. Raises
    ConfigurationError: one line a fault, never a value.
    """
    named = path or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    main = named or DEFAULT_CONFIG
    if named and not _is_file(main):
        raise ConfigurationError(f"{CONFIG_VARIABLE}: there is no file {main}")
    if limits and not _is_file(limits):
        raise ConfigurationError(f"there is no file {limits}")
    files = tuple(f for f in (main, limits or main.with_name("limits.toml")) if _is_file(f))
    merged: dict[str, Any] = {}
    for file in files:
        part = _read_toml(file)
        if file != main:
            part = {"limits": part}
        merged |= part
    # Names that begin so are options of pydantic-settings itself, and never reach its check.
    faults = [f"{name}: there is no such setting" for name in merged if name.startswith("_")]
    if faults := faults + _unknown_variables():
        raise ConfigurationError("\n".join(faults))
    try:
        return Loaded(Settings(**merged), files)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_fault_lines(error))) from None
    except SettingsError as error:  # a variable that should hold a list or table, and holds no JSON
        raise ConfigurationError(str(error)) from None


def limits_document(settings: LimitSettings) -> str:
    """The limits as they are published: complete, so that they mean the same to every worker."""
    return settings.model_dump_json(exclude_none=True)


def limits_from(document: str | bytes) -> LimitSettings:
    """The limits of a published document; raises ConfigurationError: one line a fault."""
    try:
        return LimitSettings.model_validate_json(document)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_fault_lines(error, within="limits"))) from None


def _is_file(file: Path) -> bool:
    """False only where there is none; one that may not be looked for is a fault."""
    try:
        return file.is_file()
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
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


def _fault_lines(error: ValidationError, *, within: str | None = None) -> list[str]:
    lines = []
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        place = [str(part) for part in fault["loc"] if part != "[key]"]
        text = fault["msg"].removeprefix("Value error, ")
        if within is None and not place:
            lines += text.splitlines()
            continue
        place = [within, *place] if within else place
        where = ".".join(place)
        if place[0] == "limits" and place[2:] == ["routes"] and fault["type"] == "missing":
            text = f"{place[1]} is no route class, and any other policy must name those it counts"
        if fault["type"] == "extra_forbidden":
            text = "there is no such setting"
        variable = PREFIX + "__".join(place).upper()
        hint = "" if within else f" (variable {variable})"
        lines.append(f"{where}: {text[:1].lower()}{text[1:]}{hint}")
    return lines
