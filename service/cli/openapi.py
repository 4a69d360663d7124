"""``tollgate openapi``."""

from __future__ import annotations

import argparse
import json

from service.api import openapi, routes
from service.cli.terminal import show as show_lines


def show(_arguments: argparse.Namespace) -> int:
    """The document that ``/openapi.json`` answers, indented; asks no server."""
    show_lines(json.dumps(openapi.document(routes.TABLE), indent=2, ensure_ascii=True))
    return 0
