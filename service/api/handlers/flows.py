"""What is for sale: the flows, and the questions MIP-003 has about one of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aiohttp import web

from service.api import answers, keys, parameters, representation, schemas
from service.api.representation import Representation

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.typedefs import Handler

    from service.breaker.breaker import Breaker
    from service.flows.listing import FlowPage
    from service.flows.models import Flow, Offer, Variant

PAYMENT_AWAY = (
    "Payments cannot be taken at the moment; runs that were paid for go on. Try again in {s} s."
)


async def resolve(request: web.Request, in_body: str | None = None) -> tuple[Flow, Variant]:
    """The flow and variant a request is for; raises UnknownFlow or InvalidInput."""
    catalog = request.app[keys.CATALOG]
    flow, variant = await catalog.get(parameters.flow_reference(request, in_body))
    request[keys.RECORD].flow = flow.slug
    return flow, variant


async def list_flows(request: web.Request) -> web.StreamResponse:
    after = parameters.page_start(request.query)
    limit = parameters.page_limit(request.query)
    found = await request.app[keys.CATALOG].find_page(after=after, limit=limit)
    kept = found.kept.once(_page)
    return representation.answer(request, kept, age_s=found.age_s, degraded=found.degraded)


async def availability(request: web.Request) -> web.StreamResponse:
    _, variant = await resolve(request)
    body = await _availability(variant, request.app[keys.BREAKER])
    return answers.answer(body)


def _telling(make: Callable[[Flow], Representation]) -> Handler:
    """The handler that answers what ``make`` tells of a flow; made once for each content of it."""

    async def tell(request: web.Request) -> web.StreamResponse:
        catalog, reference = request.app[keys.CATALOG], parameters.flow_reference(request)
        found, _ = catalog.at_hand(reference) or await catalog.find(reference)
        request[keys.RECORD].flow = found.kept.value.slug
        made = found.kept.once(make)
        return representation.answer(request, made, age_s=found.age_s, degraded=found.degraded)

    return tell


def _view(flow: Flow) -> Representation:
    return Representation(flow_view(flow))


def _input_schema(flow: Flow) -> Representation:
    # Written as it is: purchasers hash what they read.
    return Representation(json.dumps(flow.input_schema.document(), ensure_ascii=False).encode())


def _demo(flow: Flow) -> Representation:
    output = schemas.DemoOutput(result=flow.demo_output)
    return Representation(schemas.Demo(input=flow.demo_input, output=output))


def _page(page: FlowPage) -> Representation:
    flows = [flow_view(flow) for flow in page.flows]
    following = parameters.cursor(page.next) if page.next else None
    return Representation(schemas.FlowList(flows=flows, next=following))


get_flow = _telling(_view)
input_schema = _telling(_input_schema)
demo = _telling(_demo)


async def _availability(variant: Variant, breaker: Breaker) -> schemas.Availability:
    if variant.free:  # needs no payment service
        return schemas.Availability(status="available")
    seen = await breaker.snapshot()
    if seen.state != "open":
        return schemas.Availability(status="available")
    wait_s = max(1, -(-seen.retry_after_ms // 1000))
    return schemas.Availability(status="unavailable", message=PAYMENT_AWAY.format(s=wait_s))


def flow_view(flow: Offer) -> schemas.FlowView:
    """The flow as it is shown; how it is executed stays inside."""
    base = f"/{flow.slug}"
    return schemas.FlowView(
        id=flow.slug,
        uid=str(flow.uid),
        name=flow.name,
        description=flow.description,
        version=flow.version,
        author=flow.author,
        tags=list(flow.tags),
        variants=[
            schemas.VariantView(
                name=variant.name,
                free=variant.free,
                agent_identifier=variant.agent_identifier,
                requested_funds=[
                    schemas.Funds(amount=fund.amount, unit=fund.unit)
                    for fund in variant.requested_funds
                ],
            )
            for variant in flow.variants.values()
        ],
        default_variant=flow.default_variant,
        links=schemas.FlowLinks(
            self=f"/flows/{flow.slug}",
            start_job=f"{base}/start_job",
            status=f"{base}/status",
            provide_input=f"{base}/provide_input",
            availability=f"{base}/availability",
            input_schema=f"{base}/input_schema",
            demo=f"{base}/demo",
        ),
    )
