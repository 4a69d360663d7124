"""Failures as problems: every class has a status, and nothing internal leaks."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from aiohttp import web

from service import errors
from service.api import problems


def all_kinds(kind: type[errors.TollgateError]) -> Iterator[type[errors.TollgateError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ != errors.__name__:  # a package's own, which never leaves it
            continue
        yield from all_kinds(child)


def written(problem: problems.Problem) -> dict[str, object]:
    return problems.document(problem, request_id="r-1")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidInput(), 400),
        (errors.MalformedBody(), 400),
        (errors.NotAwaitingInput(), 400),
        (errors.UnknownFlow(), 404),
        (errors.UnknownJob(), 404),
        (errors.RequestInProgress(), 409),
        (errors.BodyTooLarge(), 413),
        (errors.BodyTooSlow(), 408),
        (errors.UnsupportedMediaType(), 415),
        (errors.UnsupportedCoding(), 415),
        (errors.IdempotencyMismatch(), 422),
        (errors.PaymentRejected(), 502),
        (errors.PaymentMisconfigured(), 502),
        (errors.StoreUnavailable(), 503),
        (errors.DatabaseBusy(), 503),
        (errors.CircuitOpen(), 503),
        (errors.PaymentBusy(), 503),
        (errors.RunnerUnavailable(), 503),
        (errors.Draining(), 503),
        (errors.QueryTimeout(), 504),
        (errors.PaymentOutcomeUnknown(), 504),
        (errors.DeadlineExceeded(), 504),
        (errors.ConfigurationError(), 500),
        (errors.TollgateError(), 500),
    ],
)
def test_status_of_each_failure(error: errors.TollgateError, status: int) -> None:
    assert problems.from_error(error).status == status


def test_codes_are_unique() -> None:
    kinds = all_kinds(errors.TollgateError)
    codes = [kind.code for kind in kinds if problems.status_of(kind) != 500]
    assert len(codes) == len(set(codes))


def test_a_problem_has_the_members_of_the_standard() -> None:
    problem = written(problems.from_error(errors.UnknownFlow("There is no flow called x.")))
    assert problem == {
        "type": "urn:tollgate:problem:unknown-flow",
        "title": "There is no such flow",
        "status": 404,
        "detail": "There is no flow called x.",
        "instance": "urn:request:r-1",
        "request_id": "r-1",
    }


def test_title_is_the_same_for_every_occurrence() -> None:
    one = problems.from_error(errors.InvalidInput(message="first"))
    other = problems.from_error(errors.InvalidInput(message="second"))
    assert one.title == other.title
    assert one.detail != other.detail


def test_faults_of_fields_are_listed() -> None:
    fault = errors.FieldError("/input_data/text", "Is required.")
    problem = written(problems.from_error(errors.InvalidInput((fault,))))
    assert problem["errors"] == [{"pointer": "/input_data/text", "detail": "Is required."}]


def test_a_failed_dependency_is_named_and_may_be_tried_again() -> None:
    problem = problems.from_error(errors.CircuitOpen(retry_after_s=12.2))
    assert (problem.dependency, problem.retryable, problem.retry_after_s) == ("payment", True, 13)


def test_a_passing_failure_always_says_when_to_try_again() -> None:
    for error in (errors.DatabaseBusy(), errors.DeadlineExceeded(), errors.Draining()):
        assert (problems.from_error(error).retry_after_s or 0) >= 1


def test_what_was_refused_for_good_is_not_to_be_tried_again() -> None:
    problem = problems.from_error(errors.PaymentRejected())
    assert problem.retryable is False
    assert problem.retry_after_s is None


def test_a_request_in_progress_says_when_to_ask_again() -> None:
    assert problems.from_error(errors.RequestInProgress(retry_after_s=0.2)).retry_after_s == 1


def test_a_fault_of_ours_tells_nothing() -> None:
    problem = written(problems.from_error(errors.ConfigurationError("password=hunter2")))
    assert "hunter2" not in json.dumps(problem)
    assert problem["type"] == "urn:tollgate:problem:internal-error"


def test_method_not_allowed_keeps_the_allowed_ones() -> None:
    problem = problems.from_http(web.HTTPMethodNotAllowed("PUT", {"GET"}))
    answer = problems.render(problem, request_id="r-1")
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET"


def test_other_http_failures_are_problems_too() -> None:
    problem = written(problems.from_http(web.HTTPLengthRequired()))
    assert problem["status"] == 411
    assert problem["type"] == "urn:tollgate:problem:length-required"


def test_an_answer_is_never_stored_and_says_when_to_try_again() -> None:
    answer = problems.render(
        problems.from_error(errors.CircuitOpen(retry_after_s=5)), request_id="r"
    )
    assert answer.content_type == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Retry-After"] == "5"


def test_a_denial_has_the_registered_type() -> None:
    problem = problems.quota_exceeded(
        detail="d", violated=("sustained",), retry_after_ms=2100, headers={"Retry-After": "3"}
    )
    document = written(problem)
    assert document["type"] == problems.QUOTA_EXCEEDED_TYPE
    assert document["title"] == "Request cannot be satisfied as assigned quota has been exceeded"
    assert document["violated-policies"] == ["sustained"]
    assert document["retry-after-ms"] == 2100
    assert problems.render(problem, request_id="r").headers["Retry-After"] == "3"
