"""The sections of the settings, all but the limits; each part of the service is handed its own."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings.sources import NoDecode

Seconds = Annotated[float, Field(gt=0, le=86400 * 366, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def texts(value: object) -> tuple[str, ...]:
    """A list, or one comma-separated string (the form for a variable)."""
    items = value.strip("[]").split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError("must be a list")
    stripped = (str(item).strip().strip("\"'") for item in items)
    return tuple(text for text in stripped if text)


def _networks(value: object) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(text, strict=False)) for text in texts(value))


def _origins(value: object) -> tuple[str, ...]:
    origins = texts(value)
    for origin in origins:
        if not re.fullmatch(r"\*|https?://[A-Za-z0-9.\-\[\]:]+", origin):
            raise ValueError("must be origins, such as https://shop.example, or *")
    return origins


Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(texts)]
#: CIDRs, in their usual spelling.
CIDRs = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks)]
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)]


class ServerSettings(Section):
    host: str = "127.0.0.1"
    port: Port = 8000
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=512)
    role: Literal["web", "jobs", "all"] = "all"
    internal_host: str = "127.0.0.1"
    internal_port: Port = 8090
    #: Networks whose forwarding header is believed; nobody's by default.
    trusted_proxies: CIDRs = ()
    #: The one header those proxies write; the other is never looked at.
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    request_timeout: Seconds = 30.0
    body_limit_bytes: int = Field(default=1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    #: After SIGTERM: this long unready but still accepting, so that balancers notice.
    drain_delay: float = Field(default=2.0, ge=0, le=300)
    #: Then this long for requests and jobs in hand to finish.
    shutdown_timeout: Seconds = 35.0
    #: Of that, this long for idle connections: longer than the balancer keeps them, so that it is
    #: the balancer who closes them, and no request meets one that is being closed.
    idle_linger: float = Field(default=3.0, ge=0, le=300)
    keepalive_timeout: Seconds = 75.0
    #: A worker is replaced after so many requests, and up to a fifth more; 0: never.
    max_requests: int = Field(default=0, ge=0)
    #: Cancel a handler whose client has gone away (aiohttp's own default is not to).
    handler_cancellation: bool = False
    #: Clients that one worker lets wait for a change of a job; more are answered at once.
    waiting_clients: int = Field(default=4000, ge=0, le=100_000)
    #: Origins whose pages may call from a browser; ``*``: any.
    cors_origins: Origins = ()
    #: One coroutine for all steps of a request, answers from templates, one sweep for all
    #: deadlines, plain numbers for counters. False: the plain way, which says and does the same.
    fast_answers: bool = True
    default_flow: str | None = None


class RedisSettings(Section):
    url: SecretStr | None = None
    #: For rediss: PEM files. Whom to believe (None: the system's), and who we are, if asked.
    ca_file: Path | None = None
    certificate_file: Path | None = None
    #: None: in the certificate's file.
    key_file: Path | None = None
    timeout: Seconds = 0.25
    #: For the limits, which every request waits for: then shares decide (connections of its own).
    limiter_timeout: Seconds = 0.1
    connect_timeout: Seconds = 0.5
    max_connections: int = Field(default=16, ge=1, le=1000)


class DatabaseSettings(Section):
    url: SecretStr | None = None
    pool_min: int = Field(default=10, ge=1, le=1000)
    pool_max: int = Field(default=20, ge=1, le=1000)
    #: Of pool_max, kept for requests that must go on, beside reads and loops; None: a fifth.
    reserve: int | None = Field(default=None, ge=0, le=999)
    #: No statement takes longer; and those of a class (service/database/classes.py) than theirs.
    query_timeout: Seconds = 60.0
    quick_timeout: Seconds = 2.0
    write_timeout: Seconds = 2.5
    batch_timeout: Seconds = 10.0
    acquire_timeout: Seconds = 2.0
    connect_timeout: Seconds = 3.0
    #: A statement that takes so long gets a line in the log.
    slow_query: Seconds = 0.5
    #: The URL leads to a connection pooler that gives each transaction another connection.
    pooler: bool = False
    #: For LISTEN, which no such pooler can pass on; None: ``url``.
    listen_url: SecretStr | None = None


class PaymentSettings(Section):
    url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")
    api_key: SecretStr | None = None
    network: Literal["Preprod", "Mainnet"] = "Preprod"
    #: Seconds a purchaser has to pay, counted from start_job.
    pay_within: Seconds = 1200.0
    #: Seconds until the result must be on chain, counted from start_job.
    submit_within: Seconds = 3600.0
    attempts: int = Field(default=3, ge=1, le=10)
    attempt_timeout: Seconds = 7.0
    connect_timeout: Seconds = 2.0
    #: All attempts of one call together.
    call_timeout: Seconds = 24.0
    #: Calls in flight at once per worker; beyond it a call is refused at once.
    bulkhead: int = Field(default=20, ge=1, le=1000)
    poll_interval: Seconds = 5.0
    #: Waited past pay-by before the chain's silence counts as not paid.
    pay_grace: Seconds = 300.0


class BreakerSettings(Section):
    failure_threshold: int = Field(default=3, ge=1, le=100)
    #: What one failure is: an attempt, or a request with all its attempts.
    count: Literal["attempts", "requests"] = "attempts"
    recovery_seconds: Seconds = 30.0
    #: A probe that has not reported after this long is given up.
    probe_lease_seconds: Seconds = 9.0


class CacheSettings(Section):
    fresh_seconds: Seconds = 300.0
    stale_seconds: Seconds = 86400.0
    local_seconds: float = Field(default=5.0, ge=0, le=60)
    local_entries: int = Field(default=20_000, ge=1, le=1_000_000)
    local_bytes: int = Field(default=33_554_432, ge=65_536)
    local_unknowns: int = Field(default=1000, ge=1, le=1_000_000)
    unknown_seconds: Seconds = 10.0
    #: Loads at once per worker.
    loads: int = Field(default=4, ge=1, le=1000)
    #: How long a value nobody has may wait for another worker's load, and for a place to load.
    wait_seconds: float = Field(default=1.0, gt=0, le=30)


class OverloadSettings(Section):
    #: Turn requests away while this worker has more to do than it can.
    enabled: bool = True
    #: What is ready may wait so long for its turn in a worker. Once it waits four times as long, so
    #: many are turned away that it holds.
    queue_delay: Seconds = 0.005
    #: So many requests at once are never too many.
    least_requests: int = Field(default=16, ge=1, le=10_000)


class JobSettings(Section):
    concurrency: int = Field(default=20, ge=1, le=10_000)
    lease_seconds: Seconds = 30.0
    poll_interval: Seconds = 1.0
    #: Longest life of one run where no payment sets an earlier end.
    run_timeout: Seconds = 3600.0
    #: How long a purchaser has to answer a question, at most.
    input_timeout: Seconds = 3600.0
    #: A run that took its worker with it so often is given up: it may be what kills them.
    lost_runs: int = Field(default=5, ge=1, le=100)
    #: A run ends so long before its result must be on chain: the payment service takes nothing in
    #: the last 300 s, and its own way to the chain takes some more ...
    settle_margin: float = Field(default=420.0, ge=330, le=86400)
    #: ... and so much earlier for each result that waits for the same wallet (first contract) ...
    settle_each: float = Field(default=60.0, ge=0, le=3600)
    #: ... but not more than this for all of them.
    settle_queue: float = Field(default=1800.0, ge=0, le=86400)
    #: An unanswered payment call is looked for this long before its job is given up.
    intent_grace: Seconds = 120.0
    idempotency_seconds: Seconds = 86400.0
    #: How the result hash treats the result: JSON-escaped (SDK, marketplaces) or raw (spec text).
    result_hash: Literal["escaped", "raw"] = "escaped"


class AdminSettings(Section):
    token: SecretStr | None = None
    #: API keys are known by their hash under this; another secret makes all keys unknown.
    key_secret: SecretStr | None = Field(default=None, min_length=16)


class ShopSettings(Section):
    #: The page for purchasers at / and /shop.
    enabled: bool = True
    #: Where the page may pay by itself; set by ``make run`` only, whose payments are not real.
    sandbox_url: str | None = Field(default=None, pattern=r"^https?://[A-Za-z0-9.\-\[\]:]+$")


class TracingSettings(Section):
    #: Needs the packages of ``config/requirements/tracing.lock``.
    enabled: bool = False
    #: Of an OpenTelemetry collector, OTLP over HTTP.
    endpoint: str = Field(default="http://127.0.0.1:4318/v1/traces", pattern=r"^https?://[^\s]+$")
    #: Share of the traces begun here that are recorded.
    sample_ratio: float = Field(default=0.1, ge=0, le=1)
    #: A caller's own decision (W3C traceparent) counts; False: ours is made for its traces too.
    follow_callers: bool = True
    service_name: str = Field(default="tollgate", pattern=r"^[A-Za-z0-9._-]{1,64}$")


class LoggingSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    #: Share of requests, answered well or refused for a limit, that get an access line; failures
    #: always do.
    access_sample: float = Field(default=1.0, ge=0, le=1)
    format: Literal["json", "console"] = "json"
