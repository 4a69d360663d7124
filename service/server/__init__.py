"""Serving: a master keeps the workers alive, and workers leave without losing a request."""

from service.server.models import Applications, Factory
from service.server.launch import serve

__all__ = ["Applications", "Factory", "serve"]
