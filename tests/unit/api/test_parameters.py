"""What a request names outside its body."""

from __future__ import annotations

from uuid import UUID

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from service.api import keys, parameters
from service.errors import InvalidInput, UnknownFlow, UnknownJob
from service.settings import ServerSettings

JOB = "0b8a4c5e-6f0f-4c47-9f0c-0a7c1d2e3f40"


def request(target: str, *, default_flow: str | None = None) -> web.Request:
    app = web.Application()
    app[keys.SERVER] = ServerSettings(default_flow=default_flow)
    return make_mocked_request("GET", target, app=app)


def test_flow_is_read_from_the_query() -> None:
    assert parameters.flow_reference(request("/status?x=1&flow=summary")) == "summary"


@pytest.mark.parametrize("spelling", ["summary+premium", "summary%2Bpremium"])
def test_plus_of_a_variant_survives_the_query(spelling: str) -> None:
    assert parameters.flow_reference(request(f"/status?flow={spelling}")) == "summary+premium"


def test_space_in_the_query_stays_a_space() -> None:
    assert parameters.flow_reference(request("/status?flow=My%20flow")) == "My flow"


def test_query_goes_before_body_and_body_before_default() -> None:
    both = request("/start_job?flow=query", default_flow="default")
    assert parameters.flow_reference(both, "body") == "query"
    neither = request("/start_job", default_flow="default")
    assert parameters.flow_reference(neither, "body") == "body"
    assert parameters.flow_reference(neither) == "default"


def test_no_flow_at_all_says_what_to_do() -> None:
    with pytest.raises(InvalidInput) as refused:
        parameters.flow_reference(request("/status"))
    assert "flow=" in refused.value.errors[0].detail


@pytest.mark.parametrize("text", ["%00", "a%00b", "%0a", "x" * 271, "%7F"])
def test_what_no_flow_can_be_called_is_unknown(text: str) -> None:
    with pytest.raises(UnknownFlow):
        parameters.flow_reference(request(f"/status?flow={text}"))


def test_lone_surrogate_in_the_body_names_no_flow() -> None:
    with pytest.raises(UnknownFlow):
        parameters.flow_reference(request("/start_job"), "\ud800")


def test_job_id_is_read_in_either_case() -> None:
    assert parameters.job_id(JOB, where="job_id") == UUID(JOB)
    assert parameters.job_id(JOB.upper(), where="job_id") == UUID(JOB)


@pytest.mark.parametrize(
    "text",
    ["1", "nonsense", JOB[:-1], JOB + "0", "{" + JOB + "}", "urn:uuid:" + JOB, JOB.replace("-", ""),
     "\x00", "\ud800", JOB.replace("0", "٠"), " " + JOB],
)  # fmt: skip
def test_what_cannot_be_a_job_is_unknown(text: str) -> None:
    with pytest.raises(UnknownJob):
        parameters.job_id(text, where="job_id")


@pytest.mark.parametrize("text", [None, ""])
def test_missing_job_id_is_invalid(text: str | None) -> None:
    with pytest.raises(InvalidInput) as refused:
        parameters.job_id(text, where="job_id")
    assert refused.value.errors[0].pointer == "job_id"


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("25", 25), ("1.5", 1.5)])
def test_waiting_time(text: str, seconds: float) -> None:
    assert parameters.wait_s({"wait": text}) == seconds
    assert parameters.wait_s({}) == 0


@pytest.mark.parametrize("text", ["", "-1", "26", "25.1", "1e1", "nan", "inf", "٣", "1 ", "\x00"])
def test_bad_waiting_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parameters.wait_s({"wait": text})


def test_page_limit_has_bounds() -> None:
    assert parameters.page_limit({}) == parameters.DEFAULT_PAGE
    assert parameters.page_limit({"limit": "100"}) == 100
    for text in ("0", "101", "-1", "x", "", "1.5", "9" * 5000):
        with pytest.raises(InvalidInput):
            parameters.page_limit({"limit": text})


def test_cursor_leads_back_to_where_the_page_ended() -> None:
    assert parameters.page_start({"cursor": parameters.cursor("csv-profile")}) == "csv-profile"
    assert parameters.page_start({}) is None


@pytest.mark.parametrize(
    "text", ["", "!", "AA", "AAAA", "\x00", "ü", "IA==", "c3VtbWFyeQ", "A" * 9999]
)
def test_cursor_not_given_out_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parameters.page_start({"cursor": text})


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("abc-123", "abc-123"),
        ('"abc-123"', "abc-123"),
        (r'"a\"b\\c"', r"a\"b\\c".replace(r"\"", '"').replace(r"\\", "\\")),
        ("two words", "two words"),
        ("x" * 255, "x" * 255),
    ],
)
def test_idempotency_key_quoted_or_bare(line: str, key: str) -> None:
    assert parameters.idempotency_key([line]) == key


@pytest.mark.parametrize(
    "lines",
    [["a", "b"], [""], ['""'], ['"open'], ["x" * 256], ["ä"], ["\udcff"], ["a\x00b"], ['"a"b'],
     [r'"a\b"'], ["\\"]],
)  # fmt: skip
def test_bad_idempotency_key_is_refused(lines: list[str]) -> None:
    with pytest.raises(InvalidInput):
        parameters.idempotency_key(lines)


def test_no_idempotency_key_is_none() -> None:
    assert parameters.idempotency_key([]) is None
