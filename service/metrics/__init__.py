"""Every measure Tollgate takes of itself, and HTTP as the exporter names it."""

from service.metrics.collectors import Metrics
from service.metrics.http import HttpCounts, http_middleware
from service.metrics.page import MULTIPROCESS_VARIABLE, handing_over, page_handler

__all__ = [
    "MULTIPROCESS_VARIABLE",
    "HttpCounts",
    "Metrics",
    "handing_over",
    "http_middleware",
    "page_handler",
]
