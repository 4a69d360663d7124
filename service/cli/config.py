"""``tollgate config check``."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from service.cli.soundness import check_soundness
from service.cli.terminal import show
from service.logs import MASK
from service.settings import PREFIX, Rate, Settings, load
from service.settings.secret_files import is_given


def check(_arguments: argparse.Namespace) -> int:
    """Show every setting in effect, and which of them variables gave; faults end with code 2."""
    loaded = load()
    check_soundness(loaded.settings)
    files = ", ".join(str(file) for file in loaded.files) or "none (defaults only)"
    show(f"# files: {files}")
    for section in Settings.model_fields:
        _show_section(section, getattr(loaded.settings, section))
    return 0


def _show_section(path: str, section: BaseModel | Mapping[str, Any]) -> None:
    # A model gives its extra fields too: the further policies.
    fields = dict(section.items() if isinstance(section, Mapping) else iter(section))
    plain = {name: v for name, v in fields.items() if not isinstance(v, BaseModel | Mapping)}
    if plain:
        show("", f"[{path}]")
    for name, value in plain.items():
        variable = PREFIX + f"{path}.{name}".upper().replace(".", "__")
        given = f"  # {variable}" if is_given(variable) else ""
        show(f"{name} = {_shown(value)}{given}" if value is not None else f"#{name} is not set")
    for name, value in fields.items():
        if isinstance(value, BaseModel | Mapping):
            _show_section(f"{path}.{name}", value)


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return json.dumps(_without_secret(value.get_secret_value()))
    if isinstance(value, str):
        return json.dumps(_without_credentials(value))
    if isinstance(value, Rate):
        return json.dumps(str(value))
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return f"{value:.15g}" if isinstance(value, float) else json.dumps(value)


def _without_credentials(text: str) -> str:
    """An address that is no secret may still hold a name and a password."""
    return re.sub(r"^([A-Za-z0-9+.-]+://)\S*@", rf"\1{MASK}@", text)


def _without_secret(secret: str) -> str:
    """An address without its credentials and query; of anything else nothing."""
    address = re.fullmatch(r"([a-z0-9+]+://)([^@]*@)?([^@?#\s]*)(?:[?#].*)?", secret)
    if not address:
        return MASK
    return f"{address[1]}{MASK}@{address[3]}" if address[2] else f"{address[1]}{address[3]}"
