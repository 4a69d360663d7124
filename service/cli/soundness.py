"""Faults in the settings that no field shows by itself, found before anything is started.

A worker would find them too, but only after its start: each worker for itself, and on SIGHUP after
the new settings have been taken.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr

from service.admission.policies import rulebook_from
from service.database.dsn import Dsn
from service.errors import ConfigurationError
from service.mip.formats import is_http_url
from service.settings import Settings
from service.store.servers import servers
from service.tracing import packages

_REDIS_FILES = ("ca_file", "certificate_file", "key_file")


def check_soundness(settings: Settings) -> None:
    """Raises ConfigurationError, a line for each fault; what is not set is none."""
    faults: list[str] = []
    for check in (_limits, _redis, _redis_files, _database, _listening, _payment, _tracing):
        try:
            faults += check(settings)
        except ConfigurationError as error:
            faults += error.message.splitlines()
    if faults:
        raise ConfigurationError("\n".join(faults))


def _limits(settings: Settings) -> list[str]:
    rulebook_from(settings.limits, key_secret=settings.admin.key_secret)
    return []


def _redis(settings: Settings) -> list[str]:
    if url := settings.redis.url:
        servers(settings.redis, url.get_secret_value())
    return []


def _redis_files(settings: Settings) -> list[str]:
    files = {name: getattr(settings.redis, name) for name in _REDIS_FILES}
    return [
        f"redis.{name}: {file} cannot be read"
        for name, file in files.items()
        if file is not None and not (Path(file).is_file() and os.access(file, os.R_OK))
    ]


def _database(settings: Settings) -> list[str]:
    return _dsn("database.url", settings.database.url)


def _listening(settings: Settings) -> list[str]:
    return _dsn("database.listen_url", settings.database.listen_url)


def _dsn(setting: str, url: SecretStr | None) -> list[str]:
    if url is not None:
        Dsn.parse(url.get_secret_value(), application_name="tollgate", setting=setting)
    return []


def _payment(settings: Settings) -> list[str]:
    url = settings.payment.url
    return [] if url is None or is_http_url(url) else ["payment.url: is no http or https address"]


def _tracing(settings: Settings) -> list[str]:
    return [packages.FAULT] if settings.tracing.enabled and not packages.installed() else []
