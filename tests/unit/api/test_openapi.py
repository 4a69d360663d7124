"""The OpenAPI document: valid, complete, and what the routes really promise."""

from __future__ import annotations

import re
from typing import Any

import pytest
from openapi_spec_validator import validate

from service import errors
from service.api import openapi
from service.api.contract import Route
from service.api.routes import INTERNAL_TABLE, TABLE
from service.flows.definition import RESERVED_SLUGS

DOCUMENT = openapi.document(TABLE)
DESCRIBED = [row for row in TABLE if row.operation is not None]


def operation(row: Route) -> dict[str, Any]:
    described: dict[str, Any] = DOCUMENT["paths"][row.path][row.method.lower()]
    return described


@pytest.mark.parametrize("table", [TABLE, INTERNAL_TABLE])
def test_document_is_valid(table: tuple[Route, ...]) -> None:
    validate(openapi.document(table))


def test_every_route_is_described_but_the_pages_for_people() -> None:
    undescribed = {row.path for row in TABLE} - set(DOCUMENT["paths"])
    pages = {"/", "/docs", "/docs/{asset}", "/shop", "/shop/{version}/{asset}"}
    assert undescribed == pages


@pytest.mark.parametrize("row", DESCRIBED, ids=lambda row: f"{row.method} {row.path}")
def test_every_failure_is_a_described_problem(row: Route) -> None:
    for status, answer in operation(row)["responses"].items():
        if int(status) >= 400 and not (row.name == "readyz" and status == "503"):
            assert list(answer["content"]) == ["application/problem+json"]
            assert "X-Request-Id" in answer["headers"]


@pytest.mark.parametrize("row", DESCRIBED, ids=lambda row: f"{row.method} {row.path}")
def test_every_limited_route_says_so(row: Route) -> None:
    assert ("429" in operation(row)["responses"]) == (row.policy is not None)


def test_start_job_promises_every_failure_of_a_sale() -> None:
    (row,) = (row for row in TABLE if row.path == "/{flow}/start_job")
    assert set(operation(row)["responses"]) == {
        "200", "400", "403", "404", "408", "409", "413", "415", "422", "429",
        "500", "502", "503", "504",
    }  # fmt: skip
    assert errors.CircuitOpen.code in operation(row)["responses"]["503"]["description"]
    assert "Accept-Encoding" in operation(row)["responses"]["415"]["headers"]


def test_routes_at_the_root_take_the_flow_as_a_parameter() -> None:
    for row in TABLE:
        if row.name.startswith("root_"):
            refs = [parameter["$ref"] for parameter in operation(row)["parameters"]]
            assert "#/components/parameters/flow-query" in refs


def test_every_get_route_has_a_name_of_its_own() -> None:
    names = [row.name for row in TABLE]
    assert len(names) == len(set(names))


def test_no_flow_can_be_named_like_a_route() -> None:
    for row in TABLE:
        segment = row.path.split("/")[1]
        if re.fullmatch(r"[a-z0-9-]+", segment):  # what a flow may be called at all
            assert segment in RESERVED_SLUGS
