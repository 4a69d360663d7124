"""Settings that have no default and must be given."""

from __future__ import annotations

from pydantic import SecretStr

from service.errors import ConfigurationError
from service.settings.loading import PREFIX

#: What a machine of one's own need not have.
_STARTED = frozenset({"database.url", "redis.url", "payment.url", "payment.api_key"})


def required(name: str, value: SecretStr | str | None) -> str:
    """The value; raises ConfigurationError, naming the variable to set."""
    if faults := missing(name, value):
        raise ConfigurationError(faults[0])
    return _text(value)


def missing(name: str, value: SecretStr | str | None) -> list[str]:
    """One line if it is not set, else none."""
    if _text(value):
        return []
    fault = f"{name} is not set: set {PREFIX}{name.upper().replace('.', '__')}"
    if name in _STARTED:
        fault += "; or use `make run`, which starts one, and .run/tollgate, which then asks it"
    return [fault]


def _text(value: SecretStr | str | None) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value or ""
