"""Limits as data: what limits.toml, TOLLGATE_LIMITS__ variables and a published document hold.

Here each part is checked by itself; that the parts fit together is checked where they become a
rulebook (service.admission.policies).
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints
from pydantic_settings.sources import NoDecode

from service.settings.sections import CIDRs, Section, Texts

_PERIODS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


class Rate(NamedTuple):
    """So many tokens in so many seconds, as in ``30/minute``."""

    tokens: int
    period_s: int

    def __str__(self) -> str:
        units = {seconds: name for name, seconds in _PERIODS_S.items()}
        return f"{self.tokens}/{units[self.period_s]}"


def parse_rate(text: object) -> object:
    """``30/minute`` as a Rate; the units are second, minute, hour, day."""
    if isinstance(text, tuple):
        return text
    match = re.fullmatch(r"\s*([1-9][0-9]{0,8})\s*/\s*(second|minute|hour|day)s?\s*", str(text))
    if not match:
        raise ValueError("must look like 30/minute (units: second, minute, hour, day)")
    return Rate(int(match[1]), _PERIODS_S[match[2]])


RateText = Annotated[
    Rate, NoDecode, BeforeValidator(parse_rate), PlainSerializer(str, when_used="json")
]
Tokens = Annotated[int, Field(ge=1, le=10**9)]
#: As it stands in header fields and metrics.
PolicyName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
#: As it stands in principals, logs and on command lines.
NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Name = Annotated[str, StringConstraints(pattern=NAME)]


def _key_hash(text: object) -> object:
    if not isinstance(text, str) or not re.fullmatch(r"[0-9a-f]{8}\.[0-9a-f]{64}", text):
        raise ValueError("must be the hash that `tollgate limits key` prints")
    return text


class PolicySettings(Section):
    rate: RateText
    burst: Tokens | None = None
    #: Tokens one request costs.
    cost: Tokens = 1
    on_outage: Literal["local-share", "closed", "open"] = "local-share"
    shadow: bool = False


class FurtherPolicySettings(PolicySettings):
    """A policy beside those of the route classes."""

    #: client: a bucket for each client; fleet: one for all clients together.
    scope: Literal["client", "fleet"] = "client"
    #: The route classes it counts; "*" is all of them.
    routes: Texts = Field(min_length=1)


class TierPolicySettings(Section):
    """What a tier has instead of a policy's own; what is not set stays."""

    rate: RateText | None = None
    burst: Tokens | None = None
    shadow: bool | None = None


class KeySettings(Section):
    #: Fingerprint of the secret, digest of the key; never the key.
    hash: Annotated[str, BeforeValidator(_key_hash)]
    tier: str | None = None


class ListSettings(Section):
    networks: CIDRs = ()
    #: Names of keys.
    keys: Texts = ()


def _per_minute(tokens: int) -> PolicySettings:
    return PolicySettings(rate=Rate(tokens, 60))


class RouteLimits(Section):
    """A policy for each class of routes; a file or variable replaces single fields of them."""

    health: PolicySettings = _per_minute(100)
    health_detailed: PolicySettings = _per_minute(20)
    flows: PolicySettings = _per_minute(30)
    availability: PolicySettings = _per_minute(30)
    input_schema: PolicySettings = _per_minute(30)
    demo: PolicySettings = _per_minute(30)
    start_job: PolicySettings = _per_minute(10)
    status: PolicySettings = _per_minute(60)
    provide_input: PolicySettings = _per_minute(20)
    #: Files of the pages: a browser asks for a dozen at once, and they cost next to nothing.
    assets: PolicySettings = _per_minute(300)
    #: Everything else, unknown paths too.
    default: PolicySettings = _per_minute(30)


class LimitSettings(RouteLimits):
    """The whole of limits.toml; any other table in it is a further policy."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[PolicyName, FurtherPolicySettings] = Field(init=False)

    keys: dict[Name, KeySettings] = Field(default_factory=dict)
    tiers: dict[Name, dict[PolicyName, TierPolicySettings]] = Field(default_factory=dict)
    #: Served without being counted.
    allow: ListSettings = ListSettings()
    #: Not served at all; stronger than ``allow``.
    deny: ListSettings = ListSettings()

    @property
    def route_classes(self) -> dict[str, PolicySettings]:
        return {name: getattr(self, name) for name in RouteLimits.model_fields}

    @property
    def further(self) -> dict[str, FurtherPolicySettings]:
        return dict(self.__pydantic_extra__ or {})
