"""Every setting, read once at start: environment over ``config/*.toml`` over the defaults here."""

from service.settings.limits import LimitSettings, PolicySettings, Rate
from service.settings.loading import (
    PREFIX,
    Loaded,
    Settings,
    limits_document,
    limits_from,
    load,
)
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

__all__ = [
    "PREFIX",
    "AdminSettings",
    "BreakerSettings",
    "CacheSettings",
    "DatabaseSettings",
    "JobSettings",
    "LimitSettings",
    "Loaded",
    "LoggingSettings",
    "OverloadSettings",
    "PaymentSettings",
    "PolicySettings",
    "Rate",
    "RedisSettings",
    "ServerSettings",
    "Settings",
    "ShopSettings",
    "TracingSettings",
    "limits_document",
    "limits_from",
    "load",
]
