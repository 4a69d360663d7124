"""The hashes of MIP-004, worked out anew: what a purchaser compares the service's own with."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import rfc8785


def input_hash(identifier: str | None, value: dict[str, Any]) -> str:
    return _sha256(f"{identifier or ''};{rfc8785.dumps(value).decode()}")


def result_hash(identifier: str | None, result: str) -> str:
    """As marketplaces compute it: the text escaped as in JSON."""
    return _sha256(f"{identifier or ''};{json.dumps(result, ensure_ascii=False)[1:-1]}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
