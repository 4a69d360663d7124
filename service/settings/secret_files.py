"""Secrets from files, as Docker and Kubernetes hand them over: ``TOLLGATE_DATABASE__URL_FILE``.

Only for fields that are secrets. What such a file holds counts as the variable without ``_FILE``
would, so everything else about variables holds for it too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from service.errors import ConfigurationError

SUFFIX = "_FILE"
#: A secret is a line; whoever names a log or a disk by mistake is told so.
MAX_BYTES = 65_536


def secret_variables(prefix: str, sections: Mapping[str, FieldInfo]) -> tuple[str, ...]:
    """The variables of all fields that are secrets."""
    return tuple(
        f"{prefix}{section}__{name}".upper()
        for section, field in sections.items()
        for name, inner in _fields(field)
        if SecretStr in (inner.annotation, *get_args(inner.annotation))
    )


def with_secret_files(
    variables: Mapping[str, str | None], secrets: Iterable[str]
) -> dict[str, str | None]:
    """The variables (names in lower case) with the contents of the files that some name.

    Raises ConfigurationError: one line a fault, never a content.
    """
    merged = dict(variables)
    faults = []
    for secret in secrets:
        named = merged.pop(f"{secret}{SUFFIX}".lower(), None)
        if not named:
            continue
        if merged.get(secret.lower()):
            faults.append(f"{secret} and {secret}{SUFFIX} are both set: give one of them")
            continue
        try:
            merged[secret.lower()] = _content(Path(named))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            faults.append(f"{secret}{SUFFIX}: {named}: {reason}")
    if faults:
        raise ConfigurationError("\n".join(faults))
    return merged


def is_given(variable: str) -> bool:
    """Whether the environment gives this setting, itself or by a file's name."""
    return bool(os.environ.get(variable) or os.environ.get(f"{variable}{SUFFIX}"))


def _fields(field: FieldInfo) -> Iterable[tuple[str, FieldInfo]]:
    section = field.annotation
    if isinstance(section, type) and issubclass(section, BaseModel):
        return section.model_fields.items()
    return ()


def _content(file: Path) -> str:
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError("is too large for a secret")
    try:
        secret = content.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("is not text") from None
    if not secret:
        raise ValueError("is empty")
    return secret
