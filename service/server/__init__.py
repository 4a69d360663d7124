"""Serving: a master keeps the workers alive, and workers leave without losing a request."""

from service.server.launch import serve
from service.server.models import Applications, Factory

__all__ = ["Applications", "Factory", "serve"]
