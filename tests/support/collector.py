"""A collector of traces on loopback: takes OTLP over HTTP, keeps the spans."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class Seen:
    """One span as it arrived."""

    name: str
    trace_id: str
    span_id: str
    #: Of its parent, or empty.
    parent_id: str
    kind: int
    attributes: dict[str, Any]
    #: 0: nothing said, 2: failed.
    status: int
    message: str
    resource: dict[str, Any]
    #: Everything in it, for looking through.
    text: str


@dataclass(slots=True)
class Collector:
    url: str
    spans: list[Seen] = field(default_factory=list)
    posts: int = 0
    #: What it answers.
    status: int = 200

    def of(self, trace_id: str) -> list[Seen]:
        return [span for span in self.spans if span.trace_id == trace_id]

    async def take(self, request: web.Request) -> web.Response:
        self.posts += 1
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.status == 200:
            self.spans.extend(_spans(body))
        return web.Response(status=self.status, content_type="application/x-protobuf")


@asynccontextmanager
async def collecting(*, port: int = 0) -> AsyncIterator[Collector]:
    app = web.Application()
    collector = Collector("")
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    try:
        yield collector
    finally:
        await runner.cleanup()


def _spans(body: bytes) -> Iterator[Seen]:
    sent = ExportTraceServiceRequest.FromString(body)
    for group in sent.resource_spans:
        resource = _values(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Seen(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    kind=span.kind,
                    attributes=_values(span.attributes),
                    status=span.status.code,
                    message=span.status.message,
                    resource=resource,
                    text=str(span),
                )


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
